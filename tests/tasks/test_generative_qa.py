"""`bert4k train generative_qa` from questions to answers, on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint, run

from bert4k.answering import Answer, Passage, Question, read_questions, vote
from bert4k.decoding import Generation
from bert4k.hub import load
from bert4k.pretraining.objectives import NOTHING
from bert4k.tasks.generative_qa import QA, Settings, answer_of, answers, batches, encode
from bert4k.tokenizers import Tokenizer

TOKENIZER = Tokenizer(TOKENS)
SETTINGS = Settings(run=Path(), train=[], dev=Path(), longest_answer=4, longest_question=6, longest=22)


def write(path: Path) -> Path:
    """Where, of a good one; bad passages hold nothing."""
    rows: list[dict[str, Any]] = []
    for name in "喜欢好":
        for place in ("北京", "小明"):
            rows.append({"question": f"{name}在的", "passages": [f"{name}在{place}", "讨厌坏书"], "answers": [place]})
        rows.append({"question": f"{name}在的", "passages": ["坏书", {"passage": f"讨厌{name}", "answer": ""}], "answers": []})
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_train_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev, folder = write(tmp_path / "dev.jsonl"), tmp_path / "run"
    model = str(checkpoint(tmp_path / "model", ("mlm",)))
    common = ["--run", str(folder), "--train", *[str(dev)] * 12, "--dev", str(dev), "--model", model, "--extractive"]
    common += ["--longest_answer", "4", "--longest_question", "8", "--longest", "40"]
    common += ["--tuning.tokens", "160", "--tuning.dropout", "0", "--tuning.epochs", "8", "--tuning.learning_rate", "0.02"]
    told = json.loads(run(capsys, "train", "generative_qa", *common))
    assert told["exact"] > 0.7 and told["f1"] >= told["exact"] and told["mean"] == pytest.approx((told["exact"] + told["f1"]) / 2)
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "settings.json", "metrics.jsonl", "report.md", "answers.jsonl"}
    scores = json.loads(run(capsys, "evaluate", str(folder), str(dev), "--json"))
    assert all(scores[name] == pytest.approx(told[name]) for name in ("exact", "f1", "mean"))
    rows = [json.loads(line) for line in (folder / "evaluation/dev/answers.jsonl").read_text(encoding="utf-8").split("\n") if line]
    asked = [json.loads(line) for line in dev.read_text(encoding="utf-8").split("\n")]
    given = [json.dumps({name: each[name] for name in ("question", "passages")}) for each in asked]
    found = [json.loads(line) for line in run(capsys, "predict", str(folder), *given).split("\n") if line]
    assert found == [{name: value for name, value in row.items() if name != "right"} for row in rows]
    qa = QA.load(folder)
    for row, question in list(zip(rows, read_questions(dev), strict=True))[:4]:  # alone, and in a batch
        alone = qa.answer(question.text, [passage.text for passage in question.passages])
        assert alone.text == row["answer"] and alone.score == pytest.approx(row["confidence"], abs=1e-3)
        assert question.passages[alone.passage].text[alone.start : alone.end] == alone.text


def test_rows() -> None:
    question = Question("在的", (Passage("王在北京书好欢人的好坏人书坏", ("北京",)), Passage("书")), ("北京",))
    rows = encode([question], TOKENIZER, SETTINGS)
    assert [row.source for row in rows] == ["王在北京书好欢人的好坏人[SEP]在的", "欢人的好坏人书坏[SEP]在的", "书[SEP]在的"]
    assert [[TOKENS[token] for token in row.answer] for row in rows] == [["北", "京"], [], []]
    example = batches(rows, TOKENIZER, SETTINGS).make(0, np.random.default_rng())
    assert "".join(TOKENS[token] for token in example.token_ids) == "[CLS]王在北京书好欢人的好坏人[SEP]在的[SEP]北京[SEP]"
    assert [TOKENS[token] for token in example.labels[example.labels != NOTHING]] == ["北", "京", "[SEP]"]
    assert example.segment_ids.tolist() == [0] * 17 + [1] * 3 and len(example.token_ids) <= SETTINGS.longest
    example = batches(rows, TOKENIZER, SETTINGS).make(2, np.random.default_rng())
    assert [TOKENS[token] for token in example.labels[example.labels != NOTHING]] == ["[SEP]"]


def test_what_is_too_long_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    question = Question("在" * 100, (Passage("王在北京书好", ("王在北京书",)),), ("王在北京书",))
    encode([question], TOKENIZER, replace(SETTINGS, longest=40), " of dev")
    told = capsys.readouterr().err
    assert "1 of 1 questions of dev are longer than 6 tokens" in told and "1 of 1 answers of dev are longer than 4 tokens" in told


def test_answers_are_what_was_written_as_it_stands_in_the_passage() -> None:
    written = Generation("a b", (), 0.0, tuple(np.log([0.5, 0.25, 0.75])), True)
    assert answer_of(written, "在Ａ-Ｂ") == ("Ａ-Ｂ", pytest.approx(0.5))
    assert answer_of(written, "在") == ("a b", pytest.approx(0.5))


@pytest.mark.backends
@pytest.mark.parametrize("extractive", [True, False])
def test_passages_vote_for_the_likeliest_of_what_they_may_write(tmp_path: Path, extractive: bool) -> None:
    """Against the network's own log-probabilities, token by token."""
    network, tokenizer = load(str(checkpoint(tmp_path / "model", ("mlm",))), "seq2seq", ("mlm",))
    settings = replace(SETTINGS, extractive=extractive)
    questions = [
        Question("在的", (Passage("王在北京"), Passage("书好欢人的好坏人"), Passage("小"))),
        Question("喜", (Passage("讨厌"), Passage("\x00"))),
    ]
    rows = encode(questions, tokenizer, settings)
    expected = []
    for row in rows:
        source, answer, probabilities = tokenizer.encode(row.source).ids.tolist(), list[int](), list[float]()
        while not answer or (answer[-1] != tokenizer.sep_id and len(answer) <= settings.longest_answer):
            ids = np.array([source + answer])
            segments = np.array([[0] * len(source) + [1] * len(answer)])
            logits = np.asarray(network.predict_on_batch({"token_ids": ids, "segment_ids": segments}), np.float64)[0, -1]
            known = "".join(TOKENS[token] for token in answer)
            may = [tokenizer.sep_id] if len(answer) == settings.longest_answer + 1 else [tokenizer.sep_id, *range(5, len(TOKENS))]
            if extractive:
                may = [token for token in may if token == tokenizer.sep_id or known + TOKENS[token] in row.text]
                may = may if len(answer) < settings.longest_answer + 1 else may[:1]
            answer.append(max(may, key=lambda token: logits[token]))
            probabilities.append(float(np.exp(logits[answer[-1]] - np.logaddexp.reduce(logits))))
        text = "".join(TOKENS[token] for token in answer if token != tokenizer.sep_id)
        expected.append((text, float(np.mean(probabilities))))
    found = answers(network, rows, tokenizer, settings, len(questions))
    for number, each in enumerate(found):
        right = vote(Answer(*told) for row, told in zip(rows, expected, strict=True) if row.question == number)
        assert each.text == right.text and each.confidence == pytest.approx(right.confidence, rel=1e-3)


def test_nothing_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "谁", "passage": "好", "answers": ["王"]}', encoding="utf-8")
    model = str(checkpoint(tmp_path / "model", ("mlm",)))
    common = ["--run", str(tmp_path / "run"), "--train", str(tmp_path / "a.jsonl"), "--dev", str(tmp_path / "a.jsonl"), "--model", model]
    assert "No passage to learn from holds an answer" in run(capsys, "train", "generative_qa", *common, code=2)
    write(tmp_path / "a.jsonl")
    assert "64 positions" in run(capsys, "train", "generative_qa", *common, code=2)
