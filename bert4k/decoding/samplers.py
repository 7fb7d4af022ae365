"""Samplers: how the next token of each hypothesis is chosen, and what is kept of those that ended.

A sampler is a frozen description (it keys compiled programs) with four pure functions: `start`, `choose`, `settled`
and `result`. Shapes: B rows (sources), W hypotheses a row, T slots, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isfinite, log
from typing import Any, NamedTuple

from keras import ops, tree

from bert4k.errors import ConfigError

IMPOSSIBLE = -1e9  # the log-probability of what may not come; a sum below LOST holds one
LOST = -1e8


class Hypotheses(NamedTuple):
    """Token sequences being written or finished, best first where order matters."""

    tokens: Any  # int32 [B, W, T]
    log_probs: Any  # float32 [B, W, T], of each token
    score: Any  # float32 [B, W]: sum of log-probabilities; of finished beams divided by length ** penalty
    length: Any  # int32 [B, W], the end token included
    ended: Any  # bool [B, W]: the end token has come


class Book(NamedTuple):
    """What a sampler remembers between steps."""

    live: Hypotheses
    pool: Any = ()  # the finished Hypotheses of a beam search


def _counts(value: object, least: int = 1) -> bool:
    """Whether `value` is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def blank(rows: int, width: int, slots: int, score: float = 0.0) -> Hypotheses:
    """`width` empty hypotheses a row."""
    return Hypotheses(
        ops.zeros((rows, width, slots), "int32"),
        ops.zeros((rows, width, slots), "float32"),
        ops.full((rows, width), score, "float32"),
        ops.zeros((rows, width), "int32"),
        ops.zeros((rows, width), "bool"),
    )


def pick(hypotheses: Any, parent: Any) -> Any:
    """Every array [B, W, ...] of a structure, reordered within its row: `parent` int32 [B, X] gives [B, X, ...]."""
    rows, count = parent.shape

    def gather(x: Any) -> Any:
        flat = ops.reshape(x, (rows * x.shape[1], *x.shape[2:]))
        index = parent + ops.arange(rows, dtype="int32")[:, None] * x.shape[1]
        return ops.reshape(ops.take(flat, ops.reshape(index, (-1,)), axis=0), (rows, count, *x.shape[2:]))

    return tree.map_structure(gather, hypotheses)


def extend(hypotheses: Hypotheses, token: Any, log_prob: Any, end: Any) -> Hypotheses:
    """Every hypothesis with one more `token` and its log-probability, both [B, W]."""
    here = ops.equal(ops.arange(hypotheses.tokens.shape[2], dtype="int32"), hypotheses.length[..., None])
    return Hypotheses(
        ops.where(here, token[..., None], hypotheses.tokens),
        ops.where(here, log_prob[..., None], hypotheses.log_probs),
        hypotheses.score + log_prob,
        hypotheses.length + 1,
        ops.equal(token, end),
    )


def last_tokens(hypotheses: Hypotheses) -> Any:
    """The newest token of each hypothesis, int32 [B, W]."""
    return ops.take_along_axis(hypotheses.tokens, ops.maximum(hypotheses.length - 1, 0)[..., None], axis=2)[..., 0]


def _finished(hypotheses: Hypotheses, limit: Any) -> Any:
    """Which can get no more tokens, bool [B, W]."""
    return ops.logical_or(hypotheses.ended, hypotheses.length >= limit)


def keep(frozen: Any, old: Any, new: Any) -> Any:
    """`old` where `frozen` (bool [B] or [B, W]), else `new`, for every array of a structure."""

    def choose(before: Any, after: Any) -> Any:
        return ops.where(ops.reshape(frozen, (*frozen.shape, *(1,) * (len(before.shape) - len(frozen.shape)))), before, after)

    return tree.map_structure(choose, old, new)


@dataclass(frozen=True)
class Sampler:
    """One token at a time, each hypothesis for itself; subclasses say which token."""

    @property
    def width(self) -> int:
        """Hypotheses a row (W)."""
        return 1

    @property
    def draws(self) -> bool:
        """Whether `choose` uses its random numbers."""
        return False

    def start(self, rows: int, slots: int) -> Book:
        """Nothing written yet."""
        return Book(blank(rows, self.width, slots))

    def token(self, log_probs: Any, uniform: Any) -> Any:
        """The next token, int32 [B, W], from log-probabilities [B, W, V] and uniform numbers [B, W]."""
        raise TypeError(f"{type(self).__name__} is no sampler: use bert4k.greedy(), bert4k.sample() or bert4k.beam().")

    def choose(self, book: Book, log_probs: Any, end: Any, limit: Any, uniform: Any) -> tuple[Book, Any]:
        """The book with one more token in every hypothesis that has not ended, and None: nobody changes place. end: the token that ends a
        text; limit: how long one may be; uniform: a random number for each hypothesis [B, W]."""
        token = ops.cast(self.token(log_probs, uniform), "int32")
        chosen = ops.take_along_axis(log_probs, token[..., None], axis=-1)[..., 0]
        live = book.live
        return Book(keep(_finished(live, limit), live, extend(live, token, chosen, end))), None

    def settled(self, book: Book, limit: Any) -> Any:
        """Rows that further steps cannot change, bool [B]."""
        return ops.all(_finished(book.live, limit), axis=1)

    def result(self, book: Book) -> Hypotheses:
        """The hypotheses of each row, best first."""
        return book.live


@dataclass(frozen=True)
class Greedy(Sampler):
    """The most probable token."""

    def token(self, log_probs: Any, uniform: Any) -> Any:
        return ops.argmax(log_probs, axis=-1)


@dataclass(frozen=True)
class Sample(Sampler):
    """A token drawn from the model's distribution, sharpened and cut."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = field(default=None, compare=False)  # of the numbers drawn, not of the compiled program
    count: int = 1
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < inf:
            raise ConfigError(
                f"sample(temperature={self.temperature}): expected a number above 0; use bert4k.greedy() for the most probable token."
            )
        if self.top_k is not None and not _counts(self.top_k):
            raise ConfigError(f"sample(top_k={self.top_k!r}): expected a whole number of tokens to draw from, at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"sample(top_p={self.top_p}): expected a share of the probability in (0, 1].")
        if self.min_p is not None and not 0 < self.min_p <= 1:
            raise ConfigError(f"sample(min_p={self.min_p}): expected a share of the most probable token's probability in (0, 1].")
        if not _counts(self.count):
            raise ConfigError(f"sample(count={self.count!r}): expected at least 1 sample a source.")
        if self.seed is not None and not _counts(self.seed, least=0):
            raise ConfigError(f"sample(seed={self.seed!r}): expected a whole number, at least 0, or None for other texts at every call.")

    @property
    def width(self) -> int:
        return self.count

    @property
    def draws(self) -> bool:
        return True

    def token(self, log_probs: Any, uniform: Any) -> Any:
        # Inversion of the cumulative distribution: one number decides, the same on every backend.
        # What may not come stays impossible at any temperature.
        values, candidates = ops.where(log_probs > LOST, log_probs / self.temperature, IMPOSSIBLE), None
        if self.min_p is not None:
            values = ops.where(values >= ops.max(values, axis=-1, keepdims=True) + log(self.min_p), values, IMPOSSIBLE)
        if self.top_k is not None or self.top_p is not None:
            vocabulary = values.shape[-1]
            values, candidates = ops.top_k(values, min(self.top_k or vocabulary, vocabulary))
        probability = ops.exp(ops.log_softmax(values, axis=-1))  # Keras warns of a softmax over one token, top_k=1
        if self.top_p is not None:  # the token that crosses top_p is kept (Holtzman et al. 2019, arXiv:1904.09751)
            before = ops.cumsum(probability, axis=-1) - probability
            probability = ops.where(before < self.top_p, probability, 0.0)
        cumulative = ops.cumsum(probability, axis=-1)
        place = ops.sum(ops.cast(cumulative <= uniform[..., None] * cumulative[..., -1:], "int32"), axis=-1)
        return place if candidates is None else ops.take_along_axis(candidates, place[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class Beam(Sampler):
    """The `beams` best partial hypotheses, and a pool of the best finished ones.

    A hypothesis that ends moves to the pool and frees its beam. A row is settled when no live hypothesis can come to beat
    the pool's `n_best`, so stopping early changes nothing.
    """

    beams: int = 4
    length_penalty: float = 0.0
    n_best: int = 1

    def __post_init__(self) -> None:
        if not _counts(self.beams):
            raise ConfigError(
                f"beam({self.beams!r}): expected a whole number of hypotheses, at least 1. To follow one text only, use bert4k.greedy()."
            )
        if not _counts(self.n_best) or self.n_best > self.beams:
            raise ConfigError(f"beam({self.beams}, n_best={self.n_best!r}): expected between 1 and {self.beams}, the width.")
        if not isfinite(self.length_penalty):
            raise ConfigError(f"beam(length_penalty={self.length_penalty}): expected a number; 0 compares plain sums, 1 means.")

    @property
    def width(self) -> int:
        return self.beams

    def start(self, rows: int, slots: int) -> Book:
        live = blank(rows, self.beams, slots)
        # The beams of a row start equal; only the first may grow, or all would be copies of each other.
        score = ops.broadcast_to(ops.convert_to_tensor([0.0] + [IMPOSSIBLE] * (self.beams - 1), "float32"), (rows, self.beams))
        return Book(live._replace(score=score), blank(rows, self.beams, slots, score=10 * IMPOSSIBLE))

    def normalised(self, score: Any, length: Any) -> Any:
        """The score by which finished hypotheses are compared."""
        return score / ops.power(ops.cast(length, "float32"), self.length_penalty)

    def choose(self, book: Book, log_probs: Any, end: Any, limit: Any, uniform: Any) -> tuple[Book, Any]:
        return self.followed(book, log_probs, log_probs, end, limit)

    def followed(self, book: Book, log_probs: Any, rank: Any, end: Any, limit: Any) -> tuple[Book, Any]:
        """The book with the tokens of the best hypotheses, and their parents [B, W]. `rank` [B, W, V] stands for the log-probabilities
        where hypotheses are compared as they are followed."""
        live, pool = book
        rows, beams, vocabulary = log_probs.shape
        total = ops.reshape(live.score[..., None] + rank, (rows, beams * vocabulary))
        # Twice the width: at most `beams` of them end, so `beams` go on.
        total, index = ops.top_k(total, min(2 * beams, beams * vocabulary))
        index = ops.cast(index, "int32")
        parent, token = index // vocabulary, index % vocabulary
        own = ops.take_along_axis(ops.reshape(log_probs, (rows, beams * vocabulary)), index, axis=1)
        grown = extend(pick(live, parent), token, own, end)
        finished = grown._replace(
            score=ops.where(ops.logical_and(grown.ended, grown.score > LOST), self.normalised(grown.score, grown.length), 10 * IMPOSSIBLE)
        )
        merged = _best(_joined(pool, finished), beams)
        _, order = ops.top_k(ops.where(grown.ended, 2 * IMPOSSIBLE, total), beams)
        order = ops.cast(order, "int32")
        settled = self.settled(book, limit)
        going = grown._replace(score=ops.where(grown.ended, 2 * IMPOSSIBLE, grown.score))
        book = Book(pick(going, order), keep(settled, pool, merged))
        return book, ops.take_along_axis(parent, order, axis=1)

    def settled(self, book: Book, limit: Any) -> Any:
        best, length = ops.max(book.live.score, axis=1), book.live.length[:, 0]  # they are all of one length
        # A live score only falls; divided by a power of the length it may still rise, at most to one of these: as long as it may
        # become, or as it is (under a negative penalty, where it must not come back as unfinished and beat the pool).
        bound = ops.maximum(self.normalised(best, limit), self.normalised(best, ops.maximum(length, 1)))
        beaten = ops.logical_and(book.pool.score[:, self.n_best - 1] > LOST, book.pool.score[:, self.n_best - 1] >= bound)
        return ops.logical_or(beaten, length >= limit)

    def result(self, book: Book) -> Hypotheses:
        unfinished = book.live._replace(
            score=ops.where(book.live.score > LOST, self.normalised(book.live.score, ops.maximum(book.live.length, 1)), 10 * IMPOSSIBLE)
        )
        return _best(_joined(book.pool, unfinished), self.n_best)


@dataclass(frozen=True)
class DiverseBeam(Beam):
    """Groups of beams that keep away from each other (Vijayakumar et al. 2016, arXiv:1610.02424, with Hamming diversity).

    A step goes from group to group. Where hypotheses are compared, the log-probability of a token is lowered by `diversity` for every beam
    of an earlier group that has just taken it; the scores themselves stay the model's. The first group is a beam search of its own.
    """

    groups: int = 2
    diversity: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _counts(self.groups, least=2) or self.beams % self.groups:
            raise ConfigError(
                f"beam({self.beams}, groups={self.groups!r}): expected a divisor of the width, so that all groups are of one size."
            )
        if not 0 <= self.diversity < inf:
            raise ConfigError(f"beam(diversity={self.diversity}): expected what a token costs that another group has taken, 0 or more.")

    @property
    def group(self) -> Beam:
        """The search of one group."""
        width = self.beams // self.groups
        return Beam(width, self.length_penalty, min(self.n_best, width))

    def start(self, rows: int, slots: int) -> Book:
        one = self.group.start(rows, slots)
        return tree.map_structure(lambda x: ops.concatenate([x] * self.groups, axis=1), one)

    def _groups(self, book: Any) -> list[Any]:
        """Every array [B, W, ...] of a structure cut into the groups'."""
        width = self.group.width
        return [tree.map_structure(lambda x, at=at: x[:, at : at + width], book) for at in range(0, self.beams, width)]

    def choose(self, book: Book, log_probs: Any, end: Any, limit: Any, uniform: Any) -> tuple[Book, Any]:
        taken = ops.zeros_like(log_probs[:, :1])  # how often by the groups before, [B, 1, V]
        books, parents = [], []
        for place, (own, values) in enumerate(zip(self._groups(book), self._groups(log_probs), strict=True)):
            own, parent = self.group.followed(own, values, values - self.diversity * taken, end, limit)
            taken = taken + ops.sum(ops.one_hot(last_tokens(own.live), taken.shape[-1], dtype=taken.dtype), axis=1, keepdims=True)
            books.append(own)
            parents.append(parent + place * self.group.width)
        return tree.map_structure(lambda *parts: ops.concatenate(parts, axis=1), *books), ops.concatenate(parents, axis=1)

    def settled(self, book: Book, limit: Any) -> Any:
        return ops.all(ops.stack([self.group.settled(own, limit) for own in self._groups(book)]), axis=0)


def _joined(first: Hypotheses, second: Hypotheses) -> Hypotheses:
    return Hypotheses(*(ops.concatenate(pair, axis=1) for pair in zip(first, second, strict=True)))


def _best(hypotheses: Hypotheses, count: int) -> Hypotheses:
    _, order = ops.top_k(hypotheses.score, count)
    return pick(hypotheses, ops.cast(order, "int32"))


def greedy() -> Sampler:
    """The most probable token at every step."""
    return Greedy()


def sample(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    count: int = 1,
    min_p: float | None = None,
) -> Sampler:
    """Draw tokens from the model's distribution.

    temperature: divides the log-probabilities; below 1 is bolder. top_k: draw from the k most probable tokens only.
    top_p: draw from the most probable tokens that together reach this probability (nucleus sampling). min_p: draw from the tokens that have
    at least this share of the most probable one's probability (Nguyen et al. 2024, arXiv:2407.01082): few where the model is sure, many
    where it is not. seed: the same seed gives the same text for the same source, alone or in a batch, on every backend. count: samples a
    source.
    """
    return Sample(temperature, top_k, top_p, seed, count, min_p)


def beam(width: int = 4, length_penalty: float = 0.0, n_best: int = 1, groups: int = 1, diversity: float = 0.5) -> Sampler:
    """Beam search: the `width` best partial texts are followed together.

    Finished texts are compared by the sum of their log-probabilities divided by length ** length_penalty, the end token
    counted (0: the plain sum, which favours short texts; 1: the mean). n_best: how many texts to return for a source. groups: cut the
    beams into so many groups that keep away from each other's tokens, for texts that differ; `diversity` is what a token costs, as a
    log-probability, for each beam of an earlier group that has taken it at the same step (Vijayakumar et al. 2016, arXiv:1610.02424).
    """
    return Beam(width, length_penalty, n_best) if groups == 1 else DiverseBeam(width, length_penalty, n_best, groups, diversity)
