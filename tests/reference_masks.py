"""Attention masks written out pair by pair in plain Python: what bert4k.masks must agree with.

Nothing here knows the library. A row is a list of `(segment, real)` pairs; a rule is a function of a row and two places in it;
a matrix is what a rule says of every pair, with padding keys never seen.
"""

from collections.abc import Callable, Sequence

import numpy as np

Row = Sequence[tuple[int, bool]]
Rule = Callable[[Row, int, int], bool]


def matrix(rule: Rule, row: Row) -> np.ndarray:
    """bool [L, L]: whether query i may look at key j."""
    return np.array([[row[j][1] and rule(row, i, j) for j in range(len(row))] for i in range(len(row))])


def place(row: Row, i: int) -> int:
    """Which of the row's real tokens the token is: 0 for the first."""
    return sum(real for _, real in row[: i + 1]) - 1


def real(row: Row, i: int, j: int) -> bool:
    return row[j][1]


def causal(row: Row, i: int, j: int) -> bool:
    return place(row, j) <= place(row, i)


def window(size: int) -> Rule:
    return lambda row, i, j: abs(place(row, i) - place(row, j)) < size


def source(row: Row, i: int, j: int) -> bool:
    """Key j is of a source (segment 0) that has begun when the query is read: no target stands between the two that comes
    before the key and not before the query."""
    return row[j][0] == 0 and not any(row[k][1] and row[k][0] != 0 for k in range(i, j))


def seq2seq(row: Row, i: int, j: int) -> bool:
    return causal(row, i, j) or source(row, i, j)


def unilm_blocks(row: Row, i: int, j: int) -> bool:
    """Single turn, as drawn in UniLM's figure 1: the source sees the source, the target the source and its own past."""
    if row[i][0] == 0:
        return row[j][0] == 0
    return row[j][0] == 0 or j <= i


def unilm_cumulative(row: Row, i: int, j: int) -> bool:
    """The compact form: running sums of the segment ids, compared."""
    sums = np.cumsum([segment for segment, _ in row])
    return bool(sums[j] <= sums[i])


def dialogue(row: Row, i: int, j: int) -> bool:
    """Several turns: a token sees the turns before its own, the source of its own, and its own past."""
    turns, turn = [], 0
    for k, (segment, _) in enumerate(row):
        turn += k > 0 and segment == 0 and row[k - 1][0] != 0
        turns.append(turn)
    if turns[i] != turns[j]:
        return turns[j] < turns[i]
    return row[j][0] == 0 or (row[i][0] != 0 and j <= i)


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """One head, [L, D] each and allowed bool [L, L], in float64, pair by pair; a query that may look nowhere gets zero."""
    out = np.zeros(query.shape)
    for i in range(len(query)):
        seen = np.flatnonzero(allowed[i])
        if len(seen):
            weights = np.exp(key[seen].astype("float64") @ query[i].astype("float64") / np.sqrt(query.shape[1]))
            out[i] = weights @ value[seen] / weights.sum()
    return out
