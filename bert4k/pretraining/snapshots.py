"""Snapshots of a training: everything that decides how it goes on, in one file that is either whole or not there.

`snapshots/step-00001000.safetensors` holds every variable of the model and of the optimizer (weights, moments, moving averages), the states
of random generators, and, as metadata, the step and a checksum. The data need no state: a step's batch follows from its number.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import keras
import numpy as np
from keras import ops
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert4k.backend import generator_states, set_generator_states
from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError

_NAME = re.compile(r"step-(\d{8})\.safetensors")
_RANDOM = "random/"  # the names of generators' states begin so


def variables_of(model: keras.Model) -> dict[str, Any]:
    """Every variable of a compiled model and of its optimizer by a name that is the same in every process: its place and its path."""
    kinds = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {_stable(f"{kind}/{number:04}/{each.path}"): each for kind, variables in kinds.items() for number, each in enumerate(variables)}


def _stable(name: str) -> str:
    """Without the numbers that Keras counts up in a process; the place tells variables apart."""
    return re.sub(r"_\d+\b|_\d+(?=_)", "", name)


def write(folder: Path, model: keras.Model, step: int, keep: int = 2) -> Path:
    """Write a snapshot and remove all but the newest `keep`. A process that is killed meanwhile leaves the snapshots before."""
    path = folder / f"step-{step:08}.safetensors"
    arrays = {name: np.asarray(ops.convert_to_numpy(each), order="C") for name, each in variables_of(model).items()}
    arrays |= {_RANDOM + name: state for name, state in generator_states().items()}
    about = {"step": str(step), "crc32c": _checksum(step, arrays)}
    with replacing(path) as (temporary,):
        try:
            save_file(arrays, temporary, metadata=about)
        except SafetensorError as error:  # its name for a full disk
            raise CheckpointError(f"Cannot write {path} ({error}). The snapshots before are whole; make room and start again.") from error
    for old in _listed(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def restore(folder: Path, model: keras.Model) -> int:
    """Give `model` and its optimizer the newest snapshot that is whole; returns its step, 0 when there is none.

    Warns of every damaged one. Raises `CheckpointError` when the snapshot is of another model."""
    for path in reversed(_listed(folder)):
        try:
            step, arrays = _read(path)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            warnings.warn(f"{path} is damaged ({error}); going back to the snapshot before.", stacklevel=2)
            continue
        _assign(model, arrays, path)
        return step
    return 0


def newest_step(folder: Path) -> int:
    """The step of the newest snapshot, whole or not; 0 when there is none."""
    return max((int(path.stem.removeprefix("step-")) for path in _listed(folder)), default=0)


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[int, dict[str, np.ndarray]]:
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
        arrays = {_stable(name): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    step = int(about["step"])
    if "crc32c" in about and about["crc32c"] != _checksum(step, arrays):
        raise ValueError("its checksum is not that of its contents")
    return step, arrays


def _checksum(step: int, arrays: Mapping[str, np.ndarray]) -> str:
    """The CRC-32C of the step, of names, types and shapes, and of every number."""
    about = [step, [(name, str(array.dtype), array.shape) for name, array in sorted(arrays.items())]]
    value = google_crc32c.value(json.dumps(about).encode())
    for _, array in sorted(arrays.items()):
        value = google_crc32c.extend(value, array.tobytes())
    return f"{value:08x}"


def _assign(model: keras.Model, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    variables = variables_of(model)
    states = {name.removeprefix(_RANDOM): state for name, state in arrays.items() if name.startswith(_RANDOM)}
    arrays = {name: array for name, array in arrays.items() if not name.startswith(_RANDOM)}
    wrong = [name for name in variables if name not in arrays or _shape(arrays[name]) != _shape(variables[name])]
    wrong += [name for name in arrays if name not in variables]
    if wrong:
        raise CheckpointError(
            f"{path} is a snapshot of another model: {len(wrong)} variables differ, {wrong[0]} for one. Give the settings that the run was"
            " started with, or another run folder."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name].reshape(variable.shape))
    set_generator_states(states)


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape) or (1,)


def _listed(folder: Path) -> Sequence[Path]:
    """The snapshots, the oldest first."""
    return sorted(path for path in folder.glob("step-*.safetensors") if _NAME.fullmatch(path.name))
