"""Hugging Face folders: `model.safetensors`, or several shards that `model.safetensors.index.json` lists.

The `safetensors` library checks and writes the files; the tensors are mapped here, because the library's NumPy reader copies them and
knows no bfloat16. Format: https://github.com/huggingface/safetensors
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert4k.checkpoints.sharded import Sharded, no_file
from bert4k.checkpoints.stored import Array, Spec, map_array, native, replacing
from bert4k.errors import CheckpointError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("f8"),
    "F32": np.dtype("f4"),
    "F16": np.dtype("f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "C64": np.dtype("c8"),
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype(np.bool_),
}


class SafetensorsFolder(Sharded):
    """A `.safetensors` file, or the shards listed by a `.safetensors.index.json`.

    Raises `CheckpointError` when a file is missing, cut off or no safetensors file, or when the list and the shards disagree.
    """

    def __init__(self, path: str | Path):
        self._offsets: dict[str, int] = {}
        super().__init__(path)

    def _add(self, file: Path) -> None:
        try:
            with safe_open(file, framework="np"):  # checks sizes, overlaps and gaps
                pass
            with file.open("rb") as handle:
                size = int.from_bytes(handle.read(8), "little")
                header = json.loads(handle.read(size))
        except SafetensorError as error:
            raise CheckpointError(
                f"{file} ({file.stat().st_size:,} bytes) is not a sound safetensors file: {error}. It may be cut off,"
                " or a text that points to the real file (Git LFS); fetch it again."
            ) from error
        except OSError as error:
            raise no_file(file, error) from error
        for name, entry in header.items():
            if name != "__metadata__":
                self.shapes[name] = Spec(tuple(entry["shape"]), _DTYPES.get(entry["dtype"], np.dtype(object)))
                self._files[name] = file
                self._offsets[name] = 8 + size + entry["data_offsets"][0]

    def _read(self, name: str) -> Array:
        if self.shapes[name].dtype.hasobject:
            raise CheckpointError(
                f"{name} in {self.path} is stored in a format that NumPy cannot hold. Convert the checkpoint to float32 or bfloat16."
            )
        return map_array(self._files[name], self._offsets[name], self.shapes[name], name)


def write_safetensors(folder: str | Path, arrays: Mapping[str, Any], max_shard_bytes: int = 5_000_000_000) -> None:
    """Write arrays into `folder` as `model.safetensors`, or as shards of at most `max_shard_bytes` with their list.

    Existing files of the same names are replaced, each in one step and the list last; a stale list is removed.
    Raises `CheckpointError` for a dtype that the format does not know.
    """
    folder = Path(folder)
    shards: list[dict[str, Array]] = [{}]
    room = max_shard_bytes
    for name in arrays:
        array = native(arrays[name])
        if array.dtype not in _DTYPES.values():
            raise CheckpointError(f"{name} has the dtype {array.dtype}, which a safetensors file cannot hold. Convert it to float32.")
        if array.nbytes > room and shards[-1]:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = array
        room -= array.nbytes
    if len(shards) == 1:
        with replacing(folder / WEIGHTS) as (file,):
            _save(shards[0], file)
        (folder / INDEX).unlink(missing_ok=True)
        return
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    with replacing(*(folder / name for name in names), folder / INDEX) as (*files, index):
        for shard, file in zip(shards, files, strict=True):
            _save(shard, file)
        weight_map = {name: file for shard, file in zip(shards, names, strict=True) for name in shard}
        total = sum(array.nbytes for shard in shards for array in shard.values())
        index.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2), encoding="utf-8")
    (folder / WEIGHTS).unlink(missing_ok=True)


def _save(arrays: dict[str, Array], file: Path) -> None:
    try:
        save_file(arrays, file, {"format": "pt"})  # transformers refuses files that do not name a format
        file.chmod(0o644)  # it comes readable by its owner alone
    except SafetensorError as error:
        raise CheckpointError(f"Cannot write {file.parent}: {error}. Nothing was left half-written; is the disk full?") from error
