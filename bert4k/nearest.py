"""The nearest of many vectors, and a file in which they are kept.

    numbers, cosines = nearest(queries, vectors, 10)                    # [Q, 10] each, the nearest first

Every vector is compared: exact, and with a million texts of 320 numbers a fraction of a second a query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError, DataError

_BLOCK = 1 << 16  # vectors that are compared at a time


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [N, H] at the length 1, so that their products are cosines; those of length 0 stay."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)


def nearest(queries: NDArray[np.float32], vectors: NDArray[np.float32], count: int = 10) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each of `queries` [Q, H], the numbers of the `count` vectors of [N, H] that it has the greatest cosine with, and these cosines,
    [Q, min(count, N)] each, the greatest first; of equal ones, the lower number. All of length 1 (`unit`).

    Raises `DataError` when shapes do not fit, or for a count below 1."""
    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1] or count < 1:
        raise DataError(f"Found queries {queries.shape}, vectors {vectors.shape} and count {count}; expected [Q, H], [N, H] and 1 or more.")
    numbers, cosines = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    for begin in range(0, len(vectors), _BLOCK):
        found = queries @ vectors[begin : begin + _BLOCK].T
        # What was found so far comes first, and sorting is stable: of equal ones the lower number stays.
        cosines = np.concatenate([cosines, found], axis=1)
        numbers = np.concatenate([numbers, np.broadcast_to(np.arange(begin, begin + found.shape[1]), found.shape)], axis=1)
        order = _greatest(cosines, count)
        numbers, cosines = np.take_along_axis(numbers, order, axis=1), np.take_along_axis(cosines, order, axis=1)
    return numbers, cosines


def _greatest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The places of the `count` greatest values of each row, the greatest first."""
    if count < values.shape[1]:  # sort only what reaches the value of the last one that counts
        least = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
        reaching = values >= least
        if reaching.sum() == len(values) * count:
            places = np.nonzero(reaching)[1].reshape(len(values), count)
            order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
            return np.take_along_axis(places, order, axis=1)
        values = np.where(reaching, values, -np.inf)  # some have further ones that tie with the last
    return np.argsort(-values, axis=1, kind="stable")[:, :count]


# Vectors in a file. --------------------------------------------------------------------------------------------------------------


def save_vectors(path: Path, vectors: NDArray[np.float32], model: str) -> None:
    """Keep vectors [N, H] in a .safetensors file, whole or not at all, with what made them: `model`, such as the SHA-256 of its file."""
    with replacing(path) as (temporary,):
        save_file({"vectors": np.ascontiguousarray(vectors, np.float32)}, temporary, {"model": model})


def load_vectors(path: Path, model: str) -> NDArray[np.float32]:
    """The vectors of such a file. Raises `CheckpointError` when it is damaged, or was made by another model: vectors of two models have
    nothing in common, even where they have the same shape."""
    try:
        with safe_open(path, "numpy") as file:
            made_by, vectors = (file.metadata() or {}).get("model"), file.get_tensor("vectors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Remove it; it will be made anew.") from error
    if made_by != model:
        raise CheckpointError(
            f"The vectors in {path} are those of another model ({str(made_by)[:12]}; this one is {model[:12]}), so what is near among them"
            " says nothing about texts that this one reads. Remove the file; it will be made anew."
        )
    return np.asarray(vectors)
