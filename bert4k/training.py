"""What training needs beyond Keras: the usual learning-rate schedule, and optimizers set up as transformers want them."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from bert4k.backend import replicas
from bert4k.errors import ConfigError, did_you_mean

OPTIMIZERS = ("adamw", "lamb", "muon")


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


@keras.saving.register_keras_serializable("bert4k")
class Muon(keras.optimizers.Muon):
    """Keras' Muon, with the Newton-Schulz iteration in `iteration_dtype`: bfloat16 is what its authors use, and several times as
    fast where the machine has it."""

    def __init__(self, *args: Any, iteration_dtype: str = "float32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.iteration_dtype = iteration_dtype

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        return ops.cast(super().zeropower_via_newtonschulz5(ops.cast(x, self.iteration_dtype), steps), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"iteration_dtype": self.iteration_dtype}


class _Together:
    """Clips what the gradients of several devices are together.

    Under TensorFlow's strategies Keras clips those of each device, then adds them up. Here each gets the mean of all, and since they will
    be added up, they are clipped to a share of the limit."""

    def __init__(self, *args: Any, global_clipnorm: float | None = None, **kwargs: Any) -> None:
        limit = None if global_clipnorm is None else global_clipnorm / replicas()
        super().__init__(*args, global_clipnorm=limit, **kwargs)  # type: ignore[call-arg]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        import tensorflow as tf

        mean = tf.distribute.get_replica_context().all_reduce("MEAN", list(grads))
        super().apply(mean, trainable_variables)  # type: ignore[misc]


def make_optimizer(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    accumulate: int = 1,
    ema: float | None = None,
    embedding_rate: float = 1.0,
    dtype: str = "float32",
) -> keras.optimizers.Optimizer:
    """AdamW (arXiv:1711.05101), LAMB (arXiv:1904.00962) or Muon (arXiv:2502.16982), Keras' own, with the betas and epsilon of BERT-like
    pretraining. Biases and norms are not decayed. To be called in the scope of the distribution under which it will train.

    clip_norm: of all gradients together. accumulate: batches whose gradients, on average, make one step. ema: the decay, a step, of an
    exponential moving average of the weights, which replaces them when training ends; it begins with the weights after the first step.
    embedding_rate: of Muon, the learning rate of what is no matrix to it (embeddings, biases, norms), as a share of that of matrices.
    dtype: the policy under which the model computes.
    """
    if ema is not None and not 0 < ema < 1:
        raise ConfigError(f"The decay of the moving average is {ema}; expected a number between 0 and 1, such as 0.999.")
    if accumulate > 1 and replicas() > 1:
        raise ConfigError("Keras cannot accumulate gradients under TensorFlow's strategies. Use KERAS_BACKEND=jax, or larger batches.")
    common: dict[str, Any] = {
        "name": name,
        "weight_decay": weight_decay,
        "global_clipnorm": clip_norm,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        "use_ema": ema is not None,
        "ema_momentum": 0.99 if ema is None else ema ** (1 / accumulate),  # Keras averages after every batch
    }
    match name:
        case "adamw":
            optimizer = _kind(keras.optimizers.AdamW)(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-6, **common)
        case "lamb":
            optimizer = _kind(keras.optimizers.Lamb)(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-6, **common)
        case "muon":
            # Keras gives matrices to Muon and everything else, embeddings too, to AdamW. A head of two classes is no matrix to it.
            optimizer = _kind(Muon)(
                learning_rate,
                adam_beta_2=0.98,
                epsilon=1e-6,
                adam_weight_decay=weight_decay,
                adam_lr_ratio=embedding_rate,
                exclude_layers=["nsp"],
                iteration_dtype="bfloat16" if dtype.endswith("bfloat16") else "float32",
                **common,
            )
        case _:
            raise ConfigError(f"There is no optimizer {name!r}.{did_you_mean(name, OPTIMIZERS)} Known are {', '.join(OPTIMIZERS)}.")
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _kind(kind: Any) -> Any:
    """An optimizer's class. Where one will do it is Keras' own, of which PyTorch has faster ones."""
    return type(kind.__name__, (_Together, kind), {}) if replicas() > 1 else kind


def check_average(ema: float | None, steps: int) -> None:
    """Raise `ConfigError` when a moving average over so few steps would still be made of the first weights, of which the share
    ema ** steps is left."""
    if ema is not None and ema**steps > 0.05:
        raise ConfigError(
            f"A moving average with the decay {ema} would, after {steps} steps, still consist of the weights after the first step by"
            f" {ema**steps:.0%}. Give at most {math.floor(0.01 ** (1 / steps) * 1e4) / 1e4}, or train longer."
        )
