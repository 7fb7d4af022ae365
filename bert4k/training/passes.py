"""A model as a function of its weights, on one batch, and its gradients: the same code on TensorFlow, JAX and PyTorch.

Nothing is assigned and put back: the weights are values that go in. What else a pass changes (seeds of dropout, moving statistics, metrics)
comes out as values, too, and is assigned afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from bert4k.backend import differentiated, replicas

Function = Callable[[list[Any]], tuple[Any, Any]]


class Result(NamedTuple):
    """The loss, a scalar; the model's outputs, for metrics; the gradients of the loss, one for each value it was asked for."""

    loss: Any
    outputs: Any
    gradients: list[Any]


class Batch:
    """One batch, and the model as a function of its weights on it.

    Attributes:
        variables: of which gradients can be had: those that are trained, then frozen ones that the objective wants.
        values: what they are now.
        scale: by how much `differentiate` multiplies every loss (mixed_float16); 1 without.
    """

    def __init__(self, trainer: Any, data: Any, wanted: Sequence[keras.Variable]) -> None:
        self.trainer = trainer
        self.x, self.y, self.sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        trained = trainer.trainable_variables
        known = {id(each) for each in trained}
        self.variables = [*trained, *(each for each in wanted if id(each) not in known)]
        known |= {id(each) for each in self.variables}
        self.state = [each for each in (*trainer.non_trainable_variables, *trainer.metrics_variables) if id(each) not in known]
        self.values = [ops.stop_gradient(ops.convert_to_tensor(each.value)) for each in self.variables]
        self.scale = trainer.optimizer.scale_loss(ops.convert_to_tensor(1.0, "float32"))

    def outputs(self, values: list[Any]) -> Any:
        """What the model gives in training with `values` for its weights."""
        return self._run(values, lambda: self.trainer(self.x, training=True))

    def task(self, values: list[Any]) -> tuple[Any, Any]:
        """The loss that the model was compiled with, and its outputs, with `values` for its weights."""

        def run() -> tuple[Any, Any]:
            outputs = self.trainer(self.x, training=True)
            return self.trainer.compute_loss(self.x, self.y, outputs, self.sample_weight, training=True), outputs

        return self._run(values, run)

    def differentiate(self, function: Function, values: list[Any], by: Sequence[int] | None = None) -> Result:
        """`function(values) -> (loss, outputs)` and its gradients, times `scale`, by the values at the places `by` (default: all)."""
        places = range(len(values)) if by is None else by

        def pure(chosen: list[Any]) -> tuple[Any, Any]:
            everything = list(values)
            for place, value in zip(places, chosen, strict=True):
                everything[place] = value
            (loss, outputs), state = self._changes(lambda: function(everything), [])
            return loss * self.scale, (loss, outputs, state)

        _, (loss, outputs, state), gradients = differentiated(pure, [values[place] for place in places])
        self._keep(state)
        return Result(loss, outputs, gradients)

    def mean(self, x: Any) -> Any:
        """The mean of x [B, ...], weighted as the samples are, as a share of what all devices add up."""
        x = ops.cast(x, "float32")
        if self.sample_weight is None:
            return ops.mean(x) / replicas()
        weights = ops.cast(self.sample_weight, "float32")
        weights = ops.reshape(weights, (*ops.shape(weights), *(1 for _ in x.shape[len(weights.shape) :])))
        while len(weights.shape) > len(x.shape):
            weights = ops.mean(weights, axis=-1)
        weights = ops.broadcast_to(weights, ops.shape(x))
        return ops.sum(x * weights) / ops.maximum(ops.sum(weights), 1e-6) / replicas()

    def normal(self, like: Any) -> Any:
        """Random numbers of the standard normal distribution in the shape of `like`."""
        return keras.random.normal(ops.shape(like), seed=self.trainer.seeds)

    def places(self, pattern: str) -> list[int]:
        """Where in `variables` those are whose path contains the regular expression `pattern`."""
        return [place for place, each in enumerate(self.variables) if re.search(pattern, each.path)]

    def _run(self, values: list[Any], function: Callable[[], Any]) -> Any:
        result, state = self._changes(function, list(zip(self.variables, values, strict=True)))
        self._keep(state)
        return result

    def _changes(self, function: Callable[[], Any], mapping: list[Any]) -> tuple[Any, list[Any]]:
        """What `function()` gives under these values of variables, and what becomes of the state (seeds, statistics, metrics), which it
        leaves alone: None where nothing does."""
        before = [each.value for each in self.state]
        with keras.StatelessScope([*mapping, *zip(self.state, before, strict=True)], collect_losses=True) as scope:
            began = [scope.get_current_value(each) for each in self.state]
            result = function()
        after = [scope.get_current_value(each) for each in self.state]
        return result, [None if new is old else ops.stop_gradient(new) for old, new in zip(began, after, strict=True)]

    def _keep(self, state: list[Any]) -> None:
        for variable, value in zip(self.state, state, strict=True):
            if value is not None:
                variable.assign(value)
