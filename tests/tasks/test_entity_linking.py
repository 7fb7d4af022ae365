"""`bert4k train entity_linking` from files to links, on a toy knowledge base in which the text says who is meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Thread
from typing import Any

import linking_toys
import pytest
from tiny_runs import checkpoint, run

QUICK = ["--tuning.epochs", "8", "--tuning.learning_rate", "0.02", "--tuning.tokens", "256", "--longest", "32", "--longest_pair", "32"]


def arguments(folder: Path, *more: str, name: str = "run") -> list[str]:
    model = folder / "model"
    kb, texts = linking_toys.write(folder) if not (folder / "kb.jsonl").exists() else (folder / "kb.jsonl", folder / "texts.jsonl")
    common = ["--run", str(folder / name), "--kb", str(kb), "--train", str(texts), "--dev", str(texts), *QUICK, *more]
    return ["train", "entity_linking", *common, "--model", str(model if model.exists() else checkpoint(model))]


def lines_of(told: str) -> list[Any]:
    return [json.loads(line) for line in told.split("\n") if line]


@pytest.mark.backends
def test_from_files_to_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import time
    t = time.time()
    found = json.loads(run(capsys, *arguments(tmp_path)))
    print(found, time.time() - t)
    assert False
