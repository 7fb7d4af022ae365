"""What a run leaves to look at, also after it was killed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from bert4k.errors import CheckpointError
from bert4k.pretraining.journal import Journal, write_curves, write_table

ROWS = [{"step": step, "tokens": 100 * step, "诗/masked_loss": 1.0 / step} for step in (1, 2, 3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "log.jsonl"


def test_rows_are_lines(path: Path) -> None:
    journal = Journal(path)
    assert journal.rows == []
    for row in ROWS:
        journal.add(row)
    assert Journal(path).rows == journal.rows == ROWS
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == ROWS


@pytest.mark.parametrize("kept", range(1, 60))
def test_a_line_cut_anywhere_is_forgotten(path: Path, kept: int) -> None:
    for row in ROWS:
        Journal(path).add(row)
    content = path.read_bytes()
    last = content[:-1].rindex(b"\n") + 1
    path.write_bytes(content[: min(last + kept, len(content) - 2)])
    journal = Journal(path)
    assert journal.rows == ROWS[:2]
    journal.go_back_to(2)
    journal.add(ROWS[2])
    assert Journal(path).rows == ROWS


def test_going_back(path: Path) -> None:
    for row in ROWS:
        Journal(path).add(row)
    journal = Journal(path)
    journal.go_back_to(1)
    assert journal.rows == Journal(path).rows == ROWS[:1]
    Journal(path.with_name("other.jsonl")).go_back_to(0)
    assert not path.with_name("other.jsonl").exists()


def test_one_that_reads_writes_nothing(path: Path) -> None:
    Journal(path).add(ROWS[0])
    written = path.read_bytes()
    journal = Journal(path, reads=True)
    journal.add(ROWS[1])
    assert journal.rows == ROWS[:2]
    journal.go_back_to(0)
    assert journal.rows == [] and path.read_bytes() == written


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot write"):
        Journal(tmp_path / "file" / "log.jsonl").add(ROWS[0])
    if Path("/dev/full").exists():  # a device that is always full
        (tmp_path / "full.jsonl").symlink_to("/dev/full")
        journal = Journal(tmp_path / "none")
        journal.path = tmp_path / "full.jsonl"
        with pytest.raises(CheckpointError, match="No space left on device"):
            journal.add(ROWS[0])


def test_a_table_has_every_column(tmp_path: Path) -> None:
    write_table([{"step": 1, "a": 2.5}, {"step": 2, "b": "x"}], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == [{"step": "1", "a": "2.5", "b": ""}, {"step": "2", "a": "", "b": "x"}]


def test_curves_are_a_picture_whatever_there_is_to_draw(tmp_path: Path) -> None:
    training = [{"step": step, "tokens": step, "loss": math.nan if step == 2 else 3.0, "masked_loss": 3.0} for step in range(4)]
    measured = [{"step": 0, "tokens": 0, "a/masked_accuracy": 0.5, "a/left_to_right_loss": 3.0, "b/pairs_loss": 2.0}]
    for number, (first, second) in enumerate([([], []), (training, []), (training, measured)]):
        write_curves(first, second, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
