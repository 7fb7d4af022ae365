"""Every row of the catalogue has the same fields, says where it is from, and adds up."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

from bert4k.pretrained import catalogue, folder_of

ROWS = catalogue()
KINDS: dict[str, Any] = {
    "name": str,
    "family": str,
    "title": str,
    "layers": int | None,
    "hidden_size": int | None,
    "vocabulary": int | None,
    "tensors": int | None,
    "parameters": int | None,
    "licence": str | None,
    "paper": str | None,
    "source": str,
    "mirror": str | None,
    "huggingface": str | None,
    "archive": str | None,
    "sha256": str | None,
    "files": list,
    "facts": list,
}
FAMILIES = {
    "bert",
    "albert",
    "nezha",
    "electra",
    "ernie",
    "roformer",
    "roformer_v2",
    "gau_alpha",
    "gpt",
    "gpt2",
    "gpt2_ml",
    "nezha_gen",
    "t5",
    "t5_pegasus",
    "mt5",
    "bart",
    "roberta",
}
FAMILIES |= {"deberta_v2", "modernbert"}


def test_there_are_enough() -> None:
    assert len(ROWS) >= 30
    assert {row["family"] for row in ROWS.values()} == FAMILIES


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_schema(row: Mapping[str, Any]) -> None:
    assert list(row) == list(KINDS)
    for key, kind in KINDS.items():
        assert isinstance(row[key], kind), key
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", row["name"])
    assert row["title"] == row["title"].strip() != ""
    assert row["facts"] and all(isinstance(fact, str) and fact for fact in row["facts"])
    assert row["paper"] is None or re.fullmatch(r"arXiv:\d{4}\.\d{5}", row["paper"])
    assert row["huggingface"] is None or re.fullmatch(r"[\w.-]+/[\w.-]+", row["huggingface"])
    assert not (row["huggingface"] and row["archive"]), "one way to fetch it"
    assert row["archive"] is None or re.fullmatch(r"https://\S+\.(zip|tar\.gz)", row["archive"])
    assert row["sha256"] is None or row["archive"]
    if not folder_of(row["name"]).is_dir():
        assert row["source"].startswith("https://")
        assert row["mirror"] is None or row["mirror"].startswith("https://")
        assert any("https://" in fact for fact in row["facts"])
        assert row["huggingface"] or row["archive"] or row["mirror"], "nobody could get it"
    for digest in (row["sha256"], *(file["sha256"] for file in row["files"])):
        assert digest is None or re.fullmatch("[0-9a-f]{64}", digest)
    for file in row["files"]:
        assert list(file) == ["name", "megabytes", "sha256"]
        assert PurePosixPath(file["name"]).name == file["name"]
        assert file["megabytes"] is None or file["megabytes"] > 0


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row["huggingface"]], ids=lambda row: row["name"])
def test_what_is_fetched_makes_a_checkpoint(row: Mapping[str, Any]) -> None:
    names = [file["name"] for file in row["files"]]
    assert "config.json" in names
    assert sum(name in ("model.safetensors", "pytorch_model.bin") for name in names) == 1
    assert {"vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.json"} & set(names)
    assert not any(name.endswith((".h5", ".msgpack")) for name in names)


def counted(row: Mapping[str, Any]) -> tuple[int, int]:
    """Tensors and parameters of a BERT with its MLM head, added up from the sizes of each part. The other heads are found by their size."""
    hidden, tokens, layers = row["hidden_size"], row["vocabulary"], row["layers"]
    norm, dense = 2 * hidden, hidden * hidden + hidden
    positions = 0 if row["family"] == "nezha" else 512 * hidden
    embeddings = [tokens * hidden, *([positions] if positions else []), 2 * hidden, hidden, hidden]
    layer = [hidden * hidden, hidden] * 4 + [hidden, hidden] * 2 + [4 * hidden * hidden, 4 * hidden, 4 * hidden * hidden, hidden]
    head = [hidden * hidden, hidden, hidden, hidden, tokens]
    assert (sum(layer), sum(head)) == (4 * dense + 2 * norm + 8 * hidden * hidden + 5 * hidden, dense + norm + tokens)
    return len(embeddings) + layers * len(layer) + len(head), sum(embeddings) + layers * sum(layer) + sum(head)


COUNTED = [row for row in ROWS.values() if row["parameters"] and row["family"] in ("bert", "nezha") and row["name"] != "wenbai"]


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: row["name"])
def test_parameters_follow_from_the_sizes(row: Mapping[str, Any]) -> None:
    tensors, parameters = counted(row)
    hidden = row["hidden_size"]
    pooler_and_next_sentence = hidden * hidden + hidden + 2 * hidden + 2
    assert (row["tensors"] - tensors, row["parameters"] - parameters) in ((0, 0), (4, pooler_and_next_sentence))


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row["parameters"]], ids=lambda row: row["name"])
def test_parameters_make_the_published_size(row: Mapping[str, Any]) -> None:
    """In float32, within what rounding to three digits hides."""
    for file in row["files"]:
        if file["name"] in ("model.safetensors", "pytorch_model.bin") and file["megabytes"]:
            assert 4 * row["parameters"] / 1e6 == pytest.approx(file["megabytes"], rel=0.005)
