"""The losses that Keras lacks: several labels by one softmax, and smoothed or focal cross-entropy of labels that are numbers.

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


def _at(values: Any, labels: Any) -> Any:
    """values [..., C] at labels [...]; Keras gives labels as floating-point numbers."""
    return ops.take_along_axis(values, ops.cast(labels, "int32")[..., None], axis=-1)[..., 0]
