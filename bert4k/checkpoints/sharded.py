"""`Sharded`: the two file habits of Hugging Face folders, one file of tensors or several that a list `*.index.json` names."""

import json
from abc import abstractmethod
from pathlib import Path, PurePosixPath

from bert4k.checkpoints.stored import Stored
from bert4k.errors import CheckpointError


class Sharded(Stored):
    """A file of tensors, or the shards listed by an `.index.json` beside them.

    Raises `CheckpointError` when a file is missing or damaged, or when the list and the shards disagree.
    """

    layout = "huggingface"

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.shapes = {}
        self._files: dict[str, Path] = {}
        if self.path.suffix == ".json":
            listed = read_weight_map(self.path)
            for shard in sorted(set(listed.values())):
                self._add(self.path.with_name(shard))
            for name, shard in listed.items():
                if name not in self._files or self._files[name].name != shard:
                    raise CheckpointError(
                        f"{self.path} says that {name} is in {shard}, which does not hold it. Fetch the shards of the same release."
                    )
        else:
            self._add(self.path)

    @abstractmethod
    def _add(self, file: Path) -> None:
        """Enter the tensors of one file into `shapes` and `_files`."""


def read_weight_map(index: Path) -> dict[str, str]:
    """Tensor name -> file name in the same folder, as the list of a sharded checkpoint tells."""
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except OSError as error:
        raise CheckpointError(f"Cannot open {index} ({error.strerror}). Give the folder that holds the checkpoint.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{index} has no readable weight_map ({error}). It must be the JSON that lists each tensor's file; fetch it again."
        ) from error
    if not isinstance(listed, dict):
        raise CheckpointError(
            f"The weight_map of {index} is a {type(listed).__name__}; expected an object from tensor to file name. Fetch it again."
        )
    for shard in listed.values():
        # Both kinds of separator on every system: a file from elsewhere must mean the same thing here.
        if not isinstance(shard, str) or PurePosixPath(shard.replace("\\", "/")).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(
                f"{index} names the shard {shard!r}; expected the name of a file in the same folder. Do not trust this checkpoint."
            )
    return listed


def no_file(file: Path, error: OSError) -> CheckpointError:
    """What to say of a file of a checkpoint that cannot be opened."""
    return CheckpointError(f"Cannot open {file} ({error.strerror or 'no such file'}). Put all files of the checkpoint into one folder.")
