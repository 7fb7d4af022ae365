"""Scores of spans against loops over pairs of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.errors import ConfigError
from bert4k.layers import FORBIDDEN
from bert4k.structured import EfficientGlobalPointer, GlobalPointer, GlobalPointerLoss, rotate, spans_above

pytestmark = pytest.mark.backends

BATCH, LENGTH, HIDDEN, KINDS, SIZE = 2, 5, 6, 3, 4
REAL = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def turned(vector: np.ndarray, place: int) -> np.ndarray:
    """One vector turned by its place, pair by pair, with a rotation matrix."""
    out = np.empty_like(vector)
    for pair in range(len(vector) // 2):
        angle = place * 10000 ** (-2 * pair / len(vector))
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        out[2 * pair : 2 * pair + 2] = matrix @ vector[2 * pair : 2 * pair + 2]
    return out


def test_rotation() -> None:
    x = np.random.standard_normal((BATCH, LENGTH, 2, SIZE)).astype("float32")
    expected = np.array([[[turned(head, place) for head in heads] for place, heads in enumerate(row)] for row in x])
    np.testing.assert_allclose(numpy(rotate(ops.convert_to_tensor(x))), expected, atol=1e-5)


def made(kind: type[GlobalPointer], **kwargs: Any) -> tuple[GlobalPointer, np.ndarray]:
    layer = kind(KINDS, SIZE, **kwargs)
    layer.build((None, None, HIDDEN))
    for weight in layer.weights:
        weight.assign(np.random.standard_normal(weight.shape))
    return layer, np.random.standard_normal((BATCH, LENGTH, HIDDEN)).astype("float32")


def expected(layer: GlobalPointer, x: np.ndarray, efficient: bool, rotary: bool) -> np.ndarray:
    out = np.full((BATCH, KINDS, LENGTH, LENGTH), FORBIDDEN)
    dense = x @ numpy(layer.dense.kernel) + numpy(layer.dense.bias)
    for row, kind, first, last in np.ndindex(out.shape):
        if first > last or not REAL[row, first] or not REAL[row, last]:
            continue
        pairs = dense[row].reshape(LENGTH, -1, 2, SIZE)[:, 0 if efficient else kind]
        query, key = pairs[first, 0], pairs[last, 1]
        if rotary:
            query, key = turned(query, first), turned(key, last)
        out[row, kind, first, last] = query @ key / np.sqrt(SIZE)
        if efficient:
            kernel, bias = numpy(layer.kind.kernel), numpy(layer.kind.bias)
            told = [pairs[place].reshape(-1) @ kernel + bias for place in (first, last)]
            out[row, kind, first, last] += (told[0][kind] + told[1][KINDS + kind]) / 2
    return out


@pytest.mark.parametrize("kind", [GlobalPointer, EfficientGlobalPointer])
@pytest.mark.parametrize("rotary", [True, False])
def test_scores(kind: type[GlobalPointer], rotary: bool) -> None:
    layer, x = made(kind, rotary=rotary)
    found = numpy(layer(x, REAL))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(layer, x, kind is EfficientGlobalPointer, rotary), atol=2e-4, rtol=1e-4)


def test_the_efficient_one_has_fewer_weights() -> None:
    assert made(EfficientGlobalPointer)[0].count_params() < made(GlobalPointer)[0].count_params()


def test_loss_takes_no_notice_of_what_is_no_span() -> None:
    layer, x = made(GlobalPointer)
    scores = numpy(layer(x, REAL))
    right = np.zeros(scores.shape, "float32")
    right[0, 1, 0, 2] = right[0, 1, 3, 3] = right[1, 2, 1, 2] = 1
    found = numpy(GlobalPointerLoss(reduction="none")(right, scores))
    possible = scores > FORBIDDEN / 2
    by_hand = np.zeros((BATCH, KINDS))
    for row, kind in np.ndindex(BATCH, KINDS):
        s, y, may = scores[row, kind], right[row, kind], possible[row, kind]
        by_hand[row, kind] = np.log(1 + np.exp(s[may & (y == 0)]).sum()) + np.log(1 + np.exp(-s[may & (y == 1)]).sum())
    np.testing.assert_allclose(found, by_hand.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("kind", [GlobalPointer, EfficientGlobalPointer])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fit_finds_nested_spans_and_a_saved_model_gives_the_same(kind: type[GlobalPointer], policy: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, LENGTH, HIDDEN)).astype("float32")
    real = np.ones((4, LENGTH), bool)
    right = np.zeros((4, 2, LENGTH, LENGTH), "float32")
    spans = [[(0, 3, 0), (1, 2, 1)], [(4, 5, 1)], [], [(2, 4, 0), (2, 5, 0)]]
    for row, found in enumerate(spans):
        for first, end, what in found:
            right[row, what, first, end - 1] = 1
    inputs = keras.Input((None, HIDDEN), name="x"), keras.Input((None,), dtype="bool", name="real")
    model = keras.Model(inputs, kind(2, 16, dtype=policy)(*inputs))
    model.compile(keras.optimizers.Adam(0.05), GlobalPointerLoss())
    model.fit([x, real], right, epochs=80, batch_size=4, verbose=0)
    scores = model.predict([x, real], verbose=0)
    assert [[span[:3] for span in spans_above(row)] for row in scores] == [sorted(found) for found in spans]
    model.save(tmp_path / "spans.keras")
    again = keras.saving.load_model(tmp_path / "spans.keras")
    np.testing.assert_allclose(again.predict([x, real], verbose=0), scores, rtol=1e-6)


def test_a_head_size_that_cannot_be_turned() -> None:
    with pytest.raises(ConfigError, match="head size of 3"):
        GlobalPointer(2, 3)
