"""Tables and JSON lines as users write them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bert4k.errors import DataError
from bert4k.reading import read_rows

EXPECTED = [("1", "很好，我喜欢"), ("0", '他说"不好"')]


def rows(path: Path, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row.values[name] for name in columns) for row in read_rows(path, columns)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", '1\t很好，我喜欢\n0\t他说"不好"\n'),
        ("a.tsv", 'label\ttext_a\n1\t很好，我喜欢\n\n0\t他说"不好"'),
        ("a.tsv", '\ufefftext\tid\tlabel\r\n很好，我喜欢\t7\t1\r\n他说"不好"\t8\t0\r\n'),
        ("a.csv", '1,很好，我喜欢\n0,"他说""不好"""\n'),
        ("a.csv", 'label,review\n1,很好，我喜欢\n0,"他说""不好"""\n'),
        ("a.jsonl", '{"label": "1", "sentence": "很好，我喜欢"}\n{"text": "他说\\"不好\\"", "label": "0", "id": 3}\n'),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_form(tmp_path: Path, name: str, content: str, zipped: bool) -> None:
    data = content.encode("utf-8")
    path = tmp_path / (f"{name}.gz" if zipped else name)
    path.write_bytes(gzip.compress(data) if zipped else data)
    assert rows(path, "label", "text") == EXPECTED


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('label,text\n\n1,"two\nlines"\n0,one\n')
    assert [(row.line, row.values["text"]) for row in read_rows(path, ("label", "text"))] == [(3, "two\nlines"), (5, "one")]


def test_what_may_follow(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("1\ta\tb\n0\tc\n")
    assert [dict(row.values) for row in read_rows(path, ("label", "text"), ("pair",))] == [
        {"label": "1", "text": "a", "pair": "b"},
        {"label": "0", "text": "c"},
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.tsv", b"1\ta\n0\n", r"line 2: found 1 columns in \['0'\]; expected 2: label and text"),
        ("a.tsv", b"1\ta\tb\n", "line 1: found 3 columns"),
        ("a.tsv", b"label\ttext\n1\ta\n1\ta\tb\n", "line 3: found 3 columns"),
        ("a.tsv", b"label\tpair\n1\ta\n", "lacks text .* may be called text, text_a"),
        ("a.csv", b'1,"a\n', "line 1: .*quotation marks"),
        ("a.jsonl", b'{"label": 1, "text": "a"}\n{"label": 1}\n', "line 2: .* lacks text"),
        ("a.jsonl", b"{'label': 1}\n", "line 1: .* is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1: .* expected an object"),
        ("a.tsv", b"\n\n", "holds no example"),
        ("a.tsv", "1\t好\n".encode() + "0\t坏\n".encode("gb18030"), "line 2: .* is not UTF-8"),
        ("a.xlsx", b"", "ends with '.xlsx'"),
        ("a.tsv.gz", b"not zipped", "Cannot read"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_rows(path, ("label", "text"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_rows(tmp_path / "a.tsv", ("label", "text"))


def test_of_several_names_of_a_column_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("score\tlabel\ttext\n0.3\t1\ta\n")
    assert rows(path, "label", "text") == [("1", "a")]


def test_a_name_stands_for_a_column_that_is_asked_for(tmp_path: Path) -> None:
    """`answer` is the pair of a text, unless it is an answer."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "a", "answer": 2}\n')
    assert rows(path, "question", "answer") == [("a", 2)]
    path.write_text('{"text": "a", "answer": "b"}\n')
    assert rows(path, "text", "pair") == [("a", "b")]
