"""`bert4k train dgcnn_qa` from questions to answers with their places, with every reader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import checkpoint, run

from bert4k.answering import question_of
from bert4k.errors import CheckpointError, DataError
from bert4k.hub import load
from bert4k.reading_comprehension.word_vectors import WordVectors
from bert4k.tasks.dgcnn_qa import QA, Settings, build, score


def write(path: Path) -> Path:
    """Who or where: the question decides; bad passages hold nothing."""
    rows = []
    for name in ("小明", "王明", "小王"):
        for place in ("北京", "书的", "京北"):
            passages = [f"{name}在{place}", "坏讨厌人"]
            rows.append({"question": "人", "passages": passages, "answers": [name]})
            rows.append({"question": "在", "passages": passages[::-1], "answers": [place]})
        rows.append({"question": "在", "passages": ["坏讨厌好", "讨厌坏"], "answers": []})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def arguments(folder: Path, reader: str, epochs: int, second_stage: int) -> list[str]:
    data = str(write(folder / "data.jsonl"))
    common = ["--run", str(folder / "run"), "--train", *[data] * 8, "--dev", data, "--reader", reader, "--units", "16", "--rows", "7"]
    common += ["--longest", "8", "--longest_question", "4", "--least_count", "1"]
    common += ["--tuning.epochs", str(epochs), "--second_stage", str(second_stage)]
    common += ["--tuning.learning_rate", "0.004", "--tuning.ema", "0.8", "--tuning.dropout", "0"]
    if reader in ("dgcnn_encoder", "joint"):
        common += ["--model", str(checkpoint(folder / "model"))]
        common += ["--frozen"] if reader == "dgcnn_encoder" else ["--tuning.learning_rate", "0.01", "--head_rate", "2"]
    if reader == "dgcnn_words":
        vectors = WordVectors(["北京", "小明"], np.eye(2, 3, dtype=np.float32)).save(folder / "words.bin")
        common += ["--vectors", str(vectors), "--overlap", "false"]
    return common


@pytest.mark.parametrize("reader", [pytest.param("dgcnn_characters", marks=pytest.mark.slow), "dgcnn_words", "dgcnn_encoder"])
def test_train_evaluate_and_predict(tmp_path: Path, reader: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    told = json.loads(run(capsys, "train", "dgcnn_qa", *arguments(tmp_path, reader, 4, 0)))
    assert told["mean"] > 0.7 and told["unanswerable"] > 0.6
    if reader == "dgcnn_encoder":
        one, other = (load(each)[0].get_weights() for each in (tmp_path / "model", folder / "network"))
        assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "labels.json", "settings.json", "metrics.jsonl", "curves.png", "report.md", "answers.jsonl"}
    assert not {"backup", "best.weights.h5"} & names
    scores = json.loads(run(capsys, "evaluate", str(folder), str(tmp_path / "data.jsonl"), "--json"))
    assert all(scores[name] == pytest.approx(told[name]) for name in ("exact", "f1", "mean")) and scores["questions_per_second"] > 0
    rows = [json.loads(line) for line in (folder / "evaluation/data/answers.jsonl").read_text(encoding="utf-8").split("\n") if line]
    asked = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text(encoding="utf-8").split("\n")]
    for row, question in zip(rows, asked, strict=True):
        if row["answer"]:
            assert question["passages"][row["passage"]][row["start"] : row["end"]] == row["answer"]
    # As many as they are or one by one; padded by longer ones or not.
    (tmp_path / "words.bin").unlink(missing_ok=True)  # the run has its own
    qa = QA.load(folder)
    assert qa.representation.overlap is (reader != "dgcnn_words")
    questions = [question_of(each, "") for each in asked]
    for question, row in zip(questions[:4], rows, strict=False):
        alone = qa.answer(question.text, [each.text for each in question.passages])
        assert (alone.text, alone.passage) == (row["answer"], row.get("passage", -1)) and alone.score == pytest.approx(
            row["score"], abs=1e-3
        )
    (tmp_path / "passages.txt").write_text("\n".join(asked[0]["passages"]), encoding="utf-8")
    given = ("--question", asked[0]["question"], "--passages", str(tmp_path / "passages.txt"))
    found = json.loads(run(capsys, "predict", str(folder), *given))
    assert found == {name: value for name, value in rows[0].items() if name != "right"}


def test_going_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed between the stages, the run goes on to the numbers of one that was not."""
    from bert4k import finetuning

    calls, fit = [], finetuning.fit

    def watched(*given: Any, **how: Any) -> dict[str, float]:
        calls.append(given)
        if len(calls) == 2:  # as it would be left now
            shutil.copytree(tmp_path / "run", tmp_path / "killed")
        return fit(*given, **how)

    common = arguments(tmp_path, "joint", 2, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "fit", watched)
        whole = json.loads(run(capsys, "train", "dgcnn_qa", *common))
    again = json.loads(run(capsys, "train", "dgcnn_qa", *common, "--run", str(tmp_path / "killed")))
    assert not {"backup", "best.weights.h5"} & {path.name for path in (tmp_path / "killed/second_stage").iterdir()}
    assert again | {"run": ""} == whole | {"run": ""}
    one, other = (QA.load(tmp_path / name) for name in ("run", "killed"))
    for mine, theirs in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(DataError, match="a question is ' '"):
        one.answer(" ", ["小明"])
    with pytest.raises(DataError, match="there is no passage"):
        one.answer("人", [])
    assert "Say what to predict" in run(capsys, "predict", str(tmp_path / "run"), "--question", "人", code=2)


def test_what_is_wrong_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="is no run"):
        QA.load(tmp_path)
    common = arguments(tmp_path, "dgcnn_characters", 1, 0)
    assert "--reader dgcnn_encoder" in run(capsys, "train", "dgcnn_qa", *common, "--frozen", code=2)
    (tmp_path / "data.jsonl").write_text('{"question": "谁", "passage": "好", "answers": ["王"]}', encoding="utf-8")
    assert "No passage to learn from holds an answer" in run(capsys, "train", "dgcnn_qa", *common, code=2)
    common = arguments(tmp_path, "joint", 1, 0)
    assert "has 64 positions" in run(capsys, "train", "dgcnn_qa", *common, "--longest_question", "60", code=2)


def test_a_checkpoint_reads_as_much_at_once_as_it_can(tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": str(checkpoint(tmp_path / "model")), "longest_question": 10, "longest": 256}
    for reader, room in (("joint", 64 - 13), ("dgcnn_encoder", 62)):
        assert build(Settings(run=tmp_path, train=[], dev=tmp_path, reader=reader, **how))[2].longest == room


def test_scores_of_both_kinds_of_questions() -> None:
    from bert4k.answering import Evidence

    questions = [question_of({"question": "谁", "passages": ["王明"], "answers": answers}, "") for answers in (["王明"], [], [])]
    found = [Evidence("王", 0.5, 0, 0, 1), Evidence("王", 0.5, 0, 0, 1), Evidence("", 0.0)]
    scores = score(found, questions)
    assert scores["exact"] == pytest.approx(1 / 3) and scores["answerable"] == pytest.approx(2 / 3) and scores["unanswerable"] == 0.5
    assert set(score(found[:1], questions[:1])) == {"exact", "f1", "mean"}
