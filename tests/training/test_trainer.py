"""Objectives against gradients written out in PyTorch's double precision, and a fit of each under mixed precision and with LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.backend import set_seed
from bert4k.config import Config
from bert4k.errors import ConfigError
from bert4k.model import Transformer
from bert4k.structured import Pooling
from bert4k.training import FGM, PGD, VAT, GradientPenalty, Objective, RDrop, Trainer, make_optimizer

pytestmark = pytest.mark.backends

VOCABULARY, WIDTH, CLASSES = 7, 4, 3
TOKENS = np.array([[1, 2, 3], [4, 5, 6], [1, 1, 2], [6, 0, 3]])
LABELS = np.array([0, 1, 2, 1])
WEIGHTS = np.array([1.0, 0.5, 2.0, 0.0], "float32")


def model() -> keras.Model:
    """Mean of embeddings, tanh, logits."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, WIDTH, name="embeddings_token")(tokens)
    x = keras.layers.Dense(WIDTH, "tanh", name="inner")(ops.mean(x, axis=1))
    made = keras.Model(tokens, keras.layers.Dense(CLASSES, name="outer")(x))
    random = np.random.default_rng(0)
    for weight in made.weights:
        weight.assign(random.normal(size=weight.shape))
    return made


def torch_weights(made: keras.Model) -> list[Any]:
    import torch

    return [torch.tensor(ops.convert_to_numpy(each), dtype=torch.float64, requires_grad=True) for each in made.weights]


def torch_logits(weights: list[Any]) -> Any:
    import torch

    table, inner, inner_bias, outer, outer_bias = weights
    return torch.tanh(table[torch.from_numpy(TOKENS)].mean(1) @ inner + inner_bias) @ outer + outer_bias


def torch_loss(weights: list[Any]) -> Any:
    import torch

    losses = torch.nn.functional.cross_entropy(torch_logits(weights), torch.from_numpy(LABELS), reduction="none")
    return (losses * torch.from_numpy(WEIGHTS).double()).mean()


def at(weights: list[Any], change: Any) -> list[Any]:
    return [weights[0] + change, *weights[1:]]


def gradients(loss: Any, weights: list[Any]) -> list[np.ndarray]:
    import torch

    return [each.numpy() for each in torch.autograd.grad(loss, weights, retain_graph=True)]


def unit(x: np.ndarray, length: float) -> Any:
    import torch

    return torch.from_numpy(x * length / np.linalg.norm(x))


def fgm(weights: list[Any]) -> list[np.ndarray]:
    clean = gradients(torch_loss(weights), weights)
    there = gradients(torch_loss(at(weights, unit(clean[0], 0.5))), weights)
    return [a + b for a, b in zip(clean, there, strict=True)]


def pgd(weights: list[Any]) -> list[np.ndarray]:
    clean = gradients(torch_loss(weights), weights)
    change, gradient = np.zeros_like(clean[0]), clean[0]
    for _ in range(4):
        change = change + unit(gradient, 0.3).numpy()
        change *= min(1.0, 0.7 / np.linalg.norm(change))
        import torch

        there = gradients(torch_loss(at(weights, torch.from_numpy(change))), weights)
        gradient = there[0]
    return [a + b for a, b in zip(clean, there, strict=True)]


def penalty(weights: list[Any]) -> list[np.ndarray]:
    import torch

    loss = torch_loss(weights)
    [gradient] = torch.autograd.grad(loss, weights[:1], create_graph=True)
    return gradients(loss + 0.5 * 1.5 * (gradient**2).sum(), weights)


CASES: dict[str, tuple[Callable[[], Objective], Callable[[list[Any]], list[np.ndarray]]]] = {
    "plain": (Objective, lambda weights: gradients(torch_loss(weights), weights)),
    "fgm": (lambda: FGM(epsilon=0.5), fgm),
    "pgd": (lambda: PGD(epsilon=0.7, step_size=0.3, steps=4), pgd),
    "penalty": (lambda: GradientPenalty(strength=1.5), penalty),
    "rdrop without dropout": (lambda: RDrop(), lambda weights: gradients(torch_loss(weights), weights)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_of_plain_descent_along_the_gradients_of_the_paper(case: str, scaled: bool) -> None:
    pytest.importorskip("torch")
    objective, reference = CASES[case]
    made = model()
    weights = torch_weights(made)
    trainer = Trainer(made, objective())
    optimizer: Any = keras.optimizers.SGD(0.1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**10)
    trainer.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), weighted_metrics=["accuracy"])
    history = trainer.fit(TOKENS, LABELS, sample_weight=WEIGHTS, batch_size=4, shuffle=False, verbose=0).history
    for weight, before, gradient in zip(made.weights, weights, reference(weights), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(weight), before.detach().numpy() - 0.1 * gradient, atol=2e-6, err_msg=weight.path)
    if case != "penalty":
        assert history["loss"][0] == pytest.approx(torch_loss(weights).item(), rel=1e-5)
    right = (torch_logits(weights).detach().numpy().argmax(-1) == LABELS) * WEIGHTS
    assert history["accuracy"][0] == pytest.approx(right.sum() / WEIGHTS.sum(), rel=1e-5)


def divergence(one: np.ndarray, other: np.ndarray, kind: str) -> np.ndarray:
    """Kullback-Leibler divergence, by its definition."""
    if kind == "sigmoid":
        p, q = (1 / (1 + np.exp(-each.astype("float64"))) for each in (one, other))
        return np.sum(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)), axis=-1)
    p, q = (np.exp(each.astype("float64")) / np.exp(each.astype("float64")).sum(-1, keepdims=True) for each in (one, other))
    return np.sum(p * np.log(p / q), axis=-1)


@keras.saving.register_keras_serializable("bert4k_tests")
class Flip(keras.layers.Layer):
    """A dropout that can be foretold: the first, third ... pass of training is left alone, the others have their sign changed."""

    def build(self, shape: Any) -> None:
        self.passes = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int32", name="passes")

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        sign = 1.0 - 2.0 * ops.cast(self.passes % 2, x.dtype)
        self.passes.assign_add(1)
        return x * sign


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_rdrop_compares_two_passes(kind: str) -> None:
    x = np.random.default_rng(1).normal(size=(4, CLASSES)).astype("float32")
    inputs = keras.Input((CLASSES,))
    x_again = keras.layers.Dense(CLASSES, use_bias=False, kernel_initializer="identity")(inputs)
    made = keras.Model(inputs, {"logits": Flip(name="flip")(x_again)})
    trainer = Trainer(made, RDrop(3.0, divergence=kind, output="logits"))
    trainer.compile(keras.optimizers.SGD(0.0), {"logits": keras.losses.MeanSquaredError()})
    y = {"logits": np.zeros((4, CLASSES), "float32")}
    found = trainer.fit(x, y, batch_size=4, verbose=0).history["loss"][0]
    apart = (divergence(x, -x, kind).mean() + divergence(-x, x, kind).mean()) / 2
    assert found == pytest.approx(np.mean(x**2) + 3.0 * apart, rel=1e-5)
    assert int(ops.convert_to_numpy(made.get_layer("flip").passes)) == 2  # the state of both passes is kept


def test_vat_finds_the_direction_in_which_the_answer_changes_most() -> None:
    """Of a linear model with logits (w, 0) at x = 1, only w changes the answer; the divergence at w + epsilon or w - epsilon is known."""
    inputs = keras.Input((1,))
    made = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="embeddings_token", kernel_initializer="zeros")(inputs))
    trainer = Trainer(made, VAT(epsilon=0.8, strength=2.0, weights="embeddings_token/kernel"))
    trainer.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.ones((4, 1), "float32")
    found = trainer.fit(x, LABELS % 2, batch_size=4, verbose=0).history["loss"][0]
    # The answer depends on the difference of both weights, so the worst direction is (1, -1) / sqrt(2).
    logits = np.array([[0.8, -0.8]]) / np.sqrt(2)
    assert found == pytest.approx(np.log(2) + 2.0 * divergence(np.zeros((1, 2)), logits, "softmax")[0], rel=2e-3)


OBJECTIVES = {
    "fgm of rdrop": lambda: FGM(RDrop(1.0), epsilon=0.05),
    "pgd": lambda: PGD(epsilon=0.05, step_size=0.03, steps=2),
    "vat": lambda: VAT(epsilon=0.05),
    "penalty": lambda: GradientPenalty(strength=0.01),
}


def classifier(dtype: str, lora: bool) -> keras.Model:
    # Random values so large that the tokens can be told from what a frozen body makes of them.
    config = Config(30, 8, 1, 2, 16, hidden_dropout_prob=0.1, initializer_range=0.5)
    body = Transformer(config, outputs=("sequence",), dtype=dtype)
    tokens = keras.Input((None,), dtype="int32", name="token_ids")
    if lora:
        body.enable_lora(2)
    x = Pooling("mean", dtype=dtype)(body({"token_ids": tokens}), ops.not_equal(tokens, 0))
    return keras.Model(tokens, keras.layers.Dense(2, dtype="float32")(x))


@pytest.mark.parametrize(
    ("objective", "dtype", "lora"),
    [
        ("fgm of rdrop", "float32", True),
        ("fgm of rdrop", "mixed_float16", False),
        ("pgd", "mixed_float16", False),
        ("vat", "float32", True),
        ("penalty", "mixed_bfloat16", True),
    ],
)
def test_fit_lowers_the_loss(objective: str, dtype: str, lora: bool) -> None:
    set_seed(1)
    random = np.random.default_rng(0)
    tokens = random.integers(1, 30, (16, 6))
    labels = (tokens[:, 0] > 15).astype("int32")
    tokens[:, 1:3] = np.where(labels[:, None], 28, 3)
    made = classifier(dtype, lora)
    frozen = {each.path: ops.convert_to_numpy(each) for each in made.non_trainable_variables if "seed" not in each.path}
    trainer = Trainer(made, OBJECTIVES[objective]())
    trainer.compile(make_optimizer("adamw", 0.03), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "mixed_float16")
    before = trainer.evaluate(tokens, labels, verbose=0, return_dict=True)["loss"]
    trainer.fit(tokens, labels, batch_size=8, epochs=30, verbose=0)
    assert trainer.evaluate(tokens, labels, verbose=0, return_dict=True)["loss"] < 0.7 * before
    np.testing.assert_array_equal(trainer.predict(tokens, verbose=0), made.predict(tokens, verbose=0))
    assert bool(frozen) == lora
    for each in made.non_trainable_variables:
        if each.path in frozen:
            np.testing.assert_array_equal(ops.convert_to_numpy(each), frozen[each.path], err_msg=each.path)


def test_a_trainer_can_be_saved(tmp_path: Path) -> None:
    trainer = Trainer(model(), FGM(RDrop(2.0, divergence="sigmoid"), epsilon=0.1))
    trainer.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trainer.fit(TOKENS, LABELS, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    again = keras.saving.load_model(tmp_path / "trainer.keras")
    np.testing.assert_array_equal(again.predict(TOKENS, verbose=0), trainer.predict(TOKENS, verbose=0))
    assert again.objective.get_config() == trainer.objective.get_config()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Trainer(model(), FGM(weights="embedings_token")), "embedings_token"),
        (lambda: RDrop(divergence="softmx"), "Did you mean 'softmax'"),
        (lambda: PGD(steps=0), "at least 1"),
        (lambda: RDrop(of=FGM()).of.loss(None, []), "Put it outside"),
    ],
)
def test_what_makes_no_sense(make: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()
