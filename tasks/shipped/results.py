"""What every file of results says of itself: with which code, versions and machine its numbers were made, and when."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError

PACKAGES = ("bert4k", "keras", "tensorflow", "jax", "torch", "transformers", "numpy", "tokenizers", "jieba", "sacrebleu")


def provenance() -> dict[str, Any]:
    """Commit, command, versions, machine and time of day. "commit" ends with "+changes" when the checkout has uncommitted ones."""
    keras = sys.modules.get("keras")
    return {
        "commit": commit(Path(__file__).parent),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "python": platform.python_version(),
        "backend": keras.backend.backend() if keras else None,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }


def commit(folder: Path) -> str | None:
    """The commit of the checkout that `folder` lies in; None where there is none, or no git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def weights_digest(folder: Path) -> str:
    """The SHA-256 over the files of a checkpoint folder, names and contents: numbers of other weights are other numbers. What is only told
    about it (its card, curves, settings and these very results) does not count."""
    total = hashlib.sha256()
    told, found = {".md", ".csv", ".png", ".yaml"}, {"results.json", "recipes.json"}
    for path in sorted(each for each in folder.iterdir() if each.is_file() and each.suffix not in told and each.name not in found):
        with path.open("rb") as file:
            total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def keep(path: Path, about: dict[str, Any], name: str, numbers: dict[str, Any]) -> None:
    """Put `numbers` under `name` into the file of results at `path`, beside those that are there.

    `about` says what was measured; raises `DataError` when the file is about something else."""
    results = read(path, about) | {name: numbers}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(results, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The results in a file, or the beginning of new ones; raises `DataError` when they are about something else than `about`."""
    if not path.exists():
        return {"about": about}
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before = results["about"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Cannot go on with {path} ({error!r}). Expected results that this command wrote; give another --out.") from error
    changed = [key for key in before | about if before.get(key) != about.get(key)]
    if changed:
        what = "; ".join(f"{key} was {before.get(key)}, now {about.get(key)}" for key in changed)
        raise DataError(f"{path} has results of something else: {what}. Give another --out, or remove the file.")
    return results


def rounded(value: Any, digits: int = 4) -> Any:
    """`value` with every number in it cut to so many digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(each, digits) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(each, digits) for each in value]
    return round(value, digits) if isinstance(value, float) else value
