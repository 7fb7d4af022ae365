"""Batches by length: every example once, few shapes, within the budget, and taken by Keras' trainers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from bert4k.decoding.batches import padded
from bert4k.errors import ConfigError, DataError
from bert4k.structured import Pooling
from bert4k.training import LengthBatches

pytestmark = pytest.mark.backends


def numbered(rows: list[int], length: int) -> tuple[Any, ...]:
    return np.array(rows), np.full(len(rows), length)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=60), st.integers(70, 300), st.integers(0, 3), st.booleans())
def test_every_example_once_in_few_shapes(lengths: list[int], tokens: int, seed: int, shuffle: bool) -> None:
    batches = LengthBatches(lengths, numbered, tokens, longest=70, shuffle=shuffle, seed=seed)
    for _ in range(2):
        seen, shapes = [], set()
        for rows, length, weights in map(batches.__getitem__, range(len(batches))):
            assert len(rows) * length[0] <= max(tokens, length[0])
            assert all(lengths[row] <= length[0] for row in rows)
            seen += rows[weights > 0].tolist()
            shapes.add((len(rows), int(length[0])))
        assert sorted(seen) == list(range(len(lengths)))
        assert len({length for _, length in shapes}) == len(shapes) <= 9
        batches.on_epoch_end()


def test_epochs_differ_and_can_be_had_again() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100).tolist()

    def epoch(batches: LengthBatches) -> list[list[int]]:
        return [batches[index][0].tolist() for index in range(len(batches))]

    batches = LengthBatches(lengths, numbered, 200, seed=3)
    first = epoch(batches)
    batches.on_epoch_end()
    second = epoch(batches)
    assert first != second and len(first) == len(second)
    assert second == epoch(LengthBatches(lengths, numbered, 200, seed=3, epoch=1))
    assert first != epoch(LengthBatches(lengths, numbered, 200, seed=4))


def test_the_first_two_batches_are_as_unlike_as_any() -> None:
    """Or Keras on TensorFlow takes their common shape for that of all."""
    for seed in range(20):
        batches = LengthBatches([5] * 50 + [30] * 3 + [60], numbered, 120, seed=seed)
        assert [int(batches[place][1][0]) for place in (0, 1)] == [8, 60]


@pytest.mark.parametrize("weighted", [False, True])
def test_fit_takes_them(weighted: bool) -> None:
    random = np.random.default_rng(0)
    rows = [random.integers(1, 20, random.integers(2, 40)).tolist() for _ in range(60)]
    labels = np.array([row[0] > 10 for row in rows], "int32")

    def collate(chosen: list[int], length: int) -> tuple[Any, ...]:
        tokens = padded([rows[row] for row in chosen], 0, length, len(chosen))
        weights = (np.ones(len(chosen)),) if weighted else ()
        return (tokens, labels[chosen], *weights)

    tokens = keras.Input((None,), dtype="int32")
    x = Pooling("mean")(keras.layers.Embedding(20, 4)(tokens), ops.not_equal(tokens, 0))
    model = keras.Model(tokens, keras.layers.Dense(1, "sigmoid")(x))
    model.compile("adam", "binary_crossentropy", weighted_metrics=["accuracy"])
    model.fit(LengthBatches([len(row) for row in rows], collate, 80), epochs=2, verbose=0)
    expected = [model.predict(np.array([row]), verbose=0)[0] for row in rows]
    batches = LengthBatches([len(row) for row in rows], collate, 80, shuffle=False)
    found = batches.in_order([model.predict_on_batch(batches[index][0]) for index in range(len(batches))])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (([],), DataError, "at least one"),
        (([3, 9], numbered, 100, 5), DataError, "Example 1 has 9 tokens; expected at most 5"),
        (([3, 9], numbered, 8), ConfigError, "8 tokens cannot hold a text of 9"),
    ],
)
def test_what_cannot_be_made(arguments: tuple, error: type, told: str) -> None:
    with pytest.raises(error, match=told):
        LengthBatches(*arguments if len(arguments) > 1 else (*arguments, numbered))
