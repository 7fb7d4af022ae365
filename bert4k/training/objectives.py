"""Objectives beyond one loss of one batch: adversarial training, consistency, smoothness.

    Trainer(model, RDrop(4.0))      Trainer(model, FGM())       Trainer(model, FGM(RDrop(4.0), epsilon=0.3))

An objective takes the one that it extends as `of`: by default the loss that the model is compiled with. What is disturbed are weights whose
path contains `weights`: by default the table of token embeddings, as is the habit in Chinese NLP, be it trained or frozen (as under LoRA).
The norm is that of the gradient of the whole table over the whole batch; Miyato et al. disturb the embedded text of each example.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bert4k.errors import ConfigError, did_you_mean
from bert4k.training.passes import Batch, Result

TOKEN_TABLE = "embeddings_token/embeddings"


@keras.saving.register_keras_serializable("bert4k")
class Objective:
    """The loss that the model is compiled with, and the base of all others.

    `loss` is a function of the weights, which extensions may add to; `result` makes gradients of it, as often and wherever it likes.
    """

    def __init__(self, of: Objective | None = None) -> None:
        self.of = of

    def loss(self, batch: Batch, values: list[Any]) -> tuple[Any, Any]:
        """(loss, outputs of the model) with `values` for the weights."""
        return batch.task(values) if self.of is None else self.of.loss(batch, values)

    def result(self, batch: Batch, values: list[Any]) -> Result:
        """The loss, the outputs and the gradients by `values`, to be applied."""
        return batch.differentiate(lambda values: self.loss(batch, values), values)

    def patterns(self) -> list[str]:
        """Of the paths of the weights that are disturbed."""
        return ([] if self.of is None else self.of.patterns()) + ([self.weights] if hasattr(self, "weights") else [])

    def get_config(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name != "of"}
        return own | {"of": None if self.of is None else keras.saving.serialize_keras_object(self.of)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        return cls(**config | {"of": config["of"] and keras.saving.deserialize_keras_object(config["of"])})


class _Adversarial(Objective):
    """Adds the gradients of the same loss at weights that were moved to where it is higher. The loss told is that of the clean ones."""

    weights: str

    def loss(self, batch: Batch, values: list[Any]) -> tuple[Any, Any]:
        raise ConfigError(f"{type(self).__name__} makes gradients, not a loss, so nothing extends it. Put it outside, as in FGM(RDrop()).")

    def inner(self) -> Objective:
        """The objective that is attacked."""
        return Objective() if self.of is None else self.of

    def result(self, batch: Batch, values: list[Any]) -> Result:
        clean, places = self.inner().result(batch, values), batch.places(self.weights)
        changes = self.attack(batch, values, places, [clean.gradients[place] for place in places])
        there = self.inner().result(batch, moved(values, places, changes))
        return clean._replace(gradients=[a + b for a, b in zip(clean.gradients, there.gradients, strict=True)])

    def attack(self, batch: Batch, values: list[Any], places: list[int], gradients: list[Any]) -> list[Any]:
        """How to change the weights at `places`, where the clean loss has these gradients."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("bert4k")
class FGM(_Adversarial):
    """The fast gradient method (Miyato et al. 2017, arXiv:1605.07725): one move of the length `epsilon` along the gradient. A step costs
    twice as much."""

    def __init__(self, of: Objective | None = None, epsilon: float = 0.5, weights: str = TOKEN_TABLE) -> None:
        super().__init__(of)
        self.epsilon, self.weights = epsilon, weights

    def attack(self, batch: Batch, values: list[Any], places: list[int], gradients: list[Any]) -> list[Any]:
        return with_norm(gradients, self.epsilon)


@keras.saving.register_keras_serializable("bert4k")
class PGD(_Adversarial):
    """Projected gradient descent (Madry et al. 2018, arXiv:1706.06083): `steps` moves of the length `step_size`, each from where the last
    one led, never farther than `epsilon` from where they began. A step of training costs steps + 1 times as much."""

    def __init__(
        self, of: Objective | None = None, epsilon: float = 1.0, step_size: float = 0.3, steps: int = 3, weights: str = TOKEN_TABLE
    ) -> None:
        super().__init__(of)
        if steps < 1:
            raise ConfigError(f"PGD has {steps} steps; expected at least 1.")
        self.epsilon, self.step_size, self.steps, self.weights = epsilon, step_size, steps, weights

    def attack(self, batch: Batch, values: list[Any], places: list[int], gradients: list[Any]) -> list[Any]:
        changes = [ops.zeros_like(gradient) for gradient in gradients]
        for step in range(self.steps):
            if step:
                there = moved(values, places, changes)
                gradients = batch.differentiate(lambda values: self.inner().loss(batch, values), there, places).gradients
            changes = [a + b for a, b in zip(changes, with_norm(gradients, self.step_size), strict=True)]
            changes = with_norm(changes, ops.minimum(norm(changes), self.epsilon))
        return changes


@keras.saving.register_keras_serializable("bert4k")
class GradientPenalty(Objective):
    """Adds half of `strength` times the squared norm of the loss's gradient by the weights that it names, whose gradient is in turn part of
    the training: what FGM does to first order, done directly (Drucker & LeCun 1992). A step costs two to three times as much."""

    def __init__(self, of: Objective | None = None, strength: float = 1.0, weights: str = TOKEN_TABLE) -> None:
        super().__init__(of)
        self.strength, self.weights = strength, weights

    def loss(self, batch: Batch, values: list[Any]) -> tuple[Any, Any]:
        found = batch.differentiate(lambda values: super(GradientPenalty, self).loss(batch, values), values, batch.places(self.weights))
        penalty = norm([gradient / batch.scale for gradient in found.gradients], squared=True)
        return found.loss + 0.5 * self.strength * penalty, found.outputs


class _Consistent(Objective):
    """What compares two outputs of the model."""

    divergence: str
    output: str | None

    def logits(self, outputs: Any) -> Any:
        """The logits among the outputs, in float32."""
        return ops.cast(outputs if self.output is None else outputs[self.output], "float32")

    def distance(self, batch: Batch, one: Any, other: Any) -> Any:
        """The mean divergence of `other` from `one`, both logits [B, ..., C]."""
        return batch.mean(DIVERGENCES[self.divergence](one, other))

    def check(self) -> None:
        if self.divergence not in DIVERGENCES:
            known = f"{did_you_mean(self.divergence, DIVERGENCES)} Known are {', '.join(DIVERGENCES)}."
            raise ConfigError(f"There is no divergence {self.divergence!r}.{known}")


@keras.saving.register_keras_serializable("bert4k")
class RDrop(_Consistent):
    """Two passes under different dropout shall give the same distribution (Liang et al. 2021, arXiv:2106.14448): the mean of their losses,
    and `strength` times the mean of the two Kullback-Leibler divergences. A step costs twice as much.

    divergence: "softmax", or "sigmoid" for independent classes. output: which output has the logits, where there are several.
    """

    def __init__(self, strength: float = 4.0, of: Objective | None = None, divergence: str = "softmax", output: str | None = None) -> None:
        super().__init__(of)
        self.strength, self.divergence, self.output = strength, divergence, output
        self.check()

    def loss(self, batch: Batch, values: list[Any]) -> tuple[Any, Any]:
        (loss, outputs), (other_loss, other_outputs) = (super(RDrop, self).loss(batch, values) for _ in range(2))
        one, other = self.logits(outputs), self.logits(other_outputs)
        apart = (self.distance(batch, one, other) + self.distance(batch, other, one)) / 2
        return (loss + other_loss) / 2 + self.strength * apart, outputs


@keras.saving.register_keras_serializable("bert4k")
class VAT(_Consistent):
    """Virtual adversarial training (Miyato et al. 2018, arXiv:1704.03976): what the model says shall not change where weights move by
    `epsilon` in the direction that changes it most, which one step of the power method from a random direction finds, at the distance `xi`.
    Adds `strength` times the divergence; needs no labels. A step costs about three times as much."""

    def __init__(
        self,
        of: Objective | None = None,
        epsilon: float = 1.0,
        strength: float = 1.0,
        xi: float = 1e-2,
        divergence: str = "softmax",
        output: str | None = None,
        weights: str = TOKEN_TABLE,
    ) -> None:
        super().__init__(of)
        self.epsilon, self.strength, self.xi = epsilon, strength, xi
        self.divergence, self.output, self.weights = divergence, output, weights
        self.check()

    def loss(self, batch: Batch, values: list[Any]) -> tuple[Any, Any]:
        loss, outputs = super().loss(batch, values)
        clean, places = ops.stop_gradient(self.logits(outputs)), batch.places(self.weights)

        def away(values: list[Any]) -> tuple[Any, Any]:
            there = batch.outputs(values)
            return self.distance(batch, clean, self.logits(there)), there

        still = [ops.stop_gradient(value) for value in values]
        direction = with_norm([batch.normal(values[place]) for place in places], self.xi)
        steepest = batch.differentiate(away, moved(still, places, direction), places).gradients
        change = [ops.stop_gradient(each) for each in with_norm(steepest, self.epsilon)]
        distance, _ = away(moved(values, places, change))
        return loss + self.strength * distance, outputs


def moved(values: list[Any], places: list[int], changes: list[Any]) -> list[Any]:
    """`values` with `changes` added at `places`."""
    values = list(values)
    for place, change in zip(places, changes, strict=True):
        values[place] = values[place] + ops.cast(change, values[place].dtype)
    return values


def norm(arrays: list[Any], squared: bool = False) -> Any:
    """The Euclidean norm of all together."""
    total = sum(ops.sum(ops.square(ops.cast(each, "float32"))) for each in arrays)
    return total if squared else ops.sqrt(total)


def with_norm(arrays: list[Any], length: Any) -> list[Any]:
    """`arrays` at the norm `length`; nothing stays nothing."""
    factor = length / ops.maximum(norm(arrays), 1e-30)
    return [each * ops.cast(factor, each.dtype) for each in arrays]


def _softmax_divergence(one: Any, other: Any) -> Any:
    one, other = ops.log_softmax(one, axis=-1), ops.log_softmax(other, axis=-1)
    return ops.sum(ops.exp(one) * (one - other), axis=-1)


def _sigmoid_divergence(one: Any, other: Any) -> Any:
    p = ops.sigmoid(one)
    yes, no = (ops.log_sigmoid(sign * one) - ops.log_sigmoid(sign * other) for sign in (1.0, -1.0))
    return ops.sum(p * yes + (1 - p) * no, axis=-1)


# Kullback-Leibler divergence of `other` from `one`, both logits [..., C]: [...].
DIVERGENCES = {"softmax": _softmax_divergence, "sigmoid": _sigmoid_divergence}
