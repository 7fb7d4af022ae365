"""The model that `fit` trains: one transformer under `permuted & same_document`, one graph for all objectives, one loss."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k import masks
from bert4k.backend import replicas, torch_gradients, torch_update
from bert4k.config import Config
from bert4k.model import Transformer
from bert4k.pretraining.packing import Batch, Shape
from bert4k.pretraining.stream import OBJECTIVES

MASK = masks.permuted() & masks.same_document
SWAPPED = "order_of_sentences"  # the name under which the pooled output's task is logged


def make_transformer(config: Config, sentence_order: bool, dtype: str | None = None) -> Transformer:
    """A fresh transformer with the head over the vocabulary, which serves every objective, and the pooled one if it is trained."""
    return Transformer(config, MASK, outputs=("sequence", "mlm", *(("pooled", "nsp") if sentence_order else ())), dtype=dtype)


def as_fit_takes(batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and targets of `Pretrainer`. The labels are inputs too: the graph gives their log-probabilities, not [P, V] logits."""
    # Numbers only: to learn their shapes, TensorFlow's strategies take the mean of what the devices get.
    return {**batch.inputs, "real": batch.inputs["real"].astype(np.int32), "labels": batch.targets["labels"]}, batch.targets


class Pretrainer(keras.Model):
    """Takes the inputs of a `Batch` with its labels; gives "log_probs" [G, P] of the labels, "right" [G, P] (is the label the likeliest?;
    only outside training, where it is worth a pass over the logits), and "order" [G, R, 2], the logits of the sentence-order task.

    The vocabulary's product, about half of all arithmetic in a small model, is computed for what is told only.
    """

    train_function: Any

    def __init__(self, transformer: Transformer, shape: Shape, compiled: bool = True, **kwargs: Any) -> None:
        # In the transformer's precision, by which Keras decides whether the loss must be scaled (mixed_float16).
        super().__init__(**{"dtype": transformer.parts["embeddings/norm"].dtype_policy} | kwargs)
        self.transformer, self.shape, self.compiled_steps = transformer, shape, compiled
        self.sequence = transformer.with_outputs("sequence")
        self.tells_order = "nsp/dense" in transformer.parts
        self.tally = Tally(self.tells_order, name="tally")
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer, **kwargs: Any) -> None:
        """Keras' `compile`; there is no loss to give. XLA compiles on JAX, where nothing else does."""
        super().compile(optimizer, **{"jit_compile": keras.backend.backend() == "jax"} | kwargs)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict[str, Any]:
        groups, rows, length = ops.shape(inputs["token_ids"])
        names = ("token_ids", "segment_ids", "position_ids", "order", "document_ids", "real")
        tokens = {name: ops.reshape(inputs[name], (groups * rows, length)) for name in names}
        x = self.sequence(tokens | {"real": ops.cast(tokens["real"], "bool")}, training=training)
        x = ops.reshape(x, (groups, rows * length, self.transformer.config.hidden_size))
        logits = self.transformer.head("mlm", _rows(x, inputs["positions"]))  # [G, P, V]
        # The label's logit by comparison, not by index: in one pass with the sum of exponentials, and so is its gradient.
        is_label = ops.equal(ops.arange(logits.shape[-1], dtype="int32"), inputs["labels"][..., None])
        own = ops.sum(ops.where(is_label, logits, 0), axis=-1)
        # In float32, whatever the logits: a sum over thousands of exponentials.
        log_probs = ops.cast(own, "float32") - ops.logsumexp(ops.cast(logits, "float32"), axis=-1)
        outputs = {"log_probs": log_probs}
        if not training:
            likeliest = ops.cast(ops.argmax(logits, axis=-1), "int32")
            outputs["right"] = ops.cast(ops.equal(likeliest, ops.cast(inputs["labels"], "int32")), "float32")
        if self.tells_order:
            first = _rows(x, inputs["firsts"])  # [G, R, H]
            order = self.transformer.head("nsp", ops.reshape(first, (-1, 1, first.shape[-1])))
            outputs["order"] = ops.cast(ops.reshape(order, (groups, -1, 2)), "float32")
        return outputs

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        self.count(y, y_pred)
        return self.loss_of(y, y_pred) / replicas()

    def loss_of(self, y: dict[str, Any], y_pred: dict[str, Any]) -> Any:
        """The scalar that is minimised."""
        loss = -ops.mean(y_pred["log_probs"] * y["weights"])
        if self.tells_order:
            loss = loss - ops.mean(_chosen(ops.log_softmax(y_pred["order"], axis=-1), y["swapped"]) * y["swapped_weights"])
        return loss

    def count(self, y: dict[str, Any], y_pred: dict[str, Any]) -> None:
        """Add a batch to the tally."""
        self.tally.add(y["objectives"], -y_pred["log_probs"], y_pred.get("right"))
        if self.tells_order:
            log_probs = ops.log_softmax(y_pred["order"], axis=-1)
            number = ops.where(ops.greater(y["swapped_weights"], 0), len(OBJECTIVES), -1)
            right = ops.equal(ops.cast(ops.argmax(log_probs, axis=-1), "int32"), ops.cast(y["swapped"], "int32"))
            self.tally.add(number, -_chosen(log_probs, y["swapped"]), ops.cast(right, "float32"))

    def make_train_function(self, force: bool = False) -> Any:
        """On PyTorch, one compiled graph for loss and gradients (`compiled=True`); elsewhere Keras' own is that already."""
        config = self.transformer.config
        draws = config.hidden_dropout_prob or config.attention_probs_dropout_prob
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)  # by a factor that changes from step to step
        if keras.backend.backend() != "torch" or not self.compiled_steps or draws or scales:
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = self._torch_train_function()
        return None

    def _torch_train_function(self) -> Any:
        def loss_of(x: Any, y: Any) -> tuple[Any, Any]:
            y_pred = self(x, training=True)
            return self.loss_of(y, y_pred), y_pred

        gradients_of, update = torch_gradients(self, loss_of), torch_update(self.optimizer)

        def train(data: Any) -> dict[str, Any]:
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data[0])
            x, y = keras.tree.map_structure(ops.convert_to_tensor, (x, y))
            gradients, loss, y_pred = gradients_of(x, y)
            update(gradients)
            self.count(y, y_pred)
            self._loss_tracker.update_state(loss)
            return self.get_metrics_result()

        return train

    def flops(self) -> float:
        """Floating-point operations of a training step: 2 a weight forward, twice that backward, and attention's products."""
        config, shape = self.transformer.config, self.shape
        hidden, inner = config.hidden_size, config.intermediate_size
        block = 4 * hidden * hidden + 2 * hidden * inner + 2 * shape.length * hidden
        told = hidden * hidden + hidden * config.vocab_size
        return 6.0 * (shape.tokens * config.num_hidden_layers * block + shape.groups * shape.predictions * told)


def _chosen(values: Any, which: Any) -> Any:
    """values [..., N] at `which` [...]."""
    return ops.take_along_axis(values, ops.cast(which, "int32")[..., None], axis=-1)[..., 0]


def _rows(x: Any, positions: Any) -> Any:
    """x [G, N, H] at positions [G, P]: [G, P, H]."""
    return ops.take_along_axis(x, positions[..., None], axis=1)


class Tally(keras.metrics.Metric):
    """Mean loss and share of right answers of every objective since the last reset, as one dict."""

    def __init__(self, tells_order: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = (*OBJECTIVES, SWAPPED) if tells_order else OBJECTIVES
        self.sums = self.add_variable((len(OBJECTIVES) + 1, 3), initializer="zeros", name="sums")  # count, loss, right

    def add(self, objectives: Any, losses: Any, right: Any = None) -> None:
        """objectives: the number of the objective of every prediction, -1 for none; losses, right: float, of the same shape."""
        which = ops.one_hot(ops.reshape(objectives, (-1,)), len(OBJECTIVES) + 1, dtype="float32")  # -1 gives no one
        counted = ops.ones_like(losses)
        values = [counted, losses, ops.zeros_like(losses) if right is None else right]
        columns = ops.stack([ops.reshape(ops.cast(ops.stop_gradient(each), "float32"), (-1,)) for each in values], axis=1)
        self.sums.assign_add(ops.matmul(ops.transpose(which), columns))

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Keras' name; `Pretrainer` calls `add`."""
        self.add(*args, **kwargs)

    def result(self) -> dict[str, Any]:
        means = self.sums / ops.maximum(self.sums[:, :1], 1.0)
        numbers = {}
        for row, name in enumerate(self.names):
            numbers[f"{name}_count"], numbers[f"{name}_loss"], numbers[f"{name}_accuracy"] = self.sums[row, 0], means[row, 1], means[row, 2]
        return numbers


def peak_flops(dtype: str, size: int = 2048, rounds: int = 5) -> float:
    """Floating-point operations a second of the best of a few large matrix products in `dtype`: what this machine does, busy as it is."""
    import time

    a = ops.cast(keras.random.normal((size, size), seed=0), dtype)
    best = 0.0
    for _ in range(rounds):
        began = time.perf_counter()
        np.asarray(ops.convert_to_numpy(ops.cast(ops.matmul(a, a)[0, 0], "float32")))
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best
