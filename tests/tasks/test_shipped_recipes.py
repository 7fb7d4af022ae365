"""The script that measures the recipes: how files are made ready, and a run of it on little data of our own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tiny_runs import checkpoint

from bert4k.tasks.shipped import recipes
from bert4k.tasks.shipped.recipes import ROWS
from bert4k.tasks.shipped.rows import Row, blocks, cells, held_out, sentences, some, two_files, without_place


def test_records_are_made_ready(tmp_path: Path) -> None:
    assert without_place("科0\tB-PER") == "科\tB-PER"
    assert without_place("") == ""
    assert cells("id||甲||乙\t丙||3", 1, 2, 3, between="||") == "甲\t乙 丙\t3"
    assert cells("1\t\ufeff甲\t乙", 1, 2) == "甲\t乙"
    with gzip.open(tmp_path / "a.gz", "wt", encoding="utf-8") as file:
        file.write("\ufeff1||甲||乙||5\r\n2||丙||丁||0\r\n")
    (tmp_path / "b").write_text("3||戊||己||2\n", encoding="utf-8")
    row = Row(
        "similarity", "spearman", two_files("a.gz", "b", lambda line: cells(line, 1, 2, 3, between="||")), 1, head="text\tpair\tlabel"
    )
    (train, dev), counts = row.prepare(tmp_path, tmp_path)
    assert train.read_text(encoding="utf-8") == "text\tpair\tlabel\n甲\t乙\t5\n丙\t丁\t0\n"
    assert dev.read_text(encoding="utf-8") == "text\tpair\tlabel\n戊\t己\t2\n"
    assert counts == (2, 1)


def test_sentences_are_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("王0\tB\n明1\tI\n\n天0\tO\n", encoding="utf-8")
    found, _ = sentences("a", "a", without_place)(tmp_path)
    assert found == blocks(["王\tB", "明\tI", "", "天\tO"]) == ["王\tB\n明\tI\n", "天\tO\n"]


def test_what_is_held_out_does_not_depend_on_the_order() -> None:
    records = [f"record {number % 50}" for number in range(100)]
    train, dev = held_out(records, 10)
    again = held_out(records[::-1], 10)
    assert set(dev) == set(again[1]) and len(dev) == len(set(dev)) == 10
    assert not set(train) & set(dev) and len(train) == 80
    kept, different = some(train, 30), train[:40]
    assert len(kept) == 30 and some(train, None) is train
    assert [each for each in different if each in set(some(different, 15))] == some(different, 15)  # in their order


def test_it_measures_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"{label}\t{text}" for label, text in zip("好坏" * 8, ["人书", "北京"] * 8, strict=True)]
    (tmp_path / "small.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    row = Row("classify", "accuracy", two_files("small.txt", "small.txt"), 6, {"longest": 16})
    model = checkpoint(tmp_path / "tiny")
    monkeypatch.setitem(ROWS, "small", row)
    out = tmp_path / "recipes.json"

    def measure(*flags: str) -> dict[str, object]:
        recipes.main([str(model), "--data", str(tmp_path), "--out", str(out), "--only", "small", *flags])
        return json.loads(out.read_text(encoding="utf-8"))["small"]

    found = measure("--seeds", "1", "--rate", "2e-2")
    assert found["checkpoint"]["mean"] == found["runs"][0]["accuracy"] == 100  # two texts, two labels
    assert [each["start"] for each in found["runs"]] == ["checkpoint", "scratch"]
    assert found["checkpoint"]["spread"] == 0 and (found["train"], found["dev"]) == (16, 16)
    assert found["runs"][0]["made"]["backend"]
    assert "| small | classify | 16; 16 | accuracy | 100.0 (100.0) |" in capsys.readouterr().out
    made: list[int] = []

    def run(row: Row, files: object, model: str, start: str, seed: int, rate: float, dtype: str) -> dict[str, object]:
        made.append(seed)
        return {"start": start, "seed": seed, "accuracy": 50.0, "epoch": 1, "seconds": 1.0, "made": {}}

    monkeypatch.setattr(recipes, "run", run)
    found = measure("--seeds", "1", "2", "--rate", "2e-2")
    assert made == [2, 2] and found["checkpoint"]["of_seeds"] == [100, 50] and found["checkpoint"]["mean"] == 75
    assert len(measure("--seeds", "1", "--rate", "1e-3")["runs"]) == 2  # made otherwise: anew
    assert made == [2, 2, 1, 1]
