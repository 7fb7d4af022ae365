"""`bert4k train classify` from files to answers, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import checkpoint, run

from bert4k.errors import DataError
from bert4k.tasks import classify
from bert4k.tasks.classify import read

GOOD, BAD = "好喜欢", "坏讨厌"


def write(path: Path, several: bool = False) -> Path:
    lines = ["label\ttext"]
    for index in range(24):
        words, at = GOOD if index % 2 else BAD, index // 2
        label = ("正面|短" if several else "正面") if index % 2 else "负面"
        lines.append(f"{label}\t{'的人' * (at % 5)}{words[at % 3]}{'书' * (at % 4)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("several", [pytest.param(False, marks=pytest.mark.slow), True])
def test_train_evaluate_and_predict(tmp_path: Path, several: bool, capsys: pytest.CaptureFixture[str]) -> None:
    train, folder = write(tmp_path / "train.tsv", several), tmp_path / "run"
    how = ["--tuning.epochs", "8", "--tuning.learning_rate", "0.02", "--tuning.tokens", "128", "--tuning.ema", "0.5", "--tuning.fgm", "0.1"]
    how += ["--several"] if several else ["--tuning.rdrop", "1"]
    common = ["--run", str(folder), "--train", str(train), "--dev", str(train), "--model", str(checkpoint(tmp_path / "model"))]
    told = run(capsys, "train", "classify", *common, *how)
    assert json.loads(told)["accuracy"] == 1.0
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "labels.json", "settings.json", "metrics.jsonl", "curves.png", "report.md"}
    assert ("confusion.png" in names) == (not several)
    assert json.loads(run(capsys, "evaluate", str(folder), str(train), "--json"))["micro_f1"] == 1.0
    answers = [json.loads(line) for line in run(capsys, "predict", str(folder), "喜", "坏坏").split("\n") if line]
    expected = [{"正面", "短"} if several else {"正面"}, {"负面"}]
    assert [set(each["labels"]) for each in answers] == expected
    if several:  # once, in a process that has trained nothing: there the file alone must tell what it is made of
        command = [sys.executable, "-m", "bert4k", "predict", str(folder), "喜", "坏坏"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
        assert [json.loads(line) for line in told.split("\n") if line] == answers
    assert "is finished" in run(capsys, "train", "classify", *common, *how, code=2)


@pytest.mark.parametrize("ema", [False, True])
def test_a_run_that_was_killed_goes_on(
    tmp_path: Path, ema: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, folder = write(tmp_path / "train.tsv"), tmp_path / "run"
    arguments = ["train", "classify", "--run", str(folder), "--train", str(train), "--dev", str(train), "--tuning.epochs", "4"]
    arguments += ["--model", str(checkpoint(tmp_path / "model")), *(["--tuning.ema", "0.5"] if ema else [])]
    calls = iter([None, None, KeyboardInterrupt, *[None] * 9])
    score = classify.score

    def killed(*given: Any) -> dict[str, float]:
        if error := next(calls):
            raise error
        return score(*given)

    monkeypatch.setattr(classify, "score", killed)
    run(capsys, *arguments, code=130)
    assert "was 4, now 5" in run(capsys, *arguments, "--tuning.epochs", "5", code=2)
    assert json.loads(run(capsys, *arguments))["run"] == str(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().split("\n") if line]
    # Under an average, the epoch whose judgement was cut short is not judged again.
    assert [row["epoch"] for row in rows if "epoch" in row] == ([1, 2, 4] if ema else [1, 2, 3, 4])
    assert not (folder / "backup").exists() and not (folder / "best.weights.h5").exists()


@pytest.mark.parametrize(
    ("content", "several", "known", "told"),
    [
        ("1\ta\n1\n", False, None, "line 2: found 1 columns"),
        ("1\t \n", False, None, "line 1: the text is ' '"),
        ("label\ttext\n\ta\n", False, None, "line 2: found 0 labels"),
        ("1\ta\n2\tb\n", False, ["1"], "line 2: the label '2' does not occur in training"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: str, several: bool, known: list[str] | None, told: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read(path, several, known)


def test_labels_and_pairs(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"labels": ["a", "b"], "text": "x", "text_b": "y"}\n{"labels": [], "text": "z"}\n', encoding="utf-8")
    assert [(each.text, each.labels) for each in read(path, True)] == [(("x", "y"), ("a", "b")), ("z", ())]


def test_runs_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no settings.json" in run(capsys, "predict", str(tmp_path), "好", code=2)
    (tmp_path / "settings.json").write_text('{"steps": 3}')
    assert "settings of another command" in run(capsys, "evaluate", str(tmp_path), "a.tsv", code=2)
    assert "There is no task 'clasify'. Did you mean 'classify'" in run(capsys, "train", "clasify", code=2)
    one = tmp_path / "one.tsv"
    one.write_text("1\ta\n", encoding="utf-8")
    common = ["--train", str(one), "--dev", str(one), "--model", "nowhere"]
    assert "have 1 labels" in run(capsys, "train", "classify", "--run", str(tmp_path / "run"), *common, code=2)
