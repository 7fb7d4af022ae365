"""Schedules: plain formulas beside what Keras computes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from bert4k.errors import ConfigError
from bert4k.training import WarmupDecay

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
