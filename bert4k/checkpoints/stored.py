"""`Stored`: a checkpoint on disk as a mapping from tensor name to array, and the two file habits shared by all layouts.

Opening reads names, shapes and dtypes only. A tensor is mapped into memory when it is asked for and unmapped when the
array is dropped, so a loader that takes tensors one after another never holds more than one of them.
"""

import math
import mmap
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

import numpy as np

from bert4k.errors import CheckpointError, did_you_mean

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Spec(NamedTuple):
    """What is known of a tensor before it is read. Text has dtype `object`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements; 0 for text, whose length is not known before it is read."""
        return 0 if self.dtype.hasobject else self.size * self.dtype.itemsize


class Stored(Mapping[str, Array]):
    """A checkpoint: `stored[name]` reads one tensor (read-only), `stored.shapes[name]` tells its `Spec` without reading.

    `layout` is "google" or "huggingface"; `path` is what was opened: the prefix of a bundle, or the file that lists the tensors.
    Reading raises `CheckpointError` when the file is missing, short or damaged, and `KeyError` for an unknown name.
    """

    layout: str
    path: Path
    shapes: dict[str, Spec]

    @abstractmethod
    def _read(self, name: str) -> Array:
        """The tensor of a name that exists."""

    def __getitem__(self, name: str) -> Array:
        if name not in self.shapes:
            raise KeyError(f"{self.path} has no tensor {name!r}.{did_you_mean(name, self.shapes)}")
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}: {len(self)} tensors>"


def map_array(file: Path, offset: int, spec: Spec, name: str) -> Array:
    """A read-only view of the `spec.nbytes` bytes of `file` at `offset`; the mapping lives as long as the array.

    Raises `CheckpointError`, with the tensor's `name`, when the file is missing or too short.
    """
    try:
        handle = file.open("rb")
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the tensor {name}: its data file {file} cannot be opened ({error.strerror})."
            " The list of tensors and the data belong together; put the data file of the same release beside it."
        ) from error
    with handle:
        found = os.fstat(handle.fileno()).st_size
        if offset + spec.nbytes > found:
            raise CheckpointError(
                f"The tensor {name} ends at byte {offset + spec.nbytes:,} of {file}, which has only {found:,} bytes:"
                " the file is cut off or belongs to another checkpoint. Fetch it again and compare its size with the source."
            )
        if spec.nbytes == 0:
            return np.empty(spec.shape, spec.dtype)
        before = offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(handle.fileno(), before + spec.nbytes, access=mmap.ACCESS_READ, offset=offset - before)
    array = np.frombuffer(mapped, spec.dtype, spec.size, before).reshape(spec.shape)
    return array if array.flags.aligned else array.copy()


def native(array: Any) -> Array:
    """The array in C order and the machine's byte order, copied only when it is not; a scalar stays one."""
    array = np.asarray(array)
    return np.asarray(array, dtype=array.dtype.newbyteorder("=") if array.dtype.byteorder == ">" else array.dtype, order="C")


@contextmanager
def replacing(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths to write instead of `targets`: renamed onto them in order at the end, removed if anything fails.

    Raises `CheckpointError` when the folder cannot be written to.
    """
    temporary = tuple(target.with_name(f".{target.name}.{uuid4().hex}.tmp") for target in targets)
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            for written, target in zip(temporary, targets, strict=True):
                os.replace(written, target)
        finally:
            for written in temporary:
                written.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write {targets[-1]} ({error.strerror}); nothing was left half-written."
            " Choose a folder with space and write permission."
        ) from error
