"""Half pointer, half tagger: each token may be the first or the last of a span, by kind, independently of all others.

    logits = HalfPointer(kinds=2)(x)                                    # [B, L, C, 2]
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    spans = pair_pointers(keras.ops.sigmoid(model.predict(batch))[0])

Weights of 0 for padding go to `fit` as sample weights, [B, L, 1, 1]. Shapes: B batch, L tokens, H hidden, C kinds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k.errors import DataError


@keras.saving.register_keras_serializable("bert4k")
class HalfPointer(keras.layers.Layer):
    """`pointer(x)`: x [B, L, H] gives logits float32 [B, L, C, 2], whether a span of a kind begins (0) and whether one ends (1) here.

    Where hardly any token is one, all probabilities should begin small: that of the first step is `prior` everywhere."""

    def __init__(self, kinds: int, prior: float = 0.01, initializer: Any = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds, self.prior, self.initializer = kinds, prior, keras.initializers.get(initializer)
        bias = keras.initializers.Constant(float(np.log(prior / (1 - prior))))
        self.dense = keras.layers.Dense(
            2 * kinds, kernel_initializer=self.initializer, bias_initializer=bias, dtype=self.dtype_policy, name="dense"
        )

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.dense.build(x_shape)

    def call(self, x: Any) -> Any:
        return ops.reshape(ops.cast(self.dense(x), "float32"), (*ops.shape(x)[:2], self.kinds, 2))

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((*x.shape[:2], self.kinds, 2), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "kinds": self.kinds,
            "prior": self.prior,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def pair_pointers(probabilities: Any, threshold: float = 0.5) -> list[tuple[int, int, int]]:
    """(first, last + 1, kind) of the spans of one text: every beginning above `threshold` with the nearest end above it, at the same
    place or later, and before the next beginning of that kind. probabilities: [L, C, 2]."""
    probabilities = np.asarray(ops.convert_to_numpy(probabilities))
    if probabilities.ndim != 3 or probabilities.shape[-1] != 2:
        raise DataError(f"The probabilities have the shape {probabilities.shape}; expected [tokens, kinds, 2], those of one text.")
    spans = []
    for kind in range(probabilities.shape[1]):
        begins, ends = (np.flatnonzero(probabilities[:, kind, side] > threshold) for side in (0, 1))
        for begin, next_begin in pairwise([*begins, len(probabilities)]):
            after = ends[(ends >= begin) & (ends < next_begin)]
            if len(after):
                spans.append((int(begin), int(after[0]) + 1, kind))
    return sorted(spans)


def best_span(begin: Any, end: Any, longest: int | None = None) -> tuple[int, int, float]:
    """(first, last + 1, score) of the one span whose begin [L] and end [L] score highest together, of at most `longest` tokens."""
    begin, end = (np.asarray(ops.convert_to_numpy(each), np.float64) for each in (begin, end))
    if begin.ndim != 1 or begin.shape != end.shape or not len(begin):
        raise DataError(f"The scores have the shapes {begin.shape} and {end.shape}; expected [tokens] each, of one text.")
    scores = begin[:, None] + end[None, :]
    lengths = np.arange(len(end))[None, :] - np.arange(len(begin))[:, None] + 1
    scores[(lengths < 1) | (lengths > (longest or len(begin)))] = -np.inf
    first, last = np.unravel_index(np.argmax(scores), scores.shape)
    return int(first), int(last) + 1, float(scores[first, last])
