"""Results of a benchmark as a file that says what they depend on: machine, versions, commit, command."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.partition(": ")[2] for line in cpuinfo.read_text().split("\n") if line.startswith("model name")] if cpuinfo.exists() else []
    )
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    packages = ("keras", os.environ["KERAS_BACKEND"], "torch", "transformers", "tokenizers", "numpy")
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {names[0] if names else platform.processor()}, {platform.platform()}",
        "python": platform.python_version(),
        "versions": {package: installed(package) for package in packages},
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
    }


def record(path: Path, results: dict[str, Any]) -> None:
    """Write the results, and what they depend on, as JSON."""
    command = " ".join([f"KERAS_BACKEND={os.environ['KERAS_BACKEND']}", "python", *sys.orig_argv[1:]])
    text = json.dumps(environment() | {"command": command} | results, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
