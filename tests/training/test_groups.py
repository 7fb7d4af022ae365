"""A model of texts on groups of texts: the same numbers, text by text."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.finetuning import Encoded, Groups
from bert4k.losses import SimCSE
from bert4k.training import Grouped, LengthBatches, Trainer

pytestmark = pytest.mark.backends


def small() -> keras.Model:
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
    x = keras.layers.Embedding(9, 4)(inputs["token_ids"]) + keras.layers.Embedding(2, 4)(inputs["segment_ids"])
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling1D()(x)))


def groups() -> Groups:
    texts = [[1, 2, 3], [4], [5, 6], [7, 8, 1, 2], [3]]
    encoded = Encoded([np.array(text, np.int32) for text in texts], [np.array([1] * len(text), np.int32) for text in texts])
    return Groups(encoded, [[0, 1], [2], [3, 4, 0]])


def test_what_a_group_lacks_is_padding() -> None:
    made = groups()
    assert made.lengths() == [3, 2, 4] and made.most == 3
    batch = made.inputs([1, 0], 4)
    assert batch["token_ids"].shape == (2, 3, 4)
    np.testing.assert_array_equal(batch["token_ids"][0], [[5, 6, 0, 0], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(batch["segment_ids"][1], [[1, 1, 1, 0], [1, 0, 0, 0], [0] * 4])


def test_outputs_and_serialisation() -> None:
    model, batch = small(), groups().inputs([0, 2], 4)
    found = ops.convert_to_numpy(Grouped(model)(batch))
    assert found.shape == (2, 3, 3)
    for row, text in np.ndindex(2, 3):
        alone = model({name: each[row, text][None] for name, each in batch.items()})
        np.testing.assert_allclose(found[row, text], ops.convert_to_numpy(alone)[0], rtol=1e-5)
    again = Grouped.from_config(Grouped(model).get_config())
    assert [each.shape for each in again.weights] == [each.shape for each in model.weights]


def test_fit_trains_the_weights_of_the_model() -> None:
    model, made = small(), groups()
    pairs = Groups(made.texts, [[0, 1], [2, 3], [4, 0]])
    before = [ops.convert_to_numpy(each).copy() for each in model.weights]

    def collate(rows: list[int], length: int) -> tuple[Any, ...]:
        return pairs.inputs(rows, length), np.array(rows, "float32")

    trainer = Trainer(Grouped(model))
    trainer.compile("sgd", SimCSE())
    losses = trainer.fit(LengthBatches(pairs.lengths(), collate, 64), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert any((ops.convert_to_numpy(after) != value).any() for after, value in zip(model.weights, before, strict=True))
