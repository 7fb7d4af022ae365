"""Rows of tokens of different lengths, grouped into batches of few shapes, so that little is compiled and little is padding."""

from collections.abc import Iterator, Sequence

import numpy as np

from bert4k.errors import ConfigError


def bucket(size: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16, 24 ... that holds `size`: at most a third is wasted."""
    power = 1
    while power < size:
        if power > 1 and power * 3 // 2 >= size:
            return power * 3 // 2
        power *= 2
    return power


def length_bucket(tokens: int) -> int:
    """The bucket of a text's length. Short texts share one: a graph of their own would cost more than their padding."""
    return bucket(max(tokens, 8))


def by_length(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Indices of rows, the longest first, at most `batch_size` together and all of one bucket."""
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: expected at least 1.")
    order = np.argsort(-np.asarray(lengths), kind="stable")
    begin = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or at - begin == batch_size or length_bucket(lengths[order[at]]) != length_bucket(lengths[order[begin]]):
            yield order[begin:at]
            begin = at


def padded(rows: Sequence[Sequence[int]], fill: int, length: int, count: int) -> np.ndarray:
    """Rows as int32 [count, length], filled up on the right, and with copies of the last row."""
    array = np.full((count, length), fill, np.int32)
    for index in range(count):
        row = rows[min(index, len(rows) - 1)]
        array[index, : len(row)] = row
    return array
