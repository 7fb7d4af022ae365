"""`bert4k train ner` from files to places in raw text, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_runs import checkpoint, run

from bert4k.errors import DataError
from bert4k.tasks.ner import of_tokens, read, spans


def write(path: Path) -> Path:
    lines = []
    for index in range(16):
        sentence = [("的", "O")] * (index % 3) + [("王", "B-PER"), ("明", "I-PER")] + [("在", "O")] * (1 + index % 2)
        lines += [f"{char} {tag}" for char, tag in [*sentence, ("北", "B-LOC"), ("京", "I-LOC"), ("书", "O")]] + [""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("head", ["crf", pytest.param("global_pointer", marks=pytest.mark.slow)])
def test_train_evaluate_and_predict(tmp_path: Path, head: str, capsys: pytest.CaptureFixture[str]) -> None:
    train, folder = write(tmp_path / "train.txt"), tmp_path / "run"
    common = ["--run", str(folder), "--train", str(train), "--dev", str(train), "--model", str(checkpoint(tmp_path / "model"))]
    how = ["--head", head, "--tuning.epochs", "12", "--tuning.learning_rate", "0.02", "--tuning.tokens", "64"]
    assert json.loads(run(capsys, "train", "ner", *common, *how))["f1"] == 1.0
    assert json.loads(run(capsys, "evaluate", str(folder), str(train), "--json"))["f1"] == 1.0
    [answer] = [json.loads(line) for line in run(capsys, "predict", str(folder), " 王明 在北京书").split("\n") if line]
    entities = {(each["start"], each["end"], each["label"]) for each in answer["entities"]}
    assert entities == {(1, 3, "PER"), (5, 7, "LOC")}
    assert {each["text"] for each in answer["entities"]} == {"王明", "北京"}
    assert "| PER | 100.00" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O O", []),
        ("B-A I-A O", [(0, 2, "A")]),
        ("I-A I-A B-A", [(0, 2, "A"), (2, 3, "A")]),
        ("B-A I-B", [(0, 1, "A"), (1, 2, "B")]),
        ("B-A M-A E-A S-A S-B", [(0, 3, "A"), (3, 4, "A"), (4, 5, "B")]),
        ("B-A E-A E-A", [(0, 2, "A"), (2, 3, "A")]),
    ],
)
def test_tags(tags: str, entities: list) -> None:
    assert spans(tags.split()) == entities


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": "王小明在北京", "entities": [{"start": 4, "end": 6, "label": "LOC"}, {"start": 0, "end": 3, "label": "PER"}]},
        {"text": "王小明", "label": {"PER": {"王小明": [[0, 2]], "小明": [[1, 2]]}}},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert [each.entities for each in read(path)] == [((0, 3, "PER"), (4, 6, "LOC")), ((0, 3, "PER"), (1, 3, "PER"))]


def test_entities_in_tokens() -> None:
    offsets = [(0, 0), (0, 1), (1, 4), (4, 5), (0, 0)]
    assert of_tokens([(0, 1, "A"), (0, 4, "B"), (1, 3, "C"), (4, 5, "D"), (5, 6, "E")], offsets) == [(1, 2, "A"), (1, 3, "B"), (3, 4, "D")]


@pytest.mark.parametrize(
    ("name", "content", "known", "told"),
    [
        ("a.txt", "京 B-LOC\n北京 I-LOC\n", None, "line 2: found '北京 I-LOC'"),
        ("a.txt", "京 LOC\n", None, "line 1: found"),
        ("a.txt", "\n\n", None, "holds no example"),
        ("a.txt", "的 O\n\n京 B-LOC\n", ["PER"], "line 3: the kind 'LOC' does not occur"),
        (
            "a.jsonl",
            '{"text": "王", "entities": [{"start": 0, "end": 2, "label": "PER"}]}',
            None,
            "line 1: 0 to 2 is no place in a text of 1",
        ),
        ("a.jsonl", '{"text": "王"}', None, "line 1: .* is not as expected"),
        ("a.jsonl", '{"text": ', None, "line 1: .* is not as expected"),
    ],
)
def test_what_is_wrong(tmp_path: Path, name: str, content: str, known: list[str] | None, told: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read(path, known)


def test_overlapping_entities_need_spans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "王小明", "label": {"PER": {"王小明": [[0, 2]], "小明": [[1, 2]]}}}', encoding="utf-8")
    common = ["--run", str(tmp_path / "run"), "--train", str(path), "--dev", str(path), "--model", str(checkpoint(tmp_path / "model"))]
    assert "Use --head global_pointer" in run(capsys, "train", "ner", *common, code=2)
