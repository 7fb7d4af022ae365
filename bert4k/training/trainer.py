"""One training step for TensorFlow, JAX and PyTorch, in which an objective may run the model more than once.

An objective (objectives.py) says which losses, at which weights, make the gradients; what remains of a step (state, loss scaling, update,
metrics) is here, once.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

from bert4k.backend import replicas
from bert4k.errors import ConfigError, did_you_mean
from bert4k.training.objectives import Objective
from bert4k.training.passes import Batch


@keras.saving.register_keras_serializable("bert4k")
class Trainer(keras.Model):
    """Trains `model` by an `objective` of objectives.py: FGM, PGD, VAT, GradientPenalty, RDrop, or several, one within the other.

    `compile` and `fit` it as any model; it has no weights but those of `model`, with which one predicts and which one saves. Gradient
    accumulation, clipping, averages, loss scaling, metrics, callbacks, tf.distribute and keras.distribution are Keras' own. Raises
    `ConfigError` when the objective wants weights that the model does not have.
    """

    def __init__(self, model: keras.Model, objective: Objective | None = None, **kwargs: Any) -> None:
        # In the model's precision, by which Keras decides whether the loss must be scaled (mixed_float16).
        super().__init__(**{"dtype": precision(model)} | kwargs)
        self.model, self.objective = model, Objective() if objective is None else objective
        self.seeds = keras.random.SeedGenerator()
        self.built = True
        if model.built:
            self._wanted()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model(inputs, training=training)

    def train_step(self, *given: Any) -> Any:
        """Keras' hook: of the data and, on JAX, of all state, which comes and goes as values."""
        if keras.backend.backend() != "jax":
            return self._step(given[0])
        state, data = given
        variables = self.trainable_variables, self.non_trainable_variables, self.optimizer.variables, self.metrics_variables
        mapping = [pair for kind, values in zip(variables, state, strict=True) for pair in zip(kind, values, strict=True)]
        with keras.StatelessScope(mapping) as scope:
            logs = self._step(data)
        return logs, tuple([scope.get_current_value(each) for each in kind] for kind in variables)

    def _step(self, data: Any) -> dict[str, Any]:
        batch = Batch(self, data, self._wanted())
        found = self.objective.result(batch, batch.values)
        trained = self.trainable_variables
        self._update(found.gradients[: len(trained)], trained)
        rows = ops.shape(next(each for each in keras.tree.flatten(batch.x) if each is not None))[0]
        self._loss_tracker.update_state(ops.stop_gradient(found.loss) * replicas(), sample_weight=rows)
        outputs = keras.tree.map_structure(ops.stop_gradient, found.outputs)
        return self.compute_metrics(batch.x, batch.y, outputs, batch.sample_weight)

    def _update(self, gradients: list[Any], variables: list[keras.Variable]) -> None:
        if keras.backend.backend() == "jax":  # where LossScaleOptimizer.apply would take values out of a conditional
            own = self.optimizer.variables
            now = ([each.value for each in own], gradients, [each.value for each in variables])
            values, state = self.optimizer.stateless_apply(*now)
            for variable, value in zip([*variables, *own], [*values, *state], strict=True):
                variable.assign(value)
            return
        with _without_gradients():
            self.optimizer.apply(gradients, variables)

    def _wanted(self) -> list[keras.Variable]:
        """The weights that the objective asks for, trained or not."""
        patterns = self.objective.patterns()
        found = [each for each in self.model.variables if any(re.search(pattern, each.path) for pattern in patterns)]
        for pattern in patterns:
            if not any(re.search(pattern, each.path) for each in found):
                known = [each.path for each in self.model.variables]
                raise ConfigError(
                    f"No weight of the model has {pattern!r} in its path.{did_you_mean(pattern, known)} Give the objective"
                    f" `weights`, a part of a path or a regular expression; the first weights are {', '.join(known[:3])}."
                )
        return [each for each in found if "float" in each.dtype]

    def get_config(self) -> dict[str, Any]:
        kept = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("model", "objective")}
        return {"name": self.name, **kept}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Trainer:
        kept = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("model", "objective")}
        return cls(**config | kept)


def precision(model: keras.Model) -> Any:
    """The policy of the first layer that computes in another precision than it keeps its weights in, or the model's own."""
    policies = [layer.dtype_policy for layer in model._flatten_layers()]
    return next((each for each in policies if each.compute_dtype != each.variable_dtype), model.dtype_policy)


def _without_gradients() -> Any:
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()
