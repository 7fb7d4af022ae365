"""One vector of many: pooling over the tokens that are real."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4k.errors import ConfigError, did_you_mean
from bert4k.layers import FORBIDDEN, attention_weights

POOLINGS = ("mean", "max", "first", "attention")


@keras.saving.register_keras_serializable("bert4k")
class Pooling(keras.layers.Layer):
    """`pool(x, real)`: x [B, L, H] and real bool [B, L] (default: every token) give float32 [B, H].

    kind: "mean", "max", "first" (the first token, [CLS]), or "attention": the mean weighted by a softmax of `w · tanh(W x)` (Yang et al.
    2016, N16-1174), with W [H, H] and w [H, 1], and with `use_bias` a bias [H] in the tanh. A row without any real token gives 0 (first:
    its first token).
    """

    def __init__(self, kind: str = "mean", initializer: Any = "glorot_uniform", use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ConfigError(f"There is no pooling {kind!r}.{did_you_mean(kind, POOLINGS)} Known are {', '.join(POOLINGS)}.")
        self.kind, self.initializer, self.use_bias = kind, keras.initializers.get(initializer), use_bias

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        if self.kind == "attention":
            common = {"kernel_initializer": self.initializer.clone(), "dtype": self.dtype_policy}
            self.inner = keras.layers.Dense(x_shape[-1], "tanh", self.use_bias, name="inner", **common)
            self.scorer = keras.layers.Dense(1, use_bias=False, name="scorer", **common)
            self.inner.build(x_shape)
            self.scorer.build(x_shape)

    def call(self, x: Any, real: Any = None) -> Any:
        if self.kind == "first":
            return ops.cast(x[:, 0], "float32")
        if real is None:
            real = ops.ones_like(x[..., 0], dtype="bool")
        x32 = ops.cast(x, "float32")
        if self.kind == "max":
            highest = ops.max(ops.where(real[..., None], x32, FORBIDDEN), axis=1)
            return ops.where(ops.any(real, axis=1)[:, None], highest, 0.0)
        # A mean is attention that finds every token equally good.
        scores = ops.cast(self.scorer(self.inner(x)), "float32")[..., 0] if self.kind == "attention" else ops.zeros_like(x32[..., 0])
        return ops.matmul(attention_weights(scores[:, None], real[:, None]), x32)[:, 0]

    def compute_output_spec(self, x: Any, real: Any = None) -> Any:
        return keras.KerasTensor((x.shape[0], x.shape[-1]), "float32")

    def get_config(self) -> dict[str, Any]:
        own = {"kind": self.kind, "initializer": keras.initializers.serialize(self.initializer), "use_bias": self.use_bias}
        return super().get_config() | own
