"""TensorFlow checkpoints (`PREFIX.index` and `PREFIX.data-00000-of-00001`), read and written without TensorFlow.

The index is a leveldb table: under the empty key a `BundleHeaderProto`, under every tensor's name a `BundleEntryProto` with its dtype,
shape, place in a data file and masked CRC-32C. A partitioned variable has no place of its own but slices, each an entry under an
encoded key. Format: TensorFlow `core/util/tensor_bundle/tensor_bundle.h`, `core/protobuf/tensor_bundle.proto` and
`core/util/saved_tensor_slice_util.cc`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from bert4k.checkpoints.leveldb import masked_crc, read_table, to_varint, varint, write_table
from bert4k.checkpoints.stored import Array, Spec, Stored, map_array, native, replacing
from bert4k.errors import CheckpointError

# The numbers of TensorFlow's `DataType`; all others (text, resources, quantised) are listed but cannot be read.
_DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in (
        *((1, np.float32), (2, np.float64), (3, np.int32), (4, np.uint8), (5, np.int16), (6, np.int8), (8, np.complex64), (9, np.int64)),
        *(
            (10, np.bool_),
            (14, ml_dtypes.bfloat16),
            (17, np.uint16),
            (18, np.complex128),
            (19, np.float16),
            (22, np.uint32),
            (23, np.uint64),
        ),
    )
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}
_SLICE_KEY = b"\0"  # what the keys of slices, and no names, begin with


@dataclass(frozen=True)
class _Entry:
    """A `BundleEntryProto`."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[tuple[tuple[int, int], ...], ...]  # of each slice, of each axis: start and length, or (0, -1) for all of it

    @property
    def spec(self) -> Spec:
        return Spec(self.shape, _DTYPES.get(self.dtype, np.dtype(object)))


class Bundle(Stored):
    """A TensorFlow checkpoint by its prefix. The data files are looked at only when a tensor is read.

    `verify` compares every tensor that is read with its CRC-32C. Raises `CheckpointError` when the index is missing or damaged.
    """

    layout = "google"

    def __init__(self, prefix: str | Path, verify: bool = True):
        self.path = Path(prefix)
        self._verify = verify
        index = _beside(self.path, ".index")
        try:
            entries = dict(read_table(index.read_bytes()))
            self._shards = _shards(entries.pop(b"", b""))
            self._entries = {key: _entry(message) for key, message in entries.items()}
            self.shapes = {key.decode(): entry.spec for key, entry in self._entries.items() if not key.startswith(_SLICE_KEY)}
        except OSError as error:
            raise CheckpointError(
                f"Cannot open {index} ({error.strerror}). A TensorFlow checkpoint is an .index file with .data files beside it;"
                " give the folder that holds them, or their common prefix."
            ) from error
        except (ValueError, IndexError) as error:
            raise CheckpointError(
                f"{index} ({index.stat().st_size:,} bytes) is not a sound TensorFlow index: {error}. Fetch it again from its source."
            ) from error

    def _read(self, name: str) -> Array:
        entry = self._entries[name.encode()]
        if not entry.slices:
            return self._read_entry(name, entry)
        parts = {extents: self._entries.get(_slice_key(name, extents)) for extents in entry.slices}
        filled = sum(part.spec.size for part in parts.values() if part)
        if filled != entry.spec.size:
            raise CheckpointError(
                f"The {len(parts)} slices of {name} in {self.path}.index hold {filled:,} of its {entry.spec.size:,} values."
                " A part of the variable was not saved; fetch or save the checkpoint again."
            )
        whole = np.empty(*entry.spec)
        for extents, part in parts.items():
            if part:
                region = tuple(slice(start, None if length < 0 else start + length) for start, length in extents)
                if whole[region].shape != part.shape:
                    raise CheckpointError(
                        f"A slice of {name} in {self.path}.index has shape {part.shape}, not that of its place {extents}. Fetch it again."
                    )
                whole[region] = self._read_entry(name, part)
        return whole

    def _read_entry(self, name: str, entry: _Entry) -> Array:
        if entry.dtype not in _DTYPES:
            raise CheckpointError(
                f"{name} in {self.path} has TensorFlow's data type {entry.dtype}, which holds no numbers that a model could take."
            )
        if entry.size != entry.spec.nbytes:
            raise CheckpointError(
                f"{name} in {self.path}.index has {entry.size:,} bytes; its shape {entry.shape} and type"
                f" {entry.spec.dtype} need {entry.spec.nbytes:,}. Fetch the index again."
            )
        file = _beside(self.path, f".data-{entry.shard:05d}-of-{self._shards:05d}")
        array = map_array(file, entry.offset, entry.spec, name)
        if self._verify and masked_crc(array) != entry.crc:
            raise CheckpointError(
                f"The tensor {name} in {file} does not have the checksum that the index gives: at least one bit has changed,"
                " or data and index come from different checkpoints. Fetch both files again."
            )
        return array


def write_bundle(prefix: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a TensorFlow checkpoint, taking them from the mapping one at a time.

    TensorFlow's `tf.train.load_checkpoint(prefix)` reads it. Existing files are replaced, the data first, each in one step.
    Raises `CheckpointError` for a dtype that TensorFlow does not know or a name that it cannot store.
    """
    prefix = Path(prefix)
    entries = [(b"", _field(1, 1) + _field(3, _field(1, 1)))]  # one shard, little endian, format version 1
    offset = 0
    with replacing(_beside(prefix, ".data-00000-of-00001"), _beside(prefix, ".index")) as (data, index):
        with data.open("wb") as file:
            for key, name in sorted((name.encode(), name) for name in arrays):
                array = native(arrays[name])
                if array.dtype not in _NUMBERS:
                    raise CheckpointError(
                        f"{name} has the dtype {array.dtype}, which a TensorFlow checkpoint cannot hold. Convert it to float32."
                    )
                if not key or key.startswith(_SLICE_KEY):
                    raise CheckpointError(
                        f"{name!r} cannot be a tensor's name in a TensorFlow checkpoint. Give it one that begins with a letter."
                    )
                file.write(array.reshape(-1).view(np.uint8).data)
                entries.append((key, _to_message(array, offset)))
                offset += array.nbytes
        index.write_bytes(write_table(entries))


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _shards(header: bytes) -> int:
    numbers = _numbers(header)
    if not header:
        raise ValueError("it has no header, so it is a table of something else")
    if numbers.get(2, 0) != 0:
        raise ValueError("it was written on a big-endian machine, which is not supported; save it again on a common one")
    return numbers.get(1, 1)


def _entry(message: bytes) -> _Entry:
    numbers = _numbers(message)
    shape = tuple(_numbers(size).get(1, 0) for part in _messages(message, 2) for size in _messages(part, 2))
    slices = tuple(tuple(_extent(extent) for extent in _messages(part, 1)) for part in _messages(message, 7))
    return _Entry(numbers.get(1, 0), shape, numbers.get(3, 0), numbers.get(4, 0), numbers.get(5, 0), numbers.get(6, 0), slices)


def _extent(message: bytes) -> tuple[int, int]:
    numbers = _numbers(message)
    return numbers.get(1, 0), numbers.get(2, -1)


def _numbers(message: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(message) if isinstance(value, int)}


def _messages(message: bytes, number: int) -> list[bytes]:
    return [value for found, value in _fields(message) if found == number and isinstance(value, bytes)]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a protobuf message: an int for numbers, bytes for everything with a length."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        match tag & 7:
            case 0:
                value, at = varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = varint(message, at)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"a description of a tensor has a field of the unknown kind {kind}")
        content = message[at : at + size]
        if len(content) < size:
            raise ValueError("a description of a tensor is cut off")
        at += size
        yield tag >> 3, content if tag & 7 == 2 else int.from_bytes(content, "little")


def _field(number: int, value: int | bytes) -> bytes:
    """One protobuf field; 0 is left out, as in proto3."""
    if isinstance(value, bytes):
        return to_varint(number << 3 | 2) + to_varint(len(value)) + value
    return to_varint(number << 3) + to_varint(value) if value else b""


def _to_message(array: Array, offset: int) -> bytes:
    shape = b"".join(_field(2, _field(1, size)) for size in array.shape)
    numbers = _field(1, _NUMBERS[array.dtype]) + _field(2, shape) + _field(4, offset) + _field(5, array.nbytes)
    return numbers + to_varint(6 << 3 | 5) + masked_crc(array).to_bytes(4, "little")


def _slice_key(name: str, extents: tuple[tuple[int, int], ...]) -> bytes:
    """The key under which a slice is stored: TensorFlow's `EncodeTensorNameSlice`, in the `OrderedCode` that keeps keys sorted."""
    escaped = name.encode().replace(b"\0", b"\0\xff")  # 0xff itself would be escaped too, but is no byte of UTF-8
    rank = len(extents)
    key = b"\0" + escaped + b"\0\1" + (bytes([1, rank]) if rank else b"\0")
    return key + b"".join(_ordered(number) for extent in extents for number in extent)


def _ordered(number: int) -> bytes:
    """A signed number in OrderedCode: as many leading ones as bytes, then two's complement, so that bytes sort as numbers do."""
    magnitude = ~number if number < 0 else number
    size = magnitude.bit_length() // 7 + 1
    ones = (1 << size) - 1 << 7 * size
    return (number % (1 << 8 * size) ^ ones).to_bytes(size, "big")
