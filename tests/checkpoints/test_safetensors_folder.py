"""The `safetensors` library is the reference for files; Hugging Face's names for shards are the convention for folders."""

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bert4k.checkpoints.safetensors_folder import INDEX, WEIGHTS, SafetensorsFolder, write_safetensors
from bert4k.errors import CheckpointError

ARRAYS = {
    "f": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(3.5, np.float64),
    "empty": np.zeros((0, 4), np.float32),
    "half": np.arange(5).astype(np.float16),
    "flags": np.array([True, False, True]),
    "ids": np.arange(4, dtype=np.int64),
    "名字": np.arange(7, dtype=np.uint8),
}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal in dtype, shape and every bit."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    save_file(ARRAYS, tmp_path / WEIGHTS)
    stored = SafetensorsFolder(tmp_path / WEIGHTS)
    assert set(stored) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert stored.shapes[name] == (array.shape, array.dtype)
        assert same(stored[name], array), name
        assert stored[name].flags.aligned


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    write_safetensors(tmp_path, ARRAYS)
    loaded = load_file(tmp_path / WEIGHTS)
    assert set(loaded) == set(ARRAYS)
    assert all(same(loaded[name], array) for name, array in ARRAYS.items())
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


def test_arrays_that_are_not_contiguous_or_little_endian(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_safetensors(tmp_path, {"t": matrix.T, "b": matrix.astype(">f4"), "s": matrix[:, ::2], "bf": matrix.astype(ml_dtypes.bfloat16)})
    stored = SafetensorsFolder(tmp_path / WEIGHTS)
    assert same(stored["t"], matrix.T)
    assert same(stored["b"], matrix)
    assert same(stored["s"], matrix[:, ::2])
    assert same(stored["bf"], matrix.astype(ml_dtypes.bfloat16))


def test_shards(tmp_path: Path) -> None:
    arrays = {f"t{number}": np.full(25, number, np.float32) for number in range(10)}
    write_safetensors(tmp_path, arrays, max_shard_bytes=300)
    listed = json.loads((tmp_path / INDEX).read_text())
    assert listed["metadata"]["total_size"] == 1000
    assert len(set(listed["weight_map"].values())) == 4
    assert all(sum(array.nbytes for array in load_file(path).values()) <= 300 for path in tmp_path.glob("*.safetensors"))
    stored = SafetensorsFolder(tmp_path / INDEX)
    assert list(stored) == list(arrays)
    assert all(same(stored[name], array) for name, array in arrays.items())


def test_a_tensor_larger_than_a_shard_gets_its_own(tmp_path: Path) -> None:
    write_safetensors(tmp_path, {"a": np.zeros(10), "b": np.zeros(1)}, max_shard_bytes=16)
    assert len(list(tmp_path.glob("model-*-of-00002.safetensors"))) == 2


def test_writing_again_leaves_one_checkpoint(tmp_path: Path) -> None:
    write_safetensors(tmp_path, ARRAYS)
    write_safetensors(tmp_path, ARRAYS, max_shard_bytes=20)
    assert not (tmp_path / WEIGHTS).exists()
    write_safetensors(tmp_path, ARRAYS)
    assert not (tmp_path / INDEX).exists()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="text has the dtype <U3, which a safetensors file cannot hold"):
        write_safetensors(tmp_path / "new", {"text": np.array(["abc"])})
    assert not (tmp_path / "new").exists()


def test_transformers_accepts_the_metadata(tmp_path: Path) -> None:
    write_safetensors(tmp_path, ARRAYS)
    size = int.from_bytes((tmp_path / WEIGHTS).read_bytes()[:8], "little")
    assert json.loads((tmp_path / WEIGHTS).read_bytes()[8 : 8 + size])["__metadata__"] == {"format": "pt"}


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path, {"a": np.arange(4, dtype=np.float32)})
    file = tmp_path / WEIGHTS
    for size in reversed(range(file.stat().st_size)):
        os.truncate(file, size)
        with pytest.raises(CheckpointError, match=r"model\.safetensors .* is not a sound safetensors file"):
            SafetensorsFolder(file)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x05\0\0\0\0\0\0\0[1,2]", b"PK\x03\x04" * 9]
)
def test_another_kind_of_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a sound safetensors file"):
        SafetensorsFolder(tmp_path / WEIGHTS)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot open .*model\.safetensors"):
        SafetensorsFolder(tmp_path / WEIGHTS)


def test_missing_shard(tmp_path: Path) -> None:
    write_safetensors(tmp_path, ARRAYS, max_shard_bytes=20)
    first = min(tmp_path.glob("model-*"))
    first.unlink()
    with pytest.raises(CheckpointError, match=f"Cannot open .*{first.name}"):
        SafetensorsFolder(tmp_path / INDEX)


def test_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    write_safetensors(tmp_path, ARRAYS)
    stored = SafetensorsFolder(tmp_path / WEIGHTS)
    os.truncate(tmp_path / WEIGHTS, 100)
    with pytest.raises(CheckpointError, match=r"The tensor f ends at byte .* which has only 100 bytes"):
        stored["f"]


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..\\other.safetensors", "C:\\x", "..", "", 5])
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, shard: object) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="expected the name of a file in the same folder"):
        SafetensorsFolder(tmp_path / INDEX)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": [1]}', "{"])
def test_a_list_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="weight_map"):
        SafetensorsFolder(tmp_path / INDEX)


def test_a_list_that_names_a_tensor_its_shard_does_not_hold(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "x.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": "x.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"b is in x\.safetensors, which does not hold it"):
        SafetensorsFolder(tmp_path / INDEX)
