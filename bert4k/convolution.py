"""A convolution that keeps to a mask, and can be decoded with a cache."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4k.layers import KeysValues, written
from bert4k.positions import Places, distances


@keras.saving.register_keras_serializable("bert4k")
class Convolution(keras.layers.Layer):
    """A convolution over tokens, as attention whose weights are fixed: of the keys that a token may look at, it takes that at each distance
    from -(size // 2) on, times a matrix of that distance, and adds a bias.

    So it has the interface of `Attention`: it sees no padding and no other text of its row, under the mask "lm" nothing to the right, and
    its values can be cached. x [B, L, H] and allowed bool [B, 1, L, L] give [B, L, H]. The kernel is [H, size x H], the matrices of
    distances side by side. T = size."""

    def __init__(self, size: int, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.kernel_initializer, self.bias_initializer = map(keras.initializers.get, (kernel_initializer, bias_initializer))

    def build(self, x_shape: tuple[Any, ...]) -> None:
        width = x_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(width, self.size * width), initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(width,), initializer=self.bias_initializer)

    def compute_output_spec(self, x: Any, allowed: Any, position_ids: Any) -> Any:
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def call(self, x: Any, allowed: Any, position_ids: Any) -> Any:
        return self.attend(x, self.keys_values(x, position_ids), allowed, Places(position_ids, position_ids))

    def keys_values(self, x: Any, position_ids: Any = None) -> KeysValues:
        """What x [B, L, H] is to those at each distance, [B, T, L, H]. There are no keys: what stands in their place is not read."""
        batch, length, width = ops.shape(x)
        values = ops.reshape(ops.matmul(x, ops.cast(self.kernel, x.dtype)), (batch, length, self.size, width))
        return KeysValues(x[:, None, :, :1], ops.transpose(values, (0, 2, 1, 3)))

    def attend(self, x: Any, memory: KeysValues, allowed: Any, places: Places | None = None) -> Any:
        """The outputs [B, L, H] of tokens x [B, L, H] that look at `memory`; allowed bool [B, 1, L, K]."""
        return self.gather(self.neighbours(x, allowed, places), memory) + ops.cast(self.bias, x.dtype)

    def step(
        self, x: Any, source: KeysValues, target: KeysValues, slots: Any, allowed: Any, places: Places | None = None
    ) -> tuple[Any, KeysValues]:
        """As `Attention.step`."""
        target = KeysValues(*(written(memory, slots, new) for memory, new in zip(target, self.keys_values(x), strict=True)))
        taken, length = self.neighbours(x, allowed, places), source.values.shape[2]
        out = self.gather(taken[..., :length], source) + self.gather(taken[..., length:], target)
        return out + ops.cast(self.bias, x.dtype), target

    def neighbours(self, x: Any, allowed: Any, places: Places | None) -> Any:
        """1 where a key may be looked at and stands at the distance, else 0: [B, T, L, K]."""
        offset = ops.arange(self.size, dtype="int32")[:, None, None] - (self.size - 1) // 2
        return ops.cast(ops.logical_and(ops.equal(distances(places)[:, None], offset), allowed), x.dtype)

    def gather(self, taken: Any, memory: KeysValues) -> Any:
        """The sum of values [B, T, K, H] that are `taken` [B, T, L, K]: [B, L, H]."""
        return ops.sum(ops.matmul(taken, memory.values), axis=1)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.initializers.serialize
        initializers = {"kernel_initializer": serialize(self.kernel_initializer), "bias_initializer": serialize(self.bias_initializer)}
        return super().get_config() | {"size": self.size} | initializers
