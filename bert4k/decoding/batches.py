"""Texts of different lengths in batches of few shapes, so that little is compiled and little is padding.

`by_length` is for texts that must each have a row of their own, as when they are continued; `padded` makes its arrays. `layouts` is for
texts that are only read: several may share a row, kept apart by `same_document`, where that costs less.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from bert4k.errors import ConfigError

# What `layouts` weighs, in tokens of a base-size model on two cores. There a token of a short row costs 0.7 to 1.5 ms, a call 20 to 100 ms
# beyond its tokens (the weights are read), and a shape that is met for the first time 1 to 2 s.
CALL = 64
COMPILE = 1024
# In a row of so many tokens, attention costs as much as all else.
ATTENTION = 2048
# Rows that short texts may share. The first is preferred, so that a shape of one call is often that of another.
ROW_LENGTHS = (128, 192, 256)


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
    _check_batch_size(batch_size)
    order = np.argsort(-np.asarray(lengths), kind="stable")
    begin = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or at - begin == batch_size or length_bucket(lengths[order[at]]) != length_bucket(lengths[order[begin]]):
            yield order[begin:at]
            begin = at


def padded(rows: Sequence[Sequence[int] | NDArray[np.int32]], fill: int, length: int, count: int) -> np.ndarray:
    """Rows as int32 [count, length], filled up on the right, and with copies of the last row."""
    array = np.full((count, length), fill, np.int32)
    for index in range(count):
        row = rows[min(index, len(rows) - 1)]
        array[index, : len(row)] = row
    return array


# Several texts in a row. ------------------------------------------------------------------------------------------------------------

Plan = dict[int, list[list[int]]]  # the length of rows -> for each row of that length, the texts in it


@dataclass(frozen=True, eq=False)
class Layout:
    """Where D texts, of T tokens together, stand in one batch of B rows of L tokens, each text in one piece.

    Attributes:
        shape: (B, L).
        texts: their numbers, [D].
        starts: where each begins, as row x L + place, int64 [D].
        sizes: the tokens of each, int64 [D].
    """

    shape: tuple[int, int]
    texts: list[int]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """The place of each token in its text, for one text after the other: [T]."""
        return np.arange(self.sizes.sum()) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)

    def spread(self, values: NDArray, fill: int) -> NDArray[np.int32]:
        """Values of the tokens of all texts, one text after the other, [T], where the tokens stand: int32 [B, L], elsewhere `fill`."""
        array = np.full(self.shape, fill, np.int32)
        array.reshape(-1)[np.repeat(self.starts, self.sizes) + self._places] = values
        return array

    @property
    def position_ids(self) -> NDArray[np.int32]:
        """The place of each token in its text, int32 [B, L]; 0 where none stands."""
        return self.spread(self._places, 0)

    @property
    def document_ids(self) -> NDArray[np.int32]:
        """Which of the D texts each token belongs to, int32 [B, L]; -1 where none stands."""
        return self.spread(np.repeat(np.arange(len(self.texts)), self.sizes), -1)


def layouts(lengths: Sequence[int], batch_size: int, share_rows: bool = True) -> list[Layout]:
    """Batches of at most `batch_size` rows that together hold each of the texts of these lengths once.

    Each text has a row of its bucket, or, with `share_rows`, several share a row where that costs less: many texts shorter than their
    bucket, or of many buckets. What a token costs to compute and what a shape costs to compile are weighed together, so a handful of texts
    has one shape, or two, and thousands have those that leave the fewest tokens to padding.
    """
    _check_batch_size(batch_size)
    cost = partial(_cost, batch_size=batch_size)
    plan = _own_rows(lengths)
    if share_rows and len(lengths) > 1:
        together, longest = length_bucket(sum(lengths)), -(-max(lengths) // 8) * 8
        shared = [_shared_rows(lengths, min(length, together)) for length in (*ROW_LENGTHS, longest)]
        other = min(shared, key=lambda plan: cost(plan) + (COMPILE / 2 if plan is not shared[0] else 0))
        plan = min(plan, other, key=cost)
    return [layout for length, rows in sorted(plan.items(), reverse=True) for layout in _batches(lengths, rows, length, batch_size)]


def best_fit(sizes: Sequence[int], length: int, rooms: Sequence[int] = ()) -> list[list[int]]:
    """Rows of `length` tokens that hold texts of these sizes, as lists of their numbers: the longest first, each goes to the fullest row
    that has room for it (best fit decreasing). Texts longer than a row are in none.

    rooms: the room that is left in rows that exist already. They come first in the result, with what was added to them."""
    rows: list[list[int]] = [[] for _ in rooms]
    by_room: list[list[int]] = [[] for _ in range(max([length, *rooms]) + 1)]  # the rows that have exactly so much room
    some = 0  # bit r: there is a row with room r
    for row, room in enumerate(rooms):
        by_room[room].append(row)
        some |= 1 << room
    for text in sorted(range(len(sizes)), key=lambda text: -sizes[text]):
        size = sizes[text]
        if size > length:
            continue
        enough = some >> size
        if enough:
            room = size + (enough & -enough).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                some ^= 1 << room
            rows[row].append(text)
        else:
            room, row = length, len(rows)
            rows.append([text])
        by_room[room - size].append(row)
        some |= 1 << (room - size)
    return rows


def _own_rows(lengths: Sequence[int]) -> Plan:
    plan: Plan = {}
    for text, size in enumerate(lengths):
        plan.setdefault(length_bucket(size), []).append([text])
    return plan


def _shared_rows(lengths: Sequence[int], length: int) -> Plan:
    """Rows of `length` tokens, and for each longer text one of its bucket, whose rest is for short ones."""
    plan: Plan = {}
    long = [text for text, size in enumerate(lengths) if size > length]
    rows = best_fit(lengths, length, [length_bucket(lengths[text]) - lengths[text] for text in long])
    for text, others in zip(long, rows, strict=False):
        plan.setdefault(length_bucket(lengths[text]), []).append([text, *others])
    if rows[len(long) :]:
        plan.setdefault(length, []).extend(rows[len(long) :])
    return plan


def _cost(plan: Plan, batch_size: int) -> float:
    """In tokens of a short row."""
    cost = 0.0
    for length, rows in plan.items():
        count = _rows_together(len(rows), length, batch_size)
        cost += COMPILE + -(-len(rows) // count) * (CALL + count * length * (1 + length / ATTENTION))
    return cost


def _rows_together(rows: int, length: int, batch_size: int) -> int:
    """How many of so many rows to compute at a time: such that all batches have one shape, and few of their rows are empty."""
    counts = {min(_finely(count), batch_size) for count in range(1, min(rows, batch_size) + 1)}
    return min(counts, key=lambda count: (-(-rows // count) * (CALL + count * length), -count))


def _finely(size: int) -> int:
    """1 to 16, 18, 20 ... 32, 36 ...: the smallest of these that holds `size`. Rows that are shared have few lengths, which leaves room for
    more counts than `bucket` knows: an eighth is wasted at most."""
    step = 1 << max(0, (size - 1).bit_length() - 4)
    return -(-size // step) * step


def _batches(lengths: Sequence[int], rows: list[list[int]], length: int, batch_size: int) -> Iterator[Layout]:
    count = _rows_together(len(rows), length, batch_size)
    batches = -(-len(rows) // count)
    for first in range(batches):
        texts, starts = [], []  # type: list[int], list[int]
        for row, members in enumerate(rows[first::batches]):  # every so many, so that all batches have as many texts
            begin = row * length
            for text in members:
                texts.append(text)
                starts.append(begin)
                begin += lengths[text]
        sizes = np.fromiter((lengths[text] for text in texts), np.int64, len(texts))
        yield Layout((count, length), texts, np.array(starts, np.int64), sizes)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: expected at least 1.")
