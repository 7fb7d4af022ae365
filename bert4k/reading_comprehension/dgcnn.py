"""DGCNN: dilated gated convolutions that read a passage in the light of one vector of the question (Su 2018 and 2019, kexue.fm archives
5409 and 6906).

    probabilities = DGCNN()(question, question_real, passage, passage_real)     # [B, L, 2]: does the answer begin, or end, here?
    probabilities = DGCNN()(question, question_real, passage, passage_real, overlap)                # with features of both [B, L, F]
    model.compile("adam", PointerFocal())

Shapes: B batch, Q tokens of a question, L tokens of a passage, H hidden.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4k.structured import HalfPointer, Pooling

QUESTION_DILATIONS = (1, 2, 1)
PASSAGE_DILATIONS = (1, 2, 4, 8, 16, 1)  # together a token sees 32 to the left and 32 to the right


@keras.saving.register_keras_serializable("bert4k")
class GatedConvolution(keras.layers.Layer):
    """`block(x, real)`: x [B, L, H] and real bool [B, L] give [B, L, units]: x (1 - g) + h g, where h and the logits of the gate g are the
    two halves of a convolution over three tokens that stand `dilation` apart. Padding is 0 before and after.

    So it is a gated linear unit (Dauphin et al. 2016, arXiv:1612.08083) with a residual: what the gate lets pass is added to x - x g. Where
    widths differ, x is projected first. dropout: of the gate's logits."""

    def __init__(self, units: int, dilation: int = 1, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.dilation, self.dropout_rate = units, dilation, dropout
        common: dict[str, Any] = {"dtype": self.dtype_policy}
        self.convolution = keras.layers.Conv1D(2 * units, 3, padding="same", dilation_rate=dilation, name="convolution", **common)
        self.projection = keras.layers.Dense(units, name="projection", **common)
        self.dropout = keras.layers.Dropout(dropout, **common)

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        self.convolution.build(x_shape)
        self.projects = x_shape[-1] != self.units
        if self.projects:
            self.projection.build(x_shape)

    def call(self, x: Any, real: Any, training: bool | None = None) -> Any:
        kept = ops.cast(real, x.dtype)[..., None]
        x = x * kept
        h, logits = ops.split(self.convolution(x), 2, axis=-1)
        gate = ops.sigmoid(self.dropout(logits, training=training))
        x = self.projection(x) if self.projects else x
        return (x * (1 - gate) + h * gate) * kept

    def compute_output_spec(self, x: Any, real: Any, training: bool | None = None) -> Any:
        return keras.KerasTensor((*x.shape[:-1], self.units), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units, "dilation": self.dilation, "dropout": self.dropout_rate}


@keras.saving.register_keras_serializable("bert4k")
class PassagePointers(keras.layers.Layer):
    """`pointers(tokens, passage)`: tokens [B, L, H] and one vector of the passage [B, P] give probabilities, float32 [B, L, 2], that the
    answer begins and that it ends at a token: that of a half pointer times that of the passage to hold an answer at all.

    So a passage without the answer is told once, not at every token; no loss of its own is needed for it."""

    def __init__(self, prior: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prior = prior
        self.pointer = HalfPointer(1, prior, dtype=self.dtype_policy, name="pointer")
        self.holds = keras.layers.Dense(1, dtype=self.dtype_policy, name="holds")

    def build(self, tokens_shape: tuple[int | None, ...], passage_shape: tuple[int | None, ...]) -> None:
        self.pointer.build(tokens_shape)
        self.holds.build(passage_shape)

    def call(self, tokens: Any, passage: Any) -> Any:
        holds = ops.sigmoid(ops.cast(self.holds(passage), "float32"))
        return holds[:, None] * ops.sigmoid(self.pointer(tokens)[:, :, 0])

    def compute_output_spec(self, tokens: Any, passage: Any) -> Any:
        return keras.KerasTensor((*tokens.shape[:2], 2), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"prior": self.prior}


@keras.saving.register_keras_serializable("bert4k")
class DGCNN(keras.layers.Layer):
    """`reader(question, question_real, passage, passage_real)`: vectors of tokens [B, Q, H] and [B, L, H], and which are real, bool [B, Q]
    and [B, L], give probabilities float32 [B, L, 2] that the answer begins and that it ends at a token of the passage.

    The question becomes one vector by attention; the passage is read with that vector at every token, and knows no more of the question
    than a fifth input may say, `overlap` [B, L, F]: numbers of what each token has in common with it. So the vectors of a passage, if they
    come from elsewhere, can be made before there is a question. units: of every layer. A token of the passage is told from 32 tokens to the
    left and to the right, and from one vector of the whole passage."""

    def __init__(self, units: int = 128, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.dropout_rate = units, dropout
        common: dict[str, Any] = {"dtype": self.dtype_policy}
        self.question_blocks, self.passage_blocks = (
            [GatedConvolution(units, dilation, dropout, name=f"{name}_{at}", **common) for at, dilation in enumerate(dilations)]
            for name, dilations in (("question", QUESTION_DILATIONS), ("passage", PASSAGE_DILATIONS))
        )
        self.question_pooling = Pooling("attention", use_bias=False, name="question_pooling", **common)
        self.passage_pooling = Pooling("attention", use_bias=False, name="passage_pooling", **common)
        self.joining = keras.layers.Dense(units, use_bias=False, name="joining", **common)
        self.pointers = PassagePointers(name="pointers", **common)

    def build(
        self, question_shape: Any, question_real_shape: Any, passage_shape: Any, passage_real_shape: Any, overlap_shape: Any = None
    ) -> None:
        own, both = (None, None, self.units), (None, None, 2 * self.units)
        for blocks, first in ((self.question_blocks, question_shape), (self.passage_blocks, own)):
            for at, block in enumerate(blocks):
                block.build(own if at else first)
        features = 0 if overlap_shape is None else overlap_shape[-1]
        self.joining.build((None, None, passage_shape[-1] + self.units + features))
        self.question_pooling.build(own)
        self.passage_pooling.build(both)
        self.pointers.build(own, (None, 2 * self.units))

    def call(
        self, question: Any, question_real: Any, passage: Any, passage_real: Any, overlap: Any = None, training: bool | None = None
    ) -> Any:
        asked = self.ask(question, question_real, training)
        passage = passage if overlap is None else ops.concatenate([passage, ops.cast(overlap, passage.dtype)], axis=-1)
        tokens = self.read(asked, passage, passage_real, training)
        return self.pointers(tokens, self.passage_pooling(_beside(tokens, asked), passage_real))

    def ask(self, question: Any, question_real: Any, training: bool | None = None) -> Any:
        """The vector of each question, [B, units]."""
        for block in self.question_blocks:
            question = block(question, question_real, training=training)
        return ops.cast(self.question_pooling(question, question_real), self.compute_dtype)

    def read(self, asked: Any, passage: Any, passage_real: Any, training: bool | None = None) -> Any:
        """The tokens of each passage, perhaps with features beside them, in the light of its question, asked [B, units]: [B, L, units]."""
        tokens = self.joining(_beside(passage, asked))
        for block in self.passage_blocks:
            tokens = block(tokens, passage_real, training=training)
        return tokens

    def compute_output_spec(
        self, question: Any, question_real: Any, passage: Any, passage_real: Any, overlap: Any = None, training: bool | None = None
    ) -> Any:
        return keras.KerasTensor((*passage.shape[:2], 2), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units, "dropout": self.dropout_rate}


def _beside(tokens: Any, vector: Any) -> Any:
    """tokens [B, L, H], each with the same vector [B, P] of its row beside it: [B, L, H + P]."""
    repeated = ops.broadcast_to(vector[:, None], (*ops.shape(tokens)[:2], vector.shape[-1]))
    return ops.concatenate([tokens, ops.cast(repeated, tokens.dtype)], axis=-1)


@keras.saving.register_keras_serializable("bert4k")
class PointerFocal(keras.losses.Loss):
    """Focal loss of begins and ends (Lin et al. 2017, arXiv:1708.02002), added up: y_true 0 or 1 and y_pred probabilities, [B, L, 2]; the
    loss is [B, L], a mean over the tokens that have a weight.

    alpha: what a begin or an end counts; all other tokens count 1 - alpha. The sum is large times `scale`, since there is hardly an answer
    among hundreds of tokens, and an optimizer that divides by the size of its gradients must not take them for rounding errors."""

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        scale: float = 100.0,
        reduction: str = "mean_with_sample_weight",
        name: str = "pointer_focal",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.alpha, self.gamma, self.scale = alpha, gamma, scale

    def call(self, y_true: Any, y_pred: Any) -> Any:
        told, right = ops.cast(y_pred, "float32"), ops.cast(y_true, "float32")
        how: dict[str, Any] = {"apply_class_balancing": True, "alpha": self.alpha, "gamma": self.gamma}
        return 2 * self.scale * keras.losses.binary_focal_crossentropy(right, told, axis=-1, **how)  # Keras' is the mean of the two

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"alpha": self.alpha, "gamma": self.gamma, "scale": self.scale}
