"""The checkpoints of the catalogue on this machine: where they are, and how they get there when that is asked for.

A checkpoint stands in a folder of its name under $BERT4K_HOME (`~/.cache/bert4k`), put there by `download` or by hand.
Nothing is fetched unless `download` is called.
"""

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from bert4k.archives import unpack
from bert4k.errors import CheckpointError, ConfigError, did_you_mean
from bert4k.pretrained import catalogue, folder_of
from bert4k.progress import measured
from bert4k.transfer import check, fetch

_MEGABYTE = 1_000_000


def home() -> Path:
    """The folder of the checkpoints on this machine: $BERT4K_HOME, or ~/.cache/bert4k."""
    return Path(os.environ.get("BERT4K_HOME") or "~/.cache/bert4k").expanduser()


def local_copy(name: str) -> Path | None:
    """Where a checkpoint of the catalogue stands on this machine; None when it does not."""
    for folder in (folder_of(name), home() / name):
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    return None


def locate(name: str, download_it: bool = False) -> Path:
    """The folder of a checkpoint of the catalogue. Raises `CheckpointError`, which tells what to fetch, when it is not here."""
    found = local_copy(name)
    if found is None and not download_it:
        row = catalogue()[name]
        how = f"Run `bert4k download {name}`{_amount(row)}, or load it with download=True. By hand: fetch" if _is_direct(row) else "Fetch"
        raise CheckpointError(f"{name} is not on this machine. {how} {_wanted(row)} and put the files into {home() / name}.")
    return found or download(name)


def download(name: str, folder: str | Path | None = None) -> Path:
    """Fetch a checkpoint of the catalogue into `folder`, or into its place under `home`; returns the folder.

    The folder appears complete or not at all: what has come stands beside as `.NAME.partial` until then, and a transfer that was
    interrupted goes on from there. A second process waits for the first. A checkpoint that is there already is not fetched again.
    Hugging Face checkpoints come through `huggingface_hub` from $HF_ENDPOINT (https://huggingface.co).

    Raises `CheckpointError` when it cannot be fetched or is not what it should be, and `ConfigError` for a name that is not known.
    """
    rows = catalogue()
    if name not in rows:
        raise ConfigError(f"There is no checkpoint {name!r} in the catalogue.{did_you_mean(name, rows)} `bert4k list` shows them.")
    row, target = rows[name], Path(folder) if folder is not None else home() / name
    if (folder is None or not _is_direct(row)) and (found := local_copy(name)):
        return found
    if not _is_direct(row):
        raise CheckpointError(
            f"{name} cannot be fetched by a program: its publisher gives it away through a page. Fetch {_wanted(row)}"
            f" and put the files into {target}."
        )
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.with_name(f".{target.name}.lock")):
            if target.is_dir() and any(target.iterdir()):
                if folder is None:  # another process has fetched it meanwhile
                    return target
                raise CheckpointError(f"{target} exists and is not an empty folder; nothing was fetched. Choose a new folder.")
            partial.mkdir(exist_ok=True)
            complete = _from_hub(row, partial) if row["huggingface"] else _from_archive(row, partial)
            os.replace(complete, target)
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(
            f"Cannot write to {target.parent}: {error.strerror or error}. Choose a folder with space and write permission, by BERT4K_HOME."
        ) from error
    return target


def _from_archive(row: dict[str, Any], partial: Path) -> Path:
    """Fetch and unpack the archive of a row; returns the complete folder inside `partial`."""
    archive, complete = partial / Path(row["archive"]).name, partial / "complete"
    shutil.rmtree(complete, ignore_errors=True)
    if not archive.exists():  # whole from a run that was interrupted while it unpacked
        fetch(row["archive"], archive, row["sha256"])
    # Floating-point weights hardly shrink; without a known size, four times the archive leaves room for texts.
    limit = _bytes(row) * 11 // 10 or 4 * archive.stat().st_size + 64 * _MEGABYTE
    try:
        unpack(archive, complete, limit)
    except CheckpointError:
        shutil.rmtree(partial, ignore_errors=True)  # fetched anew next time
        raise
    return complete


def _from_hub(row: dict[str, Any], partial: Path) -> Path:
    """Fetch the files of a row from the Hugging Face hub; returns the complete folder inside `partial`."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ConfigError(f"Fetching from Hugging Face needs huggingface_hub ({error}). Run: pip install 'bert4k[hub]'.") from error
    complete = partial / "complete"
    endpoint = os.environ.get("HF_ENDPOINT") or None
    for file in row["files"]:
        try:
            # Without the user's token: all are public, and a mirror has no business with it.
            hf_hub_download(row["huggingface"], file["name"], local_dir=complete, endpoint=endpoint, token=False, tqdm_class=_Bar)
        except Exception as error:  # of several libraries, with no common root
            raise CheckpointError(
                f"{file['name']} of {row['huggingface']} cannot be fetched from {endpoint or 'https://huggingface.co'}:"
                f" {' '.join(str(error.__cause__ or error).split())[:300]} Set HF_ENDPOINT to a mirror if that address cannot be reached;"
                " the same command goes on where this one stopped."
            ) from error
        if file["sha256"]:
            check(complete / file["name"], file["sha256"], f"{file['name']} of {row['huggingface']}")
    shutil.rmtree(complete / ".cache", ignore_errors=True)  # the library's notes
    return complete


class _Bar:
    """Our progress bar behind the part of tqdm's interface that huggingface_hub uses."""

    def __init__(self, total: int | None = None, initial: int = 0, desc: str = "", **_: Any):
        self._bar = measured(total, f"fetching {desc}", in_bytes=True)
        self._advance = self._bar.__enter__()
        self._advance(initial)

    def update(self, amount: int = 1) -> None:
        self._advance(amount)

    def close(self) -> None:
        self._bar.__exit__(None, None, None)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _lock(file: Path) -> Any:
    """Held by one process at a time; the system releases it when that dies."""
    from filelock import FileLock

    return FileLock(file)


def _is_direct(row: dict[str, Any]) -> bool:
    """Whether a program can fetch it."""
    return bool(row["huggingface"] or row["archive"])


def _wanted(row: dict[str, Any]) -> str:
    """What to fetch by hand, and from where."""
    mirror = f" (or {row['mirror']})" if row["mirror"] else ""
    if row["huggingface"]:
        names = ", ".join(file["name"] for file in row["files"])
        return f"{names} from https://huggingface.co/{row['huggingface']}{mirror}"
    return f"the archive {row['archive'] or 'that is linked from ' + row['source']}{mirror}, unpack it,"


def _bytes(row: dict[str, Any]) -> int:
    """The sizes of the files together, as far as they are known; 0 when none is."""
    return sum(int(file["megabytes"] * _MEGABYTE) for file in row["files"] if file["megabytes"])


def _amount(row: dict[str, Any]) -> str:
    return f" ({_bytes(row) / _MEGABYTE:,.0f} MB)" if _bytes(row) else ""
