"""The same weights in `transformers` and here: the same outputs and the same gradients.

The models are random: no checkpoint is downloaded. Weights travel by the names of `Transformer.weight_names`, through a table
written out here, so that a fault in the library's own tables cannot hide one in the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.config import Config
from bert4k.model import OUTPUTS, Transformer, weights_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

backends = pytest.mark.backends

NAMES = {
    "embeddings/token": "bert.embeddings.word_embeddings",
    "embeddings/segment": "bert.embeddings.token_type_embeddings",
    "embeddings/position": "bert.embeddings.position_embeddings",
    "embeddings/norm": "bert.embeddings.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward/inner": "intermediate.dense",
    "feed_forward/outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
    "pooled/dense": "bert.pooler.dense",
    "nsp/dense": "cls.seq_relationship",
    "mlm/dense": "cls.predictions.transform.dense",
    "mlm/norm": "cls.predictions.transform.LayerNorm",
    "mlm": "cls.predictions",
}
ATTRIBUTES = {"embeddings": "weight", "kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}


def their_name(name: str) -> str:
    path, _, attribute = name.rpartition("/")
    block, _, part = path.partition("/")
    if block.startswith("block_"):
        return f"bert.encoder.layer.{block.removeprefix('block_')}.{NAMES[part]}.{ATTRIBUTES[attribute]}"
    return f"{NAMES[path]}.{ATTRIBUTES[attribute]}"


def arrays(model: Any, of: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """`of` each parameter of their model as an array, by their name."""
    return {name: of(parameter).detach().numpy() for name, parameter in model.named_parameters()}


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """Dense kernels are [in, out] here and [out, in] there."""
    return array.T if name.endswith("kernel") else array


def pair(**changes: Any) -> tuple[Transformer, Any]:
    """Our model and theirs with the same random weights, all of them away from their initial values."""
    config = Config(**changes)
    torch.manual_seed(0)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**config.to_huggingface()))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name:  # zeros and ones would hide a swap
                parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs.eval()
    values = arrays(theirs, lambda parameter: parameter)
    small = Config(1, 1, config.num_hidden_layers, 1, 1)  # the names do not depend on the sizes
    names = Transformer(small, outputs=OUTPUTS).weight_names()
    assert {their_name(name) for name in names} == set(values), "every weight has its counterpart"
    ours = Transformer(config, outputs=OUTPUTS, values={name: turned(name, values[their_name(name)]) for name in names})
    return ours, theirs


def ragged(config: Config, batch: int, length: int) -> dict[str, np.ndarray]:
    """Random tokens without [PAD], rows of different lengths, segments of every kind."""
    lengths = np.linspace(length, 3, batch).astype("int32")
    real = np.arange(length)[None] < lengths[:, None]
    random = np.random.default_rng(1)
    token_ids = random.integers(1, config.vocab_size, (batch, length)) * real
    segment_ids = np.minimum(np.arange(length)[None] * config.type_vocab_size // lengths[:, None], config.type_vocab_size - 1) * real
    return {"token_ids": token_ids.astype("int32"), "segment_ids": segment_ids.astype("int32")}


def run_theirs(model: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    tensors = {name: torch.tensor(value, dtype=torch.long) for name, value in batch.items()}
    mask = (tensors["token_ids"] != 0).long()
    out = model(
        input_ids=tensors["token_ids"],
        token_type_ids=tensors["segment_ids"],
        attention_mask=mask,
        output_hidden_states=True,
        return_dict=True,
    )
    sequence = out.hidden_states[-1]
    return {"sequence": sequence, "pooled": model.bert.pooler(sequence), "mlm": out.prediction_logits, "nsp": out.seq_relationship_logits}


def differences(ours: Transformer, theirs: Any, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest absolute difference of each output, on real tokens."""
    found = {name: ops.convert_to_numpy(value) for name, value in ours(batch, training=False).items()}
    with torch.no_grad():
        expected = {name: value.numpy() for name, value in run_theirs(theirs, batch).items()}
    real = batch["token_ids"] != 0
    return {name: float(np.abs(found[name] - expected[name])[real if found[name].ndim == 3 else slice(None)].max()) for name in OUTPUTS}


TINY = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "three segments": {"type_vocab_size": 3},
    "one segment": {"type_vocab_size": 1},
    "tanh gelu": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "large epsilon": {"layer_norm_eps": 0.1},
    "odd sizes": {
        "hidden_size": 21,
        "num_attention_heads": 7,
        "intermediate_size": 13,
        "vocab_size": 53,
        "num_hidden_layers": 1,
        "type_vocab_size": 3,
    },
    "wide weights": {"initializer_range": 0.3},
}


@pytest.mark.parametrize(
    "changes", [pytest.param(changes, id=name, marks=backends if name == "odd sizes" else ()) for name, changes in VARIANTS.items()]
)
def test_outputs_of_tiny_models(changes: dict[str, Any]) -> None:
    ours, theirs = pair(**TINY | changes)
    for name, difference in differences(ours, theirs, ragged(ours.config, 4, 17)).items():
        assert difference <= 1e-5, (name, difference)


def test_a_difference_would_show() -> None:
    """The measure sees what it is there to see: the other gelu, another epsilon, another segment."""
    ours, theirs = pair(**TINY | {"initializer_range": 0.3})
    batch = ragged(ours.config, 4, 17)
    for changes in ({"hidden_act": "gelu_tanh"}, {"layer_norm_eps": 1e-3}):
        other = Transformer(ours.config.override(**changes), outputs=OUTPUTS, values=ours.weight_values())
        assert differences(other, theirs, batch)["sequence"] > 1e-5
    without = {"token_ids": batch["token_ids"], "segment_ids": np.zeros_like(batch["segment_ids"])}
    assert np.abs(ops.convert_to_numpy(ours(without)["pooled"]) - ops.convert_to_numpy(ours(batch)["pooled"])).max() > 1e-3


@backends
def test_outputs_at_base_size(record_property: Callable[[str, object], None]) -> None:
    ours, theirs = pair(vocab_size=21128)
    found = differences(ours, theirs, ragged(ours.config, 2, 16))
    for name, difference in found.items():
        record_property(name, difference)
        assert difference <= 1e-5, found


# Gradients.


def their_gradients(model: Any, batch: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    model.zero_grad()
    out = run_theirs(model, batch)
    sum((out[name] * torch.tensor(weights[name])).sum() for name in OUTPUTS).backward()
    return arrays(model, lambda parameter: parameter.grad)


def our_gradients(model: Transformer, batch: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """By our names. The loss is linear in the outputs, so that rounding in the loss itself plays no part."""
    variables = model.trainable_variables

    def loss() -> Any:
        out = model(batch, training=False)
        return sum(ops.sum(out[name] * ops.convert_to_tensor(value)) for name, value in weights.items())

    match keras.backend.backend():
        case "tensorflow":
            import tensorflow

            with tensorflow.GradientTape() as tape:
                value = loss()
            slices = tape.gradient(value, [variable.value for variable in variables])
            gradients = [tensorflow.convert_to_tensor(found) for found in slices]
        case "jax":
            import jax

            def of_values(values: list[Any]) -> Any:
                with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                    return loss()

            gradients = jax.jit(jax.grad(of_values))([variable.value for variable in variables])
        case _:
            for variable in variables:
                variable.value.grad = None
            loss().backward()
            gradients = [variable.value.grad for variable in variables]
    names = {id(getattr(layer, attribute)): name for name, layer, attribute in weights_of(model.parts)}
    return {names[id(variable)]: ops.convert_to_numpy(gradient) for variable, gradient in zip(variables, gradients, strict=True)}


def compare_gradients(**changes: Any) -> None:
    ours, theirs = pair(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **changes)
    batch = ragged(ours.config, 2, 12)
    random = np.random.default_rng(2)
    real = batch["token_ids"] != 0
    shapes = {name: value.shape for name, value in ours(batch).items()}
    weights = {
        name: (random.standard_normal(shape) * (real[..., None] if len(shape) == 3 else 1)).astype("float32")
        for name, shape in shapes.items()
    }
    found, expected = our_gradients(ours, batch, weights), their_gradients(theirs, batch, weights)
    assert len(found) == len(expected)
    for name, gradient in found.items():
        reference = turned(name, expected[their_name(name)])
        scale = np.linalg.norm(reference)
        if name.endswith("attention/key/bias"):
            # Adding a vector to every key adds the same number to all scores of a query, which softmax ignores: this gradient is
            # exactly zero, and both sides hold nothing but rounding. It is measured against that of the key's kernel.
            kernel = np.linalg.norm(expected[their_name(name.replace("bias", "kernel"))])
            assert np.linalg.norm(gradient) <= 1e-4 * kernel and scale <= 1e-4 * kernel, name
        else:
            assert scale > 0, name
            assert np.linalg.norm(gradient - reference) <= 1e-4 * scale, (name, np.linalg.norm(gradient - reference) / scale)


@pytest.mark.parametrize(
    "changes", [{}, {"type_vocab_size": 3, "hidden_act": "gelu_new", "layer_norm_eps": 1e-6, "initializer_range": 0.2}]
)
def test_gradients_of_every_weight(changes: dict[str, Any]) -> None:
    compare_gradients(**TINY | changes)


@backends
def test_gradients_at_base_size() -> None:
    compare_gradients(vocab_size=1000, num_hidden_layers=12)
