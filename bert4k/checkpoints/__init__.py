"""Checkpoints as they were released: TensorFlow bundles and Hugging Face folders (safetensors, PyTorch), without their frameworks."""

from pathlib import Path

from bert4k.checkpoints.bundle import Bundle, write_bundle
from bert4k.checkpoints.safetensors_folder import INDEX, WEIGHTS, SafetensorsFolder, write_safetensors
from bert4k.checkpoints.stored import Spec, Stored
from bert4k.checkpoints.torch_bin import TORCH_INDEX, TORCH_WEIGHTS, TorchFolder
from bert4k.errors import CheckpointError

__all__ = ["Bundle", "SafetensorsFolder", "Spec", "Stored", "TorchFolder", "open_checkpoint", "write_bundle", "write_safetensors"]


def open_checkpoint(source: str | Path, verify: bool = True) -> Stored:
    """The checkpoint in a folder, or the one that a prefix, an `.index`, a `.safetensors` or a `.bin` file belongs to.

    Reads names and shapes only. `verify` checks every tensor that is read from a TensorFlow checkpoint against its CRC-32C
    (the other formats carry none, or none that can be relied on). A folder of Hugging Face may hold the same weights several times;
    safetensors go before PyTorch's files. Raises `CheckpointError` when there is no checkpoint, more than one, or a damaged one.
    """
    path = Path(source)
    if path.is_dir():
        path = _only_checkpoint(path)
    if path.name.endswith((".safetensors", ".safetensors.index.json")):
        return SafetensorsFolder(path)
    if path.name.endswith((".bin", ".pt", ".pth", ".bin.index.json")):
        return TorchFolder(path)
    if not path.parent.is_dir():
        raise CheckpointError(f"There is no folder {path.parent}. Give the folder of a checkpoint, or the prefix of its files.")
    return Bundle(path.with_suffix("") if path.suffix == ".index" else path, verify)


def _only_checkpoint(folder: Path) -> Path:
    """The one file in `folder` that lists the tensors of a checkpoint."""
    found = sorted(folder.glob("*.index"))
    found += [folder / name for name in (INDEX, WEIGHTS, TORCH_INDEX, TORCH_WEIGHTS) if (folder / name).exists()][:1]
    match found:
        case [one]:
            return one
        case []:
            names = {path.name for path in folder.iterdir()}
            if data := sorted(name for name in names if ".data-" in name):
                index = data[0].partition(".data-")[0] + ".index"
                raise CheckpointError(f"{folder} holds {data[0]} without {index}, which says where each tensor is. Fetch that file too.")
            raise CheckpointError(
                f"There is no checkpoint in {folder}: expected bert_model.ckpt.index with its data files (TensorFlow),"
                f" {WEIGHTS} or {TORCH_WEIGHTS} (Hugging Face); it holds {', '.join(sorted(names)[:8]) or 'nothing'}."
                " Give the folder that the release was unpacked into."
            )
        case several:
            raise CheckpointError(
                f"There are {len(several)} checkpoints in {folder}: {', '.join(path.name for path in several)}."
                " Give the path of the one to open."
            )
