"""Losses against their formulas, written out in NumPy and float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.backend import differentiated
from bert4k.losses import CoSENT, FocalCrossentropy, MultilabelSoftmax, SimCSE, SmoothedCrossentropy

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


def pairs_of_vectors(rows: int = 7) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(rows, 2, 5)).astype("float32")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_cosent() -> None:
    """The sum over pairs of rows, in a loop; a row without a label takes no part."""
    x, labels = pairs_of_vectors(), np.array([0, 3, 3, np.nan, 5, 0, 1])
    cosines = [cosine(*pair) for pair in x.astype("float64")]
    total = 1.0
    for i in range(7):
        for j in range(7):
            if labels[i] > labels[j]:
                total += np.exp(8.0 * (cosines[j] - cosines[i]))
    np.testing.assert_allclose(found(CoSENT(8.0, reduction="none"), labels, x), np.full(7, np.log(total)), rtol=1e-5)
    np.testing.assert_allclose(found(CoSENT(8.0), np.ones(7), x), 0, atol=1e-6)  # nothing is more alike than anything else


def test_simcse() -> None:
    """The softmax over those rows that are about something else, in a loop."""
    x, about = pairs_of_vectors(), np.array([0, 1, 2, 1, np.nan, 3, 4])
    expected = []
    for i in range(7):
        against = [j for j in range(7) if j == i or (about[j] != about[i] and not np.isnan(about[j]))]
        scores = [5.0 * cosine(x[i, 0].astype("float64"), x[j, 1]) for j in against]
        expected.append(np.log(np.exp(scores).sum()) - 5.0 * cosine(x[i, 0], x[i, 1]))
    np.testing.assert_allclose(found(SimCSE(5.0, reduction="none"), about, x), expected, rtol=1e-4)


def test_simcse_is_torchs_cross_entropy() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(pairs_of_vectors())
    scores = torch.nn.functional.cosine_similarity(x[:, None, 0], x[None, :, 1], dim=-1) / 0.05
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(7))
    np.testing.assert_allclose(found(SimCSE(), np.arange(7), x.numpy()), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("loss", [CoSENT(), SimCSE()])
def test_a_row_that_is_repeated_to_fill_a_batch_changes_nothing(loss: keras.losses.Loss) -> None:
    x, labels = pairs_of_vectors(5), np.array([0.0, 1, 2, 3, 4])
    filled, told = np.concatenate([x, x[-1:], x[-1:]]), np.array([*labels, np.nan, np.nan])
    weights = np.array([1.0] * 5 + [0, 0], "float32")
    expected = 5 / 7 * found(loss, labels, x)
    np.testing.assert_allclose(ops.convert_to_numpy(loss(told, filled, sample_weight=weights)), expected, rtol=1e-5)


def test_vectors_of_nothing_have_gradients() -> None:
    """A text of which no token is real."""
    variable = keras.Variable(np.zeros((3, 2, 4), "float32"))
    for loss in (CoSENT(), SimCSE()):
        _, _, [gradient] = differentiated(lambda values, loss=loss: (loss(np.arange(3.0), values[0]), None), [variable.value])
        assert np.isfinite(ops.convert_to_numpy(gradient)).all()


@pytest.mark.parametrize("loss", [CoSENT(10.0), SimCSE(10.0)])
def test_those_of_vectors_are_registered(loss: keras.losses.Loss) -> None:
    assert keras.losses.deserialize(keras.losses.serialize(loss)).get_config() == loss.get_config()
