"""How a model knows where its tokens stand: one class for each kind of position.

A kind may act on queries and keys when they are made (`turned`), on their products (`scores`), on what is gathered from the values
(`values`) and on who sees whom (`seen`); it does nothing where its class says nothing. Absolute positions are rows of a table in the
embedding, so they do nothing here.

All that is known of a token's place is its position id. Cached decoding is therefore the same code with other arrays: the query is one
token, the keys are the cache's slots, each turned by its own position when it was written, and `Places` says where both stand.

Shapes: B batch, N heads, Q queries, K keys, L tokens, D head size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from bert4k.config import Config


class Places(NamedTuple):
    """Position ids of queries int32 [B, Q] and of keys int32 [B, K]."""

    queries: Any
    keys: Any


class Positions:
    """What a kind of position may do in attention; where a kind says nothing, it does nothing."""

    def turned(self, x: Any, position_ids: Any) -> Any:
        """Queries or keys x [B, N, L, D] that stand at `position_ids` [B, L], as attention takes them."""
        return x

    def scores(self, query: Any, places: Places | None) -> Any:
        """What is added to the products of `query` [B, N, Q, D], which is scaled, and keys: [B, N, Q, K], or None."""
        return None

    def values(self, weights: Any, places: Places | None) -> Any:
        """What is added to the sum of values under `weights` [B, N, Q, K]: [B, N, Q, D], or None."""
        return None

    def seen(self, allowed: Any, places: Places | None) -> Any:
        """Which of the keys that a query may look at, `allowed` bool [B, 1, Q, K], are near enough: the same shape."""
        return allowed


@keras.saving.register_keras_serializable("bert4k")
class Absolute(Positions):
    """A trained row for each position, added to the token's embedding (BERT, arXiv:1810.04805): attention knows nothing of it."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Absolute:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().values()))


@keras.saving.register_keras_serializable("bert4k")
class Relative(Absolute):
    """A fixed sinusoidal vector for each distance from query to key, added to the key and to the value (NEZHA, arXiv:1909.00204,
    section 3.1; Shaw et al. 2018, arXiv:1803.02155). Distances beyond `max_distance` count as that one.

    The vectors of a call take B x Q x K x D numbers, as often as `compute` finds no way to share them among layers."""

    def __init__(self, size: int, max_distance: int = 64) -> None:
        self.size, self.max_distance = size, max_distance
        self.table = _interleaved(*_waves(2 * max_distance + 1, size), size)

    def scores(self, query: Any, places: Places | None) -> Any:
        return ops.einsum("bnqd,bqkd->bnqk", query, self.between(places, query.dtype))

    def values(self, weights: Any, places: Places | None) -> Any:
        return ops.einsum("bnqk,bqkd->bnqd", weights, self.between(places, weights.dtype))

    def between(self, places: Places | None, dtype: Any) -> Any:
        """The vector of every distance from query to key, [B, Q, K, D]."""
        row = ops.clip(distances(places), -self.max_distance, self.max_distance) + self.max_distance
        return ops.take(ops.cast(self.table, dtype), row, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "max_distance": self.max_distance}


@keras.saving.register_keras_serializable("bert4k")
class Rotary(Absolute):
    """Each pair of neighbouring numbers of a query or key is turned by an angle that grows with its position, so that their product
    depends on the distance alone (RoFormer, arXiv:2104.09864, section 3.2). `positions`: how many there are, 0 to `positions` - 1."""

    def __init__(self, size: int, positions: int) -> None:
        self.size, self.positions = size, positions
        self.sin, self.cos = _waves(positions, size)

    def turned(self, x: Any, position_ids: Any) -> Any:
        position_ids = _needed(position_ids)
        return turn(x, *(ops.take(ops.convert_to_tensor(table), position_ids, axis=0)[:, None] for table in (self.sin, self.cos)))

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size, "positions": self.positions}


@keras.saving.register_keras_serializable("bert4k")
class RotaryHalves(Rotary):
    """As `Rotary`, with the pairs made of the first half of the numbers and the second (GPT-NeoX, arXiv:2204.06745, as its code has it),
    and the slowest pair set by `theta`. reach: how far a query looks to either side; None is as far as it may (ModernBERT,
    arXiv:2412.13663, section 2.1.2)."""

    def __init__(self, size: int, positions: int, theta: float = 10000.0, reach: int | None = None) -> None:
        self.size, self.positions, self.theta, self.reach = size, positions, theta, reach
        self.sin, self.cos = _waves(positions, size, theta)

    def turned(self, x: Any, position_ids: Any) -> Any:
        position_ids = _needed(position_ids)
        sin, cos = (ops.take(ops.convert_to_tensor(table), position_ids, axis=0)[:, None] for table in (self.sin, self.cos))
        first, second = ops.split(ops.cast(x, "float32"), 2, axis=-1)
        return ops.cast(ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1), x.dtype)

    def seen(self, allowed: Any, places: Places | None) -> Any:
        if self.reach is None:
            return allowed
        return ops.logical_and(allowed, ops.less_equal(ops.abs(distances(places)), self.reach)[:, None])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"theta": self.theta, "reach": self.reach}


def distances(places: Places | None) -> Any:
    """How far to the right of each query each key stands, int32 [B, Q, K]."""
    queries, keys = _needed(places)
    return ops.cast(keys, "int32")[:, None, :] - ops.cast(queries, "int32")[:, :, None]


def turn(x: Any, sin: Any, cos: Any) -> Any:
    """x [..., D] with each pair of neighbours turned by an angle, of which sine and cosine [..., D / 2] are given. In float32, since a
    bfloat16 has 8 bits for the sine of an angle."""
    even, odd = (ops.cast(x[..., start::2], "float32") for start in (0, 1))
    turned = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
    return ops.cast(ops.reshape(turned, ops.shape(x)), x.dtype)


@keras.saving.register_keras_serializable("bert4k")
class Bucketed(keras.layers.Embedding, Positions):
    """A trained number for each head and each bucket of distances, added to the products of queries and keys (T5, arXiv:1910.10683,
    section 2.1). All attention layers that are given one instance share its numbers.

    Half of the buckets hold one distance each, the others ever more, up to `max_distance`, beyond which all are one; both directions have
    their own when it is `bidirectional`, and else all that comes after the query is in the bucket of the query itself."""

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True, **kwargs: Any) -> None:
        super().__init__(buckets, heads, **kwargs)
        self.max_distance, self.bidirectional = max_distance, bidirectional
        self.bucket = _buckets(buckets, max_distance, bidirectional)

    def scores(self, query: Any, places: Places | None) -> Any:
        row = ops.clip(distances(places), -self.max_distance, self.max_distance) + self.max_distance
        of_distance = self(ops.convert_to_tensor(self.bucket))  # [distances, N]: few, so that what is large is gathered once
        return ops.cast(ops.transpose(ops.take(of_distance, row, axis=0), (0, 3, 1, 2)), query.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"max_distance": self.max_distance, "bidirectional": self.bidirectional}
        return config | {"buckets": config.pop("input_dim"), "heads": config.pop("output_dim")}


def in_attention(config: Config, layer: int = 0) -> Absolute:
    """What attention does with the positions of this config, in layer number `layer`."""
    match config.position:
        case "relative":
            return Relative(config.head_size, config.max_relative_position)
        case "rotary":
            return Rotary(config.head_size, config.max_position_embeddings)
        case "rotary_halves":
            near = layer % config.global_attn_every_n_layers
            theta, reach = (config.local_rope_theta, config.local_attention // 2) if near else (config.global_rope_theta, None)
            return RotaryHalves(config.head_size, config.max_position_embeddings, theta, reach)
    return Absolute()


def _waves(rows: int, size: int, theta: float = 10000.0) -> tuple[np.ndarray, np.ndarray]:
    """sin and cos of row / theta^(2i / size), float32 [rows, size / 2]; computed in float64, since angles grow to hundreds of turns."""
    angles = np.arange(rows)[:, None] / theta ** (np.arange(0, size, 2) / size)
    return np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)


def _buckets(buckets: int, max_distance: int, bidirectional: bool) -> np.ndarray:
    """The bucket of each distance from -max_distance to max_distance, int32; by way of float32, so that it rounds as T5's own code does."""
    distance = np.arange(-max_distance, max_distance + 1)
    first = np.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        first, distance = np.where(distance > 0, buckets, 0), abs(distance)
    else:
        distance = np.maximum(-distance, 0)
    exact = buckets // 2
    share = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    far = exact + (share * np.float32(buckets - exact)).astype(np.int64)
    return (first + np.where(distance < exact, distance, np.minimum(far, buckets - 1))).astype(np.int32)


def _interleaved(sin: np.ndarray, cos: np.ndarray, size: int) -> np.ndarray:
    """sin, cos, sin, cos ...: float32 [rows, size]."""
    return np.stack([sin, cos], axis=-1).reshape(len(sin), -1)[:, :size]


def _needed(places: Any) -> Any:
    if places is None:
        raise TypeError("This attention takes positions into account: give it the positions of the tokens (position_ids, places).")
    return places
