"""The command line: results and nothing else on standard output, one paragraph and exit code 2 for what is the user's to mend."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import bert4k
from bert4k import cli
from bert4k.config import Config
from bert4k.encoder_decoder import EncoderDecoder
from bert4k.families import FAMILIES
from bert4k.model import OUTPUTS, Transformer
from bert4k.pretrained import catalogue
from bert4k.tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"春夏秋冬风花雪月，。"]
COMMANDS = [
    *("generate", "fill", "infill", "score", "embed", "inspect", "mask", "attention", "convert", "vocabulary", "pretrain"),
    *("train", "evaluate", "predict", "search", "ask", "link", "list", "download", "verify"),
]


class Run(NamedTuple):
    """What a run of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.removesuffix("\n").split("\n") if self.out else []


Cli = Callable[..., Run]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process, which has Keras already. The capture is of file descriptors: native code cannot hide."""

    def running(*arguments: object, stdin: str | bytes = "") -> Run:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        capfd.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        return Run(code, *capfd.readouterr())

    return running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in Google's format with every weight drawn at random."""
    config = Config(len(VOCABULARY), 16, 2, 2, 24, max_position_embeddings=24)
    random = np.random.default_rng(5)
    shapes = Transformer(config, outputs=OUTPUTS).weight_names()
    values = {name: random.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}
    model = Transformer(config, outputs=OUTPUTS, values=values)
    return bert4k.save(model, Tokenizer(VOCABULARY), tmp_path_factory.mktemp("cli") / "model")


# The commands. -------------------------------------------------------------------------------------------------------------------


def test_generate(run: Cli, folder: Path) -> None:
    found = run("generate", folder, "春风", "秋月，", "--max-tokens", 4)
    assert (found.code, found.err, len(found.lines)) == (0, "", 2)
    assert run("generate", folder, "-", "--max-tokens", 4, stdin="春风\n秋月，\n") == found
    assert set("".join(found.lines)) <= set("".join(VOCABULARY[5:]) + " ")


def test_a_decoder_continues_texts_without_being_told(run: Cli, tmp_path: Path) -> None:
    values = {"position": "absolute", "block": "pre_norm", "embedding_norm": False, "type_vocab_size": 0, "mlm_head": "plain"}
    model = Transformer(Config(len(VOCABULARY), 16, 2, 2, 24, family="gpt2", initializer_range=0.5, **values), outputs=("sequence", "mlm"))
    folder = bert4k.save(model, Tokenizer(VOCABULARY), tmp_path / "gpt2", "huggingface")
    found = run("generate", folder, "春风", "--max-tokens", 6)
    assert found.code == 0 and found.out
    assert run("generate", folder, "春风", "--max-tokens", 6, "--mask", "lm").out == found.out
    assert run("generate", folder, "春风", "--max-tokens", 6, "--mask", "seq2seq").out != found.out


def test_generate_tells_programs_all(run: Cli, folder: Path) -> None:
    found = run("generate", folder, "春风", "花", "--beam", 3, "--count", 2, "--max-tokens", 4, "--length-penalty", 1, "--json")
    assert (found.code, found.err) == (0, "")
    for source, row in zip(("春风", "花"), map(json.loads, found.lines), strict=True):
        assert (row["source"], len(row["alternatives"])) == (source, 1)
        assert row["score"] >= row["alternatives"][0]["score"]
        assert row["score"] == pytest.approx(sum(row["log_probs"]) / len(row["log_probs"]), abs=1e-4)


def test_an_encoder_decoder(run: Cli, tmp_path: Path) -> None:
    """Its own output and mask, whatever the command's are for a BERT; from a checkpoint and from a .keras file."""
    config = Config(len(VOCABULARY), 16, 2, 2, 24, "relu", **FAMILIES["bart"].values | {"family": "bart", "num_decoder_layers": 1})
    model, tokenizer = EncoderDecoder(config.override(decoder_start=(3, 2))), Tokenizer(VOCABULARY)
    for format in ("huggingface", "keras"):
        folder = bert4k.save(model, tokenizer, tmp_path / format, format)
        written = run("generate", folder, "春风", "--beam", 2, "--max-tokens", 3)
        assert (written.code, written.err) == (0, "")
        assert written.lines == [bert4k.generate(model, tokenizer, ["春风"], bert4k.beam(2), max_tokens=3)[0].text]
        [line] = run("score", folder, "春风\t秋月").lines
        assert float(line.split("\t")[0]) == pytest.approx(bert4k.score(model, tokenizer, [("春风", "秋月")])[0], abs=2e-3)
        assert run("embed", folder, "春").code == 0
    refused = run("generate", folder, "春", "--mask", "lm")
    assert refused.code == 2 and "cannot be that of an encoder-decoder" in refused.err
    assert run("fill", folder, "[MASK]").code == 2


@pytest.mark.parametrize("options", [[], ["--sample", "--seed", "3"]])
def test_streaming_prints_what_generate_does(options: list[str], run: Cli, folder: Path) -> None:
    whole = run("generate", folder, "春风", "雪", "--mask", "lm", "--max-tokens", 5, *options)
    streamed = run("generate", folder, "春风", "雪", "--mask", "lm", "--max-tokens", 5, "--stream", *options)
    assert whole.code == 0
    assert streamed == whole


def test_a_seed_draws_the_same_texts(run: Cli, folder: Path) -> None:
    cut = ("--top-k", 9, "--top-p", 0.99, "--min-p", 1e-3)
    ask = ("generate", folder, "春", "--sample", "--count", 3, "--temperature", 2, *cut, "--max-tokens", 6)
    first = run(*ask, "--seed", 1)
    assert (first.code, len(first.lines)) == (0, 3)
    assert run(*ask, "--seed", 1) == first
    assert run(*ask, "--seed", 2) != first


def test_constraints(run: Cli, folder: Path) -> None:
    ask = ("generate", folder, "春", "--json", "--max-tokens", 6, "--min-tokens", 6, "--no-repeat-ngram", 1, "--repetition-penalty", 1.5)
    text = json.loads(run(*ask).out)["text"].replace(" ", "")
    assert len(text) == 6
    assert len(set(text)) == 6


def test_texts_of_a_set(run: Cli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("春风\n\n秋月\n春\n", "utf-8")
    (tmp_path / "banned.txt").write_text("春风\n", "utf-8")
    ask = ("generate", folder, "花", "--max-tokens", 3, "--one-of", tmp_path / "names.txt")
    only = run(*ask)
    assert only.code == 0
    assert set(only.lines) <= {"春风", "秋月", "春"}
    both = run(*ask, "--without", tmp_path / "banned.txt", "--starting-with", "春")
    assert both.lines == ["春"]
    copied = run("generate", folder, "秋月，", "--copy-source", "--max-tokens", 3, "--stream", "--mask", "lm")
    assert copied.lines[0] in "秋月，"
    missing = run(*ask[:-1], tmp_path / "missing.txt")
    assert (missing.code, missing.out) == (2, "")
    assert "missing.txt" in missing.err
    assert "one text a line" in missing.err


def test_fill(run: Cli, folder: Path) -> None:
    found = run("fill", folder, "春[MASK]秋[MASK]", "--top-k", 3)
    assert (found.code, found.err, len(found.lines)) == (0, "", 2)
    assert all(re.fullmatch(r"\S+ \d\.\d{3}(  \S+ \d\.\d{3}){2}", line) for line in found.lines)
    row = json.loads(run("fill", folder, "春[MASK]秋[MASK]", "--top-k", 15, "--json").out)
    assert row["text"] == "春[MASK]秋[MASK]"
    for blank, line in zip(row["blanks"], found.lines, strict=True):
        assert sum(candidate["probability"] for candidate in blank) == pytest.approx(1, abs=1e-4)
        assert blank[0]["token"] == line.partition(" ")[0]


def test_infill(run: Cli, folder: Path) -> None:
    found = run("infill", folder, "春[MASK]{2}秋[MASK]", "花\t[MASK]{1,3}", "--order", "1,0")
    assert (found.code, found.out) == (2, "")
    assert "2 blanks of text 0" not in found.err
    assert "1 blanks of text 1" in found.err
    found = run("infill", folder, "春[MASK]{2}秋[MASK]", "花\t[MASK]{1,3}", "--iterations", 2)
    assert (found.code, found.err) == (0, "")
    assert re.fullmatch("春..秋.", found.lines[0])
    assert re.fullmatch("花\t.{1,3}", found.lines[1])
    [row] = map(json.loads, run("infill", folder, "[MASK]风[MASK]", "--order", "1,0", "--mask", "permuted", "--json").lines)
    assert (row["given"], row["text"], row["steps"]) == ("[MASK]风[MASK]", "风".join(row["fills"]), [1, 0])
    assert row["score"] == pytest.approx(sum(row["log_probs"]) / 2)
    [row] = map(json.loads, run("infill", folder, "花\t[MASK]{1,3}", "--length-penalty", 0, "--json").lines)
    assert len(row["fills"][0]) == 1
    assert sorted(len(one["text"]) for one in row["alternatives"]) == [4, 5]


def test_score(run: Cli, folder: Path) -> None:
    found = run("score", folder, "春风", "秋月")
    assert (found.code, found.err) == (0, "")
    rows = [json.loads(line) for line in run("score", folder, "-", "--json", stdin="春风\n秋月").lines]
    assert [row["text"] for row in rows] == ["春风", "秋月"]
    assert found.lines == [f"{row['log_probability']:.3f}\t{row['text']}" for row in rows]
    assert run("score", folder, "春风\t秋月", "--mask", "seq2seq").lines[0].endswith("\t春风\t秋月")
    assert run("score", folder, "春风", "--mask", "encoder").out != found.lines[0] + "\n"


def test_embed(run: Cli, folder: Path, tmp_path: Path) -> None:
    found = run("embed", folder, "春风", "花\t雪月")
    assert (found.code, found.err, [len(line.split(" ")) for line in found.lines]) == (0, "", [16, 16])
    rows = [json.loads(line) for line in run("embed", folder, "春风", "花\t雪月", "--json").lines]
    assert [" ".join(map(str, row["vector"])) for row in rows] == found.lines
    file = tmp_path / "向量 1.npy"
    found = run("embed", folder, "春风", "花\t雪月", "--out", file)
    assert (found.code, found.out, found.err) == (0, "", f"wrote 2 vectors of 16 numbers to {file}\n")
    assert np.allclose(np.load(file), [row["vector"] for row in rows], atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1
    assert run("embed", folder, "春风", "--pooling", "pooled").code == 0


def test_inspect(run: Cli, folder: Path) -> None:
    found = run("inspect", folder)
    assert (found.code, found.err) == (0, "")
    assert "google layout, family bert, 2 layers" in found.out
    assert "46 matched, 0 missing, 0 misshapen, 0 unused" in found.out
    assert "hidden_size=16" in found.out and "block=" not in found.out  # post_norm, as every BERT's
    assert max(map(len, found.lines[1:])) <= 100
    assert "bert/pooler/dense/kernel" not in found.out
    assert re.search(r"model +float32 +16x16 +bert/pooler/dense/kernel", run("inspect", folder, "--all").out)
    row = json.loads(run("inspect", folder, "--json").out)
    assert (row["family"], row["layers"], row["vocabulary"], row["config"]["hidden_size"]) == ("bert", 2, len(VOCABULARY), 16)
    assert len(row["tensors"]) == len(row["report"]["matched"]) == 46
    assert row["problem"] is None


def test_inspect_tells_what_does_not_fit(run: Cli, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "bert_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"num_hidden_layers": 3, "intermediate_size": 25}))
    found = run("inspect", tmp_path)
    assert found.code == 0
    assert "16 missing" in found.out
    assert "missing    block_2/attention/query/kernel (looked for bert/encoder/layer_2/attention/self/query/kernel)" in found.out
    assert "misshapen  block_0/feed_forward/inner/kernel: (16, 24) in the checkpoint, (16, 25) in the model" in found.out
    config.write_text(json.dumps(values | {"hiden_size": 3}))
    assert "not loadable by this version:" in run("inspect", tmp_path).out
    assert "hiden_size" in json.loads(run("inspect", tmp_path, "--json").out)["problem"]


def test_inspect_as_another_family(run: Cli, folder: Path) -> None:
    found = run("inspect", folder, "--family", "nezha")
    assert found.code == 0
    assert "unused     bert/embeddings/position_embeddings" in found.out  # its positions are computed
    assert "Did you mean 'nezha'" in run("inspect", folder, "--family", "nezah").out


def test_verify(run: Cli, folder: Path) -> None:
    pytest.importorskip("transformers")
    found = run("verify", folder)
    assert found.code == 0, found.err
    assert "layer 2" in found.out
    told = json.loads(run("verify", folder, "--no-gradients", "--json").out)
    assert [each["name"] for each in told["layers"]] == ["embeddings", "layer 1", "layer 2"]
    assert told["gradients"] == []


def test_inspect_on_a_real_index(run: Cli, shared_data: Path) -> None:
    index = shared_data / "ckpt_index" / "bert_wwm_hwf87" / "bert_model.ckpt.index"
    if not index.exists():
        pytest.skip(f"needs {index}")
    found = json.loads(run("inspect", index, "--json").out)
    assert (found["family"], found["layers"]) == ("bert", 12)


def test_mask(run: Cli, tmp_path: Path) -> None:
    found = run("mask", "seq2seq", "春风", "秋月")
    assert (found.code, found.err) == (0, "")
    assert "source" in found.lines[0]
    assert len(found.lines) > 7
    assert "春" in found.out
    picture = tmp_path / "图 1.png"
    found = run("mask", "causal & window(2)", "春风秋月", "--png", picture)
    assert (found.code, found.out, found.err) == (0, "", f"wrote {picture}\n")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["图 1.png"]


def test_mask_of_dialogues_packed_texts_and_both_streams(run: Cli, tmp_path: Path) -> None:
    dialogue = run("mask", "seq2seq", "-", stdin="问\n答\n问\n答")
    assert dialogue == run("mask", "seq2seq", "问", "答", "问", "答") == run("mask", "seq2seq", "问\t答", "问\t答")
    assert dialogue.out.count("［ＣＬＳ］") == 1
    packed = run("mask", "seq2seq & same_document", "问\t答", "问\t答")
    assert (packed.code, packed.out.count("［ＣＬＳ］")) == (0, 2)
    streams = run("mask", "permuted", "春风", "--two-stream")
    assert (streams.code, streams.out.count("［ＭＡＳＫ］")) == (0, 2)
    drawing = tmp_path / "两.svg"
    assert run("mask", "permuted & same_document", "春风", "秋月", "--two-stream", "--svg", drawing).err == f"wrote {drawing}\n"
    assert drawing.read_bytes().startswith(b"<?xml")
    assert len(run("mask", "permuted(seed=1)", "春风").lines) > 7


def test_attention(run: Cli, folder: Path, tmp_path: Path) -> None:
    found = run("attention", folder, "春风", "秋", "--mask", "seq2seq", "--layer", 0, "--head", 1)
    assert (found.code, found.err) == (0, "")
    assert found.lines[:2] == ["seq2seq, (causal | source) & real", "layer 0, head 1"]
    assert [line.split()[1] for line in found.lines[2:]] == ["[CLS]", "春", "风", "[SEP]", "秋", "[SEP]"]
    assert found == run("attention", folder, "-", "--mask", "seq2seq", "--layer", -2, "--head", -1, stdin="春风\t秋\n")
    model, tokenizer = bert4k.load(folder, "seq2seq")
    expected = bert4k.attention(model, tokenizer, ("春风", "秋"))
    for head, heads in (("mean", ["mean"]), ("all", [0, 1])):
        rows = [json.loads(line) for line in run("attention", folder, "春风", "秋", "--mask", "seq2seq", "--head", head, "--json").lines]
        assert [(row["layer"], row["head"], row["mask"]) for row in rows] == [(1, number, expected.mask) for number in heads]
        for row in rows:
            assert row["tokens"] == list(expected.tokens)
            assert np.allclose(row["probabilities"], expected.select(1, row["head"])[row["head"]], atol=1e-6)
    for name in ("图 1.png", "图 1.svg"):
        picture = tmp_path / name
        found = run("attention", folder, "春风", "--head", "all", f"--{name[-3:]}", picture)
        assert (found.code, found.out, found.err) == (0, "", f"wrote {picture}\n")
        assert picture.read_bytes().startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert len(list(tmp_path.iterdir())) == 2


def test_convert(run: Cli, folder: Path, tmp_path: Path) -> None:
    source = folder
    for format in ("huggingface", "keras", "google"):
        target = tmp_path / format
        found = run("convert", source, target, "--to", format)
        assert (found.code, found.out, found.err) == (0, "", f"wrote 46 weights in the {format} layout to {target}\n")
        source = target
    assert {path.name: path.read_bytes() for path in source.iterdir()} == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_vocabulary(run: Cli, tmp_path: Path) -> None:
    texts, pairs, out = tmp_path / "texts.txt", tmp_path / "pairs.tsv", tmp_path / "new" / "vocab.txt"
    texts.write_text("今天学习，明天学习。\n\nTraining trains the trainer.\n", encoding="utf-8")
    pairs.write_text("[翻译]今天\t今日\n", encoding="utf-8")
    options = ("--size", 130, "--special", "[翻译]", "[对联]", "--words", 2, "--minimum-count", 2)
    found = run("vocabulary", texts, "--pairs", pairs, "--out", out, *options)
    assert (found.code, found.out) == (0, "")
    told = r"wrote 121 tokens to .*vocab\.txt; they cover 89\.744% of 39 characters; 4 different characters were left out\n"
    assert re.fullmatch(told, found.err)
    tokenizer = Tokenizer(out)
    assert tokenizer.vocabulary[5:9] == ["[翻译]", "[对联]", "t", "今"]
    assert tokenizer.vocabulary[-2:] == ["今天", "学习"], "two of each; the code point decides"
    assert tokenizer.tokenize("[翻译]今天 trained") == ["[翻译]", "今", "天", "train", "##e", "##d"]
    assert [path.name for path in out.parent.iterdir()] == ["vocab.txt"]
    before = out.read_bytes()
    found = run("vocabulary", texts, "--out", out)
    assert (found.code, out.read_bytes()) == (2, before)
    assert "exists" in found.err
    assert run("vocabulary", "--pairs", pairs, "--out", tmp_path / "other.txt", "--latin", 0).code == 0


def test_list(run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT4K_HOME", str(tmp_path))
    (tmp_path / "chinese-macbert-base").mkdir()
    (tmp_path / "chinese-macbert-base" / "vocab.txt").touch()
    found = run("list")
    assert (found.code, found.err) == (0, "")
    rows = [json.loads(line) for line in run("list", "--json").lines]
    assert [row["name"] for row in rows] == list(catalogue())
    header, *lines = found.out.rstrip("\n").split("\n")
    assert header.split()[:3] == ["name", "family", "layers"]
    for row, line in zip(rows, lines, strict=True):
        assert line.split()[:2] == [row["name"], row["family"]]
        assert row["title"] in line
        assert (row["licence"] or "not stated") in line
        here = "yes" if row["name"] in ("wenbai", "chinese-macbert-base") else "no"
        assert line[header.index("here") :].split()[0] == here
        assert bool(row["folder"]) == (here == "yes")
    assert "102,882,442" in next(line for line in lines if line.startswith("chinese-macbert-base "))


def test_list_of_a_family(run: Cli) -> None:
    electra = [json.loads(line)["family"] for line in run("list", "--family", "electra", "--json").lines]
    assert set(electra) == {"electra"}
    assert len(electra) == len(run("list", "--family", "electra").lines) - 1
    found = run("list", "--family", "elektra")
    assert (found.code, found.out) == (2, "")
    assert "Did you mean 'electra'" in found.err


def test_download_of_what_is_here(run: Cli) -> None:
    assert Path(run("download", "wenbai").out.strip()).name == "wenbai"


def test_download_of_what_is_not_known(run: Cli) -> None:
    found = run("download", "chinese-macbert-bass")
    assert (found.code, found.out) == (2, "")
    assert "Did you mean 'chinese-macbert-base'" in found.err
    assert "--folder takes one checkpoint" in run("download", "wenbai", "rbt3", "--folder", "x").err


def test_nothing_asked_for(run: Cli) -> None:
    found = run()
    assert (found.code, found.err) == (0, "")
    assert all(command in found.out for command in COMMANDS)
    assert run("--version").out == f"bert4k {bert4k.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, run: Cli) -> None:
    found = run(command, "--help")
    assert (found.code, found.err) == (0, "")
    if command in ("generate", "fill", "infill", "score", "embed", "attention"):
        assert re.search(r"default:\s+(seq2seq|encoder|lm)\b", found.out), "the default mask is told"
        assert re.search(r"- reads\s+lines\s+from\s+standard\s+input", found.out)
    assert "None" not in found.out, "an option without a default has nothing to say of it"


def test_every_command_is_tested() -> None:
    [actions] = [action for action in cli._parser()._actions if getattr(action, "choices", None)]
    assert sorted(actions.choices or ()) == sorted(COMMANDS)


# What is wrong. --------------------------------------------------------------------------------------------------------------------

# The command line after the folder's place, {}; what the paragraph says.
WRONG: dict[str, tuple[list[str], list[str]]] = {
    "no such folder": (["fill", "nowhere", "春[MASK]"], ["There is no file or folder nowhere", "or one of: wenbai"]),
    "a text in the place of the model": (["score", "春" * 200, "秋"], ["There is no file or folder", "Give the folder"]),
    "misspelt name": (["inspect", "wenbei"], ["Did you mean 'wenbai'"]),
    "unknown mask": (["score", "{}", "春", "--mask", "lmm"], ["lmm", "Did you mean", "lm"]),
    "unknown mask to draw": (["mask", "seqseq", "春"], ["seqseq", "seq2seq"]),
    "a mask that is no expression": (["mask", "causal &", "春"], ["causal &"]),
    "a mask of one stream": (["mask", "lm", "春", "--two-stream"], ["lm, causal & real has one stream", "--two-stream"]),
    "three texts to look at": (["attention", "{}", "春", "夏", "秋"], ["Got 3 texts", "Put quotes"]),
    "no such layer": (["attention", "{}", "春", "--layer", "2"], ["layer=2", "2 layers", "0 to 1"]),
    "no such layer for programs": (["attention", "{}", "春", "--layer", "-3", "--json"], ["layer=-3", "2 layers"]),
    "no such head": (["attention", "{}", "春", "--head", "7"], ["head=7", "2 heads", "'mean', 'all'"]),
    "a misspelt head": (["attention", "{}", "春", "--head", "al"], ["head='al'", "Did you mean 'all'"]),
    "attention over a text that is too long": (["attention", "{}", "春" * 30], ["32 tokens", "24 positions"]),
    "attention in no order": (["attention", "{}", "春", "--mask", "permuted"], ["permuted", "permuted(seed=1)"]),
    "attention of no kind": (["attention", "nowhere", "春", "--png", "{}/map.doc"], ["map.doc", ".png"]),
    "attention that cannot be": (["attention", "{}", "春", "--svg", "{}/vocab.txt/new.svg"], ["new.svg"]),
    "beam of 0": (["generate", "{}", "春", "--beam", "0"], ["beam(0)", "at least 1"]),
    "more texts than beams": (["generate", "{}", "春", "--beam", "2", "--count", "3"], ["beam(2, n_best=3)", "between 1 and 2"]),
    "many greedy texts": (["generate", "{}", "春", "--count", "2"], ["--count 2", "Add --sample"]),
    "a beam that streams": (["generate", "{}", "春", "--beam", "2", "--stream"], ["stream()", "generate()"]),
    "temperature 0": (["generate", "{}", "春", "--sample", "--temperature", "0"], ["temperature=0", "above 0"]),
    "no tokens": (["generate", "{}", "春", "--max-tokens", "0"], ["max_tokens=0", "at least 1"]),
    "generating with the mask encoder": (["generate", "{}", "春", "--mask", "encoder"], ["encoder", "look", "lm"]),
    "a source that is too long": (["generate", "{}", "春" * 30], ["Source 0 has 32 tokens", "24 positions", "Shorten"]),
    "a text that is too long": (["embed", "{}", "春" * 30], ["Text 0 has 32 tokens", "24 positions"]),
    "no blank": (["fill", "{}", "春夏"], ["There is no [MASK] in '春夏'", "Write [MASK]"]),
    "blanks under another mask": (["fill", "{}", "春[MASK]", "--mask", "lm"], ["mask is lm", "encoder"]),
    "too many candidates": (["fill", "{}", "春[MASK]", "--top-k", "99"], ["top_k=99", "15 tokens"]),
    "no target": (["score", "{}", "春", "--mask", "seq2seq"], ["no target", "(source, target)"]),
    "unknown pooling": (["embed", "{}", "春", "--pooling", "meen"], ["meen", "Did you mean 'mean'"]),
    "nothing on standard input": (["score", "{}", "-"], ["Standard input holds no line", "Give one text a line"]),
    "a folder that exists": (["convert", "{}", "{}", "--to", "keras"], ["exists and is not an empty folder", "nothing was written"]),
    "a folder that cannot be": (["convert", "{}", "{}/vocab.txt/new", "--to", "keras"], ["Cannot write", "Choose a folder"]),
    "a file that cannot be": (["embed", "{}", "春", "--out", "{}/vocab.txt/new.npy"], ["Cannot write", "Choose a folder"]),
    "a picture that cannot be": (["mask", "lm", "春", "--png", "{}/vocab.txt/new.png"], ["new.png"]),
    "a vocabulary that exists": (["vocabulary", "{}/vocab.txt", "--out", "{}/vocab.txt"], ["vocab.txt exists", "Choose another --out"]),
    "a vocabulary of nothing": (["vocabulary", "--out", "{}/new.txt"], ["no text files", "Give the path"]),
    "a vocabulary of a folder": (["vocabulary", "{}", "--out", "{}/new.txt"], ["is a folder", "Name the files in it"]),
    "a vocabulary of no pairs": (["vocabulary", "--pairs", "{}/vocab.txt", "--out", "{}/new.txt"], ["line 1: found no tab", "'[PAD]'"]),
    "a vocabulary without room": (["vocabulary", "{}/vocab.txt", "--out", "{}/new.txt", "--size", "9"], ["of 9 tokens", "at least 109"]),
    "nothing to verify": (["verify"], ["Say what to verify", "--all"]),
    "both to verify": (["verify", "{}", "--all"], ["Say what to verify", "--all"]),
    "a picture of no kind": (["mask", "lm", "春", "--png", "{}/mask.doc"], ["mask.doc", ".png"]),
}


@pytest.mark.parametrize(("arguments", "says"), WRONG.values(), ids=list(WRONG))
def test_an_error_is_one_paragraph(arguments: list[str], says: list[str], run: Cli, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    found = run(*(argument.replace("{}", str(folder)) for argument in arguments))
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"bert4k {arguments[0]}: ")
    assert found.err.count("\n") == 1
    for part in says:
        assert part in found.err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_standard_input_that_is_not_utf8(run: Cli, folder: Path) -> None:
    found = run("score", folder, "-", stdin="春风\n".encode("gb18030"))
    assert (found.code, found.out) == (2, "")
    assert re.fullmatch(r"bert4k score: Standard input is not UTF-8 .*Convert it.*\n", found.err)


def test_lines_of_standard_input(run: Cli, folder: Path) -> None:
    """Windows' line ends go, empty lines stay, and U+2028 is part of its line."""
    found = run("score", folder, "-", "--json", stdin="\ufeff春风\r\n\r\n秋\u2028月\n")
    assert [json.loads(line)["text"] for line in found.out.removesuffix("\n").split("\n")] == ["春风", "", "秋\u2028月"]


@pytest.mark.parametrize(
    "arguments", [["fil"], ["fill"], ["fill", "x"], ["convert", "a", "b", "--to", "onnx"], ["generate", "x", "y", "--beam", "x"]]
)
def test_a_command_line_that_cannot_be_read(arguments: list[str], run: Cli) -> None:
    found = run(*arguments)
    assert (found.code, found.out) == (2, "")
    assert "usage: bert4k" in found.err
    assert "Traceback" not in found.err


# As a program of its own. ----------------------------------------------------------------------------------------------------------


def bert4k_process(*arguments: str, stdin: str = "", **environment: str) -> Run:
    """`python -m bert4k` in a fresh interpreter, with no variable set that would keep a backend quiet."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL", "PYTHONWARNINGS"}
    inherited = {name: value for name, value in os.environ.items() if name not in quiet}
    done = subprocess.run(
        [sys.executable, "-m", "bert4k", *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env=inherited | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"} | environment,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def test_a_process_says_only_what_was_asked() -> None:
    lines = ["春" * length for length in (1, 2, 9, 17, 33, 65, 100)]  # each is another shape to compile
    found = bert4k_process("score", "wenbai", "-", "--json", stdin="\n".join(lines))
    assert (found.code, found.err) == (0, "")
    assert [json.loads(line)["text"] for line in found.lines] == lines


def test_a_process_that_fails() -> None:
    found = bert4k_process("inspect", "nowhere")
    assert (found.code, found.out) == (2, "")
    assert re.fullmatch(r"bert4k inspect: There is no file or folder nowhere.*\n", found.err)


def test_a_reader_that_has_seen_enough() -> None:
    """`bert4k list --json | true`: no complaint about the broken pipe."""
    command = [sys.executable, "-c", "import sys\nfrom bert4k.cli import main\nsys.exit(main(['inspect', 'wenbai', '--all']))"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        told = process.stderr.read()
    assert told == ""
