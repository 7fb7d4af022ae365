"""`bert4k train language_model` from a text to its continuations, on a tiny model."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint, run

from bert4k.errors import ConfigError, DataError
from bert4k.tasks import language_model
from bert4k.tasks.language_model import Corpus, encode, prompts_of, read, split
from bert4k.tokenizers import Tokenizer

LINES = ["王小明在北京", "人喜欢好书", "人讨厌坏书", "小王的书好"]
TEXT = "\n".join(LINES * 5) + "\n\n"


def arguments(tmp_path: Path, *how: str) -> list[str]:
    (tmp_path / "train.txt").write_text(TEXT * 6, encoding="utf-8")
    if not (tmp_path / "model").exists():
        checkpoint(tmp_path / "model", ("mlm",))
    common = ["--run", str(tmp_path / "run"), "--train", str(tmp_path / "train.txt"), "--model", str(tmp_path / "model"), "--longest", "48"]
    return ["train", "language_model", *common, "--sampling.max_tokens", "12", "--copied", "3", "--tuning.tokens", "192", *how]


def test_train_evaluate_and_predict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    how = ["--tuning.epochs", "9", "--tuning.learning_rate", "0.02", "--share", "0.2", "--sampling.top_p", "0.5"]
    told = json.loads(run(capsys, *arguments(tmp_path, *how)))
    assert told["perplexity"] < 2 and told["copied"] > 0.3 and told["copied_by_held_out"] == 1
    assert told["perplexity_before"] > 10  # of a random model
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "settings.json", "metrics.jsonl", "curves.png", "report.md", "samples"}
    assert "| learnt | 5 | " in (folder / "report.md").read_text(encoding="utf-8")
    (tmp_path / "other.txt").write_text(TEXT, encoding="utf-8")
    scores = json.loads(run(capsys, "evaluate", str(folder), str(tmp_path / "other.txt"), "--json"))
    assert scores["perplexity"] == pytest.approx(told["perplexity"], rel=1e-4)  # the documents are all alike
    answers = [json.loads(line) for line in run(capsys, "predict", str(folder), "王小明在", "人讨").split("\n") if line]
    assert [each["text"] for each in answers] == ["王小明在", "人讨"]
    assert answers[0]["continuation"].replace(" ", "").startswith("北京") and answers[1]["continuation"]
    command = [sys.executable, "-m", "bert4k", "predict", str(folder), "王小明在", "人讨"]  # in a process that has trained nothing
    told_there = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert [json.loads(line) for line in told_there.split("\n") if line] == answers
    alone = ["generate", str(folder / "network"), "人讨", "--mask", "lm", "--sample", "--temperature", "0.9", "--top-p", "0.5"]
    alone += ["--seed", "1", "--max-tokens", "12", "--json"]
    assert json.loads(run(capsys, *alone))["text"] == answers[1]["continuation"]
    assert "no run of" in run(capsys, "predict", str(folder / "network"), "王", code=2)


def test_a_model_that_only_copies_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where held-out text is told worse from epoch to epoch, patience ends the training; killed or not, with the same numbers."""
    (tmp_path / "dev.txt").write_text("坏京坏京明欢\n" * 9, encoding="utf-8")
    how = ["--tuning.epochs", "8", "--tuning.patience", "1", "--dev", str(tmp_path / "dev.txt"), "--tuning.learning_rate", "0.02"]
    first = json.loads(run(capsys, *arguments(tmp_path, *how)))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n")[:-1]]
    losses = [row["dev_loss"] for row in rows if "epoch" in row]
    assert len(losses) < 8 and first["epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 1
    assert first["dev_loss"] == pytest.approx(min(losses), rel=1e-4)
    (tmp_path / "run").rename(tmp_path / "whole")

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # between the last epoch and the end
        patch.setattr(language_model, "report", killed)
        run(capsys, *arguments(tmp_path, *how), code=130)
    assert json.loads(run(capsys, *arguments(tmp_path, *how))) | {"run": 0} == pytest.approx(first | {"run": 0}, rel=1e-4)
    again = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n")[:-1]]
    assert len(again) == len(rows)


def test_held_out_documents() -> None:
    documents = [["a" * size] for size in (10, 10, 10, 50, 20)]
    learn, out = split(documents, 0.2, 1)
    assert sorted(learn + out) == sorted(documents) and out
    assert (learn, out) == split(documents, 0.2, 1)
    assert len({str(split(documents, 0.2, seed)) for seed in range(9)}) > 1
    assert len(split([["a"]] * 100, 0.1, 1)[1]) == 10
    assert split([["a", "b", "c", "d"]], 0.25, 1) == ([["a", "b", "c"]], [["d"]])
    assert split([["a", "b"]], 0.9, 1) == ([["a"]], [["b"]])
    with pytest.raises(DataError, match="single line"):
        split([["a"]], 0.1, 1)
    with pytest.raises(ConfigError, match=r"--share is 1\.5"):
        split(documents, 1.5, 1)


def test_rows_hold_lines_of_one_document() -> None:
    rows = encode([["好书", "坏书", "人" * 9], ["王"]], Tokenizer(TOKENS), 7)
    texts = ["".join(TOKENS[token] for token in row.ids) for row in rows]
    assert texts == ["好书坏书", "人" * 5, "人" * 4, "王"]
    assert [row.ends for row in rows] == [False, False, True, True]


def test_what_is_copied() -> None:
    corpus = Corpus(encode([["好书坏书", "人王"], ["小明"]], Tokenizer(TOKENS), 6))
    [[row], [other], [apart]] = (
        [each.ids for each in encode([[text]], Tokenizer(TOKENS), 20)] for text in ("书坏书人", "好书书坏", "王小")
    )
    assert corpus.share_copied([row], 2) == 1  # over the ends of rows and lines, too
    assert corpus.share_copied([other], 2) == pytest.approx(2 / 3)
    assert corpus.share_copied([other, row], 3) == pytest.approx(2 / 4)
    assert corpus.share_copied([apart], 2) == 0  # not over the end of a document
    assert corpus.share_copied([apart], 5) == 0


def test_beginnings_that_are_too_long_lose_their_own_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert prompts_of(["王小明 在北京", "好"], Tokenizer(TOKENS), 3) == ["在北京", "好"]
    assert "1 of 2 beginnings are longer than 3 tokens" in capsys.readouterr().err


def test_perplexity_is_per_character() -> None:
    assert language_model.score(-6 * np.log(8), [["a b", "c"], ["d"]])["perplexity"] == pytest.approx(8)  # 4 characters and 2 ends


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "there is no text"),
        (b"\n \r\n", "there is no text"),
        (b"ok\n\xc4\xe3\n", "line 2: byte 1 .* is not UTF-8"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read([tmp_path / "a.txt"])


def test_how_files_may_look(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write("\ufeff好\r\n书\r\n\r\n\r\n人".encode())
    assert read([tmp_path / "a.txt.gz", tmp_path / "a.txt.gz"]) == [["好", "书"], ["人"]] * 2


def test_too_little_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(tmp_path)
    (tmp_path / "train.txt").write_text("好书\n人\n", encoding="utf-8")
    assert "has 2 tokens, and 1 rows are held out" in run(capsys, *given, code=2)
    assert "64 positions" in run(capsys, *given, "--longest", "100", code=2)
