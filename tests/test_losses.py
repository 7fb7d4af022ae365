"""Losses against their formulas, written out in NumPy and float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.losses import FocalCrossentropy, MultilabelSoftmax, SmoothedCrossentropy

pytestmark = pytest.mark.backends

LOGITS = np.random.default_rng(0).normal(0, 3, (4, 5, 6)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 6, (4, 5))


def probabilities() -> np.ndarray:
    exp = np.exp(LOGITS.astype("float64"))
    return exp / exp.sum(axis=-1, keepdims=True)


def found(loss: keras.losses.Loss, labels: np.ndarray, logits: np.ndarray = LOGITS) -> np.ndarray:
    return ops.convert_to_numpy(loss(labels, logits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_smoothed_labels(smoothing: float) -> None:
    target = np.eye(6)[LABELS] * (1 - smoothing) + smoothing / 6
    expected = -np.sum(target * np.log(probabilities()), axis=-1)
    np.testing.assert_allclose(found(SmoothedCrossentropy(smoothing, reduction="none"), LABELS), expected, rtol=1e-5)
    kerases = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)(np.eye(6)[LABELS], LOGITS)
    np.testing.assert_allclose(found(SmoothedCrossentropy(smoothing), LABELS), ops.convert_to_numpy(kerases), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal(gamma: float) -> None:
    p = np.take_along_axis(probabilities(), LABELS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(found(FocalCrossentropy(gamma, reduction="none"), LABELS), -((1 - p) ** gamma) * np.log(p), rtol=1e-4)


def test_several_labels() -> None:
    right = np.random.default_rng(2).random(LOGITS.shape) < 0.3
    right[0] = False
    right[1, 0] = True
    expected = [
        np.log(1 + np.exp(s[~y]).sum()) + np.log(1 + np.exp(-s[y]).sum())
        for s, y in zip(LOGITS.reshape(-1, 6).astype("float64"), right.reshape(-1, 6), strict=True)
    ]
    np.testing.assert_allclose(found(MultilabelSoftmax(reduction="none"), right).reshape(-1), expected, rtol=1e-5)


def test_one_label_of_all_is_the_softmax_with_a_threshold() -> None:
    """With one right label and one wrong, the loss is that of two binary decisions against a score of 0."""
    s = np.array([[2.0, -1.0]], "float32")
    np.testing.assert_allclose(
        found(MultilabelSoftmax(), np.array([[1, 0]]), s), np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)), rtol=1e-6
    )


@pytest.mark.parametrize("loss", [SmoothedCrossentropy(), FocalCrossentropy(0.5), MultilabelSoftmax()])
def test_extreme_logits_and_half_precision_give_numbers(loss: keras.losses.Loss) -> None:
    logits = np.array([[60000.0, -60000.0, 0.0], [-1e9, 5.0, -1e9]], "float32")
    labels = np.array([[1, 0, 0], [0, 1, 0]]) if isinstance(loss, MultilabelSoftmax) else np.array([0, 1])
    assert np.isfinite(found(loss, labels, logits)).all()
    half = ops.cast(ops.clip(logits, -6e4, 6e4), "float16")
    assert np.isfinite(found(loss, labels, half)).all()


@pytest.mark.parametrize("loss", [SmoothedCrossentropy(0.2), FocalCrossentropy(3.0), MultilabelSoftmax()])
def test_they_are_registered(loss: keras.losses.Loss) -> None:
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
