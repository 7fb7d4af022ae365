"""Learning rates over the steps of a training."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from bert4k.errors import ConfigError


@keras.saving.register_keras_serializable("bert4k")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to `peak`, stays, and falls to `final * peak` over the last `decay_steps` of `steps`.

    shape: "linear" or "cosine". With decay_steps = steps - warmup_steps (the default) it falls at once, as BERT's does; with less it is the
    trapezoid of Hägele et al. 2024 (arXiv:2405.18392), under which a run can be prolonged up to where its decay begins.
    """

    def __init__(
        self, peak: float, steps: int, warmup_steps: int = 0, decay_steps: int | None = None, shape: str = "linear", final: float = 0.0
    ) -> None:
        decay_steps = steps - warmup_steps if decay_steps is None else decay_steps
        if steps < 1 or warmup_steps < 0 or decay_steps < 0 or warmup_steps + decay_steps > steps:
            raise ConfigError(
                f"A schedule of {steps} steps cannot hold {warmup_steps} of warm-up and {decay_steps} of decay; expected at least 0 each,"
                f" and together at most {steps}."
            )
        if shape not in ("linear", "cosine"):
            raise ConfigError(f"The decay's shape is {shape!r}; expected 'linear' or 'cosine'.")
        self.peak, self.final, self.shape = peak, final, shape
        self.steps, self.warmup_steps, self.decay_steps = steps, warmup_steps, decay_steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        # The first step has a rate above 0, the last one too.
        rising = (step + 1) / max(self.warmup_steps, 1) if self.warmup_steps else ops.ones_like(step)
        left = ops.clip((self.steps - step) / max(self.decay_steps, 1), 0.0, 1.0)
        falling = left if self.shape == "linear" else 0.5 * (1 - ops.cos(math.pi * left))
        return self.peak * ops.minimum(rising, self.final + (1 - self.final) * falling)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("peak", "steps", "warmup_steps", "decay_steps", "shape", "final")}
