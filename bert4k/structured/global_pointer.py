"""GlobalPointer: every span of a text is scored, by kind (Su et al. 2022, arXiv:2208.03054).

    scores = GlobalPointer(kinds=3, head_size=64)(x, real)             # [B, C, L, L]
    model.compile("adam", GlobalPointerLoss())                          # 1 at [b, kind, first, last] of each entity
    spans = spans_above(model.predict(batch)[0])                        # [(first, last + 1, kind, score), ...]

Nested and overlapping spans are no trouble. Shapes: B batch, L tokens, H hidden, C kinds, D head size.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k.errors import ConfigError
from bert4k.layers import FORBIDDEN
from bert4k.losses import MultilabelSoftmax
from bert4k.positions import turn

Span = tuple[int, int, int, float]


def rotate(x: Any) -> Any:
    """x [B, L, ..., D] with each pair of neighbours (2i, 2i + 1) turned by the angle l / 10000 ** (2i / D) of its place l (RoPE, Su et al.
    2021, arXiv:2104.09864): the product of two such vectors depends on their distance."""
    size = x.shape[-1]
    places = ops.arange(ops.shape(x)[1], dtype="float32")
    frequencies = ops.power(10000.0, -ops.arange(0, size, 2, dtype="float32") / size)
    angles = ops.reshape(places[:, None] * frequencies, (-1, *(1 for _ in x.shape[2:-1]), size // 2))
    return turn(x, ops.sin(angles), ops.cos(angles))


@keras.saving.register_keras_serializable("bert4k")
class GlobalPointer(keras.layers.Layer):
    """`pointer(x, real)`: x [B, L, H] and real bool [B, L] (default: every token) give scores float32 [B, C, L, L] of the spans from a
    first token to a last one, the higher the likelier; FORBIDDEN where one of them is padding or the last comes before the first.

    Each kind has a query and a key of its own, of `head_size`, turned by their places (`rotary`). Without `ordered`, what is scored are not
    spans but any two tokens."""

    def __init__(
        self,
        kinds: int,
        head_size: int = 64,
        rotary: bool = True,
        initializer: Any = "glorot_uniform",
        ordered: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ordered = ordered
        if kinds < 1 or head_size < 2 or head_size % 2:
            raise ConfigError(f"Found {kinds} kinds and a head size of {head_size}; expected at least one kind and an even size.")
        self.kinds, self.head_size, self.rotary = kinds, head_size, rotary
        self.initializer = keras.initializers.get(initializer)
        self.dense = self._dense(self.heads() * 2 * head_size, "dense")

    def heads(self) -> int:
        """How many pairs of query and key there are."""
        return self.kinds

    def _dense(self, units: int, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(units, kernel_initializer=self.initializer.clone(), dtype=self.dtype_policy, name=name)

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        self.dense.build(x_shape)

    def call(self, x: Any, real: Any = None) -> Any:
        query, key = self.queries_keys(x)
        return self.masked(self.products(query, key), real)

    def queries_keys(self, x: Any) -> tuple[Any, Any]:
        """x [B, L, H] to queries and keys, [B, L, heads, D] each, not yet turned."""
        pairs = ops.reshape(self.dense(x), (*ops.shape(x)[:2], self.heads(), 2 * self.head_size))
        return pairs[..., : self.head_size], pairs[..., self.head_size :]

    def products(self, query: Any, key: Any) -> Any:
        """The score of each first and last token, float32 [B, heads, L, L]."""
        if self.rotary:
            query, key = rotate(query), rotate(key)
        query, key = ops.transpose(query * self.head_size**-0.5, (0, 2, 1, 3)), ops.transpose(key, (0, 2, 3, 1))
        return ops.cast(ops.matmul(query, key), "float32")

    def masked(self, scores: Any, real: Any) -> Any:
        """FORBIDDEN for spans that are none."""
        if self.ordered:
            places = ops.arange(ops.shape(scores)[-1], dtype="int32")
            scores = ops.where(places[:, None] <= places[None, :], scores, FORBIDDEN)
        if real is not None:
            scores = ops.where(ops.logical_and(real[:, None, :, None], real[:, None, None, :]), scores, FORBIDDEN)
        return scores

    def compute_output_spec(self, x: Any, real: Any = None) -> Any:
        batch, length = x.shape[:2]
        return keras.KerasTensor((batch, self.kinds, length, length), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "kinds": self.kinds,
            "head_size": self.head_size,
            "rotary": self.rotary,
            "initializer": keras.initializers.serialize(self.initializer),
            "ordered": self.ordered,
        }


@keras.saving.register_keras_serializable("bert4k")
class EfficientGlobalPointer(GlobalPointer):
    """GlobalPointer with one query and key for all kinds, which say where a span is; what kind it is say two numbers of its first token and
    two of its last, a kind (arXiv:2208.03054, section 3.3). Far fewer weights where there are many kinds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = self._dense(2 * self.kinds, "kind")

    def heads(self) -> int:
        return 1

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        super().build(x_shape)
        self.kind.build((*x_shape[:-1], 2 * self.head_size))

    def call(self, x: Any, real: Any = None) -> Any:
        query, key = self.queries_keys(x)
        told = ops.cast(self.kind(ops.concatenate([query, key], axis=-1)[:, :, 0]), "float32") / 2  # [B, L, 2C]
        first, last = (ops.transpose(each, (0, 2, 1)) for each in (told[..., : self.kinds], told[..., self.kinds :]))
        return self.masked(self.products(query, key) + first[:, :, :, None] + last[:, :, None, :], real)


@keras.saving.register_keras_serializable("bert4k")
class GlobalPointerLoss(MultilabelSoftmax):
    """`MultilabelSoftmax` over all spans of a text, kind by kind, and the mean over kinds: y_true 0 or 1 and y_pred scores, [B, C, L, L],
    give [B]."""

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "global_pointer", **kwargs: Any) -> None:
        super().__init__(reduction=reduction, name=name, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        batch, kinds = ops.shape(y_pred)[:2]
        return ops.mean(super().call(*(ops.reshape(each, (batch, kinds, -1)) for each in (y_true, y_pred))), axis=-1)


def spans_above(scores: Any, threshold: float = 0.0) -> list[Span]:
    """(first, last + 1, kind, score) of every span of one text that scores above `threshold`; scores: an array [C, L, L]."""
    scores = np.asarray(ops.convert_to_numpy(scores))
    found = zip(*np.nonzero(scores > threshold), strict=True)
    return sorted((int(first), int(last) + 1, int(kind), float(scores[kind, first, last])) for kind, first, last in found)
