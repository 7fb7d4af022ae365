"""A vocabulary from texts: what is in it, in which order, the same on every run, and no ASCII word that it cannot write."""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k.errors import ConfigError, DataError, Error, VocabularyError
from bert4k.pretraining import text, vocabulary
from bert4k.pretraining.vocabulary import Counts, build_vocabulary, choose_tokens, count_words, coverage
from bert4k.tokenizers import Tokenizer

TEXT = """\
今天学习机器翻译，明天还要学习。
机器翻译很有用！

The train is training trainees; trained trainers train 2024 trains in 2024.
Les élèves préfèrent le café, ДОМ дом дома.
"""
PAIRS = "[翻译]今天\t今日\n学习\t习\n"
ASCII = {*string.ascii_lowercase, *string.digits, *string.punctuation, *(f"##{char}" for char in string.ascii_lowercase + string.digits)}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS, encoding="utf-8")
    return path


def counts(words: dict[str, int], chinese: dict[str, int] | None = None, lowercase: bool = True) -> Counts:
    return Counts(Counter(words), Counter(chinese or {}), lowercase)


def beyond_ascii(tokens: list[str]) -> list[str]:
    return [token for token in tokens[5:] if token not in ASCII]


# Counting. -----------------------------------------------------------------------------------------------------------------------


def test_words_are_those_of_the_tokenizer(texts: Path, pairs: Path) -> None:
    found = count_words([texts], [pairs], special_tokens=["[翻译]"], chinese=True, workers=0)
    expected = {"习": 4, "今": 3, "train": 2, "2024": 2, "eleves": 1, "дом": 2, "。": 1}
    expected |= {"翻": 2, "The": 0}  # what marks a task is no text, and words are in lower case
    assert {word: found.words[word] for word in expected} == expected
    assert found.chinese == {"今天": 2, "学习": 3, "机器翻译": 2, "明天": 1, "还要": 1, "有用": 1, "今日": 1}
    cased = count_words([texts], lowercase=False, workers=0)
    assert (cased.words["The"], cased.words["ДОМ"], cased.words["дом"], cased.chinese) == (1, 1, 1, Counter())


def test_batches_and_workers_change_nothing(texts: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = count_words([texts], [pairs], chinese=True, workers=0)
    monkeypatch.setattr(text, "BATCH", 1)
    for workers in (0, 2):
        assert count_words([texts], [pairs], chinese=True, workers=workers) == alone


def test_rare_words_are_forgotten_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BATCH", 100)
    monkeypatch.setattr(vocabulary, "_REMEMBERED", 50)
    path = tmp_path / "numbers.txt"
    path.write_text("\n\n".join(f"同样 的 词 {number}" for number in range(1000)), encoding="utf-8")
    found = count_words([path], workers=0)
    assert found.words["同"] == found.words["词"] == 1000
    assert len(found.words) < 100


# Choosing. -----------------------------------------------------------------------------------------------------------------------


def test_the_order_of_the_tokens(texts: Path, pairs: Path) -> None:
    tokens = build_vocabulary([texts], [pairs], size=160, minimum_count=1, special_tokens=["[翻译]"], words=2, workers=0)
    assert tokens[:6] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[翻译]"]
    assert tokens[6:11] == ["t", "习", "д", "今", "天"], "t begins 8 words; of three each, the code point decides"
    assert tokens[-2:] == ["学习", "今天"], "words come last, by count"
    kinds = ["piece" if len(token.removeprefix("##")) > 1 else "inside" if len(token) > 1 else "character" for token in tokens[6:-2]]
    assert kinds == sorted(kinds, key=["character", "inside", "piece"].index)
    assert set(tokens) > ASCII
    assert len(tokens) == len(set(tokens)) == 160


def test_characters_are_ranked_by_count() -> None:
    tokens = choose_tokens(counts({"丙": 9, "甲": 7, "乙": 7, "丁": 2, "戊": 1}), size=200, minimum_count=2)
    assert beyond_ascii(tokens) == ["丙", "乙", "甲", "丁"]
    small = choose_tokens(counts({"丙": 9, "甲": 7, "乙": 7, "丁": 2}), size=5 + len(ASCII) + 2, minimum_count=1)
    assert beyond_ascii(small) == ["丙", "乙"]


def test_pieces_are_those_of_byte_pair_encoding() -> None:
    """e-r occurs 9 times; then e-w, 8, and what is left of n-e, 8; then o-w before l-o, 7 each, by code point."""
    words = counts({"low": 5, "lowest": 2, "newer": 6, "wider": 3, "new": 2})
    tokens = choose_tokens(words, size=5 + len(ASCII) + 4, minimum_count=1)
    assert beyond_ascii(tokens) == ["##er", "##ew", "new", "##ow"]


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=7), st.integers(1, 5), min_size=1, max_size=12))
def test_merges_are_those_of_the_plain_algorithm(words: dict[str, int]) -> None:
    """Count all pairs, join the most frequent one everywhere, and begin again."""
    rows = {word: [word[0], *(f"##{char}" for char in word[1:])] for word in words}
    expected = []
    while True:
        found: Counter[tuple[str, str]] = Counter()
        for word, symbols in rows.items():
            for pair in pairwise(symbols):
                found[pair] += words[word]
        if not found:
            break
        pair = min(found, key=lambda pair: (-found[pair], pair))
        piece = pair[0] + pair[1][2:]
        expected.append((piece, found[pair]))
        for symbols in rows.values():
            at = 0
            while at + 1 < len(symbols):
                if (symbols[at], symbols[at + 1]) == pair:
                    symbols[at : at + 2] = [piece]
                at += 1
    assert list(vocabulary._merges(Counter(words), 1)) == expected
    frequent = [count for _, count in expected]
    assert list(vocabulary._merges(Counter(words), 3)) == expected[: next((i for i, count in enumerate(frequent) if count < 3), None)]


def test_the_corpus_decides_between_characters_and_pieces() -> None:
    chinese = {chr(0x4E00 + index): 1000 - index for index in range(900)}
    english = {f"{first}{second}{third}": 3000 for first in "abcdefgh" for second in "abcdefgh" for third in "abcdefgh"}

    def pieces(tokens: list[str]) -> int:
        return sum(len(token.removeprefix("##")) > 1 for token in tokens[5:])

    size = 1200
    shares = [pieces(choose_tokens(counts(words), size=size)) for words in (chinese, chinese | english, english)]
    assert shares[0] == 0 < shares[1] < shares[2]
    assert len(choose_tokens(counts(chinese | english), size=size)) == size
    for latin in (0, 10, 300):
        tokens = choose_tokens(counts(chinese | english), size=size, latin=latin)
        assert (len(tokens), pieces(tokens)) == (size if latin == 300 else 5 + len(ASCII) + 900 + latin, latin)


@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=30), max_size=4), st.booleans())
def test_no_ascii_word_is_unknown(written: list[str], lowercase: bool) -> None:
    tokens = choose_tokens(counts({"好": 1}, lowercase=lowercase), size=300)
    tokenizer = Tokenizer(tokens, lowercase, special_tokens_in_text=False)
    assert not [line for line in written if "[UNK]" in tokenizer.tokenize(line)]


def test_the_same_vocabulary_every_time(tmp_path: Path) -> None:
    """Whatever the order of the texts: ties are many here."""
    draw = random.Random(1)
    lines = ["".join(draw.choices("abcdefgh", k=draw.randint(2, 9))) + " " + "".join(draw.choices("春夏秋冬", k=3)) for _ in range(2000)]
    found = set()
    for _ in range(3):
        draw.shuffle(lines)
        path = tmp_path / "shuffled.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        found.add("\n".join(build_vocabulary([path], size=600, minimum_count=2, words=2, workers=0)))
    assert len(found) == 1


def test_other_scripts_are_characters_and_pieces(texts: Path) -> None:
    tokens = build_vocabulary([texts], size=300, minimum_count=1, workers=0)
    assert {"д", "##о", "##м", "дом"} <= set(tokens)
    assert Tokenizer(tokens).tokenize("дом") == ["дом"]
    cased = build_vocabulary([texts], size=300, minimum_count=1, lowercase=False, workers=0)
    assert {"Д", "##О", "T", "##Z"} <= set(cased)


def test_words_are_chinese_and_frequent() -> None:
    found = counts({"好": 9}, {"今天": 7, "学习": 7, "图书馆": 6, "少见": 1})
    assert choose_tokens(found, size=300, words=3, minimum_count=2)[-3:] == ["今天", "学习", "图书馆"]
    assert "少见" not in choose_tokens(found, size=300, words=9, minimum_count=2)
    assert "今天" not in choose_tokens(found, size=300)
    assert len(choose_tokens(found, size=5 + len(ASCII) + 2, words=2)) == 5 + len(ASCII) + 2


def test_a_special_token_twice_is_one() -> None:
    tokens = choose_tokens(counts({"好": 9}), size=300, special_tokens=["[MASK]", "[A]", "[A]", "a"])
    assert tokens[4:7] == ["[MASK]", "[A]", "a"]
    assert len(set(tokens)) == len(tokens)


def test_coverage() -> None:
    found = coverage(choose_tokens(counts({"好": 9}), size=300), counts({"好": 9, "龘": 2, "靐": 1, "ok": 5, "дом": 1}))
    assert found == (9 + 2 + 1 + 10 + 3, 9 + 10, 2)


# What is wrong. ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "action", "says"),
    [
        (ConfigError, lambda: choose_tokens(counts({"好": 9}), size=50), "size of at least 1"),
        (ConfigError, lambda: choose_tokens(counts({"好": 9}, {"今天": 9}), size=109, words=1), "size of at least 1"),
        (ConfigError, lambda: choose_tokens(counts({"好": 9}), minimum_count=0), "minimum_count=0"),
        (ConfigError, lambda: choose_tokens(counts({"好": 9}), words=-1), "words=-1"),
        (ConfigError, lambda: choose_tokens(counts({"好": 9}), latin=-1), "latin=-1"),
        (VocabularyError, lambda: choose_tokens(counts({"好": 9}), special_tokens=["[A\nB]"]), "no UTF-8 vocab.txt can hold"),
        (VocabularyError, lambda: choose_tokens(counts({"好": 9}), special_tokens=[""]), "empty token"),
        (DataError, lambda: count_words([]), "no text files"),
        (DataError, lambda: count_words([Path("nowhere.txt")]), "nowhere.txt"),
    ],
)
def test_what_cannot_be(error: type[Error], action: Callable[[], object], says: str) -> None:
    with pytest.raises(error) as found:
        action()
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_files_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("\u200b\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"There is no word in .*empty\.txt"):
        count_words([path], workers=0)
