"""The index of a folder of texts: what is found, and what becomes of it when files change or it is broken."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bert4k.errors import ConfigError, DataError
from bert4k.retrieval import Engine, Piece, corpus, open_corpus
from bert4k.retrieval.terms import asked_terms, terms

pytest.importorskip("tantivy", reason="passages are found by Tantivy (bert4k[ask])")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    (folder / "山").mkdir(parents=True)
    (folder / "山" / "白云山.txt").write_text("\ufeff位于广州。\r\n\r\n主峰摩星岭海拔382米，是最高峰。\r\n", encoding="utf-8")
    (folder / "珠江.md").write_text("# 珠江\n\n珠江全长2320公里。\n", encoding="utf-8")
    (folder / "旧.txt.gz").write_bytes(gzip.compress("长江长6300公里。".encode()))
    (folder / ".hidden.txt").write_text("珠江", encoding="utf-8")
    (folder / "table.csv").write_text("珠江", encoding="utf-8")
    return folder


def files_of(index: Engine, question: str) -> list[str]:
    return [found.file for found in index.search(question)]


def test_what_is_found(texts: Path) -> None:
    index = open_corpus(texts)
    [best, *_] = index.search("摩星岭海拔多少米？")
    assert (best.file, best.text, best.start, best.line) == ("山/白云山.txt", "位于广州。\r\n\r\n主峰摩星岭海拔382米，是最高峰。", 0, 1)
    assert best.score > 0 and set(files_of(index, "珠江长多少公里")) == {"珠江.md", "旧.txt.gz"}
    assert files_of(index, "白云山") == ["山/白云山.txt"], "the words of a file's name count"
    assert files_of(index, "ＺＺＺ？") == [] and files_of(index, "，。") == [] and files_of(index, "\udcff") == []
    assert len(index.search("公里", 1)) == 1
    with pytest.raises(DataError, match="0 passages were asked for"):
        index.search("公里", 0)


def test_lines_and_places(tmp_path: Path) -> None:
    text = "\n".join(f"第{number}行说的是{'山水' * 60}。" for number in range(1, 6))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    found = {each.line: each for each in open_corpus(tmp_path / "a.txt", tmp_path / "index").search("山水", 10)}
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert all(text[each.start :].startswith(each.text) and each.text.startswith(f"第{line}行") for line, each in found.items())
    assert (tmp_path / "index" / "files.json").exists() and not (tmp_path / ".a.txt").exists()


def test_the_same_text_is_found_once(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text("珠江全长2320公里。" if number else "珠江的水", encoding="utf-8")
    assert sorted(files_of(open_corpus(tmp_path), "珠江")) == ["00.txt", "01.txt"]


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    names: list[str] = []
    read = corpus._read
    monkeypatch.setattr(corpus, "_read", lambda path: names.append(path.name) or read(path))
    return names


def test_only_what_changed_is_read_anew(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_corpus(texts)
    names = read_files(monkeypatch)
    assert files_of(open_corpus(texts), "珠江") == ["珠江.md"] and not names
    (texts / "珠江.md").write_text("珠江的水很清，珠江的水很清。", encoding="utf-8")
    (texts / "旧.txt.gz").unlink()
    (texts / "新.txt").write_text("黄河长5464公里。", encoding="utf-8")
    index = open_corpus(texts)
    assert sorted(names) == ["新.txt", "珠江.md"]
    assert files_of(index, "公里") == ["新.txt"] and index.search("珠江")[0].text == "珠江的水很清，珠江的水很清。"


def test_whoever_was_killed_goes_on(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "COMMIT_EVERY", 1)
    read = corpus._read

    def dying(path: Path) -> tuple[str, str | None]:
        if path.name == "珠江.md":
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(corpus, "_read", dying)
        open_corpus(texts)
    names = read_files(monkeypatch)
    assert sorted(files_of(open_corpus(texts), "公里")) == ["旧.txt.gz", "珠江.md"]
    assert "旧.txt.gz" not in names, "it was read before"


def test_killed_between_the_index_and_what_is_known_of_it(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, calls = corpus._keep, []

    def dying(*arguments: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        keep(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(corpus, "_keep", dying)
        open_corpus(texts)
    (texts / "旧.txt.gz").unlink()
    index = open_corpus(texts)
    assert files_of(index, "珠江") == ["珠江.md"], "once, although it was there"
    assert files_of(index, "长江") == [] and index.files() == {"珠江.md", "山/白云山.txt"}, "what nobody knew of is gone"


def test_what_is_no_text_is_left_out_and_told(texts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (texts / "a.txt").write_bytes("好\n坏".encode("gbk"))
    (texts / "b.gz").write_bytes(b"no gzip")
    (texts / "c.txt.gz").write_bytes(gzip.compress("好".encode())[:-6])
    (texts / "d.txt").write_bytes(b"a\0b")
    (texts / "e.txt").write_bytes(b"long" * 100)
    monkeypatch.setattr(corpus, "LONGEST", 300)
    for _ in range(2):  # and again, when nothing is read
        assert files_of(open_corpus(texts), "珠江") == ["珠江.md"]
        told = capsys.readouterr().err
        assert "5 of 8 files were left out: a.txt is not UTF-8 in line 1" in told
        for part in ("b.gz cannot be read", "c.txt.gz cannot be read", "d.txt is no text", "e.txt is larger than"):
            assert part in told


@pytest.mark.parametrize("content", [None, "。\n", b"\xff"])
def test_nothing_to_find(tmp_path: Path, content: str | bytes | None) -> None:
    (tmp_path / "texts").mkdir()
    if content is not None:
        (tmp_path / "texts" / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match="holds no file that ends with" if content is None else "holds no text: 1 files"):
        open_corpus(tmp_path / "texts")
    with pytest.raises(DataError, match="holds no file"):
        open_corpus(tmp_path / "nowhere")


def test_an_index_of_another_version_or_corpus_is_refused(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_corpus(texts)
    with monkeypatch.context() as patch:
        patch.setattr(corpus, "FORMAT", 99)
        with pytest.raises(DataError, match=r"made by another version .*: format 1, now 99\. Remove the folder"):
            open_corpus(texts)
    with pytest.raises(DataError, match="another corpus: corpus "):
        open_corpus(texts / "山", texts / ".bert4k-index")
    texts.rename(tmp_path / "moved")
    assert files_of(open_corpus(tmp_path / "moved"), "珠江") == ["珠江.md"], "it moves with its corpus"


@pytest.mark.parametrize("content", ["{", "[]", '{"about": {}, "files": 3}', '{"about": {}}'])
def test_a_damaged_list_of_files_is_refused(texts: Path, content: str) -> None:
    open_corpus(texts)
    (texts / ".bert4k-index" / "files.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"(cannot be read|damaged|another version).*Remove the folder"):
        open_corpus(texts)


@pytest.mark.parametrize("suffix", [".store", ".idx", ".term", "meta.json"])
def test_a_damaged_index_is_refused(texts: Path, suffix: str) -> None:
    open_corpus(texts)
    for path in (texts / ".bert4k-index" / "passages").iterdir():
        if path.name.endswith(suffix):
            path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(DataError, match=r"cannot be used .*Remove this folder"):
        open_corpus(texts).search("珠江")


def test_a_folder_of_other_things_is_not_written_to(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("好", encoding="utf-8")
    with pytest.raises(DataError, match="there are other things in it"):
        open_corpus(texts, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="cannot be kept"):
        open_corpus(texts, tmp_path / "mine" / "thesis.txt" / "index")


def test_one_writes_at_a_time(texts: Path) -> None:
    open_corpus(texts)
    other = Engine(texts / ".bert4k-index" / "passages")
    other.replace("珠江.md", [Piece("好", 0, 1)])
    assert files_of(open_corpus(texts), "珠江") == ["珠江.md"], "reading goes on"
    (texts / "新.txt").write_text("黄河", encoding="utf-8")
    with pytest.raises(DataError, match="Another process is writing the index"):
        open_corpus(texts)
    other.close()
    assert files_of(open_corpus(texts), "黄河") == ["新.txt"]


def test_without_tantivy(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(ConfigError, match=r"pip install 'bert4k\[ask\]'"):
        open_corpus(texts)
    assert not (texts / ".bert4k-index").exists()


def test_links_to_nothing_and_folders_with_names_of_files(texts: Path) -> None:
    (texts / "nothing.txt").symlink_to(texts / "gone.txt")
    (texts / "folder.txt").mkdir()
    (texts / "folder.txt" / "a.txt").write_text("黄河", encoding="utf-8")
    assert files_of(open_corpus(texts), "黄河") == ["folder.txt/a.txt"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    try:
        with open(os.fsencode(tmp_path) + b"/\xff.txt", "wb") as file:
            file.write("珠江".encode())
    except OSError:
        pytest.skip("names are UTF-8 here")
    assert files_of(open_corpus(tmp_path), "珠江") == ["\\udcff.txt"]


def test_it_is_light() -> None:
    code = "import sys, bert4k.retrieval; assert not {'keras', 'tantivy', 'jax', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_terms() -> None:
    assert terms("ＩＢＭ 在中华人民共和国！") == ["ibm", "在", "中华", "华人", "人民", "共和", "共和国", "中华人民共和国"]
    assert asked_terms("白云山的海拔是多少米？") == ["白云", "云山", "白云山", "海拔", "米"] and asked_terms("是谁？") == ["是", "谁"]
    assert [len(word) for word in terms("a" * 100_000)] == [64]
    assert json.dumps(terms("\udcff好")) == json.dumps(["好"])
