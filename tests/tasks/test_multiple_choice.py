"""`bert4k train multiple_choice` from questions to answers, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import checkpoint, run

from bert4k.errors import DataError
from bert4k.tasks import multiple_choice
from bert4k.tasks.multiple_choice import Example, encode, read, score


def write(path: Path) -> Path:
    """The right choice is the one that likes something; there are two or three choices, with and without context."""
    rows: list[dict[str, Any]] = []
    for index in range(24):
        wrong = ["坏讨", "厌书", "坏"][: 1 + index % 2]
        right = "好喜欢"[index % 3] + "书" * (index % 2)
        choices = [*wrong[: index % (len(wrong) + 1)], right, *wrong[index % (len(wrong) + 1) :]]
        answer = choices.index(right)
        rows.append({"question": "王明" + "在" * (index % 3), "choices": choices, "answer": right if index % 4 == 0 else answer})
        rows[-1] |= {"context": "小明在北京" * (1 + index % 2)} if index % 3 else {}
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def common(tmp_path: Path, train: Path) -> list[str]:
    how = ["--tuning.epochs", "10", "--tuning.learning_rate", "0.02", "--tuning.tokens", "192", "--longest", "32"]
    return [
        "--run",
        str(tmp_path / "run"),
        "--train",
        str(train),
        "--dev",
        str(train),
        "--model",
        str(checkpoint(tmp_path / "model")),
        *how,
    ]


def test_train_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, folder = write(tmp_path / "train.jsonl"), tmp_path / "run"
    found = json.loads(run(capsys, "train", "multiple_choice", *common(tmp_path, train), "--tuning.rdrop", "0.5"))
    assert found["accuracy"] > 0.9
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "settings.json", "metrics.jsonl", "curves.png", "report.md"}
    assert json.loads(run(capsys, "evaluate", str(folder), str(train), "--json"))["accuracy"] == found["accuracy"]
    assert "| 3 | 12 |" in (folder / "evaluation" / "train" / "report.md").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in train.read_text(encoding="utf-8").split("\n") if line]
    given = [json.dumps({name: value for name, value in row.items() if name != "answer"}) for row in rows]
    answers = [json.loads(line) for line in run(capsys, "predict", str(folder), *given).split("\n") if line]
    right = [row["answer"] in (each["answer"], each["text"]) for row, each in zip(rows, answers, strict=True)]
    assert np.mean(right) == pytest.approx(found["accuracy"])
    assert [len(each["probabilities"]) for each in answers] == [len(row["choices"]) for row in rows]
    assert all(sum(each["probabilities"]) == pytest.approx(1, abs=1e-3) for each in answers)
    command = [sys.executable, "-m", "bert4k", "predict", str(folder), *given]
    told = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert [json.loads(line)["answer"] for line in told.split("\n") if line] == [each["answer"] for each in answers]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "multiple_choice", *common(tmp_path, write(tmp_path / "train.jsonl")), "--tuning.epochs", "3"]
    calls, original = iter([None, KeyboardInterrupt, *[None] * 9]), score

    def killed(*given: Any) -> dict[str, float]:
        if error := next(calls):
            raise error
        return original(*given)

    monkeypatch.setattr(multiple_choice, "score", killed)
    run(capsys, *arguments, code=130)
    run(capsys, *arguments)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().split("\n") if line]
    assert [row["epoch"] for row in rows if "epoch" in row] == [1, 2, 3]


def test_how_a_choice_is_written(tmp_path: Path) -> None:
    from bert4k.tokenizers import Tokenizer

    tokenizer = Tokenizer.from_folder(checkpoint(tmp_path / "model"))
    given = encode([Example("的人", "书", ("好", "坏"), 0), Example("", "王", ("在", "小", "明"), 2)], tokenizer, 32)
    assert given.members == [range(2), range(2, 5)] and given.most == 3
    assert tokenizer.decode(given.texts.token_ids[1], keep_special=True).replace(" ", "") == "[CLS]的人[SEP]书坏[SEP]"
    assert tokenizer.decode(given.texts.token_ids[4], keep_special=True).replace(" ", "") == "[CLS]王[SEP]明[SEP]"


def test_scores() -> None:
    examples = [Example("", "a", ("b", "c"), 1), Example("", "a", ("b", "c"), 1)]
    assert score([np.array([0.2, 0.8]), np.array([0.9, 0.1])], examples) == {"accuracy": 0.5}


GOOD = '{"question": "a", "choices": ["b", "c"], "answer": 1}\n'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"question": "a", "choices": ["b"], "answer": 0}', r"line 2: the choices are \['b'\]; expected a list of two or more"),
        ('{"question": "a", "choices": "b c", "answer": 0}', "line 2: the choices are b c"),
        ('{"question": "a", "choices": ["b", ""], "answer": 0}', "line 2: the choices are"),
        ('{"question": "a", "choices": ["b", "c"], "answer": 2}', "line 2: the answer is 2; expected the number of a choice, from 0 to 1"),
        ('{"question": "a", "choices": ["b", "c"], "answer": -1}', "line 2: the answer is -1"),
        ('{"question": "a", "choices": ["b", "c"], "answer": "d"}', "line 2: the answer is 'd'"),
        ('{"question": "a", "choices": ["b", "b"], "answer": "b"}', "line 2: the answer is 'b'"),
        ('{"question": "a", "choices": ["b", "c"], "answer": true}', "line 2: the answer is True"),
        ('{"question": "a", "choices": ["b", "c"], "answer": null}', "line 2: there is no answer"),
        ('{"question": " ", "choices": ["b", "c"], "answer": 0}', "line 2: the question is ' '"),
        ('{"question": "a", "choices": ["b", "c"]}', "line 2: .* lacks answer"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + GOOD.replace("\n", "\r\n") + content, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read(path)


def test_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(GOOD + '{"passage": "x", "question": "a", "options": ["1", "0"], "answer": "0", "id": 7}\n', encoding="utf-8")
    assert read(path) == [Example("", "a", ("b", "c"), 1), Example("x", "a", ("1", "0"), 1)]


def test_a_question_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "settings.json").write_text('{"recipe": "multiple_choice"}')
    assert "Text 1 is '王明'; expected a JSON object" in run(capsys, "predict", str(tmp_path), "王明", code=2)
    one = '{"question": "a", "choices": ["b"]}'
    assert "Text 2: the choices are" in run(capsys, "predict", str(tmp_path), GOOD.strip(), one, code=2)
    assert "is not finished" in run(capsys, "predict", str(tmp_path), GOOD.strip(), code=2)
