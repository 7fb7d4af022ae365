"""The script that measures the recipes: how files are made ready, and a run of it on little data of our own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bert4k.tasks.shipped import recipes
from bert4k.tasks.shipped.recipes import ROWS, Row, as_they_are, changed, three_columns, without_place


def test_lines_are_made_ready(tmp_path: Path) -> None:
    assert without_place("科0\tB-PER") == "科\tB-PER"
    assert without_place("") == ""
    assert three_columns("id||甲||乙\t丙||3") == "甲\t乙 丙\t3"
    with gzip.open(tmp_path / "a.gz", "wt", encoding="utf-8") as file:
        file.write("﻿1||甲||乙||5\r\n2||丙||丁||0\r\n")
    (tmp_path / "b").write_text("3||戊||己||2\n", encoding="utf-8")
    train, dev = changed("a.gz", "b", three_columns, "text\tpair\tlabel", ".tsv")(tmp_path, tmp_path)
    assert train.read_text(encoding="utf-8") == "text\tpair\tlabel\n甲\t乙\t5\n丙\t丁\t0\n"
    assert dev.read_text(encoding="utf-8") == "text\tpair\tlabel\n戊\t己\t2\n"


def test_it_measures_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{label}\t{text}" for label, text in zip("好坏" * 8, ["春风", "秋雨"] * 8, strict=True)]
    (tmp_path / "small.tsv").write_text("label\ttext\n" + "\n".join(rows) + "\n", encoding="utf-8")
    monkeypatch.setitem(ROWS, "small", Row("classify", "accuracy", as_they_are("small.tsv", "small.tsv"), 8, {"longest": 16}))
    out = tmp_path / "recipes.json"
    recipes.main(["wenbai", "--data", str(tmp_path), "--out", str(out), "--only", "small", "--seeds", "1", "--rate", "2e-3"])
    found = json.loads(out.read_text(encoding="utf-8"))["small"]
    assert found["checkpoint"]["mean"] == found["runs"][0]["accuracy"] == 100  # two texts, two labels
    assert [each["start"] for each in found["runs"]] == ["checkpoint", "scratch"]
    assert found["checkpoint"]["spread"] == 0
    assert found["made"]["backend"]
    assert "| small | classify | accuracy | 100.0 ± 0.0 |" in capsys.readouterr().out
