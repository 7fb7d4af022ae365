"""Optimizers set up as transformers want them: Keras' own, with learning rates by layer, Lookahead and an average that is right at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from bert4k.backend import replicas
from bert4k.errors import ConfigError, did_you_mean

OPTIMIZERS = ("adamw", "lamb", "muon")


class _Extras(keras.optimizers.Optimizer):
    """What Keras' optimizers lack, as a class to put before any of them.

    rates: the learning rate of weights whose path contains a regular expression, as a share of that of all others; the first that fits
    counts. lookahead: (k, share): every k steps, the weights go back to where they were k steps ago but for this share of the way (Zhang
    et al. 2019, arXiv:1907.08610).

    The moving average of `use_ema` is debiased: the latest weights count 1, those of the step before `ema_momentum`, and so on back to
    those after the first step, divided by the sum of this. So it is right from the first step on, whatever the momentum.

    Under TensorFlow's strategies Keras clips the gradients of each device, then adds them up. Here each gets the mean of all, and since
    they will be added up, they are clipped to a share of the limit.
    """

    rates: Mapping[str, float] | None = None
    lookahead: tuple[int, float] | None = None
    _share = 1.0  # of the learning rate, while some of the weights are updated
    _replicas = 1

    def __init__(
        self, *args: Any, rates: Mapping[str, float] | None = None, lookahead: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        limit, count = kwargs.pop("global_clipnorm", None), replicas()
        super().__init__(*args, global_clipnorm=limit and limit / count, **kwargs)
        self.rates, self._replicas = dict(rates or {}), count
        self.lookahead = None if lookahead is None else (int(lookahead[0]), float(lookahead[1]))

    def build(self, variables: Any) -> None:
        super().build(variables)
        paths = [each.path for each in variables]
        self._shares = {self._var_key(each): self._share_of(each.path) for each in variables}
        for pattern in self.rates or ():
            if not any(re.search(pattern, path) for path in paths):
                raise ConfigError(
                    f"rates names {pattern!r}, which no trained weight has in its path.{did_you_mean(pattern, paths)}"
                    f" The first weights are {', '.join(paths[:3])}."
                )
        if self.lookahead:
            self._slow = self.add_optimizer_variables(variables, "slow")
            for slow, each in zip(self._slow, variables, strict=True):
                slow.assign(each)

    def _share_of(self, path: str) -> float:
        return next((share for pattern, share in (self.rates or {}).items() if re.search(pattern, path)), 1.0)

    def _clip_gradients(self, grads: Any) -> Any:
        if not self.global_clipnorm or keras.backend.backend() != "torch":
            return super()._clip_gradients(grads)
        import torch

        norm = torch.nn.utils.get_total_norm(grads)  # Keras squares every gradient in a copy
        scale = torch.clamp(self.global_clipnorm / norm, max=1.0) + (norm - norm)  # not a number where the norm is none
        return [each * scale for each in grads]

    def _by_share(self, *columns: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows of `columns`, of which the last are variables, by their share of the learning rate, which is set meanwhile."""
        shares = [self._shares[self._var_key(each)] for each in columns[-1]] if self.rates else [1.0] * len(columns[-1])
        for share in dict.fromkeys(shares):
            self._share = share
            yield tuple([each for each, own in zip(column, shares, strict=True) if own == share] for column in columns)
        self._share = 1.0

    def _get_current_learning_rate(self) -> Any:
        rate = super()._get_current_learning_rate()
        return rate if self._share == 1.0 else rate * self._share

    def _apply_weight_decay(self, variables: Any) -> None:
        # Where there is none to decay, Keras fails on PyTorch.
        for (members,) in self._by_share([each for each in variables if self._use_weight_decay(each)]):
            super()._apply_weight_decay(members)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        for gradients, members in self._by_share(grads, trainable_variables):
            super()._backend_update_step(gradients, members, learning_rate * self._share)

    def _update_model_variables_moving_average(self, trainable_variables: Any) -> None:
        if self.use_ema:
            batches = self._iterations + 1
            each_step = self.gradient_accumulation_steps or 1
            before = ops.cast(batches // each_step - 1, "float32")  # steps whose weights are in the average
            log = math.log(self.ema_momentum)
            # momentum (1 - momentum ** n) / (1 - momentum ** (n + 1)), whose parts would be lost in float32 for a momentum near 1.
            keep = self.ema_momentum * ops.expm1(before * log) / ops.expm1(ops.maximum(before + 1, 1.0) * log)
            change = ops.where(ops.equal(batches % each_step, 0), 1.0 - keep, 0.0)
            for each, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
                if average is not None:
                    average.assign(average + ops.cast(change, each.dtype) * (each - average))

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        super()._backend_apply_gradients(grads, trainable_variables)
        if self.lookahead:
            every, share = self.lookahead
            every *= self.gradient_accumulation_steps or 1
            now = ops.equal((self._iterations + 1) % every, 0)
            for each in trainable_variables:
                slow = self._slow[self._get_variable_index(each)]
                between = slow + share * (each - slow)
                for variable in (slow, each):  # as tensors: jax takes no variables here
                    variable.assign(ops.where(now, between, ops.convert_to_tensor(variable)))

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        if self._replicas > 1:
            import tensorflow as tf

            grads = tf.distribute.get_replica_context().all_reduce("MEAN", list(grads))
        super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"rates": self.rates, "lookahead": self.lookahead}
        if config.get("global_clipnorm") is not None:
            config["global_clipnorm"] *= self._replicas
        return config


class _OnePass:
    """Adam as PyTorch's own operation, which passes once over weights and moments on a CPU; Keras' passes a dozen times, which took a
    seventh of a step of the shipped checkpoint."""

    def _parallel_update_step(self: Any, grads: Any, variables: Any, learning_rate: Any) -> None:
        import torch
        from torch.optim.adamw import adamw

        weights = [each.value for each in variables]
        if torch.compiler.is_compiling() or self.amsgrad or any(each.device.type != "cpu" for each in weights):
            return super()._parallel_update_step(grads, variables, learning_rate)  # type: ignore[misc]
        moments = [[kept[self._get_variable_index(each)].value for each in variables] for kept in (self._momentums, self._velocities)]
        done = float(self.iterations)
        # Keras adds epsilon to the root of the second moment before that is corrected for its beginning at 0, PyTorch after it.
        epsilon = self.epsilon / (1 - self.beta_2 ** (done + 1)) ** 0.5
        how = {"beta1": self.beta_1, "beta2": self.beta_2, "lr": float(learning_rate), "weight_decay": 0.0, "eps": epsilon}
        steps = [torch.tensor(done) for _ in weights]  # each is counted on
        adamw(weights, list(grads), *moments, [], steps, fused=True, amsgrad=False, maximize=False, **how)


def _extended(kind: Any, faster: tuple[type, ...] = ()) -> Any:
    """A class of Keras' optimizers with `_Extras`. On PyTorch, an optimizer of Keras is of a faster class than it was asked for, or of a
    still `faster` one; elsewhere none is made here, since the first variable decides which devices there are."""
    bases = (*faster, type(kind(1e-3))) if keras.backend.backend() == "torch" else (kind,)
    made = type(kind.__name__, (_Extras, *bases), {"__module__": __name__, "__doc__": kind.__doc__})
    return keras.saving.register_keras_serializable("bert4k")(made)


AdamW, Lamb = _extended(keras.optimizers.AdamW, (_OnePass,)), _extended(keras.optimizers.Lamb)


@keras.saving.register_keras_serializable("bert4k")
class Muon(_Extras, keras.optimizers.Muon):
    """Keras' Muon, with the Newton-Schulz iteration in `iteration_dtype`: bfloat16 is what its authors use, and several times as
    fast where the machine has it."""

    def __init__(self, *args: Any, iteration_dtype: str = "float32", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.iteration_dtype = iteration_dtype

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        return ops.cast(super().zeropower_via_newtonschulz5(ops.cast(x, self.iteration_dtype), steps), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"iteration_dtype": self.iteration_dtype}


def make_optimizer(
    name: str,
    learning_rate: Any,
    *,
    weight_decay: float = 0.01,
    clip_norm: float | None = 1.0,
    accumulate: int = 1,
    ema: float | None = None,
    embedding_rate: float = 1.0,
    rates: Mapping[str, float] | None = None,
    lookahead: tuple[int, float] | None = None,
    dtype: str = "float32",
) -> keras.optimizers.Optimizer:
    """AdamW (arXiv:1711.05101), LAMB (arXiv:1904.00962) or Muon (arXiv:2502.16982), Keras' own, with the betas and epsilon of BERT-like
    pretraining. Biases and norms are not decayed. To be called in the scope of the distribution under which it will train.

    clip_norm: of all gradients together. accumulate: batches whose gradients, on average, make one step. ema: the decay, a step, of an
    exponential moving average of the weights, which replaces them when training ends; it is debiased, and so right from the first step on.
    embedding_rate: of Muon, the learning rate of what is no matrix to it (embeddings, biases, norms), as a share of that of matrices.
    rates: the learning rate of some weights, as a share of that of all others, by what their paths contain (`layer_rates`, {"crf/": 50.0}).
    lookahead: (steps, share), as (5, 0.5), of Zhang et al. 2019. dtype: the policy under which the model computes.
    """
    if ema is not None and not 0 < ema < 1:
        raise ConfigError(f"The decay of the moving average is {ema}; expected a number between 0 and 1, such as 0.999.")
    if lookahead and not (lookahead[0] >= 1 and 0 < lookahead[1] <= 1):
        raise ConfigError(f"lookahead is {lookahead}; expected a number of steps and a share of their way, such as (5, 0.5).")
    if lookahead and replicas() > 1:
        raise ConfigError("Lookahead does not work under TensorFlow's strategies. Use KERAS_BACKEND=jax, or leave it out.")
    if accumulate > 1 and replicas() > 1:
        raise ConfigError("Keras cannot accumulate gradients under TensorFlow's strategies. Use KERAS_BACKEND=jax, or larger batches.")
    common: dict[str, Any] = {
        "name": name,
        "weight_decay": weight_decay,
        "global_clipnorm": clip_norm,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
        "rates": rates,
        "lookahead": lookahead,
        "use_ema": ema is not None,
        "ema_momentum": 0.99 if ema is None else ema,
    }
    match name:
        case "adamw":
            optimizer = AdamW(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-6, **common)
        case "lamb":
            optimizer = Lamb(learning_rate, beta_1=0.9, beta_2=0.98, epsilon=1e-6, **common)
        case "muon":
            # Keras gives matrices to Muon and everything else, embeddings too, to AdamW. A head of two classes is no matrix to it.
            optimizer = Muon(
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


def layer_rates(layers: int, decay: float = 0.95) -> dict[str, float]:
    """`rates` of a Transformer that fall from block to block (Howard & Ruder 2018, arXiv:1801.06146, section 3.2): `decay` ** d of the rate
    that everything above the transformer has, d being 1 in the last of `layers` blocks and layers + 1 in the embeddings."""
    blocks = {rf"(^|/)block_{index}_": decay ** (layers - index) for index in range(layers)}
    return {r"(^|/)embeddings_": decay ** (layers + 1)} | blocks
