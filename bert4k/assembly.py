"""A model made of stored tensors: what `load` does once it knows the checkpoint and its config."""

from __future__ import annotations

import gc
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

from bert4k import masks
from bert4k.checkpoints.recognise import recognise
from bert4k.checkpoints.stored import Spec, Stored
from bert4k.checkpoints.tables import BY_TOKEN, Report, Row, Table
from bert4k.config import Config
from bert4k.encoder_decoder import kind_of
from bert4k.errors import CheckpointError, ConfigError
from bert4k.families import FAMILIES, checked
from bert4k.model import CONDITIONAL, Transformer, weights_of
from bert4k.pretrained import table_of
from bert4k.surgery import POSITION_ROWS, Change, Changed


def from_arrays(
    arrays: Mapping[str, Any],
    config: Config | Mapping[str, Any] | str | Path,
    mask: str | masks.Mask | None = None,
    outputs: Sequence[str] | None = None,
    *,
    model: str | type[Transformer] = Transformer,
    layers: Sequence[int] | None = None,
    dtype: Any = None,
    allow_missing: Sequence[str] = (),
    **overrides: Any,
) -> Transformer:
    """The model of tensors that are at hand as arrays, such as a PyTorch model's state_dict or what another program has made.

    arrays: NumPy arrays, or what NumPy makes arrays of, by the names of a Google TensorFlow or a Hugging Face release of the family, or by
    those of this library (`Transformer.weight_names`). config: a Config, the values of a config file, or its path. The rest as in `load`.

    Raises `CheckpointError`, with all that is missing or has another shape at once, and `ConfigError`."""
    if not isinstance(arrays, Mapping) or not arrays:
        raise CheckpointError(f"arrays is {type(arrays).__name__}; expected tensors by their names.")
    stored = _Arrays(arrays)
    family, kind = (model, Transformer) if isinstance(model, str) else (None, model)
    if family is not None:
        checked(family)
    if isinstance(config, str | Path):
        config = Config.from_file(config, family)
    elif not isinstance(config, Config):
        shown = recognise(stored).split(" or ")[0]
        config = Config.from_dict(config, "config", family or (shown if shown in FAMILIES and "family" not in config else None))
    released, config = config, config.override(**overrides)
    if layers is not None:
        layers, config = chosen_layers(layers, config)
    return assembled(stored, config, released, mask, outputs, kind, layers, {}, dtype, allow_missing)


class _Arrays(Stored):
    """Arrays that are in memory, by the names of one layout or another; "own" is this library's."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {str(name): np.asarray(array) for name, array in arrays.items()}
        self.path = Path("what was given as arrays")
        self.shapes = {name: Spec(array.shape, array.dtype) for name, array in self.arrays.items()}
        own = any(name.startswith("embeddings/token/") for name in self.arrays)
        self.layout = "own" if own else "google" if any("/" in name for name in self.arrays) else "huggingface"

    def _read(self, name: str) -> Any:
        return self.arrays[name]


def assembled(
    stored: Stored,
    config: Config,
    released: Config,
    mask: str | masks.Mask | None,
    outputs: Sequence[str] | None,
    kind: type[Transformer],
    layers: Sequence[int] | None,
    changes: Mapping[str, Change],
    dtype: Any,
    allow_missing: Sequence[str],
) -> Transformer:
    """The model of `config`, of the tensors of a checkpoint that was `released` with another, after `changes`; see `load`."""
    values: ChainMap[str, Any] = ChainMap()
    # In this scope variables get a shape and wait for their value. The checkpoint is held against the shapes, everything that is
    # wrong is told at once, and on leaving each weight is made from its tensor, with no random value in between.
    with _no_collecting(), _Waiting():
        built = (kind_of(config) if kind is Transformer else kind)(config, mask, outputs, values=values, dtype=dtype)
        wanted = built.weight_names()
        for name in set(changes) & set(wanted):  # in the checkpoint it has the rows that were released
            count = released.position_offset + released.max_position_embeddings if name == POSITION_ROWS else released.vocab_size
            wanted[name] = tuple(count if axis == BY_TOKEN.get(name, 0) else size for axis, size in enumerate(wanted[name]))
        own = Table(config.family, "own", tuple(Row(name, name) for name in wanted))
        table = own if stored.layout == "own" else table_of(config.family, stored.layout)
        binding = table.bind(stored, wanted, _layers(config) if layers is None else layers)
        binding.report.raise_if_wrong([*allow_missing, *(name for name in wanted if name.endswith(CONDITIONAL))])
        values.maps.append(Changed(binding, changes))  # type: ignore[arg-type]  # which are read only
    if "mlm/norm/gamma" in binding and _untrained(built):
        warnings.warn(
            f"The MLM output of {stored.path} was never trained: its norm and its bias have their first values. What it tells of tokens is"
            " random; chinese-roberta-wwm-ext-large was released so. Use another checkpoint for the MLM output.",
            UntrainedOutputWarning,
            stacklevel=3,
        )
    return built


def report_on(stored: Stored, config: Config) -> Report:
    """How a checkpoint fits the model of its config with every output, without making a weight."""
    with _Waiting(initialize_variables=False):
        wanted = kind_of(config)(config, outputs=config.outputs).weight_names()
    return table_of(config.family, stored.layout).bind(stored, wanted, _layers(config)).report


def _layers(config: Config) -> int:
    """How many different layers a checkpoint has: of an encoder and a decoder, the higher number."""
    return max(config.groups, config.num_decoder_layers)


def chosen_layers(layers: Sequence[int], config: Config) -> tuple[list[int], Config]:
    """Which stored layers the blocks take, and the config of the model that is left."""
    wrong = [layer for layer in layers if layer not in range(config.num_hidden_layers)]
    if wrong or len(layers) == 0:
        raise ConfigError(f"layers={list(layers)}: expected some of 0 to {config.num_hidden_layers - 1}, the layers of this checkpoint.")
    count, every = len(layers), config.global_attn_every_n_layers
    if config.num_decoder_layers not in (0, config.num_hidden_layers):
        raise ConfigError(
            f"layers={list(layers)}: the encoder has {config.num_hidden_layers} layers and the decoder {config.num_decoder_layers}; some of"
            " both are kept only where these are equal. Load all of them."
        )
    differ = [layer for place, layer in enumerate(layers) if layer % every != place % every]
    if differ or (config.block == "pre_norm_but_first" and layers[0] != 0):
        raise ConfigError(
            f"layers={list(layers)}: in this checkpoint every {every}th layer looks at all tokens, the others at those near by, and layer 0"
            " has no norm before its attention; another order would make other layers of them. Begin with 0, and go on by whole turns, such"
            f" as {[*range(every), *range(2 * every, 3 * every)]}."
        )
    if config.groups == 1:  # all are the same, so choosing some is choosing how many
        return [0], config.override(num_hidden_layers=count, num_hidden_groups=1)
    if config.groups != config.num_hidden_layers:
        raise ConfigError(
            f"layers={list(layers)}: the {config.num_hidden_layers} layers of this checkpoint share the weights of {config.groups},"
            " so none can be left out. Load all of them."
        )
    decoder = count if config.num_decoder_layers else 0
    return [int(layer) for layer in layers], config.override(num_hidden_layers=count, num_hidden_groups=None, num_decoder_layers=decoder)


class UntrainedOutputWarning(UserWarning):
    """The checkpoint holds an output layer with random weights."""


def _untrained(model: Transformer) -> bool:
    """Whether the MLM output is as it was made: gains of exactly 1, everything else that starts at 0 still 0. No training leaves it so."""
    first = {"mlm/norm/gamma": 1.0, "mlm/norm/beta": 0.0, "mlm/dense/bias": 0.0, "mlm/bias": 0.0}
    found = [(getattr(layer, attribute), first[name]) for name, layer, attribute in weights_of(model.parts) if name in first]
    return len(found) == len(first) and all((keras.ops.convert_to_numpy(value) == start).all() for value, start in found)


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Building a model makes objects enough to start garbage collections, each of which walks all that TensorFlow has made since
    its import: a third of the time that loading takes, and nothing to be found."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Waiting(keras.StatelessScope):
    """Within, variables get a shape and wait for their value, which they receive on leaving.

    When an error gives the model up, or only its shapes were wanted, its variables are forgotten. Keras would keep them waiting: draw
    random values for all of them at the end of this scope or of the next one, and fail on those that have theirs already.
    """

    def __enter__(self) -> _Waiting:
        self._earlier = len(self._waiting())
        super().__enter__()
        return self

    def __exit__(self, error: Any, *rest: Any) -> None:
        self.initialize_variables &= error is None
        try:
            super().__exit__(error, *rest)  # here a damaged tensor may still come to light
        finally:
            del self._waiting()[self._earlier :]

    @staticmethod
    def _waiting() -> list[Any]:
        return global_state.get_global_attribute("uninitialized_variables", [], set_to_default=True)
