"""The linear-chain conditional random field (Lafferty et al. 2001), its likelihood and its best path.

    emissions = keras.layers.Dense(tags)(x)                             # [B, L, T]
    model = keras.Model(inputs, CRF()(emissions, real))                 # chain [B, L, T, T]
    model.compile("adam", CRFLoss())                                    # labels int [B, L], -1 where there is none
    tags, score = viterbi(model.predict(batch))                         # int32 [B, L], float32 [B]

The layer's output is the chain itself: for each place, the score of coming from one tag to another. The loss and the decoding are functions
of it and of nothing else, so a model is saved, loaded, distributed and trained like any other.

Shapes: B batch, L places, T tags. What a chain says of a place that does not count (padding) is "stay": 0 from a tag to itself and
FORBIDDEN to any other; so no function has to be told a mask.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from bert4k.backend import scan
from bert4k.errors import ConfigError
from bert4k.layers import FORBIDDEN


@keras.saving.register_keras_serializable("bert4k")
class CRF(keras.layers.Layer):
    """`crf(emissions, real)`: emissions [B, L, T] and real bool [B, L] (default: every place) give the chain, float32 [B, L, T, T].

    chain[b, l, i, j] is the score of tag j at place l after tag i at the one before: its emission and the transition. At the first real
    place, which nothing comes before, it is the emission and how well j begins, whatever i is. How well a tag ends is in the last real
    place. `real` leaves out everything that has no tag, [CLS] and [SEP] too.

    Weights: transitions [T, T], begin [T] and end [T]. Computed in float32 whatever the policy: a chain adds up hundreds of scores.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs | {"dtype": "float32"})

    def build(self, emissions_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        tags = emissions_shape[-1]
        if tags is None:
            raise ConfigError(f"The emissions have the shape {emissions_shape}; expected [batch, places, tags], the tags a known number.")
        self.transitions = self.add_weight(name="transitions", shape=(tags, tags), initializer="zeros")
        # Called a bias, since it is one, and optimizers must not decay it.
        self.begin = self.add_weight(name="begin_bias", shape=(tags,), initializer="zeros")
        self.end = self.add_weight(name="end_bias", shape=(tags,), initializer="zeros")

    def call(self, emissions: Any, real: Any = None) -> Any:
        if real is None:
            real = ops.ones_like(emissions[..., 0], dtype="bool")
        counts = ops.cast(real, "int32")
        so_far = ops.cumsum(counts, axis=1)
        first = ops.logical_and(real, ops.equal(so_far, 1))
        last = ops.logical_and(real, ops.equal(so_far, ops.sum(counts, axis=1, keepdims=True)))
        begin, transitions, end = map(ops.convert_to_tensor, (self.begin, self.transitions, self.end))
        emissions = emissions + ops.where(last[..., None], end, 0.0)
        coming = ops.where(first[..., None, None], begin[None, :], transitions)  # [B, L, T, T]
        return where_real(real, coming + emissions[:, :, None, :])

    def compute_output_shape(self, emissions_shape: tuple[int | None, ...], real_shape: Any = None) -> tuple[int | None, ...]:
        return (*emissions_shape, emissions_shape[-1])


def where_real(real: Any, chain: Any) -> Any:
    """`chain` [B, L, T, T] with "stay" where `real` [B, L] is False."""
    stay = (1.0 - ops.eye(chain.shape[-1], dtype="float32")) * FORBIDDEN
    return ops.where(real[..., None, None], chain, stay)


@keras.saving.register_keras_serializable("bert4k")
class CRFLoss(keras.losses.Loss):
    """The negative log-likelihood of a path of tags, [B].

    y_true: int [B, L], the number of the tag, negative where a place has none, which then does not count; y_pred: the chain [B, L, T, T].
    """

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "crf", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        tags = ops.cast(y_true, "int32")
        chain = where_real(ops.greater_equal(tags, 0), ops.cast(y_pred, "float32"))
        return log_partition(chain) - path_score(chain, tags)


def path_score(chain: Any, tags: Any) -> Any:
    """The score of a path, tags int [B, L], negative where there is none, in `chain` [B, L, T, T]: [B]."""
    count = chain.shape[-1]
    real = ops.greater_equal(tags, 0)
    places = ops.arange(ops.shape(tags)[1], dtype="int32")
    earlier = ops.logical_and(ops.less(places[None, None, :], places[None, :, None]), real[:, None, :])
    before = ops.max(ops.where(earlier, places, 0), axis=-1)  # the nearest earlier real place; of the first, any
    previous = ops.take_along_axis(ops.maximum(tags, 0), before, axis=1)
    pairs = previous * count + ops.maximum(tags, 0)
    flat = ops.reshape(chain, (*ops.shape(tags), count * count))
    scores = ops.take_along_axis(flat, pairs[..., None], axis=-1)[..., 0]
    return ops.sum(ops.where(real, scores, 0.0), axis=1)


def log_partition(chain: Any) -> Any:
    """The logarithm of the sum, over all paths, of the exponential of their scores: the forward algorithm. [B, L, T, T] to [B]."""

    def step(alpha: Any, scores: Any) -> tuple[Any, Any]:
        alpha = ops.logsumexp(alpha[:, :, None] + scores, axis=1)
        return alpha, alpha

    alpha, _ = scan(step, _start(chain), ops.transpose(chain, (1, 0, 2, 3)))
    return ops.logsumexp(alpha, axis=-1)


def _start(chain: Any) -> Any:
    """What stands before the first place, where no tag has been: together weight 1, [B, T]."""
    return ops.zeros_like(chain[:, 0, 0]) - math.log(chain.shape[-1])


def viterbi(chain: Any) -> tuple[Any, Any]:
    """The best path (Viterbi 1967): tags int32 [B, L] and their score, float32 [B]. A place that does not count has the tag of the one
    before it.

    chain: [B, L, T, T], as `CRF` gives it, in an array of any backend or of NumPy."""
    chain = ops.cast(ops.convert_to_tensor(chain), "float32")

    def forward(best: Any, scores: Any) -> tuple[Any, Any]:
        candidates = best[:, :, None] + scores  # [B, from, to]
        # Keras' scan on TensorFlow knows one dtype, that of the state.
        return ops.max(candidates, axis=1), ops.cast(ops.argmax(candidates, axis=1), "float32")

    best, origins = scan(forward, ops.zeros_like(chain[:, 0, 0]), ops.transpose(chain, (1, 0, 2, 3)))  # origins [L, B, T]

    def backward(tag: Any, origin: Any) -> tuple[Any, Any]:
        return ops.take_along_axis(origin, tag[:, None], axis=1)[:, 0], tag

    origins = ops.flip(ops.cast(origins, "int32"), axis=0)  # from the last place to the first
    _, tags = scan(backward, ops.cast(ops.argmax(best, axis=-1), "int32"), origins)
    return ops.transpose(ops.flip(tags, axis=0)), ops.max(best, axis=-1)
