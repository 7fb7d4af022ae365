"""Pooling against loops over the real tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.errors import ConfigError
from bert4k.structured import POOLINGS, Pooling

pytestmark = pytest.mark.backends

REAL = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def by_hand(layer: Pooling, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    if layer.kind == "first":
        return x[0]
    rows = x[real]
    if not len(rows):
        return np.zeros(x.shape[-1])
    if layer.kind == "attention":
        scores = np.tanh(rows @ numpy(layer.inner.kernel) + numpy(layer.inner.bias)) @ numpy(layer.scorer.kernel)[:, 0]
        weights = np.exp(scores) / np.exp(scores).sum()
        return weights @ rows
    return rows.mean(axis=0) if layer.kind == "mean" else rows.max(axis=0)


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_pooling_and_saving(kind: str, dtype: str, tmp_path: Path) -> None:
    x = np.random.standard_normal((3, 4, 5)).astype("float32")
    inputs = keras.Input((None, 5)), keras.Input((None,), dtype="bool")
    layer = Pooling(kind, dtype=dtype)
    model = keras.Model(inputs, layer(*inputs))
    found = model.predict([x, REAL], verbose=0)
    assert found.dtype == np.float32
    expected = [by_hand(layer, *pair) for pair in zip(x, REAL, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float32" else 5e-3)
    np.testing.assert_allclose(
        numpy(layer(x)), [by_hand(layer, row, np.ones(4, bool)) for row in x], atol=1e-5 if dtype == "float32" else 5e-3
    )
    model.save(tmp_path / "pool.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "pool.keras").predict([x, REAL], verbose=0), found)


def test_an_unknown_pooling() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        Pooling("meen")
