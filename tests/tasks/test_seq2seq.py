"""`bert4k train seq2seq` from files to texts, on a tiny model."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TOKENS, checkpoint, run

from bert4k.errors import DataError
from bert4k.tasks.seq2seq import Example, read

pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install bert4k[pretrain]")

PAIRS = [("好人", "坏人"), ("喜欢书", "讨厌书"), ("王在北京", "明在北京"), ("好书", "坏书"), ("小王喜欢", "小明讨厌"), ("人人好", "人人坏")]


def write(path: Path, times: int = 1) -> Path:
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS * times), encoding="utf-8")
    return path


def arguments(tmp_path: Path, *how: str) -> list[str]:
    train, dev = write(tmp_path / "train.tsv", 16), write(tmp_path / "dev.tsv")
    model = tmp_path / "model"
    if not model.exists():
        checkpoint(model, ("mlm",))
    common = ["train", "seq2seq", "--run", str(tmp_path / "run"), "--train", str(train), "--dev", str(dev), "--model", str(model)]
    lengths = ["--longest_source", "20", "--longest_target", "8", "--decoding.max_tokens", "8", "--tuning.tokens", "64"]
    return [*common, *lengths, *how]


@pytest.mark.parametrize("objective", ["shifted", pytest.param("cloze", marks=pytest.mark.slow)])
def test_train_evaluate_and_predict(tmp_path: Path, objective: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, epochs = tmp_path / "run", 8 if objective == "shifted" else 16
    how = ["--objective", objective, "--tuning.epochs", str(epochs), "--tuning.learning_rate", "0.02", "--tuning.dropout", "0"]
    told = json.loads(run(capsys, *arguments(tmp_path, *how, "--prefix", "[UNK]", "--decoding.beam", "2")))
    assert told["rouge_l"] > 90
    names = {path.name for path in folder.iterdir()}
    assert names >= {"model.keras", "network", "vocab.txt", "settings.json", "metrics.jsonl", "curves.png", "report.md", "samples"}
    assert "source  好人\ntarget  坏人\nwritten" in (folder / "samples" / f"epoch_{epochs}.txt").read_text(encoding="utf-8")
    scores = json.loads(run(capsys, "evaluate", str(folder), str(tmp_path / "dev.tsv"), "--json"))
    assert {name: scores[name] for name in ("rouge_l", "bleu")} == {name: told[name] for name in ("rouge_l", "bleu")}
    assert (folder / "evaluation/dev/report.md").exists()
    texts = [source for source, _ in PAIRS]
    answers = [json.loads(line) for line in run(capsys, "predict", str(folder), texts[0], " ", texts[1]).split("\n") if line]
    assert [each["source"] for each in answers] == [texts[0], " ", texts[1]]
    assert [each["target"] for each in answers] == [PAIRS[0][1], "", PAIRS[1][1]]
    # The checkpoint by itself writes the same.
    alone = ["generate", str(folder / "network"), f"[UNK]{texts[1]}", "--mask", "seq2seq", "--beam", "2", "--length-penalty", "1"]
    alone += ["--max-tokens", "8", *(["--cloze"] if objective == "cloze" else [])]
    assert run(capsys, *alone).strip().replace(" ", "") == PAIRS[1][1]
    if objective == "cloze":  # once, in a process that has trained nothing
        command = [sys.executable, "-m", "bert4k", "predict", str(folder), "-"]
        given = f"{texts[0]}\n \n{texts[1]}\n"
        told_there = subprocess.run(command, input=given, capture_output=True, text=True, check=True, encoding="utf-8").stdout
        assert [json.loads(line) for line in told_there.split("\n") if line] == answers


def encoder_decoder(folder: Path, family: str) -> Path:
    """A random checkpoint of a family, with a vocabulary of BERT's kind."""
    from bert4k.config import Config
    from bert4k.encoder_decoder import EncoderDecoder
    from bert4k.families import FAMILIES
    from bert4k.hub import save
    from bert4k.tokenizers import Tokenizer

    tokenizer, sizes = (
        Tokenizer(TOKENS),
        {"num_hidden_layers": 1, "num_decoder_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    )
    of_family = FAMILIES[family].values | {"family": family, "hidden_size": 16, "max_position_embeddings": 24, "initializer_range": 0.2}
    start = {"decoder_start": (tokenizer.sep_id, tokenizer.cls_id)} if family == "bart" else {"attention_head_size": 8}
    return save(
        EncoderDecoder(Config(**of_family | sizes | start, vocab_size=len(TOKENS))),
        tokenizer,
        folder,
        "huggingface" if family == "bart" else "google",
    )


@pytest.mark.parametrize("family", ["bart", pytest.param("t5_pegasus", marks=pytest.mark.slow)])
def test_an_encoder_decoder_is_tuned(tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    encoder_decoder(tmp_path / "model", family)
    given = arguments(tmp_path, "--tuning.epochs", "12", "--tuning.learning_rate", "0.02", "--tuning.dropout", "0")
    given += ["--tuning.network_dropout", "0", "--decoding.beam", "2"]
    told = json.loads(run(capsys, *given))
    assert told["rouge_l"] > 90
    assert json.loads(run(capsys, "evaluate", str(folder), str(tmp_path / "dev.tsv"), "--json"))["bleu"] == told["bleu"]
    [answer] = [json.loads(line) for line in run(capsys, "predict", str(folder), PAIRS[2][0]).split("\n") if line]
    assert answer == {"source": PAIRS[2][0], "target": PAIRS[2][1]}
    alone = ["generate", str(folder / "network"), PAIRS[1][0], "--beam", "2", "--length-penalty", "1", "--max-tokens", "8"]
    assert run(capsys, *alone).strip().replace(" ", "") == PAIRS[1][1]
    other = [*given, "--run", str(tmp_path / "other")]
    assert "Leave out --objective cloze" in run(capsys, *other, "--objective", "cloze", code=2)
    assert "Leave out --objective cloze and --tuning.layer_decay" in run(capsys, *other, "--tuning.layer_decay", "0.9", code=2)
    assert "has 24 positions for each" in run(capsys, *other, "--decoding.max_tokens", "24", code=2)


@pytest.mark.parametrize(
    "how",
    [
        ["--objective", "cloze"],
        pytest.param(["--metric", "dev_loss", "--tuning.patience", "1", "--tuning.ema", "0.5"], marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_killed_goes_on_with_the_same_numbers(
    tmp_path: Path, how: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(tmp_path, *how, "--tuning.epochs", "3", "--decoding.beam", "1", "--tuning.dropout", "0.2")
    write(tmp_path / "train.tsv", 2)
    first = json.loads(run(capsys, *given))
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n")[:-1]]
    (tmp_path / "run").rename(tmp_path / "whole")
    from bert4k import finetuning

    class Killed(finetuning.keras.callbacks.BackupAndRestore):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_begin(epoch, logs)
            if epoch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetuning.keras.callbacks, "BackupAndRestore", Killed)
        run(capsys, *given, code=130)
    assert "decoding.beam was 1, now 3" in run(capsys, *given, "--decoding.beam", "3", code=2)
    write(tmp_path / "train.tsv", 2)
    assert json.loads(run(capsys, *given)) | {"run": 0} == pytest.approx(first | {"run": 0}, rel=1e-5)
    again = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().split("\n")[:-1]]
    assert [pytest.approx(row, rel=1e-5) for row in rows] == again


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tsv", "好\t坏\n好人\n", "line 2: found 1 columns in .*好人.*expected 2: source and target"),
        ("a.tsv", "好\t坏\t人\n", "line 1: found 3 columns"),
        ("a.tsv", "", "holds no example"),
        ("a.tsv", "\n \n", "holds no example"),
        ("a.tsv", " \t坏\n", "line 1: the source is ' '"),
        ("a.tsv", "好\t坏\n\n好\t \n", "line 3: the target is ' '"),
        ("a.jsonl", '{"source": "好"}\n', "line 1: .* lacks target"),
        ("a.jsonl", '{"source": "好", "target": ["坏"]}\n', r"line 1: the target is \['坏'\]"),
        ("a.jsonl", '{"source": "好", ', "line 1: .* is not JSON"),
        ("a.txt", b"\xc4\xe3\t\xba\xc3\n", "line 1: .* is not UTF-8"),
        ("a.xlsx", "", "ends with '.xlsx'"),
    ],
)
def test_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told):
        read(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "\ufeff好\t坏\r\n\r\n人\t书\r\n"),
        ("a.tsv", "target\tsource\n坏\t好\n书\t人\n"),
        ("a.csv", '标题,原文\n坏,好\n"书","人"\n'),
        ("a.jsonl", '{"title": "坏", "content": "好"}\n{"target": "书", "source": "人", "label": 3}\n'),
    ],
)
def test_how_files_may_look(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode())
    with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
        file.write(content.encode())
    expected = [Example("好", "坏"), Example("人", "书")]
    assert read(tmp_path / name) == read(tmp_path / f"{name}.gz") == expected


def test_what_is_too_long_is_cut_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(tmp_path, "--tuning.epochs", "1", "--decoding.beam", "1")
    (tmp_path / "train.tsv").write_text(f"{'好' * 100_000}\t坏\n好\t{'坏' * 50}\n", encoding="utf-8")
    from bert4k.cli import main

    capsys.readouterr()
    assert main(given) == 0
    told = capsys.readouterr().err
    assert "1 of 2 sources of train are longer than 20 tokens and were cut" in told
    assert "1 of 2 targets of train are longer than 8 tokens and were cut" in told
    assert "do not fit the 64 positions" in run(capsys, *given, "--run", str(tmp_path / "other"), "--longest_source", "60", code=2)
    (tmp_path / "train.tsv").write_text("\u200b\u0000\t坏\n", encoding="utf-8")
    assert "one side has characters that are no text" in run(capsys, *given, "--run", str(tmp_path / "other"), code=2)
