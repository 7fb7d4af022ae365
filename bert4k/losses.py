"""The losses that Keras lacks: several labels by one softmax, smoothed or focal cross-entropy of labels that are numbers, and pairs of
vectors that shall lie as near as their texts are alike.

All take logits and compute in float32, whatever the model does.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("bert4k")
class MultilabelSoftmax(keras.losses.Loss):
    """`log(1 + sum of exp(s) over wrong labels) + log(1 + sum of exp(-s) over right ones)`: a softmax that may have any number of right
    labels, all of which shall score above 0 and the others below (Su et al. 2022, arXiv:2208.02955).

    y_true: 0 or 1, [..., C]; y_pred: scores [..., C], of any sign; the loss is [...]. Unlike binary cross-entropy it needs no weights where
    hardly any label is right. A label that cannot be right scores `bert4k.layers.FORBIDDEN`, and then counts for nothing.
    """

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "multilabel_softmax", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        scores, right = ops.cast(y_pred, "float32"), ops.cast(y_true, "float32")
        nothing = ops.zeros_like(scores[..., :1])
        # What is on the other side takes no part: it is far below every score that counts, and its gradient is 0.
        wrong_side = ops.where(right > 0, -1e12, scores)
        right_side = ops.where(right > 0, -scores, -1e12)
        of = (ops.logsumexp(ops.concatenate([side, nothing], axis=-1), axis=-1) for side in (wrong_side, right_side))
        return sum(of)


@keras.saving.register_keras_serializable("bert4k")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with smoothed labels (Szegedy et al. 2015, arXiv:1512.00567, section 7), without the one-hot array of [..., C] that
    `keras.losses.CategoricalCrossentropy(label_smoothing=...)` needs.

    y_true: int [...], the number of the label; y_pred: logits [..., C]. The label has the probability 1 - smoothing + smoothing / C, every
    other one smoothing / C.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        reduction: str = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        log_probs = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        return -(1 - self.label_smoothing) * _at(log_probs, y_true) - self.label_smoothing * ops.mean(log_probs, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("bert4k")
class FocalCrossentropy(keras.losses.Loss):
    """`-(1 - p) ** gamma * log(p)` of the label's probability p: what is told with certainty counts little (Lin et al. 2017,
    arXiv:1708.02002). For labels as one-hot arrays or for independent classes Keras has its own.

    y_true: int [...], the number of the label; y_pred: logits [..., C].
    """

    def __init__(self, gamma: float = 2.0, reduction: str = "sum_over_batch_size", name: str = "focal_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.gamma = gamma

    def call(self, y_true: Any, y_pred: Any) -> Any:
        log_p = _at(ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1), y_true)
        # Near 1 the probability's complement is lost in 1 - exp(log_p), and gamma < 1 has no gradient at 0.
        return -ops.power(ops.maximum(-ops.expm1(log_p), 1e-12), self.gamma) * log_p

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"gamma": self.gamma}


@keras.saving.register_keras_serializable("bert4k")
class CoSENT(keras.losses.Loss):
    """`log(1 + sum of exp(scale * (cos_j - cos_i)))` over all rows i and j of the batch where the label of i is greater: what is more alike
    shall have the greater cosine (Su 2022, kexue.fm/archives/8847). Only the order of labels counts, as in Spearman's correlation.

    y_true: [B], NaN for a row that takes no part; y_pred: two vectors a row, [B, 2, H]. The loss is that of the whole batch, told for each
    row, [B]; so the batch counts by how many of its rows have a weight.
    """

    def __init__(self, scale: float = 20.0, reduction: str = "sum_over_batch_size", name: str = "cosent", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = ops.reshape(y_true, (-1,))
        one, other = unit(y_pred[:, 0]), unit(y_pred[:, 1])
        cosines = self.scale * ops.sum(one * other, axis=-1)
        # With NaN, no comparison is true.
        wrong = ops.where(labels[:, None] > labels[None, :], cosines[None, :] - cosines[:, None], -1e12)
        found = ops.logsumexp(ops.concatenate([ops.reshape(wrong, (-1,)), ops.zeros_like(cosines[:1])]))
        return found + ops.zeros_like(cosines)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scale": self.scale}


@keras.saving.register_keras_serializable("bert4k")
class SimCSE(keras.losses.Loss):
    """Contrast within the batch: of the second vectors of all rows, a row's own shall be the nearest to its first, by a softmax of
    `scale` times the cosine (Gao et al. 2021, arXiv:2104.08821, with scale = 1 / temperature). The two are those of a text under two draws
    of dropout, or those of two texts that mean the same.

    y_true: [B], what a row is about: rows with the same number are not held against each other; NaN for a row that takes no part. y_pred:
    [B, 2, H]; the loss is [B].
    """

    def __init__(self, scale: float = 20.0, reduction: str = "sum_over_batch_size", name: str = "simcse", **kwargs: Any) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        about = ops.reshape(y_true, (-1,))
        one, other = unit(y_pred[:, 0]), unit(y_pred[:, 1])
        cosines = self.scale * ops.matmul(one, ops.transpose(other))  # [B, B]
        own = ops.eye(ops.shape(cosines)[0], dtype="bool")
        takes_part = ops.equal(about, about)[None, :]  # NaN is not equal to itself
        others = ops.logical_and(ops.not_equal(about[:, None], about[None, :]), takes_part)
        return ops.logsumexp(ops.where(ops.logical_or(own, others), cosines, -1e12), axis=-1) - self.scale * ops.sum(one * other, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scale": self.scale}


def unit(x: Any) -> Any:
    """x [..., H] in float32 at the length 1; of nothing, whose direction is unknown, 0."""
    x = ops.cast(x, "float32")
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))


def _at(values: Any, labels: Any) -> Any:
    """values [..., C] at labels [...]; Keras gives labels as floating-point numbers."""
    return ops.take_along_axis(values, ops.cast(labels, "int32")[..., None], axis=-1)[..., 0]
