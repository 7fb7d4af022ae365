"""Disentangled attention: what a token says and where it stands are looked at by one another (DeBERTa, He et al. 2020, arXiv:2006.03654).

Shapes: B batch, N heads, Q queries, K keys, D head size, H hidden, S buckets on either side.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k.layers import Attention
from bert4k.positions import Places, Positions, distances


@keras.saving.register_keras_serializable("bert4k")
class Distances(keras.layers.Embedding, Positions):
    """A trained vector for each bucket of distances, [2 S, H], normalised by the layer `norm`. All attention layers share one instance.

    The half of the buckets next to 0 hold one distance each, the others ever more, up to `max_distance` (DeBERTa-v2). `positions`: how many
    there are, so that no distance is as large. Of what a kind of `bert4k.positions` may do, it does nothing itself: `DisentangledAttention`
    asks it for more."""

    def __init__(
        self, buckets: int, max_distance: int, positions: int, width: int, norm: keras.layers.Layer | None = None, **kwargs: Any
    ) -> None:
        super().__init__(2 * buckets, width, **kwargs)
        self.buckets, self.max_distance, self.positions, self.norm = buckets, max_distance, positions, norm
        self.row = _rows(buckets, max_distance, positions)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        if self.norm is not None and not self.norm.built:
            self.norm.build((self.input_dim, self.output_dim))

    def vectors(self) -> Any:
        """One for each bucket, [2 S, H]."""
        found = self(ops.arange(self.input_dim, dtype="int32"))
        return found if self.norm is None else self.norm(found)

    def rows(self, places: Places | None) -> Any:
        """The bucket of every distance from key to query, int32 [B, Q, K]."""
        farthest = self.positions - 1
        return ops.take(ops.convert_to_tensor(self.row), farthest - ops.clip(distances(places), -farthest, farthest), axis=0)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"buckets": self.buckets, "max_distance": self.max_distance, "positions": self.positions}
        del config["input_dim"]
        return config | {"width": config.pop("output_dim"), "norm": keras.saving.serialize_keras_object(self.norm)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Distances:
        return cls(**config | {"norm": keras.saving.deserialize_keras_object(config["norm"])})


@keras.saving.register_keras_serializable("bert4k")
class DisentangledAttention(Attention):
    """Attention whose scores are the sum of three products, divided by the square root of 3 D:

        query . key  +  query . (the key of the distance)  +  key . (the query of the distance)

    Queries and keys of distances are made of the vectors of `positions`, a layer `Distances`, by the same projections as those of tokens
    (share_att_key). distance_dropout: of these vectors, in training.
    """

    def __init__(self, distance_dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.distance_dropout_rate = distance_dropout
        self.distance_dropout = keras.layers.Dropout(distance_dropout, dtype=self.dtype_policy) if distance_dropout else None

    def scale(self, query: Any) -> Any:
        """Divided by the square root of 3 D."""
        return query * ((3 * self.head_size) ** -0.5)

    def scaled_query(self, x: Any, position_ids: Any = None) -> Any:
        return self.split(self.scale(self.query(x)))

    def products(self, query: Any, keys: Any, places: Places | None) -> Any:
        vectors = self.positions.vectors()[None]
        vectors = vectors if self.distance_dropout is None else self.distance_dropout(vectors)
        row = ops.broadcast_to(self.positions.rows(places)[:, None], (*ops.shape(query)[:3], ops.shape(keys)[2]))
        far_keys, far_queries = (self.split(x) for x in (self.key(vectors), self.scale(self.query(vectors))))  # [1, N, 2 S, D]
        seen = ops.take_along_axis(ops.matmul(query, ops.transpose(far_keys, (0, 1, 3, 2))), row, axis=-1)
        seeing = ops.take_along_axis(ops.matmul(far_queries, ops.transpose(keys, (0, 1, 3, 2))), row, axis=-2)
        return super().products(query, keys, places) + seen + seeing

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"distance_dropout": self.distance_dropout_rate}


def _rows(buckets: int, max_distance: int, positions: int) -> np.ndarray:
    """The row of each distance from -(positions - 1) to positions - 1, counted from key to query; int32. By way of float32, so that it
    rounds as transformers does (`models/deberta_v2/modeling_deberta_v2.py`)."""
    distance = np.arange(1 - positions, positions)
    half = buckets // 2
    far = np.maximum(abs(distance), half - 1).astype(np.float32)
    share = np.log(far / np.float32(half)) / np.log(np.float32((max_distance - 1) / half))
    bucket = np.where(far <= half, distance, np.sign(distance) * (np.ceil(share * np.float32(half - 1)) + half))
    return np.clip(bucket + buckets, 0, 2 * buckets - 1).astype(np.int32)
