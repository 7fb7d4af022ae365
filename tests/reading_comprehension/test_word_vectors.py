"""Word vectors in both formats, and as vectors of characters."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

from bert4k.errors import ConfigError, DataError
from bert4k.reading_comprehension.word_vectors import WordVectors, read_word_vectors, train_word_vectors, words_of
from bert4k.tokenizers.words import Dictionary, dictionary

WORDS = ["的", "北京", "New York", "382", "白云山"]


def vectors() -> WordVectors:
    return WordVectors(WORDS, np.random.default_rng(0).normal(size=(5, 3)).astype("float32"))


def as_text(path: Path) -> Path:
    rows = [f"{word} {' '.join(map(repr, map(float, row)))}" for word, row in zip(WORDS, vectors().table[1:], strict=True)]
    data = ("5 3\n" + "\n".join(rows) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["v.bin", "v.txt", "v.txt.gz"])
def test_both_formats(tmp_path: Path, name: str) -> None:
    path = vectors().save(tmp_path / name) if name.endswith(".bin") else as_text(tmp_path / name)
    found = read_word_vectors(path)
    kept = [0, 1, 2, 4, 5] if name.endswith(".bin") else list(range(6))  # the binary format has no words with blanks
    assert found.words == [WORDS[number - 1] for number in kept[1:]] and found.width == 3
    np.testing.assert_array_equal(found.table, vectors().table[kept])
    assert read_word_vectors(path, 2).words == WORDS[:2]


def test_binary_without_line_ends(tmp_path: Path) -> None:
    rows = [
        word.replace(" ", "").encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(WORDS, vectors().table[1:], strict=True)
    ]
    (tmp_path / "v.bin").write_bytes(b"5 3\n" + b"".join(rows))
    np.testing.assert_array_equal(read_word_vectors(tmp_path / "v.bin").table, vectors().table)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    text, binary = as_text(tmp_path / "v.txt"), vectors().save(tmp_path / "v.bin")

    def wrong(name: str, data: bytes, match: str) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=match):
            read_word_vectors(tmp_path / name)

    lines = text.read_bytes().split(b"\n")
    wrong("a.txt", b"\n".join([lines[0], b"x 1 2", *lines[1:]]), "line 2: 'x 1 2' ... is not a word and 3 numbers")
    wrong("a.txt", b"\n".join([b"5 4", *lines[1:]]), "line 2.* 4 numbers, as its first line says, but 3 more")
    wrong("a.txt", b"\n".join([b"5 2", *lines[1:]]), "line 2.* 2 numbers, as its first line says, but 3 more")
    wrong("a.txt", b"\n".join([*lines[:3], b"x 1 two 3"]), "line 4")
    wrong("a.txt", b"\n".join(lines[:4]), "ends after 3 words; its first line says 5")
    wrong("a.txt", b"\n".join(lines[1:]), "expected a line with how many words")
    wrong("a.bin", binary.read_bytes()[:-9], "ends after 3 words; its first line says 4")
    wrong("a.bin", binary.read_bytes().replace(b"4 3\n", b"4 4\n"), "ends after|none or too large")
    wrong("a.bin", b"5 3\n" + b"\xe5" * 9000, "4,096 bytes without a blank")
    wrong("a.bin", b"1 3\nx " + np.array([np.nan, 1, 1], "<f4").tobytes(), "none or too large")
    with pytest.raises(DataError, match="Cannot read"):
        read_word_vectors(tmp_path / "absent.txt")


def test_characters_have_the_vector_of_their_word() -> None:
    numbers = vectors().of_characters("白云山382米的x")
    assert numbers.tolist() == [5, 5, 5, 4, 4, 4, 0, 1, 0]
    assert not vectors().table[0].any()


def test_words_are_those_of_jieba() -> None:
    own, ours = dictionary(), Dictionary(frozenset())
    texts = ["我来到北京清华大学，买了3.14个iPhone15手机。", "  T恤2008年AT&T\n小明硕士毕业于中国科学院计算所", "𠀀龘abc def"]
    for text in texts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = list(own.cut(text, HMM=False))
        assert [text[start:end] for start, end in words_of(text, ours)] == expected


def test_learnt_of_texts() -> None:
    texts = ["我来到北京清华大学", "小明在北京上学"] * 10
    try:
        import gensim  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install 'bert4k\\[words\\]'"):
            train_word_vectors(texts)
        return
    found, again = (train_word_vectors(texts, width=4) for _ in range(2))
    assert found.words[0] == "北京" and found.width == 4
    np.testing.assert_array_equal(found.table, again.table)
    with pytest.raises(DataError, match="No word comes 99 times"):
        train_word_vectors(texts, least=99)
