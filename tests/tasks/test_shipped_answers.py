"""The script that compares the systems: which questions, and a run of it on little data of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert4k.errors import DataError
from bert4k.tasks.shipped import answers
from bert4k.tasks.shipped.answers import SILENT, SYSTEMS, System, chosen, table


def write(folder: Path) -> Path:
    """Questions of two sources; of one of ten there is no answer."""
    for name, count in (("train_2", 40), ("dev_1", 10), ("dev_10", 10), ("test_1", 10), ("test_10", 10)):
        rows = []
        for at in range(count):
            place, some = ("北京", "南京")[at % 2], [] if at % 10 == 9 else [("北京", "南京")[at % 2]]
            passages = [{"passage": f"他在{place if some else '天上'}", "answer": some}]
            passages += [{"passage": "春风秋雨", "answer": []}] * (int(name.partition("_")[2]) - 1)
            row = {"id": f"{name[:3]}{at}", "source": "webqa" if at % 2 else "drcd", "question": "在哪？"}
            rows.append(row | {"passages": passages, "answers": some})
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def test_the_same_questions_whatever_their_passages(tmp_path: Path) -> None:
    write(tmp_path)
    one, ten = ([json.loads(line)["id"] for line in chosen(tmp_path / f"dev_{count}.jsonl", ["webqa"], 3)] for count in (1, 10))
    assert one == ten and len(one) == 3 and {int(name[3:]) % 2 for name in one} == {1}
    assert len(chosen(tmp_path / "dev_1.jsonl", ["webqa", "drcd"])) == 10
    with pytest.raises(DataError, match=r"Cannot read .*x\.jsonl"):
        chosen(tmp_path / "x.jsonl", ["webqa"])


def test_it_measures_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    how = {"reader": "dgcnn_characters", "units": 8, "rows": 8, "second_stage": 0, "longest": 16, "least_count": 1}
    monkeypatch.setitem(SYSTEMS, "small", System("dgcnn_qa", 2, how, {"learning_rate": 1e-2, "ema": 0.5}))
    out, folder = tmp_path / "answers.json", write(tmp_path)

    def measure(*flags: str) -> dict[str, Any]:
        answers.main(["wenbai", "--questions", str(folder), "--out", str(out), "--only", "small", "--sources", "webqa", "drcd", *flags])
        return json.loads(out.read_text(encoding="utf-8"))

    found = measure("--seeds", "1")
    told = capsys.readouterr().out
    [run] = found["small"]["runs"]
    assert found["about"]["questions"] == {"train_2": 40, "dev_1": 10, "dev_10": 10, "test_1": 10, "test_10": 10}
    for count in ("1", "10"):
        scores, silent = run["passages"][count], found[SILENT]["runs"][0]["passages"][count]
        assert scores["all"]["mean"] >= silent["all"]["mean"] == 10 and silent["unanswerable"]["exact"] == 100
        assert scores["questions_per_second"] > 0 and scores["answerable"]["questions"] == 9
    assert run["seed"] == 1 and run["training_seconds"] > 0 and run["made"]["backend"]
    assert f"| {SILENT} | 1 | 10.0 | 10.0 | 10.0 | 0.0 | 100.0 | - | - |" in told and "| small | 10 |" in told
    made: list[int] = []

    def again(system: System, place: Path, model: str, seed: int, dtype: str) -> dict[str, Any]:
        made.append(seed)
        return {**run, "seed": seed}

    monkeypatch.setattr(answers, "run", again)
    assert [each["seed"] for each in measure("--seeds", "1", "2")["small"]["runs"]] == [1, 2] and made == [2]
    assert len(measure("--seeds", "1", "--dtype", "mixed_bfloat16")["small"]["runs"]) == 1 and made == [2, 1]  # made otherwise: anew
    with pytest.raises(DataError, match="results of something else"):
        measure("--most", "5")


def test_the_table_has_means_of_the_seeds() -> None:
    def scores(value: float) -> dict[str, Any]:
        kinds = {kind: {"questions": 2, "exact": value, "f1": value, "mean": value} for kind in ("all", "answerable")}
        return {"questions_per_second": value, **kinds}

    runs = [{"passages": {"1": scores(value), "10": scores(value / 2)}, "training_seconds": 60.0} for value in (40.0, 50.0)]
    lines = table({"UniLM on the checkpoint": {"runs": runs}}).split("\n")
    assert lines[2] == "| UniLM on the checkpoint | 1 | 45.0 | 45.0 | 45.0 (40.0, 50.0) | 45.0 | - | 45.0 | 60 |"
    assert len(lines) == 4
