"""Changes of a checkpoint on its way into a model: fewer tokens, new ones, more positions. Each is a function of a stored array, so that
the model that is built is an ordinary one, which trains and is saved as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bert4k.checkpoints.stored import Array
from bert4k.checkpoints.tables import BY_TOKEN, Binding
from bert4k.config import Config
from bert4k.errors import ConfigError, DataError
from bert4k.tokenizers import Tokenizer

Change = Callable[[Array], Array]
Compound = Sequence[str] | Mapping[str, Sequence[str] | Mapping[str, float]]

POSITION_ROWS = "embeddings/position/embeddings"


class Changed(Mapping[str, Array]):
    """The weights of a checkpoint, some of them changed, each when it is read."""

    def __init__(self, binding: Binding, changes: Mapping[str, Change]) -> None:
        self.binding, self.changes = binding, changes

    def __getitem__(self, name: str) -> Array:
        array = self.binding[name]
        return self.changes[name](array) if name in self.changes else array

    def __iter__(self) -> Iterator[str]:
        return iter(self.binding)

    def __contains__(self, name: object) -> bool:
        return name in self.binding

    def __len__(self) -> int:
        return len(self.binding)


# Tokens. ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenRows:
    """Rows of the new vocabulary from those [V, ...] of the stored one: which are kept (None: all, in their order), and behind them, for
    each new token, the mean of the stored rows `ids` under `weights`. `changes`: that of every weight with rows, or columns, by token."""

    keep: Sequence[int] | None = None
    new: Sequence[tuple[Sequence[int], Sequence[float]]] = field(default=())

    def __call__(self, rows: Array) -> Array:
        kept = rows if self.keep is None else rows[np.asarray(self.keep)]
        if not self.new:
            return kept
        means = [np.average(rows[list(ids)].astype(np.float64), axis=0, weights=weights) for ids, weights in self.new]
        return np.concatenate([kept, np.stack(means).astype(rows.dtype)])

    def changes(self) -> dict[str, Change]:
        return {name: self if axis == 0 else lambda columns: self(columns.T).T for name, axis in BY_TOKEN.items()}

    def renumbered(self, name: str, token: int) -> int:
        """The new id of a token that the config names."""
        if self.keep is None:
            return token
        if token not in list(self.keep):
            raise DataError(f"keep_tokens leaves out token {token}, which the config names as {name}. Keep it.")
        return list(self.keep).index(token)


def pruned(tokenizer: Tokenizer, keep_tokens: Sequence[int]) -> Tokenizer:
    """The tokenizer of the tokens with these ids, numbered anew."""
    for token in keep_tokens:
        if not isinstance(token, int | np.integer):
            raise DataError(f"keep_tokens holds {token!r}; expected ids of the vocabulary, which tokenizer.token_to_id gives for tokens.")
    if len(set(keep_tokens)) != len(keep_tokens):
        raise DataError("keep_tokens names a token twice; each may be kept once. Remove the repetitions.")
    return _with_vocabulary(tokenizer, [tokenizer.id_to_token(int(token)) for token in keep_tokens])


def extended(tokenizer: Tokenizer, tokens: Sequence[str]) -> Tokenizer:
    """The tokenizer with new tokens behind its own. When one of them is a Chinese word, words of the vocabulary stay whole from now on
    (words="jieba"): WordPiece alone would cut them into characters and never find it."""
    known = set(tokenizer.vocabulary)
    for token in tokens:
        if not isinstance(token, str) or not token or any(char.isspace() for char in token):
            raise DataError(f"compound_tokens holds {token!r}; expected new tokens, strings without spaces.")
        if token in known:
            raise DataError(f"compound_tokens holds {token!r}, which is in the vocabulary already. Remove it.")
        known.add(token)
    longer = _with_vocabulary(tokenizer, [*tokenizer.vocabulary, *tokens])
    lost = [token for token in tokens if longer.tokenize(token) != [token]]
    if lost and longer.words is None:
        longer = _with_vocabulary(tokenizer, longer.vocabulary, words="jieba")
        lost = [token for token in lost if longer.tokenize(token) != [token]]
    if lost:
        raise DataError(
            f"The tokenizer would never make the new token {lost[0]!r} of a text: it makes {longer.tokenize(lost[0])}. A new token is a"
            " Chinese word, a Latin word in lower case (with ## inside a word), or special, in brackets such as [TITLE]."
        )
    return longer


def _with_vocabulary(tokenizer: Tokenizer, vocabulary: Sequence[str], **changes: Any) -> Tokenizer:
    special = [token for token in tokenizer.special_tokens if token in set(vocabulary)]
    if type(tokenizer) is not Tokenizer:
        raise ConfigError(
            f"keep_tokens and compound_tokens change a vocab.txt; this checkpoint has a {type(tokenizer).__name__}. Load it whole."
        )
    settings: dict[str, Any] = {"special_tokens_in_text": tokenizer.special_tokens_in_text, "words": tokenizer.words}
    settings |= {"added_tokens": tokenizer.added_tokens} | changes
    return Tokenizer(vocabulary, tokenizer.lowercase, special_tokens=special, **settings)


def other_tokens(tokenizer: Tokenizer, keep_tokens: Sequence[int] | None, compound: Compound) -> tuple[Tokenizer, TokenRows]:
    """The tokenizer that is left of the vocabulary when only some tokens are kept and new ones join, and where its rows come from.

    compound: the new tokens, whose row is the mean of the rows of the tokens of which they consist so far; or for each the tokens whose
    mean it shall be, a list, or a mapping to their weights. Raises `DataError` and `VocabularyError` for what cannot be."""
    if isinstance(compound, str):
        raise DataError(f"compound_tokens is the string {compound!r}; expected a list of new tokens, or a mapping. Put it in a list.")
    parts = compound if isinstance(compound, Mapping) else {token: tokenizer.tokenize(token) for token in compound}
    changed = tokenizer if keep_tokens is None else pruned(tokenizer, keep_tokens)
    return extended(changed, list(compound)) if compound else changed, TokenRows(
        keep_tokens, [_mean(tokenizer, token, pieces) for token, pieces in parts.items()]
    )


def _mean(tokenizer: Tokenizer, token: str, pieces: Sequence[str] | Mapping[str, float]) -> tuple[list[int], list[float]]:
    weights = {piece: float(weight) for piece, weight in pieces.items()} if isinstance(pieces, Mapping) else None
    ids = [tokenizer.token_to_id(piece) for piece in pieces]
    given = list(weights.values()) if weights is not None else [1.0] * len(ids)
    if not ids or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise DataError(
            f"The new token {token!r} shall be the mean of {dict(zip(pieces, given, strict=True))}; expected one token of the vocabulary or"
            " more, with weights of at least 0 that are not all 0."
        )
    return ids, given


# Positions. -------------------------------------------------------------------------------------------------------------------------

ALPHA = 0.4  # of the hierarchical decomposition: how much the coarse part counts (Su 2020, kexue.fm/archives/7947)


def hierarchical(rows: Array, count: int) -> Array:
    """`count` rows [count, H] from n: row i n + j is ALPHA u_i + (1 - ALPHA) u_j with u such that the first n stay what they are (Su 2020,
    kexue.fm/archives/7947). Up to n x n."""
    n = len(rows)
    u = (rows - ALPHA * rows[:1]) / (1 - ALPHA)
    coarse, fine = np.divmod(np.arange(count), n)
    made = ALPHA * u[coarse] + (1 - ALPHA) * u[fine]
    made[:n] = rows
    return made.astype(rows.dtype)


def interpolated(rows: Array, count: int) -> Array:
    """`count` rows [count, H], evenly spread over the n that there are, each on the line between its neighbours (position interpolation,
    Chen et al. 2023, arXiv:2306.15595, for trained rows). First and last stay; all others move, so the model wants some training."""
    places = np.linspace(0, len(rows) - 1, count)
    low = np.minimum(places.astype(int), len(rows) - 2)
    share = (places - low)[:, None]
    return ((1 - share) * rows[low] + share * rows[low + 1]).astype(rows.dtype)


EXTENSIONS: dict[str, Callable[[Array, int], Array]] = {"hierarchical": hierarchical, "interpolated": interpolated}


def more_positions(kind: str | None, stored: Config, wanted: Config) -> Change | None:
    """What makes the position rows of the `wanted` config of those of the `stored` one; None when they are the same.

    Raises `ConfigError` when they cannot be made, or it was not said how."""
    n, count = stored.max_position_embeddings, wanted.max_position_embeddings
    if kind is not None and kind not in EXTENSIONS:
        raise ConfigError(f"extend_positions={kind!r}; known are {', '.join(EXTENSIONS)}.")
    if stored.position != "absolute" and not stored.position_biased_input:
        if kind is not None:
            raise ConfigError(f"{stored.position} positions have no rows to extend: give max_position_embeddings={count} alone.")
        return None
    if kind is None and count > n:
        raise ConfigError(
            f"max_position_embeddings={count}, and the checkpoint has rows for {n} positions. Say how the others are made:"
            " extend_positions='hierarchical' leaves the first as they are, 'interpolated' spreads them evenly."
        )
    if kind is None:
        return None
    if not n < count or (kind == "hierarchical" and count > n * n) or n < 2:
        most = f" and at most {n * n}" if kind == "hierarchical" else ""
        raise ConfigError(
            f"extend_positions={kind!r} with max_position_embeddings={count}: expected more than the {n} of the checkpoint{most}."
        )
    offset = stored.position_offset
    return lambda rows: np.concatenate([rows[:offset], EXTENSIONS[kind](rows[offset:], count)])
