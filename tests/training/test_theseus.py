"""The successor alone, the predecessor alone, and what lies between."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.config import Config
from bert4k.errors import ConfigError
from bert4k.model import Transformer
from bert4k.training import Theseus

pytestmark = pytest.mark.backends

TOKENS = {"token_ids": np.array([[1, 2, 3], [4, 5, 0]])}


def large(layers: int = 4) -> Transformer:
    return Transformer(
        Config(9, 8, layers, 2, 16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.5), outputs=("pooled",)
    )


def training_output(model: keras.Model) -> np.ndarray:
    return ops.convert_to_numpy(model(TOKENS, training=True))


def numbers(model: Any) -> np.ndarray:
    return ops.convert_to_numpy(model(TOKENS))


def test_it_is_one_or_the_other() -> None:
    predecessor = large()
    small = Theseus(predecessor, 2, rate=1.0)
    alone = numbers(small.successor())
    copied = Transformer(predecessor.config.override(num_hidden_layers=2), outputs=("pooled",))
    old, new = predecessor.weight_names(), copied.weight_names()
    assert set(new) < set(old)
    np.testing.assert_allclose(numbers(small), alone)
    np.testing.assert_allclose(training_output(small), alone, rtol=1e-6)
    small.set_rate(0.0)
    np.testing.assert_allclose(training_output(small), numbers(predecessor), rtol=1e-6)
    assert np.abs(alone - numbers(predecessor)).max() > 1e-3
    small.set_rate(0.5)
    assert len({training_output(small).tobytes() for _ in range(40)}) == 4  # each of two blocks is replaced or not


def test_the_successor_begins_with_the_first_block_of_each_share() -> None:
    predecessor = large()
    small = Theseus(predecessor, 2)
    values, own = predecessor.weight_values(), small.successor().weight_values()
    for name, value in own.items():
        np.testing.assert_array_equal(value, values[name.replace("block_1/", "block_2/")], err_msg=name)


def test_fit_trains_the_successor_and_leaves_the_predecessor_alone() -> None:
    predecessor = large()
    before = predecessor.weight_values()
    small = Theseus(predecessor, 2, rate=0.7)
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, keras.layers.Dense(2)(small({"token_ids": ids})))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    own = small.weight_values()
    model.fit(TOKENS["token_ids"], np.array([0, 1]), epochs=6, verbose=0)
    for name, value in predecessor.weight_values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    changed = {name for name, value in small.weight_values().items() if not np.array_equal(value, own[name])}
    assert {name for name in own if name.startswith("block_") and "key/bias" not in name} <= changed
    assert len(small.successor().trainable_variables) == len(own)


def test_shares_must_be_equal() -> None:
    with pytest.raises(ConfigError, match="3 blocks cannot replace 4"):
        Theseus(large(), 3)
