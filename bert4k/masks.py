"""Attention masks as rules that combine: the mask decides what a transformer is.

A rule says for a query token and a key token whether the query *may look* at the key (True = may look, everywhere
in this library). Rules join with `&`, `|` and `~`; a `Mask` prints as the expression it is, parses from one, and
is stored as one with the model:

    >>> masks.seq2seq
    (causal | source) & real
    >>> masks.parse("causal & window(128) | source")
    causal & window(128) | source

Key padding is always joined in when a mask is evaluated, so `causal` and `causal & real` are the same machine.

Sources: left-to-right and sequence-to-sequence masks, UniLM (Dong et al. 2019, arXiv:1905.03197, figure 1); permuted
language models, XLNet (Yang et al. 2019, arXiv:1906.08237, section 2.3).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops, random

from bert4k.errors import ConfigError, did_you_mean


class Tokens(NamedTuple):
    """What a rule may ask about tokens; every field is [B, L] (`[B, Q, 1]` or `[B, 1, K]` inside a rule).

    `index` counts the real tokens of a row, so that padding between source and target (batched decoding) does not
    change what is near or before what. `turn` counts the target tokens before a token: it stands still within a source
    and the first token that answers it, so in a dialogue a later source has a larger one than every earlier row.
    """

    index: Any  # int32
    real: Any  # bool
    segment: Any  # int32
    turn: Any  # int32
    document: Any  # int32
    rank: Any  # int32: the time at which a token is revealed under a permuted mask

    def rows(self, start: Any, count: int) -> Tokens:
        """The `count` tokens from position `start` (which may be a traced scalar)."""
        at = ops.add(start, ops.arange(count, dtype="int32"))
        return Tokens(*(ops.take(field, at, axis=1) for field in self))

    def at(self, places: Any) -> Tokens:
        """The tokens at `places`, int32 [B, X], which differ from row to row."""
        return Tokens(*(ops.take_along_axis(field, places, axis=1) for field in self))


class Mask:
    """A rule about (query, key) pairs. Make masks from the names of this module with `&`, `|` and `~`."""

    def look(self, query: Tokens, key: Tokens) -> Any:
        """The rule itself, on fields that broadcast to [B, Q, K]; bool."""
        raise TypeError(f"{type(self).__name__} is no mask: use the names of bert4k.masks, or parse an expression.")

    def parts(self) -> Iterator[Part]:
        """The named parts that the expression is made of."""
        raise TypeError(f"{type(self).__name__} is no mask: use the names of bert4k.masks, or parse an expression.")

    def tokens(self, segment_ids: Any, real: Any, document_ids: Any = None, order: Any = None) -> Tokens:
        """The `Tokens` of a batch from the model's inputs: `segment_ids` int32 [B, L], `real` bool [B, L], and
        optionally `document_ids` and `order`, int32 [B, L]."""
        segment_ids, real = ops.cast(segment_ids, "int32"), ops.cast(real, "bool")
        index = ops.cumsum(ops.cast(real, "int32"), axis=1) - 1
        target = ops.cast(ops.logical_and(real, ops.not_equal(segment_ids, 0)), "int32")
        permuted = {(part.order, part.seed): part for part in self.parts() if isinstance(part, Permuted)}
        if len(permuted) > 1:
            raise ConfigError(f"{self} draws several orders; the permuted parts of one mask must share one order or one seed.")
        return Tokens(
            index=index,
            real=real,
            segment=segment_ids,
            turn=ops.cumsum(target, axis=1) - target,
            document=ops.zeros_like(index) if document_ids is None else ops.cast(document_ids, "int32"),
            rank=next((part.rank(index, order) for part in permuted.values()), index),
        )

    def __call__(self, queries: Tokens, keys: Tokens) -> Any:
        """Which key each query may look at: bool [B, 1, Q, K] (1 broadcasts over heads). Padding keys never."""
        query = Tokens(*(field[:, :, None] for field in queries))
        key = Tokens(*(field[:, None, :] for field in keys))
        allowed = ops.logical_and(self.look(query, key), key.real)
        shape = (ops.shape(queries.index)[0], ops.shape(queries.index)[1], ops.shape(keys.index)[1])
        return ops.broadcast_to(allowed, shape)[:, None]

    def uses(self, name: str) -> bool:
        """Whether the part called `name` occurs in the expression."""
        return any(part.name == name for part in self.parts())

    def __and__(self, other: Mask) -> Mask:
        return And(self, _checked(other, "&"))

    def __or__(self, other: Mask) -> Mask:
        return Or(self, _checked(other, "|"))

    def __invert__(self) -> Mask:
        return Not(self)

    def __repr__(self) -> str:
        return str(self)


def _checked(other: object, operator: str) -> Mask:
    if not isinstance(other, Mask):
        raise ConfigError(
            f"Masks join with masks: the right side of {operator} is {other!r}. Use a name of bert4k.masks, or masks.parse(text)."
        )
    return other


@dataclass(frozen=True, repr=False)
class And(Mask):
    """May look where both sides may."""

    left: Mask
    right: Mask

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.logical_and(self.left.look(query, key), self.right.look(query, key))

    def parts(self) -> Iterator[Part]:
        yield from self.left.parts()
        yield from self.right.parts()

    def __str__(self) -> str:
        left = f"({self.left})" if isinstance(self.left, Or) else str(self.left)
        right = f"({self.right})" if isinstance(self.right, And | Or) else str(self.right)
        return f"{left} & {right}"


@dataclass(frozen=True, repr=False)
class Or(Mask):
    """May look where either side may."""

    left: Mask
    right: Mask

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.logical_or(self.left.look(query, key), self.right.look(query, key))

    def parts(self) -> Iterator[Part]:
        yield from self.left.parts()
        yield from self.right.parts()

    def __str__(self) -> str:
        return f"{self.left} | " + (f"({self.right})" if isinstance(self.right, Or) else str(self.right))


@dataclass(frozen=True, repr=False)
class Not(Mask):
    """May look where the inner mask may not (padding stays unseen)."""

    inner: Mask

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.logical_not(self.inner.look(query, key))

    def parts(self) -> Iterator[Part]:
        yield from self.inner.parts()

    def __str__(self) -> str:
        return f"~({self.inner})" if isinstance(self.inner, And | Or) else f"~{self.inner}"


class Part(Mask):
    """A named rule, the leaf of an expression."""

    name: str

    def parts(self) -> Iterator[Part]:
        yield self

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class Real(Part):
    """Keys that are not padding."""

    name = "real"

    def look(self, query: Tokens, key: Tokens) -> Any:
        return key.real


@dataclass(frozen=True, repr=False)
class Causal(Part):
    """The query itself and what stands before it."""

    name = "causal"

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.less_equal(key.index, query.index)


@dataclass(frozen=True, repr=False)
class Source(Part):
    """Source tokens (segment 0) of this turn and of earlier ones.

    A later turn's source stays hidden from earlier rows, where the published block form `s[j] == 0` would leak it."""

    name = "source"

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.logical_and(ops.equal(key.segment, 0), ops.less_equal(key.turn, query.turn))


@dataclass(frozen=True, repr=False)
class SameDocument(Part):
    """Keys of the query's own document, for several texts packed in one row (input `document_ids`)."""

    name = "same_document"

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.equal(key.document, query.document)


@dataclass(frozen=True, repr=False)
class Window(Part):
    """Keys fewer than `size` real tokens away on either side; `window(1)` is the query alone."""

    size: int
    name = "window"

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1:
            raise ConfigError(f"window({self.size!r}): expected a whole number of tokens, at least 1.")

    def look(self, query: Tokens, key: Tokens) -> Any:
        return ops.less(ops.abs(query.index - key.index), self.size)

    def __str__(self) -> str:
        return f"window({self.size})"


@dataclass(frozen=True, repr=False)
class Permuted(Part):
    """Keys revealed no later than the query (strictly earlier when `strict`: the query stream of XLNet, in which a
    token is predicted without being seen). The time of each token comes from `order`, is drawn per row from `seed`,
    or, with neither, from the model input "order"."""

    order: tuple[int, ...] | None = None
    seed: int | None = None
    strict: bool = False
    name = "permuted"

    def __post_init__(self) -> None:
        if self.order is not None:
            object.__setattr__(self, "order", tuple(self.order))
            if sorted(self.order) != list(range(len(self.order))):
                raise ConfigError(
                    f"permuted(order={self.order}): expected each of 0 to {len(self.order) - 1} once, the time at which each position is"
                    " revealed. For ties, or context that everybody sees, give the model an input 'order' instead."
                )
            if self.seed is not None:
                raise ConfigError("permuted() takes an order or a seed, not both: an order says everything that a seed would draw.")
        if self.seed is not None and (not isinstance(self.seed, int) or self.seed < 0):
            raise ConfigError(f"permuted(seed={self.seed!r}): expected a whole number, at least 0.")

    @property
    def needs_order(self) -> bool:
        """Whether the ranks come from the model's input "order"."""
        return self.order is None and self.seed is None

    def rank(self, index: Any, order: Any) -> Any:
        """The time at which each token of a row is revealed, int32 [B, L]; `index` and `order` are [B, L]."""
        if self.needs_order:
            if order is None:
                raise ConfigError(
                    "The mask 'permuted' needs to know the order: give the model an input 'order', or use permuted(seed=...)."
                )
            return ops.cast(order, "int32")
        batch, length = ops.shape(index)
        if self.order is not None:
            if isinstance(length, int) and length > len(self.order):
                raise ConfigError(
                    f"permuted(order=...) names {len(self.order)} positions, the batch has {length}; give an order for all of them."
                )
            return ops.broadcast_to(ops.convert_to_tensor(self.order, "int32")[None, :length], (batch, length))
        drawn = random.uniform((batch, length), seed=self.seed)
        drawn = ops.where(ops.equal(index, 0), -1.0, drawn)  # the first token ([CLS]) always comes first
        return ops.cast(ops.argsort(ops.argsort(drawn, axis=1), axis=1), "int32")

    def look(self, query: Tokens, key: Tokens) -> Any:
        return (ops.less if self.strict else ops.less_equal)(key.rank, query.rank)

    def __str__(self) -> str:
        shown = [f"{name}={getattr(self, name)}" for name in ("order", "seed", "strict") if getattr(self, name) not in (None, False)]
        return f"permuted({', '.join(shown)})" if shown else self.name


real = Real()
causal = Causal()
source = Source()
same_document = SameDocument()


def window(size: int) -> Mask:
    """Keys fewer than `size` real tokens away (Longformer's sliding window, arXiv:2004.05150)."""
    return Window(size)


def permuted(order: Any = None, seed: int | None = None, strict: bool = False) -> Mask:
    """A permuted language model: each token looks at those revealed before it, and at itself unless `strict`.

    order: the time of each position, a permutation of 0..L-1. seed: draw an order for each row (the first token stays
    first). With neither, the model takes an input "order", int32 [B, L]: ties are allowed, and a negative time is
    context that every token sees.
    """
    return Permuted(None if order is None else tuple(int(time) for time in order), seed, strict)


encoder: Mask = real
lm: Mask = causal & real
reverse_lm: Mask = (~causal | window(1)) & real
seq2seq: Mask = (causal | source) & real

NAMED: dict[str, Mask] = {"encoder": encoder, "lm": lm, "reverse_lm": reverse_lm, "seq2seq": seq2seq, "permuted": permuted()}
_PARTS: dict[str, Mask] = {"real": real, "causal": causal, "source": source, "same_document": same_document}
_CALLS: dict[str, Callable[..., Mask]] = {"window": window, "permuted": permuted}


def parse(text: str) -> Mask:
    """The mask that an expression such as `"causal & window(128) | source"` or a name such as `"seq2seq"` describes.

    Raises `ConfigError` naming the nearest known mask when a name does not exist."""
    try:
        return _mask_of(ast.parse(text.strip(), mode="eval").body, text)
    except ConfigError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{text!r} is no mask expression. Expected names joined by & | ~, such as '(causal | source) & real'.") from error


def _mask_of(node: ast.expr, text: str) -> Mask:
    known = NAMED | _PARTS
    match node:
        case ast.BinOp(left, ast.BitAnd(), right):
            return _mask_of(left, text) & _mask_of(right, text)
        case ast.BinOp(left, ast.BitOr(), right):
            return _mask_of(left, text) | _mask_of(right, text)
        case ast.UnaryOp(ast.Invert(), inner):
            return ~_mask_of(inner, text)
        case ast.Name(name) if name in known:
            return known[name]
        case ast.Call(ast.Name(name), args, keywords) if name in _CALLS:
            try:
                values = [ast.literal_eval(arg) for arg in args]
                return _CALLS[name](*values, **{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords})
            except (TypeError, ValueError) as error:
                if isinstance(error, ConfigError):
                    raise
                raise ConfigError(
                    f"{ast.unparse(node)} in the mask {text!r}: {error}. For example: window(128), permuted(seed=1)."
                ) from error
        case ast.Name(name) | ast.Call(ast.Name(name)):
            names = [*known, "window(n)", "permuted(...)"]
            raise ConfigError(
                f"There is no mask {name!r}.{did_you_mean(name, names)} Known masks are {', '.join(names)}; join them with & | ~."
            )
    raise ConfigError(f"{ast.unparse(node)!r} in {text!r} is no mask. Expected names joined by & | ~, such as '(causal | source) & real'.")


def get(mask: str | Mask) -> Mask:
    """`mask` itself, or the one that a string names; raises `ConfigError` for anything else."""
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, str):
        return parse(mask)
    raise ConfigError(f"A mask is a name, an expression or a bert4k.masks.Mask; got {mask!r}. For example: mask='seq2seq'.")


def needs_order(mask: Mask) -> bool:
    """Whether a model under `mask` takes an input "order"."""
    return any(isinstance(part, Permuted) and part.needs_order for part in mask.parts())


def title(mask: Mask) -> str:
    """The mask for people: its name and expression, `seq2seq, (causal | source) & real`, or the expression alone."""
    named = [name for name, known in NAMED.items() if known == mask and name != str(mask)]
    return f"{named[0]}, {mask}" if named else str(mask)
