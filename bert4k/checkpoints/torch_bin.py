"""Hugging Face folders with PyTorch's own files: `pytorch_model.bin`, or the shards that `pytorch_model.bin.index.json` lists.

Since PyTorch 1.6 `torch.save` writes a zip archive, `data.pkl` with a description of the tensors and an uncompressed `data/KEY` for every
storage; before, it wrote five pickles and then the storages, each with its size before it. Both are read here without PyTorch,
tensors are mapped from where they lie, and no pickle is executed: see `torch_pickle`. Format: PyTorch, `torch/serialization.py`.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np

from bert4k.checkpoints.sharded import Sharded, no_file
from bert4k.checkpoints.stored import Array, Spec, map_array
from bert4k.checkpoints.torch_pickle import ForbiddenPickle, Storage, Tensor, read_pickle
from bert4k.errors import CheckpointError

TORCH_WEIGHTS = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_LOCAL_HEADER = 30  # bytes before the name of an entry of a zip archive


class _Region(NamedTuple):
    """Bytes of a file."""

    start: int
    nbytes: int


class TorchFolder(Sharded):
    """A file that `torch.save` wrote of a dictionary of tensors, or the shards listed by a `.bin.index.json`.

    Values of the dictionary that are no tensors are left out. Raises `CheckpointError` when a file is missing, cut off or compressed,
    when its pickle asks for anything but tensors, or when it holds something else than a dictionary of them.
    """

    def __init__(self, path: str | Path):
        self._tensors: dict[str, tuple[Tensor, int]] = {}  # with the byte of the file where the storage begins
        super().__init__(path)

    def _add(self, file: Path) -> None:
        try:
            with file.open("rb") as handle:
                start = handle.read(4)
                handle.seek(0)
                described, regions = _read_zip(file, handle) if start == b"PK\3\4" else _read_legacy(file, handle)
        except OSError as error:
            raise no_file(file, error) from error
        except CheckpointError:
            raise
        except ForbiddenPickle as error:
            raise CheckpointError(
                f"{file} holds more than weights. {error} bert4k executes nothing from a file and reads dictionaries of tensors only. If"
                " you trust its source, save model.state_dict() alone, or fetch a model.safetensors; if not, delete it."
            ) from error
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{file} ({file.stat().st_size:,} bytes) is not a sound PyTorch file: {str(error)[:200] or type(error).__name__}. It may be"
                " cut off, or a text that points to the real file (Git LFS); fetch it again."
            ) from error
        for name, tensor in _tensors_of(described, file).items():
            first = regions[tensor.storage.key].start + tensor.storage.first * tensor.storage.dtype.itemsize
            self.shapes[name] = tensor.spec
            self._files[name] = file
            self._tensors[name] = tensor, first

    def _read(self, name: str) -> Array:
        tensor, start = self._tensors[name]
        dtype = tensor.storage.dtype
        if tensor.span == 0:
            return np.empty(tensor.shape, dtype)
        numbers = map_array(self._files[name], start + tensor.offset * dtype.itemsize, Spec((tensor.span,), dtype), name)
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, tensor.shape, strides, writeable=False)


def _read_zip(file: Path, handle: BinaryIO) -> tuple[Any, dict[str, _Region]]:
    """The description in a zip archive, and where its storages are."""
    with zipfile.ZipFile(handle) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    top = next(iter(entries), "").partition("/")[0]
    if f"{top}/constants.pkl" in entries:
        raise CheckpointError(
            f"{file} is a TorchScript archive, a program with its weights; expected a dictionary of weights, as"
            " torch.save(model.state_dict()) writes it. Fetch the weights of the release, or save the state_dict of the loaded program."
        )
    if f"{top}/data.pkl" not in entries:
        raise ValueError("it is a zip archive without a data.pkl")
    size = file.stat().st_size

    def region(name: str) -> _Region:
        entry = entries[name]
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError(
                f"{name} in {file} is compressed or encrypted; PyTorch stores its entries as they are, and so they can be mapped into"
                " memory. The file was packed again by another program: fetch the original, or load it with PyTorch and save it again."
            )
        handle.seek(entry.header_offset)
        header = handle.read(_LOCAL_HEADER)
        if header[:4] != b"PK\3\4":
            raise ValueError(f"the entry {name} is not where the archive's directory says")
        start = entry.header_offset + _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if start + entry.file_size > size:
            raise ValueError(f"the entry {name} ends behind the end of the file")
        return _Region(start, entry.file_size)

    def content(name: str) -> bytes:
        start, nbytes = region(name)
        handle.seek(start)
        return handle.read(nbytes)

    if f"{top}/byteorder" in entries and content(f"{top}/byteorder") != b"little":
        _refuse_byte_order(file)
    storages: list[Storage] = []
    described = read_pickle(io.BytesIO(content(f"{top}/data.pkl")), storages)
    regions = {}
    for storage in storages:
        if (name := f"{top}/data/{storage.key}") not in entries:
            raise ValueError(f"the numbers of the storage {storage.key[:40]!r} are not in it")
        regions[storage.key] = region(name)
        if (storage.first + storage.size) * storage.dtype.itemsize > regions[storage.key].nbytes:
            raise ValueError(f"the entry {name} has {regions[storage.key].nbytes:,} bytes, fewer than its tensors take")
    return described, regions


def _read_legacy(file: Path, handle: BinaryIO) -> tuple[Any, dict[str, _Region]]:
    """The description in a file from before PyTorch 1.6, and where its storages are."""
    if read_pickle(handle) != _MAGIC or read_pickle(handle) != _VERSION:
        raise ValueError("it does not begin as torch.save lets its files begin")
    if read_pickle(handle)["little_endian"] is not True:
        _refuse_byte_order(file)
    storages: list[Storage] = []
    described, keys = read_pickle(handle, storages), read_pickle(handle)
    itemsizes = {storage.key: storage.dtype.itemsize for storage in storages}
    regions = {}
    size = file.stat().st_size
    for key in keys:
        count = int.from_bytes(handle.read(8), "little")
        if not isinstance(key, str) or key not in itemsizes:
            raise ValueError("one of its storages belongs to no tensor, so that its size is unknown")
        regions[key] = _Region(handle.tell(), count * itemsizes[key])
        if sum(regions[key]) > size:
            raise ValueError(f"the storage {key} ends behind the end of the file")
        handle.seek(sum(regions[key]))
    for storage in storages:
        if storage.dtype.itemsize != itemsizes[storage.key]:
            raise ValueError(f"the storage {storage.key[:40]!r} has numbers of two sizes")
        if (storage.first + storage.size) * storage.dtype.itemsize > regions[storage.key].nbytes:
            raise ValueError(f"the storage {storage.key[:40]!r} is shorter than its tensors")
    return described, regions


def _refuse_byte_order(file: Path) -> NoReturn:
    raise CheckpointError(
        f"{file} was written on a big-endian machine, which is not supported. Load it with PyTorch there or here and save it again."
    )


def _tensors_of(described: Any, file: Path) -> Mapping[str, Tensor]:
    """The tensors of a dictionary by name. Raises `CheckpointError` when there are none."""
    if not isinstance(described, dict):
        raise CheckpointError(
            f"{file} holds a {type(described).__name__}; expected a dictionary of tensors, as torch.save(model.state_dict()) writes it."
        )
    named = {name: value for name, value in described.items() if isinstance(name, str)}
    nested = [name for name, value in named.items() if isinstance(value, dict) and any(isinstance(one, Tensor) for one in value.values())]
    if nested:
        raise CheckpointError(
            f"{file} is the snapshot of a training run: its weights are one level down, under {_shown(nested)}. Save them alone, with"
            f" torch.save(torch.load(file, weights_only=True)[{_shown(nested[:1])}], {TORCH_WEIGHTS!r})."
        )
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{file} holds a dictionary without a tensor; expected the weights of a model. Fetch it again.")
    return tensors


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names)
