"""Texts that belong together in one row: the two of a pair, the choices of a question."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("bert4k")
class Grouped(keras.Model):
    """`Grouped(model)`: a model of texts, of inputs [B, L], on groups of n texts: its inputs are [B, n, L] and its output [B, n, ...].

    It has no weights but those of `model`, which is what one saves and predicts with."""

    def __init__(self, model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        count = ops.shape(next(iter(inputs.values())))[1]
        flat = {name: ops.reshape(each, (-1, ops.shape(each)[2])) for name, each in inputs.items()}
        found = self.model(flat, training=training)
        return ops.reshape(found, (-1, count, *ops.shape(found)[1:]))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Grouped:
        return cls(**config | {"model": keras.saving.deserialize_keras_object(config["model"])})
