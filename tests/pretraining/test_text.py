"""Texts and pairs from files: what a document is, what a line is, and what is wrong with a file."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k.errors import DataError
from bert4k.pretraining import text
from bert4k.pretraining.text import batches, documents, pairs

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a file of text or bytes; gzips it where asked."""

    def writing(content: str | bytes, name: str = "corpus.txt", zipped: bool = False) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if zipped else data)
        return path

    return writing


# What is read. -------------------------------------------------------------------------------------------------------------------


def test_blank_lines_separate_documents(write: Writer) -> None:
    path = write("\n\n早上下了一阵雨。\n路面还没有干。\n\n \t\u3000\n第二篇只有一行。\n\n\n第三篇没有换行")
    assert list(documents([path])) == [["早上下了一阵雨。", "路面还没有干。"], ["第二篇只有一行。"], ["第三篇没有换行"]]


def test_the_end_of_a_file_ends_a_document(write: Writer) -> None:
    first, second = write("甲\n", "1.txt"), write("乙\n丙", "2.txt")
    assert list(documents([first, second, first])) == [["甲"], ["乙", "丙"], ["甲"]]


def test_what_is_no_part_of_a_line(write: Writer) -> None:
    path = write("\ufeff第一行\r\n第二\u2028行\x0b还\x85是它\r\n\r\n\ufeff第三行\r里面\r\r\n")
    assert list(documents([path])) == [["第一行", "第二\u2028行\x0b还\x85是它"], ["\ufeff第三行\r里面\r"]]
    assert list(documents([write("", "empty.txt"), write("\ufeff\n\n", "mark.txt")])) == []


def test_gzip_by_name_and_by_its_first_bytes(write: Writer) -> None:
    content = "窗外有风。\n\n桌上有茶。\n"
    for name in ("corpus.txt.gz", "corpus.txt"):
        assert list(documents([write(content, name, zipped=True)])) == [["窗外有风。"], ["桌上有茶。"]]
    two = gzip.compress(b"a\n") + gzip.compress(b"b\n")  # as `cat` and pigz make it
    assert list(documents([write(two, "two.gz")])) == [["a", "b"]]


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1).map(lambda line: line + "x"), min_size=1))
)
def test_documents_come_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, written: list[list[str]]) -> None:
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_bytes("\n\n".join("\n".join(document) for document in written).encode())
    if written and written[0][0].startswith("\ufeff"):
        written[0][0] = written[0][0][1:]
    assert list(documents([path])) == written


def test_pairs(write: Writer) -> None:
    path = write("\ufeff天气很好\t天朗气清\r\n\n你 好\t 汝安 \n")
    assert list(pairs([path, path])) == [("天气很好", "天朗气清"), ("你 好", " 汝安 ")] * 2


@pytest.mark.parametrize("zipped", [False, True])
def test_progress_adds_up_to_the_files(zipped: bool, write: Writer) -> None:
    files = [write(f"第{number}行，写满一些字。\n" * 1000, f"{number}.txt", zipped) for number in range(3)]
    told: list[int] = []
    for _ in documents(files, told.append):
        pass
    assert sum(told) == sum(path.stat().st_size for path in files)
    assert all(amount > 0 for amount in told)


def test_batches_are_bounded_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BATCH", 10)
    written = [["一二三"], ["四五", "六七八"], ["九" * 30], ["十"], ("问", "答")]
    found = [batch.decode() for batch in batches(written)]
    assert found == ["一二三\n\n四五\n六七八\n\n" + "九" * 30, "十\n\n问\n答"]
    assert list(batches([])) == []


def test_memory_does_not_grow_with_the_file(write: Writer) -> None:
    path = write("今天的风从北边来，吹得树叶沙沙地响。\n把窗户关上，屋里就安静了。\n\n" * 15_000, zipped=True)
    tracemalloc.start()
    count = sum(len(document) for document in documents([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30_000
    assert peak < 300_000, "the text is 1.5 MB"


# What is wrong. ------------------------------------------------------------------------------------------------------------------


def message(read: Callable[[], object]) -> str:
    with pytest.raises(DataError) as found:
        read()
    assert "\n" not in str(found.value)
    return str(found.value)


def test_files_are_looked_at_before_anything_is_read(write: Writer, tmp_path: Path) -> None:
    good = write("好")
    for reader in (documents, pairs):
        assert "no text files" in message(lambda reader=reader: reader([]))
        said = message(lambda reader=reader: reader([good, tmp_path / "nowhere.txt"]))
        assert str(tmp_path / "nowhere.txt") in said
        assert "No such file" in said
        assert "is a folder" in message(lambda reader=reader: reader([tmp_path]))


def test_other_encodings(write: Writer) -> None:
    said = message(lambda: list(documents([write("第一行\n".encode() + "汉字".encode("gb18030"))])))
    assert "corpus.txt, line 2: byte 1 (0xba) is not UTF-8" in said
    assert "iconv" in said
    assert "line 1: byte 1 (0xff)" in message(lambda: list(documents([write("文".encode("utf-16"))])))
    assert "not UTF-8" in message(lambda: list(documents([write(b"\xed\xa0\x80")])))  # half of a surrogate pair


def test_damaged_gzip(write: Writer) -> None:
    whole = gzip.compress("".join(f"第{number}行\n" for number in range(9999)).encode())
    broken = {"cut": whole[:-20], "header": whole[:5], "plain": "没有压缩\n".encode(), "bits": whole[:2000] + b"\xff" * 50 + whole[2050:]}
    for name, content in broken.items():
        said = message(lambda name=name, content=content: list(documents([write(content, f"{name}.gz")])))
        assert f"{name}.gz is damaged after line" in said or "is not UTF-8" in said
        assert "gzip" in said or "UTF-8" in said


def test_no_end_of_line_or_of_document(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "LONGEST_LINE", 30)
    monkeypatch.setattr(text, "LONGEST_DOCUMENT", 50)
    assert "line 2 is longer than" in message(lambda: list(documents([write("短\n" + "长" * 11)])))
    assert list(documents([write("长" * 9 + "ab\n" + "长" * 9 + "ab\n")])) == [["长" * 9 + "ab"] * 2]
    said = message(lambda: list(documents([write("一行又一行\n" * 30)])))
    assert "more than 50 characters, which goes on in line 11" in said
    assert "blank lines" in said


def test_lines_that_are_no_pairs(write: Writer) -> None:
    wrong = {
        "没有制表符": "line 2: found no tab in '没有制表符'",
        "一\t二\t三": "line 2: found 2 tabs",
        "\t目标": "line 2: the source is empty",
        "来源\t": "line 2: the target is empty",
        "\t": "line 2: the source is empty",
        "来源\t \u3000": "line 2: the target is empty",
        "很长" * 999: "很长…'",
    }
    for line, says in wrong.items():
        said = message(lambda line=line: list(pairs([write(f"问\t答\n{line}\n")])))
        assert says in said
        assert "expected source<TAB>target" in said
