"""Which checkpoint a path means, and what is said when it means none."""

from pathlib import Path

import numpy as np
import pytest

from bert4k.checkpoints import Bundle, SafetensorsFolder, open_checkpoint, write_bundle, write_safetensors
from bert4k.errors import CheckpointError

ARRAYS = {"a": np.arange(3, dtype=np.float32)}


@pytest.mark.parametrize("end", ["", "bert_model.ckpt", "bert_model.ckpt.index"])
def test_a_tensorflow_checkpoint_by_folder_prefix_or_index(tmp_path: Path, end: str) -> None:
    write_bundle(tmp_path / "bert_model.ckpt", ARRAYS)
    (tmp_path / "vocab.txt").touch()
    stored = open_checkpoint(str(tmp_path / end))
    assert isinstance(stored, Bundle)
    assert stored.layout == "google"
    assert stored.path == tmp_path / "bert_model.ckpt"
    assert stored["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("shard_bytes", [100, 4])
@pytest.mark.parametrize("by_file", [False, True])
def test_a_hugging_face_folder_or_file(tmp_path: Path, shard_bytes: int, by_file: bool) -> None:
    write_safetensors(tmp_path, ARRAYS | {"b": np.zeros(1, np.float32)}, shard_bytes)
    listing = next((path for path in tmp_path.iterdir() if path.name.endswith(".json")), tmp_path / "model.safetensors")
    stored = open_checkpoint(listing if by_file else tmp_path)
    assert isinstance(stored, SafetensorsFolder)
    assert stored.layout == "huggingface"
    assert stored.path == listing
    assert stored["a"].tolist() == [0, 1, 2]


def test_several_checkpoints_are_named(tmp_path: Path) -> None:
    write_bundle(tmp_path / "model.ckpt-1000", ARRAYS)
    write_bundle(tmp_path / "model.ckpt-2000", ARRAYS)
    write_safetensors(tmp_path, ARRAYS)
    with pytest.raises(CheckpointError, match=r"3 checkpoints .*: model\.ckpt-1000\.index, model\.ckpt-2000\.index, model\.safetensors"):
        open_checkpoint(tmp_path)
    assert open_checkpoint(tmp_path / "model.ckpt-2000")["a"].shape == (3,)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("vocab.txt", r"There is no checkpoint in .*it holds vocab\.txt"),
        ("pytorch_model.bin", r"pytorch_model\.bin \(0 bytes\) is not a sound PyTorch file"),
        ("bert_model.ckpt.data-00000-of-00001", r"without bert_model\.ckpt\.index"),
    ],
)
def test_folders_without_a_checkpoint(tmp_path: Path, file: str, message: str) -> None:
    (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_paths_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no folder .*none"):
        open_checkpoint(tmp_path / "none" / "model.ckpt")
    with pytest.raises(CheckpointError, match=r"Cannot open .*model\.ckpt\.index"):
        open_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="it holds nothing"):
        open_checkpoint(tmp_path)
