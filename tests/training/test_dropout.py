"""Dropout several times over, against its own samples."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.training import MultiSampleDropout

pytestmark = pytest.mark.backends


def test_it_is_the_mean_of_the_layer_on_every_sample() -> None:
    """The layer is the identity, so that each output is x / (1 - rate) times the share of samples that kept it."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    layer = MultiSampleDropout(keras.layers.Dense(3, use_bias=False, kernel_initializer="identity"), rate=0.25, samples=4)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), x, rtol=1e-6)
    kept = ops.convert_to_numpy(layer(x, training=True)) / x * 0.75 * 4
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-4)
    assert set(np.round(kept).astype(int).ravel()) == {1, 2, 3, 4} | set(np.round(kept).astype(int).ravel()) & {0}
    assert kept.mean() == pytest.approx(3.0, abs=0.3)


def test_it_is_saved_with_its_layer(tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, MultiSampleDropout(keras.layers.Dense(2), 0.5, 3)(inputs))
    model.save(tmp_path / "model.keras")
    x = np.ones((2, 3), "float32")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[-1].samples == 3
