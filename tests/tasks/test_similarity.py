"""`bert4k train similarity` from files of pairs to scores and to the nearest texts, on a tiny model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import checkpoint, run

from bert4k.errors import DataError
from bert4k.tasks import similarity
from bert4k.tasks.similarity import Example, alike, read, score, subjects

GOOD, BAD = "好喜欢", "坏讨厌"
QUICK = ["--tuning.epochs", "10", "--tuning.learning_rate", "0.02", "--tuning.tokens", "128"]


def write(path: Path, label: Callable[[bool, bool], int] = lambda one, other: int(one == other)) -> Path:
    """Pairs of texts with a good or a bad word; labels by whether each is good: by default, alike are two of one kind."""
    lines = ["sentence1\tsentence2\tscore"]
    for index in range(36):
        one, other = index % 2 == 0, index // 2 % 2 == 0
        words = [(GOOD if good else BAD)[index // 4 % 3] for good in (one, other)]
        lines.append(f"{words[0]}{'书' * (index // 3 % 2)}\t{words[1]}{'在' * (index // 5 % 2)}\t{label(one, other)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def common(tmp_path: Path, train: Path, *more: str) -> list[str]:
    model = tmp_path / "model"
    arguments = ["--run", str(tmp_path / "run"), "--train", str(train), "--dev", str(train), *QUICK, *more]
    return [*arguments, "--model", str(model if model.exists() else checkpoint(model))]


def lines_of(told: str) -> list[Any]:
    return [json.loads(line) for line in told.split("\n") if line]


@pytest.mark.parametrize("graded", [pytest.param(False, marks=pytest.mark.slow), True])
def test_pairs_read_together(tmp_path: Path, graded: bool, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.tsv", lambda one, other: 2 * (one + other) if graded else int(one and other))
    folder = tmp_path / "run"
    found = json.loads(run(capsys, "train", "similarity", *common(tmp_path, train, "--tuning.epochs", "24")))
    assert found["spearman"] > 0.75 if graded else found["auc"] > 0.8 and "f1" in found
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "labels.json", "settings.json", "metrics.jsonl", "curves.png", "report.md"}
    judged = json.loads(run(capsys, "evaluate", str(folder), str(train), "--json"))
    assert judged["spearman"] == pytest.approx(found["spearman"]) and judged["examples"] == 36
    assert f"| {4 if graded else 1} |" in (folder / "evaluation" / "train" / "report.md").read_text(encoding="utf-8")
    same, apart = lines_of(run(capsys, "predict", str(folder), "好\t好", "讨书\t坏"))  # both of training
    assert same["alike"] > apart["alike"] and 0 <= apart["alike"] <= same["alike"] <= (4 if graded else 1)
    assert "expected two texts with a tab" in run(capsys, "predict", str(folder), "好", code=2)
    assert "Train with --kind bi" in run(capsys, "search", str(folder), str(train), "好", code=2)
    assert "label 7 is outside of 0 to" in run(capsys, "evaluate", str(folder), str(bad(tmp_path, "好\t坏\t7\n")), code=2)


def bad(tmp_path: Path, content: str, name: str = "bad.tsv") -> Path:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path / name


@pytest.mark.parametrize("objective", ["cosent", "simcse_unsupervised", pytest.param("simcse", marks=pytest.mark.slow)])
def test_a_vector_a_text(tmp_path: Path, objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    train, folder = write(tmp_path / "train.tsv"), tmp_path / "run"
    arguments = common(tmp_path, train, "--kind", "bi", "--objective", objective, "--tuning.network_dropout", "0.1")
    found = json.loads(run(capsys, "train", "similarity", *arguments))
    assert found["spearman"] > (-1 if objective == "simcse_unsupervised" else 0.7)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("的人好\n\n坏书\r\n人人喜\n讨在\n坏书\n", encoding="utf-8-sig")
    answers = lines_of(run(capsys, "search", str(folder), str(corpus), "好", "坏", "--nearest", "2", "--json"))
    assert [len(each["nearest"]) for each in answers] == [2, 2]
    for answer in answers:  # the same as comparing it with each, but for the text that is there twice
        texts = {1: "的人好", 3: "坏书", 4: "人人喜", 5: "讨在"}
        told = lines_of(run(capsys, "predict", str(folder), *(f"{answer['text']}\t{text}" for text in texts.values())))
        expected = sorted(zip((each["alike"] for each in told), texts, texts.values(), strict=True), reverse=True)[:2]
        assert [one["text"] for one in answer["nearest"]] == [text for _, _, text in expected]
        assert [one["line"] for one in answer["nearest"]] == [line for _, line, _ in expected]
        assert [one["alike"] for one in answer["nearest"]] == pytest.approx([alike for alike, _, _ in expected], abs=2e-4)
    # In a process that has trained nothing, with the vectors that are kept.
    [kept] = (folder / "search").iterdir()
    written = kept.stat().st_mtime_ns
    command = [sys.executable, "-m", "bert4k", "search", str(folder), str(corpus), "好", "坏", "--nearest", "2", "--json"]
    if objective == "cosent":
        again = lines_of(subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout)
        assert [[one["line"] for one in each["nearest"]] for each in again] == [
            [one["line"] for one in each["nearest"]] for each in answers
        ]
    plain = run(capsys, "search", str(folder), str(corpus), "好", "--nearest", "1")
    assert re.fullmatch(r"好\n-?[01]\.\d{4}\t\d\t.+\n", plain) and kept.stat().st_mtime_ns == written
    # Vectors of another model are refused.
    (folder / "model.keras").write_bytes((folder / "model.keras").read_bytes() + b"\0")
    assert "those of another model" in run(capsys, "search", str(folder), str(corpus), "好", code=2)
    assert "bert4k search" in run(capsys, "predict", str(folder), "好", code=2)
    [pair] = lines_of(run(capsys, "predict", str(folder), "好\t好"))
    assert pair["alike"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", [pytest.param("cross", marks=pytest.mark.slow), pytest.param("bi", marks=pytest.mark.backends)])
def test_a_run_that_was_killed_goes_on(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the same numbers as one that was not, under dropout, too."""
    train = write(tmp_path / "train.tsv")
    arguments = common(tmp_path, train, "--kind", kind, "--tuning.epochs", "4")
    run(capsys, "train", "similarity", *arguments, "--run", str(tmp_path / "whole"))
    calls, original = iter([None, None, KeyboardInterrupt, *[None] * 9]), score

    def killed(*given: Any) -> dict[str, float]:
        if error := next(calls):
            raise error
        return original(*given)

    monkeypatch.setattr(similarity, "score", killed)
    run(capsys, "train", "similarity", *arguments, code=130)
    run(capsys, "train", "similarity", *arguments)
    rows, whole = (lines_of((tmp_path / name / "metrics.jsonl").read_text()) for name in ("run", "whole"))
    assert [row["epoch"] for row in rows if "epoch" in row] == [1, 2, 3, 4]
    for row, expected in zip(rows, whole, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_random_weights_for_contrast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same network and vocabulary, and nothing of what was learnt."""
    from bert4k.errors import ConfigError
    from bert4k.finetuning import body
    from bert4k.tuning import Tuning

    source = str(checkpoint(tmp_path / "model"))
    learnt, scratch, again = (body(source, Tuning(scratch=which))[0] for which in (False, True, True))
    names = learnt.weight_values()
    assert learnt.config == scratch.config and list(names) == list(scratch.weight_values())
    table = "embeddings/token/embeddings"
    assert not np.allclose(names[table], scratch.weight_values()[table])
    np.testing.assert_array_equal(scratch.weight_values()[table], again.weight_values()[table])
    assert body(source, Tuning(network_dropout=0.3))[0].config.attention_probs_dropout_prob == 0.3
    with pytest.raises(ConfigError, match="Leave out lora, or scratch"):
        body(source, Tuning(scratch=True, lora=2))


def test_scores() -> None:
    examples = [Example("a", "b", label) for label in (0.0, 0.0, 1.0, 1.0)]
    found = score(np.array([0.1, 0.6, 0.7, 0.8]), examples, "cross")
    assert found["spearman"] == pytest.approx(0.894427) and found["auc"] == 1 and found["accuracy"] == 0.75 and found["f1"] == 0.8
    assert set(score(np.array([0.1, 0.6, 0.7, 0.8]), examples, "bi")) == {"spearman", "pearson", "auc"}


def test_what_pairs_are_about() -> None:
    pairs = [Example(*each, None) for each in [("a", "b"), ("c", "d"), ("e", "b"), ("f", "g"), ("d", "f"), ("h", "h")]]
    assert subjects(pairs) == [0, 1, 0, 1, 1, 2]


def test_which_pairs_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [Example("a", "b", label) for label in (0.0, 3.0, 5.0, None)]
    assert [each.label for each in alike(examples, None)] == [5.0, None]
    assert [each.label for each in alike(examples, 3)] == [3.0, 5.0, None]
    assert "3 of 4 pairs" in capsys.readouterr().err
    with pytest.raises(DataError, match="the highest is 5"):
        alike(examples[:3], 6)


@pytest.mark.parametrize(
    ("content", "columns", "told"),
    [
        ("好\t坏\t1\n好\t坏\n", None, r"line 2: found 2 columns in \['好', '坏'\]; expected 3: text and pair and label"),
        ("好\t坏\t是\n", None, "line 1: the label is '是'; expected a number"),
        ("好\t坏\tnan\n", None, "line 1: the label is 'nan'"),
        ("\ufeff好\t坏\t1\r\n好\t \t1\r\n", None, "line 2: a text is ' '"),
        ("好\t坏\t2\n", None, "line 1: the label 2 is outside of 0 to 1"),
        ("\n", None, "holds no example"),
        ("好\t坏\t1\n\n好\t\n", ("text", "pair"), "line 3: a text is ''"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: str, columns: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(bad(tmp_path, content), *([columns] if columns else []), known=(0, 1))


def test_every_form(tmp_path: Path) -> None:
    json_lines = '{"text1": "好", "text2": "坏", "label": "0.5"}\n{"sentence1": "a", "sentence2": "b", "similarity": 1}\n'
    assert read(bad(tmp_path, json_lines, "a.jsonl")) == [Example("好", "坏", 0.5), Example("a", "b", 1.0)]
    assert read(bad(tmp_path, "好\n坏\t书\n"), ("text",)) == [Example("好", None, None), Example("坏", "书", None)]


def test_what_cannot_be_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.tsv")
    same = bad(tmp_path, "好\t坏\t1\n")
    arguments = common(tmp_path, train)
    assert "All 1 training examples have the label 1" in run(capsys, "train", "similarity", *arguments, "--train", str(same), code=2)
    assert "all labels are 1" in run(capsys, "train", "similarity", *arguments, "--dev", str(same), code=2)
    bi = [*arguments, "--kind", "bi"]
    assert "R-Drop compares probabilities" in run(capsys, "train", "similarity", *bi, "--tuning.rdrop", "1", code=2)
    still = ["--objective", "simcse_unsupervised", "--tuning.dropout", "0", "--tuning.network_dropout", "0"]
    assert "Without dropout" in run(capsys, "train", "similarity", *bi, *still, code=2)


def test_long_texts_are_cut_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = bad(tmp_path, f"{'好' * 100_000}\t坏\t1\n坏\t好\t0\n", "train.tsv")
    arguments = common(tmp_path, train, "--longest", "32", "--tuning.epochs", "1", "--kind", "bi")
    from bert4k.cli import main

    assert main(["train", "similarity", *arguments]) == 0
    assert "1 of 3 texts are longer than 32 tokens and were cut" in capsys.readouterr().err
