"""`bert4k train relation_extraction` from files to triples with their places in raw text, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import checkpoint, run

from bert4k.errors import DataError
from bert4k.scores import overlap
from bert4k.tasks import relation_extraction
from bert4k.tasks.relation_extraction import Example, Found, Triple, links, locate, read, score


def write(path: Path) -> Path:
    """王明在北京: he lives there; 小王喜欢书: he likes it. Some texts say both, one of a subject that is also an object, some nothing."""
    lives = [("王明", "住在", "北京"), ("小明", "住在", "北京")]
    likes = [("王明", "喜爱", "书"), ("小王", "喜爱", "王明")]
    rows = []
    for index in range(16):
        told = [lives[index // 2 % 2]] if index % 2 else []
        told += [likes[index // 4 % 2]] if index % 3 else []
        text = "的" * (index % 3) + "人".join(f"{a}{'在' if p == '住在' else '喜欢'}{b}" for a, p, b in told) + "坏讨" * (index % 2)
        rows.append({"text": text or "的人", "triples": [dict(zip(Triple._fields, each, strict=True)) for each in told]})
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def common(tmp_path: Path, train: Path) -> list[str]:
    how = ["--tuning.epochs", "12", "--tuning.learning_rate", "0.02", "--tuning.tokens", "64", "--longest", "32", "--head_size", "16"]
    how += ["--tuning.dropout", "0", "--tuning.network_dropout", "0"]
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
    found = json.loads(run(capsys, "train", "relation_extraction", *common(tmp_path, train)))
    assert found["f1"] > 0.6
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "labels.json", "settings.json", "metrics.jsonl", "curves.png", "report.md"}
    assert json.loads(run(capsys, "evaluate", str(folder), str(train), "--json"))["f1"] == found["f1"]
    assert "| 住在 |" in (folder / "evaluation" / "train" / "report.md").read_text(encoding="utf-8")
    # In a process that has trained nothing: the same triples, and where they stand in texts with spaces before them.
    examples = read(train)
    command = [sys.executable, "-m", "bert4k", "predict", str(folder), *(f" {example.text}" for example in examples)]
    told = subprocess.run(command, capture_output=True, check=True).stdout.decode("utf-8")
    answers = [json.loads(line) for line in told.split("\n") if line]
    for answer in answers:
        for triple in answer["triples"]:
            for part in (triple["subject"], triple["object"]):
                assert answer["text"][part["start"] : part["end"]] == part["text"] != ""
    as_texts = [[tuple(t[k] if k == "predicate" else t[k]["text"] for k in Triple._fields) for t in each["triples"]] for each in answers]
    assert overlap(as_texts, [example.triples for example in examples]).f1 == pytest.approx(found["f1"])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "relation_extraction", *common(tmp_path, write(tmp_path / "train.jsonl")), "--tuning.epochs", "3"]
    calls, original = iter([None, KeyboardInterrupt, *[None] * 9]), score

    def killed(*given: Any) -> dict[str, float]:
        if error := next(calls):
            raise error
        return original(*given)

    monkeypatch.setattr(relation_extraction, "score", killed)
    run(capsys, *arguments, code=130)
    run(capsys, *arguments)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().split("\n") if line]
    assert [row["epoch"] for row in rows if "epoch" in row] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "subject", "object", "expected"),
    [
        ("王明在北京", "王明", "北京", ((0, 2), (3, 5))),
        ("王明和小明，小明在北京，王明在书", "小明", "北京", ((6, 8), (9, 11))),  # the nearest one
        ("北京大学在北京", "北京大学", "北京", ((0, 4), (5, 7))),  # rather apart than within
        ("北京大学", "北京大学", "北京", ((0, 4), (0, 2))),
        ("aaa", "aa", "a", ((0, 2), (2, 3))),
        ("王明", "王明", "书", None),
        ("a.c", "abc", "a", None),  # no pattern
    ],
)
def test_where_a_triple_stands(text: str, subject: str, object: str, expected: Any) -> None:
    found = locate(text, Triple(subject, "p", object))
    assert found == (None if expected is None else Found(expected[0], "p", expected[1]))
    assert found is None or found.of(text) == (subject, "p", object)


def test_a_text_of_the_same_thing_many_times_takes_no_time() -> None:
    assert locate("的人" * 50_000, Triple("的", "p", "人")) == Found((0, 1), "p", (1, 2))


def test_what_is_not_in_the_text_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [Example("王明在Beijing", (Triple("王明", "p", "书"), Triple("王明", "p", "Bei"), Triple("王明", "q", "Beijing")))]
    places = [[(0, 0), (0, 1), (1, 2), (2, 3), (3, 10), (0, 0)]]
    assert links(examples, places, ["p", "q"]) == [[((1, 3), 1, (4, 5))]]
    told = capsys.readouterr().err
    assert "1 triples have a subject or an object that does not stand in their text" in told
    assert "1 triples begin or end within a token" in told


def test_scores() -> None:
    """Wrong in one text, missing in the other; what is found twice counts once."""
    examples = [Example("王明在北京", (Triple("王明", "p", "北京"),)), Example("ab", (Triple("a", "p", "b"), Triple("a", "p", "z")))]
    told = [[Found((0, 2), "p", (3, 5)), Found((0, 2), "p", (3, 5)), Found((0, 1), "p", (3, 5))], []]
    assert score(told, examples) == {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.4)}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"text": "a", "triples": [{"subject": "a", "predicate": "p"}]}', "line 2: found the triple .* expected texts as subject"),
        ('{"text": "a", "triples": [{"subject": "a", "predicate": "p", "object": ""}]}', "line 2: found the triple"),
        ('{"text": "a", "triples": ["a"]}', "line 2: found the triple a"),
        ('{"text": "a", "triples": {"subject": "a"}}', "line 2: triples is .* expected a list"),
        ('{"text": " ", "triples": []}', "line 2: the text is ' '"),
        ('{"text": "a"}', "line 2: .* lacks triples"),
        ('{"text": "a", "triples": [{"subject": "a", "predicate": "q", "object": "a"}]}', "line 2: the predicate 'q' does not occur"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "a.jsonl"
    good = '{"text": "a", "spo_list": [{"subject": "a", "predicate": "p", "object": {"@value": "b", "inWork": "c"}}]}\r\n'
    path.write_text(f"\ufeff{good}", encoding="utf-8")
    assert read(path, ["p"]) == [Example("a", (Triple("a", "p", "b"),))]
    path.write_text(f"\ufeff{good}{content}", encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read(path, ["p"])


def test_nothing_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "王明", "triples": [{"subject": "王明", "predicate": "p", "object": "书"}]}\n', encoding="utf-8")
    told = run(capsys, "train", "relation_extraction", *common(tmp_path, path), code=2)
    assert "1 training examples hold no triple that stands in its text" in told
