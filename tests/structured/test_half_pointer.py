"""Pointers to the two ends of a span."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from bert4k.errors import DataError
from bert4k.structured import HalfPointer, best_span, pair_pointers

pytestmark = pytest.mark.backends


def test_logits_begin_small_and_a_saved_model_gives_the_same(tmp_path: Path) -> None:
    x = np.random.standard_normal((2, 7, 4)).astype("float32")
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, HalfPointer(3, prior=0.02, initializer="zeros", dtype="mixed_bfloat16")(inputs))
    found = model.predict(x, verbose=0)
    assert found.shape == (2, 7, 3, 2) and found.dtype == np.float32
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), 0.02, rtol=0.02)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(x, np.zeros(found.shape), sample_weight=np.ones((2, 7, 1, 1)), verbose=0)
    model.save(tmp_path / "pointers.keras")
    again = keras.saving.load_model(tmp_path / "pointers.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def marks(length: int, kinds: int, *places: tuple[int, int, int]) -> np.ndarray:
    found = np.zeros((length, kinds, 2))
    for place in places:
        found[place] = 0.9
    return found


@pytest.mark.parametrize(
    ("places", "spans"),
    [
        ([], []),
        ([(1, 0, 0), (3, 0, 1)], [(1, 4, 0)]),
        ([(1, 0, 0), (1, 0, 1)], [(1, 2, 0)]),  # one token
        ([(1, 0, 0), (2, 0, 1), (4, 0, 1)], [(1, 3, 0)]),  # the nearest end
        ([(1, 0, 0), (2, 0, 0), (4, 0, 1)], [(2, 5, 0)]),  # no end before the next beginning
        ([(3, 0, 0), (1, 0, 1)], []),  # the end comes first
        ([(0, 1, 0), (1, 0, 0), (2, 0, 1), (4, 1, 1)], [(0, 5, 1), (1, 3, 0)]),  # kinds may overlap
    ],
)
def test_beginnings_are_paired_with_ends(places: list[tuple[int, int, int]], spans: list[tuple[int, int, int]]) -> None:
    assert pair_pointers(marks(5, 2, *places)) == spans


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8), st.integers(1, 9) | st.none())
def test_the_best_span_is_the_best_of_all(scores: list[tuple[float, float]], longest: int | None) -> None:
    begin, end = zip(*scores, strict=True)
    first, after, score = best_span(np.array(begin), np.array(end), longest)
    everything = [begin[i] + end[j] for i in range(len(begin)) for j in range(i, min(len(begin), i + (longest or 99)))]
    assert score == pytest.approx(max(everything)) == pytest.approx(begin[first] + end[after - 1])
    assert first < after <= first + (longest or 99)


@pytest.mark.parametrize("call", [lambda: pair_pointers(np.zeros((2, 3))), lambda: best_span(np.zeros(2), np.zeros(3))])
def test_wrong_shapes(call: Any) -> None:
    with pytest.raises(DataError, match="shape"):
        call()


def test_arrays_of_the_backend() -> None:
    assert pair_pointers(ops.convert_to_tensor(marks(5, 1, (0, 0, 0), (1, 0, 1)))) == [(0, 2, 0)]
