"""Dropout several times over."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("bert4k")
class MultiSampleDropout(keras.layers.Wrapper):
    """`layer` on several samples of dropout, on average (Inoue 2019, arXiv:1905.09788): faster and steadier training of a small head.

    `MultiSampleDropout(keras.layers.Dense(2), rate=0.5, samples=5)(x)`, x [B, ..., H]. The paper averages the losses of the samples; here
    it is their outputs, so that any loss may follow: not more than that by Jensen's inequality. Without training, it is the layer alone.
    """

    def __init__(self, layer: keras.layers.Layer, rate: float = 0.5, samples: int = 5, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.rate, self.samples = rate, samples
        self.dropout = keras.layers.Dropout(rate, dtype=self.dtype_policy)

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training or not self.rate:
            return self.layer(x)
        return ops.mean(ops.stack([self.layer(self.dropout(x, training=True)) for _ in range(self.samples)]), axis=0)

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(self.layer.compute_output_shape(x_shape))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "samples": self.samples}
