"""Which texts are computed together, where they stand, and how much of what is computed is padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k import ConfigError
from bert4k.decoding.batches import Layout, _shared_rows, best_fit, bucket, by_length, layouts, length_bucket

LENGTHS = st.lists(st.integers(2, 300), min_size=1, max_size=80)


def computed(batches: list[Layout]) -> int:
    return sum(rows * length for rows, length in (layout.shape for layout in batches))


def shapes(batches: list[Layout]) -> set[tuple[int, int]]:
    return {layout.shape for layout in batches}


def mostly_short(count: int, seed: int = 0) -> list[int]:
    """Lengths of 8 to 128, half of them below 24."""
    return (8 * 16 ** np.random.default_rng(seed).beta(1, 1.6, count)).astype(int).tolist()


# What every layout holds. ---------------------------------------------------------------------------------------------------------


@given(LENGTHS, st.integers(1, 40), st.booleans())
def test_each_text_stands_once_in_one_row(lengths: list[int], batch_size: int, share_rows: bool) -> None:
    batches = layouts(lengths, batch_size, share_rows)
    assert sorted(text for layout in batches for text in layout.texts) == list(range(len(lengths)))
    for layout in batches:
        rows, length = layout.shape
        assert rows <= batch_size
        assert layout.sizes.tolist() == [lengths[text] for text in layout.texts]
        taken = np.zeros(rows * length, int)
        for start, size in zip(layout.starts, layout.sizes, strict=True):
            assert start // length == (start + size - 1) // length
            taken[start : start + size] += 1
        assert taken.max() == 1
        if not share_rows:
            assert len(set(layout.starts // length)) == len(layout.texts)


@given(LENGTHS, st.integers(1, 40))
def test_spread_against_one_token_at_a_time(lengths: list[int], batch_size: int) -> None:
    values = [np.arange(size) + 1000 * text for text, size in enumerate(lengths)]
    for layout in layouts(lengths, batch_size):
        expected = {name: np.full(layout.shape, fill) for name, fill in (("values", -7), ("places", 0), ("texts", -1))}
        for number, (text, start) in enumerate(zip(layout.texts, layout.starts.tolist(), strict=True)):
            for place in range(lengths[text]):
                at = np.unravel_index(start + place, layout.shape)
                expected["values"][at], expected["places"][at], expected["texts"][at] = values[text][place], place, number
        spread = layout.spread(np.concatenate([values[text] for text in layout.texts]), -7)
        assert spread.dtype == layout.position_ids.dtype == layout.document_ids.dtype == np.int32
        np.testing.assert_array_equal(spread, expected["values"])
        np.testing.assert_array_equal(layout.position_ids, expected["places"])
        np.testing.assert_array_equal(layout.document_ids, expected["texts"])


@given(LENGTHS, st.integers(1, 40))
def test_the_rows_of_one_length_have_one_shape(lengths: list[int], batch_size: int) -> None:
    for share_rows in (False, True):
        found = shapes(layouts(lengths, batch_size, share_rows))
        assert len({length for _, length in found}) == len(found)


# When texts share rows, and what that saves. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", (2, 8, 11, 24, 100, 128, 300))
def test_one_text_has_its_bucket(length: int) -> None:
    [layout] = layouts([length], 32)
    assert layout.shape == (1, length_bucket(length))


@pytest.mark.parametrize(("lengths", "shape"), (([128] * 8, (8, 128)), ([512] * 3, (3, 512)), ([16, 16], (2, 16)), ([32] * 24, (24, 32))))
def test_texts_that_fill_their_bucket_stay_alone(lengths: list[int], shape: tuple[int, int]) -> None:
    [layout] = layouts(lengths, 32)
    assert layout.shape == shape


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_of_mixed_lengths(seed: int) -> None:
    """The benchmark's: one shape, and a quarter of what padding to the longest computes."""
    lengths = [*mostly_short(31, seed), 128]
    batches = layouts(lengths, 32)
    assert len(shapes(batches)) == 1
    assert computed(batches) <= sum(lengths) + 2 * 128
    assert computed(batches) <= 0.3 * 32 * 128
    alone = layouts(lengths, 32, share_rows=False)
    assert len(shapes(alone)) > 4 and computed(alone) > computed(batches)


@pytest.mark.parametrize("lengths", (mostly_short(2000), [3, 4] * 1000, [70] * 500, [13] * 3000, [130, 20, 9] * 300))
def test_thousands_of_texts_leave_little_to_padding(lengths: list[int]) -> None:
    batches = layouts(lengths, 32)
    assert computed(batches) <= 1.11 * sum(lengths) < computed(layouts(lengths, 32, share_rows=False))
    assert len(shapes(batches)) <= 2


@pytest.mark.parametrize("lengths", ([5, 30], [9, 17, 40], [12, 3, 70, 8, 25], [20] * 5, [200, 5, 7]))
def test_a_handful_of_texts_is_one_shape(lengths: list[int]) -> None:
    assert len(shapes(layouts(lengths, 32))) == 1


def test_short_texts_fill_up_the_rows_of_long_ones() -> None:
    assert _shared_rows([20, 300, 20, 20, 20, 20], 128) == {384: [[1, 0, 2, 3, 4]], 128: [[5]]}
    assert _shared_rows([300, 84], 128) == {384: [[0, 1]]}


# The parts. -----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 25), max_size=40), st.lists(st.integers(0, 30), max_size=10))
def test_best_fit_in_rows_that_exist(sizes: list[int], rooms: list[int]) -> None:
    """Against looking at every row for every text; which of several rows with the same room is taken does not matter."""
    rows = best_fit(sizes, 20, rooms)
    left = list(rooms)
    for size in sorted((size for size in sizes if size <= 20), reverse=True):
        possible = [row for row in range(len(left)) if left[row] >= size]
        if possible:
            left[min(possible, key=left.__getitem__)] -= size
        else:
            left.append(20 - size)
    found = [room - sum(sizes[text] for text in row) for room, row in zip([*rooms, *[20] * (len(rows) - len(rooms))], rows, strict=True)]
    assert sorted(text for row in rows for text in row) == [text for text, size in enumerate(sizes) if size <= 20]
    assert min(found, default=0) >= 0
    assert sorted(found) == sorted(left)


def test_buckets_waste_a_third_at_most() -> None:
    for size in range(1, 600):
        assert size <= bucket(size) <= max(1.5 * size - 0.5, size)
    assert {bucket(size) for size in range(1, 100)} == {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}
    assert length_bucket(2) == 8


@given(LENGTHS, st.integers(1, 10))
def test_by_length_groups_rows_of_one_bucket(lengths: list[int], batch_size: int) -> None:
    batches = [batch.tolist() for batch in by_length(lengths, batch_size)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= batch_size and len({length_bucket(lengths[row]) for row in batch}) == 1


def test_a_batch_has_a_row() -> None:
    with pytest.raises(ConfigError, match="batch_size=0"):
        layouts([3], 0)
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(by_length([3], 0))
