"""Schedules and optimizers: plain formulas beside what Keras computes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from bert4k import training
from bert4k.errors import ConfigError
from bert4k.training import OPTIMIZERS, WarmupDecay, check_average, make_optimizer

pytestmark = pytest.mark.backends


def rate(step: int, peak: float, steps: int, warmup: int, decay: int, shape: str, final: float) -> float:
    """The rate of a step, counted from 0."""
    falling = min(1.0, (steps - step) / decay) if decay else 1.0
    falling = max(0.0, falling)
    if shape == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * (1 - falling)))
    rising = (step + 1) / warmup if warmup else 1.0
    return peak * min(rising, final + (1 - final) * falling)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (5, 15), (5, 4), (0, 20), (20, 0), (7, 0)])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_every_step_of_the_schedule(shape: str, warmup: int, decay: int, final: float) -> None:
    schedule = WarmupDecay(2e-3, 20, warmup, decay, shape, final)
    found = [float(keras.ops.convert_to_numpy(schedule(step))) for step in range(20)]
    np.testing.assert_allclose(found, [rate(step, 2e-3, 20, warmup, decay, shape, final) for step in range(20)], rtol=1e-5, atol=1e-10)
    assert all(found)
    assert warmup + decay == 20 or max(found) == pytest.approx(2e-3)


def test_without_decay_steps_the_rate_falls_from_the_warm_up_on() -> None:
    assert WarmupDecay(1.0, 10, 4).get_config() == WarmupDecay(1.0, 10, 4, 6).get_config()
    again = WarmupDecay.from_config(WarmupDecay(1.0, 10, 4, 3, "cosine", 0.1).get_config())
    assert (again.peak, again.steps, again.warmup_steps, again.decay_steps, again.shape, again.final) == (1.0, 10, 4, 3, "cosine", 0.1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((1.0, 10, 6, 5), "10 steps cannot hold 6 of warm-up and 5 of decay"),
        ((1.0, 10, 11), "cannot hold 11 of warm-up"),
        ((1.0, 10, -1), "cannot hold -1"),
        ((1.0, 0), "of 0 steps"),
        ((1.0, 10, 1, 1, "square"), "'square'; expected 'linear' or 'cosine'"),
    ],
)
def test_schedules_that_make_no_sense(arguments: tuple, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        WarmupDecay(*arguments)


# Optimizers. ---------------------------------------------------------------------------------------------------------------------


def variables() -> list[keras.Variable]:
    """What a layer has, under the names that Keras and bert4k give."""
    random = np.random.default_rng(0)
    shapes = {"kernel": (6, 4), "bias": (4,), "gamma": (4,), "beta": (4,), "embeddings": (5, 4)}
    return [keras.Variable(random.normal(1, 0.1, shape).astype("float32"), name=name) for name, shape in shapes.items()]


def values(made: list[keras.Variable]) -> list[np.ndarray]:
    return [np.array(keras.ops.convert_to_numpy(each.value)) for each in made]


def apply(optimizer: keras.optimizers.Optimizer, gradients: list[np.ndarray], made: list[keras.Variable]) -> None:
    optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32")) for gradient in gradients], made)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_biases_and_norms_are_not_decayed(name: str) -> None:
    made = variables()
    before = values(made)
    apply(make_optimizer(name, 0.1, weight_decay=0.5), [np.zeros(each.shape) for each in made], made)
    for each, old, new in zip(made, before, values(made), strict=True):
        expected = old if each.name in ("bias", "gamma", "beta") else old * (1 - 0.1 * 0.5)
        np.testing.assert_allclose(new, expected, rtol=1e-6, err_msg=each.name)


def test_the_model_has_no_other_names_for_what_is_not_decayed() -> None:
    from bert4k.config import Config
    from bert4k.model import OUTPUTS, Transformer

    for variable in Transformer(Config(20, 8, 1, 2, 16), outputs=OUTPUTS).trainable_variables:
        assert (len(variable.shape) == 1) == (variable.name in ("bias", "gamma", "beta"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_walks_downhill(name: str) -> None:
    made = variables()
    optimizer = make_optimizer(name, 0.05, weight_decay=0.0)
    before = sum(np.sum(value**2) for value in values(made))
    for _ in range(20):
        apply(optimizer, values(made), made)
    assert sum(np.sum(value**2) for value in values(made)) < 0.8 * before


def adamw(weights: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float, limit: float | None) -> list[np.ndarray]:
    """Weights after every step, by the formulas of the paper, with the betas of bert4k."""
    first = second = np.zeros_like(weights)
    found = []
    for step, gradient in enumerate(gradients, 1):
        norm = np.sqrt(np.sum(gradient**2))
        if limit is not None and norm > limit:
            gradient = gradient * limit / norm
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        change = rate * np.sqrt(1 - 0.98**step) / (1 - 0.9**step) * first / (np.sqrt(second) + 1e-6)
        weights = weights * (1 - rate * decay) - change
        found.append(weights)
    return found


@pytest.mark.parametrize("limit", [None, 0.5, 1e3])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_adamw_clips_and_accumulates(limit: float | None, accumulate: int) -> None:
    random = np.random.default_rng(1)
    start = random.normal(size=(4, 3)).astype("float32")
    gradients = [random.normal(0, 10.0 ** random.integers(-1, 2), (4, 3)) for _ in range(6 * accumulate)]
    made = [keras.Variable(start, name="kernel")]
    optimizer = make_optimizer("adamw", 0.01, weight_decay=0.1, clip_norm=limit, accumulate=accumulate)
    for gradient in gradients:
        apply(optimizer, [gradient], made)
    means = [np.mean(gradients[begin : begin + accumulate], axis=0) for begin in range(0, len(gradients), accumulate)]
    np.testing.assert_allclose(values(made)[0], adamw(start, means, 0.01, 0.1, limit)[-1], rtol=2e-5, atol=2e-6)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 6


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.5, 0.95])
def test_the_moving_average_is_right_from_the_first_step_on(name: str, decay: float) -> None:
    random = np.random.default_rng(2)
    made = [keras.Variable(random.normal(size=(4, 3)).astype("float32"), name="kernel")]
    optimizer = make_optimizer(name, 0.1, ema=decay)
    optimizer.build(made)
    average = None
    for _ in range(20):
        apply(optimizer, [random.normal(size=(4, 3))], made)
        weights = values(made)[0].astype("float64")
        average = weights if average is None else decay * average + (1 - decay) * weights
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(optimizer._model_variables_moving_average[0].value), average, rtol=2e-5, atol=1e-6
        )
    optimizer.finalize_variable_values(made)
    np.testing.assert_allclose(values(made)[0], average, rtol=2e-5, atol=1e-6)
    assert np.abs(average - weights).max() > 1e-3


def test_the_moving_average_forgets_as_much_a_step_when_gradients_are_accumulated() -> None:
    made = [keras.Variable(np.zeros((2, 2), "float32"), name="kernel")]
    optimizer = make_optimizer("adamw", 0.1, ema=0.8, accumulate=2)
    apply(optimizer, [np.ones((2, 2))], made)
    apply(optimizer, [np.ones((2, 2))], made)
    first = values(made)[0]
    for _ in range(6):  # the weights stay where they are put
        made[0].assign(np.full((2, 2), 5.0, "float32"))
        optimizer._update_model_variables_moving_average(made)
        optimizer._iterations.assign_add(1)
    optimizer.finalize_variable_values(made)
    np.testing.assert_allclose(values(made)[0], 0.8**3 * first + (1 - 0.8**3) * 5.0, rtol=1e-5)


def test_what_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"There is no optimizer 'adam'. Did you mean 'adamw'"):
        make_optimizer("adam", 0.1)
    with pytest.raises(ConfigError, match=r"is 1.0; expected a number between 0 and 1"):
        make_optimizer("adamw", 0.1, ema=1.0)
    monkeypatch.setattr(training, "replicas", lambda: 2)
    with pytest.raises(ConfigError, match="accumulate"):
        make_optimizer("adamw", 0.1, accumulate=2)


def test_an_average_over_too_few_steps() -> None:
    check_average(None, 1)
    check_average(0.99, 500)
    with pytest.raises(
        ConfigError, match=r"after 100 steps, still consist of the weights after the first step by 90%. Give at most 0.9549"
    ):
        check_average(0.999, 100)
    check_average(0.9549, 100)
