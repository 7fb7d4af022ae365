"""Optimizers: plain formulas beside what Keras computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bert4k.errors import ConfigError
from bert4k.training import OPTIMIZERS, layer_rates, make_optimizer, optimizers

pytestmark = pytest.mark.backends


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
@pytest.mark.parametrize("decay", [0.5, 0.95, 0.9999])
def test_the_moving_average_is_right_from_the_first_step_on(name: str, decay: float) -> None:
    random = np.random.default_rng(2)
    made = [keras.Variable(random.normal(size=(4, 3)).astype("float32"), name="kernel")]
    optimizer = make_optimizer(name, 0.1, ema=decay)
    optimizer.build(made)
    history: list[np.ndarray] = []
    for _ in range(20):
        apply(optimizer, [random.normal(size=(4, 3))], made)
        weights = values(made)[0].astype("float64")
        history.append(weights)
        average = np.average(history, axis=0, weights=[decay**age for age in reversed(range(len(history)))])
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(optimizer._model_variables_moving_average[0].value), average, rtol=2e-5, atol=1e-6
        )
    optimizer.finalize_variable_values(made)
    np.testing.assert_allclose(values(made)[0], average, rtol=2e-5, atol=1e-6)
    assert np.abs(average - weights).max() > 1e-3


def test_the_moving_average_is_over_steps_when_gradients_are_accumulated() -> None:
    made = [keras.Variable(np.zeros((2, 2), "float32"), name="kernel")]
    optimizer = make_optimizer("adamw", 0.1, ema=0.8, accumulate=2)
    history = []
    for batch in range(6):
        apply(optimizer, [np.full((2, 2), batch + 1.0)], made)
        if batch % 2:
            history.append(values(made)[0])
    optimizer.finalize_variable_values(made)
    np.testing.assert_allclose(values(made)[0], np.average(history, axis=0, weights=[0.64, 0.8, 1.0]), rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_go_at_their_share_of_the_rate(name: str) -> None:
    """A weight at half the rate moves as it does in an optimizer at half the rate, decay included."""
    gradients = [np.random.default_rng(3).normal(size=each.shape) for each in variables()]
    moved = {}
    for kind, (rate, rates) in {"plain": (0.1, None), "half": (0.05, None), "mixed": (0.1, {"kernel": 0.5, "beta": 0.0})}.items():
        made = variables()
        apply(make_optimizer(name, rate, weight_decay=0.3, clip_norm=None, rates=rates), gradients, made)
        moved[kind] = dict(zip((each.name for each in made), values(made), strict=True))
    np.testing.assert_allclose(moved["mixed"]["kernel"], moved["half"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(moved["mixed"]["beta"], values(variables())[3])
    for each in ("bias", "gamma", "embeddings"):
        np.testing.assert_allclose(moved["mixed"][each], moved["plain"][each], rtol=1e-6)
    assert np.abs(moved["half"]["kernel"] - moved["plain"]["kernel"]).max() > 1e-3


def test_rates_fall_from_the_last_block_to_the_embeddings() -> None:
    from bert4k.config import Config
    from bert4k.model import Transformer

    model = Transformer(Config(20, 8, 2, 2, 16), outputs=("pooled",))
    optimizer = make_optimizer("adamw", 1.0, rates=layer_rates(2, 0.5))
    optimizer.build(model.trainable_variables)
    shares = {each.path: optimizer._share_of(each.path) for each in model.trainable_variables}
    expected = {"embeddings_": 0.125, "block_0_": 0.25, "block_1_": 0.5, "pooled": 1.0}
    assert shares == {path: next(share for part, share in expected.items() if part in path) for path in shares}
    assert set(shares.values()) == set(expected.values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lookahead(accumulate: int) -> None:
    random = np.random.default_rng(4)
    start = random.normal(size=(3, 2)).astype("float32")
    made, plain = [keras.Variable(start, name="kernel")], [keras.Variable(start, name="kernel")]
    common = {"weight_decay": 0.1, "accumulate": accumulate}
    optimizer, other = make_optimizer("adamw", 0.1, lookahead=(3, 0.4), **common), make_optimizer("adamw", 0.1, **common)
    slow = start
    for step in range(1, 8):
        for _ in range(accumulate):
            gradient = random.normal(size=(3, 2))
            apply(optimizer, [gradient], made)
            apply(other, [gradient], plain)
        if step % 3 == 0:
            slow = slow + 0.4 * (values(plain)[0] - slow)
            plain[0].assign(slow)
        np.testing.assert_allclose(values(made)[0], values(plain)[0], rtol=1e-5)


def test_optimizers_can_be_saved() -> None:
    for name in OPTIMIZERS:
        optimizer = make_optimizer(name, 0.1, rates={"kernel": 0.5}, lookahead=(5, 0.5), ema=0.9)
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()


def test_what_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"There is no optimizer 'adam'. Did you mean 'adamw'"):
        make_optimizer("adam", 0.1)
    with pytest.raises(ConfigError, match=r"is 1.0; expected a number between 0 and 1"):
        make_optimizer("adamw", 0.1, ema=1.0)
    with pytest.raises(ConfigError, match="such as"):
        make_optimizer("adamw", 0.1, lookahead=(5, 1.5))
    with pytest.raises(ConfigError, match=r"rates names 'kernal'.*Did you mean 'kernel'"):
        make_optimizer("adamw", 0.1, rates={"kernal": 0.5}).build([keras.Variable(np.zeros((2, 2)), name="kernel")])
    monkeypatch.setattr(optimizers, "replicas", lambda: 2)
    with pytest.raises(ConfigError, match="Lookahead"):
        make_optimizer("adamw", 0.1, lookahead=(5, 0.5))
    with pytest.raises(ConfigError, match="accumulate"):
        make_optimizer("adamw", 0.1, accumulate=2)
