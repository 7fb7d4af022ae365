"""`bert4k train mlm_qa` from questions to answers, on a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint, run

from bert4k.answering import Passage, Question, read_questions
from bert4k.pretraining.objectives import NOTHING
from bert4k.tasks.mlm_qa import QA, Settings, batches, encode, extracted, written
from bert4k.tokenizers import Tokenizer

TOKENIZER = Tokenizer(TOKENS)
SETTINGS = Settings(run=Path(), train=[], dev=Path(), places=4, longest_question=8, longest=20)


def write(path: Path) -> Path:
    rows = []
    for name in "喜欢好":
        for place in ("北京", "小明"):
            rows.append({"question": f"{name}在的", "passages": [f"{name}在{place}", "讨厌坏书"], "answers": [place]})
        rows.append({"question": f"{name}在的", "passages": ["坏书", {"passage": f"讨厌{name}", "answer": ""}], "answers": []})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("extractive", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_train_evaluate_and_predict(tmp_path: Path, extractive: bool, capsys: pytest.CaptureFixture[str]) -> None:
    dev, folder = write(tmp_path / "dev.jsonl"), tmp_path / "run"
    common = [
        "--run",
        str(folder),
        "--train",
        *[str(dev)] * 12,
        "--dev",
        str(dev),
        "--model",
        str(checkpoint(tmp_path / "model", ("mlm",))),
    ]
    how = ["--places", "4", "--longest_question", "8", "--longest", "40", "--tuning.tokens", "160", "--tuning.dropout", "0"]
    how += ["--tuning.epochs", "15", "--tuning.learning_rate", "0.02", *(["--extractive"] if extractive else [])]
    told = json.loads(run(capsys, "train", "mlm_qa", *common, *how))
    assert told["exact"] > 0.7 and told["f1"] >= told["exact"] and told["mean"] == pytest.approx((told["exact"] + told["f1"]) / 2)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "settings.json", "metrics.jsonl", "curves.png", "report.md", "answers.jsonl"}
    scores = json.loads(run(capsys, "evaluate", str(folder), str(dev), "--json"))
    assert all(scores[name] == pytest.approx(told[name]) for name in ("exact", "f1", "mean"))
    rows = [json.loads(line) for line in (folder / "evaluation/dev/answers.jsonl").read_text(encoding="utf-8").split("\n") if line]
    asked = [json.loads(line) for line in dev.read_text(encoding="utf-8").split("\n")]
    given = [json.dumps({name: each[name] for name in ("question", "passages")}) for each in asked]
    command = [sys.executable, "-m", "bert4k", "predict", str(folder), "-"]  # in a process that has trained nothing
    told_there = subprocess.run(command, input="\n".join(given), capture_output=True, text=True, check=True, encoding="utf-8").stdout
    answers = [json.loads(line) for line in told_there.split("\n") if line]
    assert [each["answer"] for each in answers] == [each["answer"] for each in rows]
    assert "question 1: found no tab" in run(capsys, "predict", str(folder), "王明在的", code=2)
    qa = QA.load(folder)
    if extractive:  # whatever it says stands somewhere
        for row, question in zip(rows, read_questions(dev), strict=True):
            found = qa.answer(question.text, [passage.text for passage in question.passages])
            assert (found.text, round(found.score, 4)) == (row["answer"], row["confidence"])
            assert not found.text or question.passages[found.passage].text[found.start : found.end] == found.text
            assert found.text or found.passage == -1
        if find_spec("tantivy"):
            (tmp_path / "texts").mkdir()
            (tmp_path / "texts" / "a.txt").write_text("喜在北京", encoding="utf-8")
            assert run(capsys, "ask", str(tmp_path / "texts"), "喜在的", "--run", str(folder)).endswith("a.txt, line 1\n  喜在【北京】\n")


def test_rows() -> None:
    question = Question("在的", (Passage("王在北京书好欢人的好坏人", ("北京",)), Passage("书")), ("北京",))
    rows = encode([question], TOKENIZER, SETTINGS)
    texts = ["".join(TOKENS[token] for token in row.token_ids) for row in rows]
    front = f"[CLS]{'[MASK]' * 4}[SEP]在的[SEP]"
    assert texts == [f"{front}{part}[SEP]" for part in ("王在北京书好欢人的好", "好欢人的好坏人", "书")]
    assert [[TOKENS[token] for token in row.answer] for row in rows] == [["北", "京", "[SEP]"], ["[SEP]"], ["[SEP]"]]
    example = batches(rows, TOKENIZER, SETTINGS).make(0, np.random.default_rng())
    assert np.flatnonzero(example.labels != NOTHING).tolist() == [1, 2, 3] and not example.segment_ids.any()
    with_begin = [row.token_ids[row.begin] for row in rows]
    assert [TOKENS[token] for token in with_begin] == ["王", "好", "书"]


def test_what_is_too_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    encode(
        [Question("在" * 100, (Passage("王在北京书好", ("王在北京书",)),), ("王在北京书",))],
        TOKENIZER,
        replace(SETTINGS, longest=40),
        " of dev",
    )
    told = capsys.readouterr().err
    assert "1 of 1 questions of dev are longer than 8 tokens" in told and "1 of 1 answers of dev are longer than 3 tokens" in told


def test_what_is_read_from_the_places() -> None:
    log_probs = np.full((4, len(TOKENS)), -9.0)
    sep, chosen = TOKENIZER.sep_id, [TOKENS.index(char) for char in "北京"]
    for place, token in enumerate([*chosen, sep, chosen[0]]):
        log_probs[place, token] = np.log(0.5)
    assert written(log_probs, TOKENIZER) == ("北京", pytest.approx(0.5))
    log_probs[2, chosen[1]] = -0.1
    assert len(written(log_probs, TOKENIZER).text.replace(" ", "")) == 4  # no end: all places


@pytest.mark.parametrize("seed", range(30))
def test_what_stands_in_a_passage_is_found_by_trying_all_of_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    size, places = int(random.integers(1, 9)), int(random.integers(2, 6))
    text = "".join(TOKENS[token] for token in random.integers(5, len(TOKENS), size))
    settings = Settings(run=Path(), train=[], dev=Path(), places=places, longest=40)
    [piece] = encode([Question("王", (Passage(text),))], TOKENIZER, settings)
    logits = random.normal(size=(places, len(TOKENS))) * 2
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    found = {"": ([log_probs[0, TOKENIZER.sep_id]])}
    for begin in range(size):
        for end in range(begin + 1, min(size, begin + places - 1) + 1):
            told = [log_probs[at, TOKENS.index(char)] for at, char in enumerate(text[begin:end])]
            found[text[begin:end]] = [*told, log_probs[end - begin, TOKENIZER.sep_id]]
    best = max(found, key=lambda each: sum(found[each]))
    assert extracted(log_probs, piece, TOKENIZER) == (best, pytest.approx(np.exp(found[best]).mean()))


def test_nothing_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "谁", "passage": "好", "answers": ["王"]}', encoding="utf-8")
    model = str(checkpoint(tmp_path / "model", ("mlm",)))
    common = ["--run", str(tmp_path / "run"), "--train", str(tmp_path / "a.jsonl"), "--dev", str(tmp_path / "a.jsonl"), "--model", model]
    assert "No passage to learn from holds an answer" in run(capsys, "train", "mlm_qa", *common, code=2)
    write(tmp_path / "a.jsonl")
    assert "64 positions" in run(capsys, "train", "mlm_qa", *common, code=2)
