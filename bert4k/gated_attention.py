"""The gated attention unit: attention of one head and a gated linear unit in a single layer (Hua et al. 2022, arXiv:2202.10447)."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from bert4k.layers import ACTIVATIONS, Attention, KeysValues, attention_weights

# GAU-alpha scales its products so that the entropy of what is looked at hardly depends on how many tokens there are: by the logarithm
# of their number, 1 at 512 tokens, and for fewer than 16 as for 16 (Su 2022, kexue.fm/archives/9019 and 8823; bert4keras' softmax_plus).
USUAL_LENGTH, LEAST_LENGTH = 512, 16


@keras.saving.register_keras_serializable("bert4k")
class Scale(keras.layers.Layer):
    """Multiplies the last axis with a trained vector."""

    def __init__(self, gamma_initializer: Any = "ones", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(x_shape[-1],), initializer=self.gamma_initializer)

    def call(self, x: Any) -> Any:
        return x * ops.cast(self.gamma, x.dtype)

    def compute_output_shape(self, x_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return x_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"gamma_initializer": keras.initializers.serialize(self.gamma_initializer)}


@keras.saving.register_keras_serializable("bert4k")
class GatedAttention(Attention):
    """Attention of one head whose values have their own width E, and whose output is multiplied with a gate:

        gate, value, shared = split(activation(x W))      [B, L, E], [B, L, E], [B, L, D]
        out = (gate * attention(shared * q, shared * k, value)) O

    The softmax takes log(n) / log(512) times the products, n being how many keys the query may look at, at least 16 (GAU-alpha,
    kexue.fm/archives/9052). Under masks other than `encoder` bert4keras counts all real tokens, also those that are not looked at.
    """

    def __init__(self, value_size: int, head_size: int, activation: str = "silu", **kwargs: Any) -> None:
        self.value_size, self.activation = value_size, activation  # first, since the layers are made of them
        super().__init__(**kwargs | {"num_heads": 1, "head_size": head_size})

    def make_projections(self) -> dict[str, keras.layers.Layer]:
        if self.width is None:
            raise TypeError("GatedAttention needs its width: of what it reads and gives.")
        self.inner = self.dense("inner", 2 * self.value_size + self.head_size, ACTIVATIONS[self.activation])
        self.query, self.key = (Scale(dtype=self.dtype_policy, name=name) for name in ("query", "key"))
        self.output_projection = self.dense("output", self.width)
        return {"inner": self.inner, "query": self.query, "key": self.key, "output": self.output_projection}

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        self.inner.build(x_shape)
        for scale in (self.query, self.key):
            scale.build((*x_shape[:-1], self.head_size))
        self.output_projection.build((*x_shape[:-1], self.value_size))

    def inside(self, x: Any) -> Any:
        """Gate and value [B, L, E] and what queries and keys are made of [B, L, D], for x [B, L, H]."""
        return ops.split(self.inner(x), (self.value_size, 2 * self.value_size), axis=-1)

    def scaled_query(self, x: Any, position_ids: Any = None) -> Any:
        query = self.query(self.inside(x)[2]) * (self.head_size**-0.5)
        return self.positions.turned(query[:, None], position_ids)

    def keys_values(self, x: Any, position_ids: Any = None) -> KeysValues:
        _, value, shared = self.inside(x)
        return KeysValues(self.positions.turned(self.key(shared)[:, None], position_ids), value[:, None])

    def outcome(self, x: Any, looked: Any) -> Any:
        return self.output_projection(self.inside(x)[0] * self.merge(looked))

    def normalised(self, scores: Any, allowed: Any) -> Any:
        count = ops.sum(ops.cast(allowed, "float32"), axis=-1, keepdims=True)
        scale = ops.log(ops.maximum(count, LEAST_LENGTH)) / math.log(USUAL_LENGTH)
        return ops.cast(attention_weights(ops.cast(scores, "float32") * scale, allowed), scores.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"value_size": self.value_size, "activation": self.activation}
        del config["num_heads"]
        return config
