"""Automata in the compiled loop: every hypothesis has a state, which says what may come next and follows the beams.

The automata of a batch are one set of arrays, in which each row has its start. Shapes are rounded up, so that other phrases need no
other graph. A step reads at most D arcs of each hypothesis, however many states there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from bert4k.decoding.automata import FAR, Table
from bert4k.decoding.rules import scattered


class Language(NamedTuple):
    """Which texts the rows of a batch may have. States and arcs are as in `automata.Table`."""

    start: Any  # int32 [B]: the state of each row's empty text
    reach: Any  # int32 [D]: 0, 1, 2 ... D - 1, where D is at least as large as the most arcs of a state
    first: Any  # int32 [S]
    degree: Any  # int32 [S]
    otherwise: Any  # int32 [S]
    shortest: Any  # int32 [S]
    token: Any  # int32 [A]
    to: Any  # int32 [A]
    base: Any = ()  # int32 [S]; () when every state is its own


def language(rows: Sequence[Table]) -> Language:
    """The sets of a batch's rows side by side; what several rows have in common is there once."""
    tables = list({id(row): row for row in rows}.values())
    number = {id(table): place for place, table in enumerate(tables)}
    states = np.cumsum([0, *(len(each.first) for each in tables)])
    arcs = np.cumsum([0, *(len(each.token) for each in tables)])
    # Few sizes, so that little is compiled: arrays that are only looked up in cost little more when they are larger.
    reach = _room(max(int(each.degree.max()) for each in tables), least=64, factor=2)
    room = _room(max(states[-1], arcs[-1] + reach), least=1024, factor=4)

    def joined(name: str, offsets: Any = None, fill: int = 0) -> np.ndarray:
        parts = [getattr(each, name) + (0 if offsets is None else offsets[place]) for place, each in enumerate(tables)]
        found = np.full(room, fill, np.int32)
        found[: sum(map(len, parts))] = np.concatenate(parts)
        return found

    shared = any((each.base != np.arange(len(each.base))).any() for each in tables)
    return Language(
        start=np.array([states[number[id(row)]] + row.start for row in rows], np.int32),
        reach=np.arange(reach, dtype=np.int32),
        first=joined("first", arcs),
        degree=joined("degree"),
        otherwise=joined("otherwise", states),
        shortest=joined("shortest", fill=FAR),
        token=joined("token"),
        to=joined("to", states),
        base=joined("base", states) if shared else (),
    )


def _room(size: int, least: int, factor: int) -> int:
    """The first of `least`, `least * factor`, `least * factor ** 2` ... that holds `size`."""
    while least < size:
        least *= factor
    return least


def begin(language: Language, width: int) -> Any:
    """The states of `width` empty hypotheses a row, int32 [B, W]."""
    return ops.repeat(language.start[:, None], width, axis=1)


def allowed(language: Language, at: Any, left: Any, end: Any, vocabulary: int) -> Any:
    """bool [B, W, V]: what may come next in the states `at` [B, W], if at most `left` [B, W] more tokens come, the next included.

    The end token may come where a text is complete; another where what it leads to can be completed in time. So a hypothesis that
    began with enough tokens left always goes on, and it is complete when none are left.
    """
    fits = ops.take(language.shortest, ops.take(language.otherwise, at)) < left
    found = ops.broadcast_to(ops.cast(fits, "int32")[..., None], (*at.shape, vocabulary + 1))
    for token, to, real in _arcs(language, at):
        found = scattered(found, token, real, ops.cast(ops.take(language.shortest, to) < left[..., None], "int32"))
    complete = ops.equal(ops.take(language.shortest, at), 0)
    return ops.where(ops.arange(vocabulary, dtype="int32") == end, complete[..., None], found[..., :vocabulary] > 0)


def advance(language: Language, at: Any, token: Any) -> Any:
    """The states after one more token, both int32 [B, W]."""
    found = ops.take(language.otherwise, at)
    for tokens, to, real in _arcs(language, at):
        here = ops.logical_and(real, ops.equal(tokens, token[..., None]))
        found = ops.where(ops.any(here, axis=-1), ops.max(ops.where(here, to, 0), axis=-1), found)
    return found


def _arcs(language: Language, at: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Tokens and targets of the arcs of the states `at` [B, W], and whether there is one: each [B, W, D]. First those of the base,
    which the states' own replace."""
    for state in (at,) if isinstance(language.base, tuple) else (ops.take(language.base, at), at):
        place = ops.take(language.first, state)[..., None] + language.reach
        yield ops.take(language.token, place), ops.take(language.to, place), language.reach < ops.take(language.degree, state)[..., None]
