"""The convolution under a mask: Keras' own where the mask hides nothing but padding, and what is left of it where it hides more."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.convolution import Convolution
from bert4k.layers import KeysValues
from bert4k.positions import Places

pytestmark = pytest.mark.backends
WIDTH, LENGTH = 6, 7


def layer(size: int) -> Convolution:
    made = Convolution(size)
    made.build((None, None, WIDTH))
    random = np.random.default_rng(0)
    for variable in (made.kernel, made.bias):
        variable.assign(random.standard_normal(variable.shape).astype("float32"))
    return made


def inputs(length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).standard_normal((2, length, WIDTH)).astype("float32")
    return x, np.tile(np.arange(length, dtype="int32"), (2, 1))


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def kerasian(ours: Convolution, padding: str) -> keras.layers.Conv1D:
    """Keras' layer with the same weights: [size, in, out]."""
    theirs = keras.layers.Conv1D(WIDTH, ours.size, padding=padding)
    theirs.build((None, None, WIDTH))
    theirs.kernel.assign(numpy(ours.kernel).reshape(WIDTH, ours.size, WIDTH).transpose(1, 0, 2))
    theirs.bias.assign(ours.bias)
    return theirs


@pytest.mark.parametrize("size", [1, 3, 5])
def test_without_a_mask_it_is_that_of_keras(size: int) -> None:
    ours, (x, places) = layer(size), inputs()
    found = ours(x, np.ones((2, 1, LENGTH, LENGTH), bool), places)
    np.testing.assert_allclose(numpy(found), numpy(kerasian(ours, "same")(x)), atol=1e-5)


def test_padding_is_not_seen() -> None:
    """As if the rows ended where their texts do."""
    ours, (x, places) = layer(3), inputs()
    allowed = np.broadcast_to(np.arange(LENGTH) < 4, (2, 1, LENGTH, LENGTH))
    np.testing.assert_allclose(numpy(ours(x, allowed, places))[:, :4], numpy(kerasian(ours, "same")(x[:, :4])), atol=1e-5)


def test_from_left_to_right_with_a_cache() -> None:
    """The matrices of what is to the right take no part; token by token into shuffled slots gives the same."""
    ours, (x, places) = layer(3), inputs()
    causal = np.tril(np.ones((LENGTH, LENGTH), bool))[None, None].repeat(2, axis=0)
    kernel = numpy(ours.kernel).reshape(WIDTH, 3, WIDTH)
    padded = np.pad(x, ((0, 0), (1, 0), (0, 0)))
    expected = padded[:, :-1] @ kernel[:, 0] + x @ kernel[:, 1] + numpy(ours.bias)
    np.testing.assert_allclose(numpy(ours(x, causal, places)), expected, atol=1e-5)

    read, slots = 3, [2, 0, 3, 1]
    source = ours.keys_values(ops.convert_to_tensor(x[:, :read]))
    target = KeysValues(*(ops.zeros((2, part.shape[1], len(slots), part.shape[3])) for part in source))
    keys = np.concatenate([places[:, :read], places[:, read:][:, np.argsort(slots)]], axis=1)
    for step, slot in enumerate(slots):
        at = read + step
        written = np.isin(np.arange(len(slots)), slots[: step + 1])
        allowed = np.broadcast_to(np.concatenate([np.ones(read, bool), written]), (2, 1, 1, LENGTH))
        here = Places(ops.convert_to_tensor(places[:, at : at + 1]), ops.convert_to_tensor(keys))
        at_slot = ops.convert_to_tensor(np.full((2, 1), slot, "int32"))
        out, target = ours.step(ops.convert_to_tensor(x[:, at : at + 1]), source, target, at_slot, ops.convert_to_tensor(allowed), here)
        np.testing.assert_allclose(numpy(out)[:, 0], expected[:, at], atol=1e-5)
