"""bert4k.tokenizers against the plain reference, on every code point, random strings and real text."""

import gzip
import json
import os
import pickle
import re
import subprocess
import sys
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_tokenizer import basic_tokenize, full_tokenize, tokenize_words, truncate_pair

from bert4k.errors import CheckpointError, ConfigError, DataError, VocabularyError
from bert4k.tokenizers import Tokenizer, TruncationWarning
from bert4k.tokenizers.basic import BasicTokenizer

# Where the real lines come from, and how many of each: short ones by the ten thousand, some of every other kind.
REAL_TEXT = {
    "raw_poetry/quantangshi_trad.txt.gz": 50_000,
    "s2s_wenyan_baihua/wenyan.src.txt.gz": 43_000,
    "s2s_wenyan_baihua/baihua.tgt.txt.gz": 4_000,
    "raw_lctt_tech/lctt_zh.txt.gz": 2_000,
    "raw_pd_modern_lit/pd_modern_lit.txt.gz": 1_000,
    "raw_laws/laws_zh.txt.gz": 1_000,
    "raw_cluecorpus_sample/CLUECorpusSmall_sampled.txt.gz": 500,
    "raw_cluecorpus_sample/news-commentary-v13-en-zh_sampled.txt.gz": 500,
    "book_review/train.tsv.gz": 1_000,
}

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = [
    *SPECIAL,
    *"今天气不错很好的问题文章豈,。“”(?!-'",
    *"abcdefghijklmnopqrstuvwxyz0123456789",
    *(f"##{char}" for char in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *"ασς",
    *("##α", "##σ", "##ς", "##ab", "un", "##aff", "##able", "hello", "world", "\u2028", "##\u2028", "天天", "##天", "é", "É", "##é"),
    *("ᄒ", "##ᅡ", "##ᆫ", "##글", "한", "\U0001d158", "##\U0001d165", "##\U0001d16d", "😀", "[TITLE]", "[unused1]", "<T>"),
]

TORTURE = [
    "",
    " ",
    "\u2028",
    "a\u2028b\u2029c\u0085d\x1ce",
    "今天 天气\u3000不错",
    "Ｈｅｌｌｏ，今天１２３！",
    "cafe\u0301 CAFÉ e\u0301\u0301\u0301 \u0301e",
    "ΑΣ ΑΣΑ Σ ΣΣ ΑΣ. ΑΣ\u200b Α\u0301Σ\u0301 ΑΣ今Σ σΣς ΑΣ'Α",
    "İstanbul ISTANBUL ı ẞ ǅ ﬁ Ω K",
    "한글 한국어 \u1112\u1161\u11ab",
    "豈\uf900\ufa0e\U0002f800",
    "👨\u200d👩\u200d👧 😀 ❤\ufe0f 1\ufe0f\u20e3 🇨🇳",
    "\ud800 a\ud800b \udfff\ud800 \ud83d\ude00",
    "a\u200bb\u200cc\u200dd\ufeffe\u00adf",
    "\x00\ufffd\x07\x7f\x9f",
    "\U0001d160\U0001d16d\U0001d165\U0001d16e \U0001d16d\U0001d165\U0001d160",
    "a\u302e\u302f\u0316\u302ex Σ\u302f\u302e",
    "a\u0345\u0301Σ ᾈ ᾳ ΐ",
    "क्षि हिन्दी ไทย العَرَبِيَّة עִבְרִית",
    "\u2260\u226e\u1fef\u037e\u0387\u2329",
    "x" * 200 + " " + "x" * 201 + " " + "é" * 200 + " " + "e\u0301" * 200 + " İ" * 3,
    "[MASK] [mask] [ MASK] [MASK][SEP]x[UNK]",
    "....,,,,----" * 50,
    "$100+5=105 <b>^|`~ ¥€№℃％",
    "ab\t\r\ncd\u00a0ef\u2003gh\u202fij\u205fkl\u1680mn\u180eop",
    "\U000e0041\U000e0100今\U000e0100",
]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def small(request) -> Tokenizer:
    return Tokenizer(SMALL, lowercase=request.param)


@pytest.fixture(scope="module")
def uncased() -> Tokenizer:
    return Tokenizer(SMALL)


def real_lines(folder: Path, every: int) -> list[str]:
    """Each `every`-th of the lines that REAL_TEXT names."""
    lines: list[str] = []
    for name, count in REAL_TEXT.items():
        with gzip.open(folder / name, "rt", encoding="utf-8", newline="\n") as file:
            lines += islice(file, 0, count, every)
    return lines


def check_spans(tokenizer: Tokenizer, text: str) -> None:
    """Every token's span lies in the text, runs forward, and what it marks reads as the token."""
    encoding = tokenizer.encode(text)
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]"
    assert encoding.offsets[0] == encoding.offsets[-1] == (0, 0)
    previous = (0, 0)
    for token, (start, end) in zip(encoding.tokens[1:-1], encoding.offsets[1:-1], strict=True):
        assert 0 <= start < end <= len(text)
        assert previous[0] <= start and previous[1] <= end
        previous = (start, end)
        raw = text[start:end]
        if token != "[UNK]" and raw not in tokenizer.vocabulary:
            folded = "".join(basic_tokenize(raw, tokenizer.lowercase))
            # A sigma is final or not in its word; a decomposed character may be several tokens with one span.
            assert token.removeprefix("##").replace("ς", "σ") in folded.replace("ς", "σ")
            if unicodedata.normalize("NFD", raw[0]) == raw[0]:
                assert len(folded) == len(token.removeprefix("##"))


# Equality with the rules


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_code_point_alone_and_between_letters(lowercase):
    """All assigned ones and all surrogates; of the unassigned and private, which all fall under one rule, every 50th."""
    basic, around_words = BasicTokenizer(lowercase), BasicTokenizer(lowercase, _WORDS_ONLY._basic._split)
    codes = [code for code in range(sys.maxunicode + 1) if code % 50 == 0 or unicodedata.category(chr(code)) not in ("Cn", "Co")]
    assert len(codes) > 150_000
    for first in range(0, len(codes), 500):
        text = " ".join(f"{char} a{char}B" for char in map(chr, codes[first : first + 500]))
        assert basic.words(text) == basic_tokenize(text, lowercase), f"code points from U+{codes[first]:04X}"
        words, starts, ends = basic.words_and_spans(text)
        assert words == basic.words(text) == around_words.words(text)
        assert len(starts) == len(ends) == sum(map(len, words))
        assert starts == sorted(starts) and ends == sorted(ends) and all(map(int.__lt__, starts, ends))


@pytest.mark.parametrize("text", TORTURE)
def test_torture(small, text):
    expected = full_tokenize(text, set(SMALL), small.lowercase)
    plain = Tokenizer(SMALL, small.lowercase, special_tokens_in_text=False)
    assert plain.tokenize(text) == expected
    assert plain.encode(text).tokens[1:-1] == expected
    check_spans(plain, text)
    check_spans(small, text)


NASTY = (
    "aAzZ09 éÉ今天豈\uf900ΣσςİıẞΑα한글ᄒ\u0301\u0345\u0316\u302e\u302f\U0001d160\U0001d165\U0001d16d"
    "\u2028\u0085\x00\ufffd\u200b\u200d\ud800\udc00😀\ufe0f.'-·[]\t\n\u3000"
)


@settings(max_examples=600, deadline=None)
@given(st.text(st.one_of(st.sampled_from(NASTY), st.characters(exclude_categories=())), max_size=40), st.booleans())
@example("ΑΣ\u0301\u200b.", True)
def test_random_unicode(text, lowercase):
    tokenizer = _RANDOM[lowercase]
    assert tokenizer._basic.words(text) == basic_tokenize(text, lowercase)
    expected = full_tokenize(text, set(SMALL), lowercase)
    assert tokenizer.tokenize(text) == expected
    assert tokenizer.encode(text).tokens[1:-1] == expected
    check_spans(tokenizer, text)


_RANDOM = {lowercase: Tokenizer(SMALL, lowercase, special_tokens_in_text=False) for lowercase in (True, False)}


@pytest.mark.parametrize("name, every", [("bert-chinese-vocab.txt", 1), ("bert-uncased-english-vocab.txt", 20)])
def test_real_lines(shared_data, name, every):
    tokenizer = Tokenizer(shared_data / "vocab" / name, special_tokens_in_text=False)
    known = set(tokenizer.vocabulary)
    lines = real_lines(shared_data, every)
    assert len(lines) * every > 100_000
    for first in range(0, len(lines), 64):
        batch = lines[first : first + 64]
        ids = tokenizer(batch)["token_ids"]
        for row, text in zip(ids.tolist(), batch, strict=True):
            expected = ["[CLS]", *full_tokenize(text, known), "[SEP]"]
            assert [tokenizer.vocabulary[token] for token in row[: len(expected)]] == expected
            assert not any(row[len(expected) :])
    for text in lines[::50]:
        check_spans(tokenizer, text)


def test_a_vocabulary_with_line_separators_keeps_its_ids(shared_data):
    tokenizer = Tokenizer(shared_data / "vocab" / "bert-chinese-vocab.txt")
    assert len(tokenizer) == 21128
    assert tokenizer.token_to_id("\u2028") == 343 and tokenizer.token_to_id("[MASK]") == 103
    assert tokenizer.token_to_id("##\u2028") == 13502


def test_where_transformers_differs_from_google():
    """Facts about the `transformers` of the day, not a reference: its 100-character limit and its sigma."""
    transformers = pytest.importorskip("transformers")
    other = transformers.BertTokenizer(vocab={token: index for index, token in enumerate(SMALL)})
    assert other.tokenize("x" * 101) == ["[UNK]"] and other.tokenize("ΑΣ") == ["α", "##σ"]
    ours = Tokenizer(SMALL)
    assert ours.tokenize("x" * 101) == ["x"] + ["##x"] * 100 and ours.tokenize("ΑΣ") == ["α", "##ς"]


def test_the_200_character_limit(uncased):
    assert uncased.tokenize("x" * 200) == ["x"] + ["##x"] * 199
    assert uncased.tokenize("x" * 201) == ["[UNK]"]
    assert uncased.encode("x" * 201).offsets[1] == (0, 201)


# Spans


def test_spans_of_what_was_changed(uncased):
    assert uncased.encode("un\u200baffable 天").offsets[1:-1] == [(0, 2), (3, 6), (6, 10), (11, 12)]
    assert uncased.encode("e\u0301 豈\ufe00!").offsets[1:-1] == [(0, 2), (3, 5), (5, 6)]
    # One Hangul syllable, three tokens, one span.
    assert uncased.encode("한").offsets[1:-1] == [(0, 1)] * 3


def test_reordered_marks_share_a_span(uncased):
    encoding = uncased.encode("\U0001d158\U0001d16d\U0001d165")
    assert encoding.tokens[1:-1] == ["\U0001d158", "##\U0001d165", "##\U0001d16d"]
    assert encoding.offsets[1:-1] == [(0, 1), (1, 3), (1, 3)]


def test_offsets_align_with_the_batch(uncased):
    texts = ["今天[MASK]气", ("Hello, world", "un\ud800 unaffable"), ""]
    batch, offsets = uncased(texts), uncased.offsets(texts)
    assert offsets.dtype == np.int32 and offsets.shape == (*batch["token_ids"].shape, 2)
    for row, item in enumerate(texts):
        pair = item if isinstance(item, tuple) else (item,)
        encoding = uncased.encode(*pair)
        length = len(encoding)
        assert batch["token_ids"][row, :length].tolist() == encoding.ids.tolist()
        assert batch["segment_ids"][row, :length].tolist() == encoding.segment_ids.tolist()
        assert list(map(tuple, offsets[row, :length].tolist())) == encoding.offsets
        assert not offsets[row, length:].any()
        for token, (start, end), index in zip(encoding.tokens, encoding.offsets, encoding.text_index, strict=True):
            assert (start == end) == (index is None)
            if index is not None and token != "[UNK]":
                assert pair[index][start:end].lower() == token.removeprefix("##").replace("[MASK]", "[mask]")


# Batches, pairs, truncation


def test_batch(uncased):
    batch = uncased(["今天", ("天", "气不")])
    ids = uncased._ids
    cls, sep = ids["[CLS]"], ids["[SEP]"]
    assert batch["token_ids"].dtype == batch["segment_ids"].dtype == np.int32
    assert batch["token_ids"].tolist() == [
        [cls, ids["今"], ids["天"], sep, 0, 0],
        [cls, ids["天"], sep, ids["气"], ids["不"], sep],
    ]
    assert batch["segment_ids"].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1]]
    assert uncased([""])["token_ids"].tolist() == [[cls, sep]]


@pytest.mark.parametrize("texts", [("今天", "气"), iter(["今天", "气"]), np.array(["今天", "气"]), {"今天": 1, "气": 2}.keys()])
def test_any_iterable_of_strings_is_a_batch(uncased, texts):
    assert uncased(texts)["token_ids"].tolist() == uncased(["今天", "气"])["token_ids"].tolist()


def test_a_list_of_two_is_a_pair(uncased):
    assert uncased([["今", "天"]])["segment_ids"].tolist() == uncased([("今", "天")])["segment_ids"].tolist() == [[0, 0, 0, 1, 1]]


def test_padding_is_the_pad_token_wherever_it_stands():
    vocabulary = [*SMALL[1:], "[PAD]"]
    assert Tokenizer(vocabulary)(["", "天"])["token_ids"][0, 2] == len(SMALL) - 1


@pytest.mark.parametrize("first", range(8))
@pytest.mark.parametrize("second", range(8))
def test_pairs_are_truncated_as_google_does(uncased, first, second):
    for max_length in range(3, 20):
        a, b = ["a"] * first, ["b"] * second
        truncate_pair(a, b, max_length - 3)
        encoding = uncased.encode("a " * first, "b " * second, max_length)
        assert encoding.tokens == ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
        assert encoding.cut == first + second - len(a) - len(b)


def test_truncation_is_told_once_a_batch(uncased):
    texts = ["今天天气", "今", ("今天", "天气不错")]
    with pytest.warns(TruncationWarning, match="2 of 3 texts did not fit max_length 5: 5 tokens were cut, 4 of them from row 2") as caught:
        batch = uncased(texts, max_length=5)
    assert len(caught) == 1 and caught[0].message.cut == {0: 1, 2: 4} and caught[0].filename == __file__
    assert batch["token_ids"].shape == (3, 5)
    assert [uncased.encode("今天天气", max_length=5).cut, uncased.encode("今").cut] == [1, 0]
    assert uncased.offsets(texts, max_length=5).shape == (3, 5, 2)
    with warnings.catch_warnings(action="error"):
        uncased(texts, max_length=9)


def test_rows_without_padding(uncased):
    texts = ["今天天气", "", ("今天", "天气不错"), "今[PAD]天[PAD]"]
    batch = uncased(texts)
    token_ids, segment_ids = uncased.unpadded(texts)
    for row, text in enumerate(texts):
        encoding = uncased.encode(*text) if isinstance(text, tuple) else uncased.encode(text)
        assert token_ids[row].dtype == segment_ids[row].dtype == np.int32
        assert token_ids[row].tolist() == encoding.ids.tolist() == batch["token_ids"][row, : len(encoding)].tolist()
        assert segment_ids[row].tolist() == encoding.segment_ids.tolist() == batch["segment_ids"][row, : len(encoding)].tolist()
    with pytest.warns(TruncationWarning, match="3 of 4 texts") as caught:
        token_ids, _ = uncased.unpadded(texts, max_length=5)
    assert list(map(len, token_ids)) == [5, 2, 5, 5] and caught[0].filename == __file__


@pytest.mark.parametrize("text, max_length", [("今天", 1), (("今", "天"), 2), ("今", 0)])
def test_no_room_for_the_added_tokens(uncased, text, max_length):
    with pytest.raises(DataError, match=f"max_length is {max_length}"):
        uncased([text], max_length)


@pytest.mark.parametrize(
    "texts, message",
    [
        ([], "empty"),
        ("今天", r"Put it in a list"),
        (None, "NoneType"),
        (["a", None], "NoneType as row 1"),
        ([b"a"], "bytes as row 0"),
        ([("a", "b", "c")], "tuple as row 0"),
        ([("a", 1)], "int as the second text of row 0"),
    ],
)
@pytest.mark.parametrize("call", ["__call__", "offsets"])
def test_what_is_no_batch(uncased, texts, message, call):
    with pytest.raises(DataError, match=message):
        getattr(uncased, call)(texts)


def test_encode_refuses_what_is_no_string(uncased):
    with pytest.raises(DataError, match="list as text"):
        uncased.encode(["a"])
    with pytest.raises(DataError, match="int as pair"):
        uncased.encode("a", 1)


# Special tokens


def test_special_tokens_in_text(uncased):
    encoding = uncased.encode("今[MASK]气 [TITLE]x[unused1]")
    assert encoding.tokens[1:-1] == ["今", "[MASK]", "气", "[TITLE]", "x", "[unused1]"]
    assert encoding.offsets[1:-1] == [(0, 1), (1, 7), (7, 8), (9, 16), (16, 17), (17, 26)]
    assert "[MASK]" not in uncased.tokenize("[mask] [MASK")
    assert uncased.tokenize("<T>") == ["[UNK]", "t", "[UNK]"]
    assert Tokenizer(SMALL, special_tokens=["<T>"]).tokenize("a<T>b") == ["a", "<T>", "b"]
    longer = Tokenizer([*SMALL, "<T>T"], special_tokens=["<T>", "<T>T"])
    assert longer.tokenize("<T>T<T>t") == ["<T>T", "<T>", "t"]
    plain = Tokenizer(SMALL, special_tokens_in_text=False)
    assert plain.tokenize("[SEP]") == full_tokenize("[SEP]", set(SMALL))


def test_special_tokens_must_be_in_the_vocabulary():
    with pytest.raises(VocabularyError, match=r"'\[TITEL\]'.*Did you mean '\[TITLE\]'"):
        Tokenizer(SMALL, special_tokens=["[TITEL]"])
    with pytest.raises(ConfigError, match="Put it in a list"):
        Tokenizer(SMALL, special_tokens="[TITLE]")


def test_ids(uncased):
    assert (uncased.pad_id, uncased.unk_id, uncased.cls_id, uncased.sep_id, uncased.mask_id) == (0, 1, 2, 3, 4)
    assert uncased.special_ids == {0, 1, 2, 3, 4, SMALL.index("[TITLE]"), SMALL.index("[unused1]")}
    assert len(uncased) == uncased.vocab_size == len(SMALL) and uncased.vocabulary == SMALL
    assert uncased.id_to_token(uncased.token_to_id("天")) == "天"
    with pytest.raises(VocabularyError, match="no token 'nowhere'"):
        uncased.token_to_id("nowhere")
    for outside in (-1, len(SMALL)):
        with pytest.raises(VocabularyError, match=f"id {outside}; the ids of this vocabulary go from 0 to {len(SMALL) - 1}"):
            uncased.id_to_token(outside)
    with pytest.raises(VocabularyError, match=r"\[MASK\]"):
        _ = Tokenizer([token for token in SMALL if token != "[MASK]"]).mask_id


# Decoding


@pytest.mark.parametrize(
    "text, decoded",
    [
        ("今天天气很好,不错。", "今天天气很好,不错。"),
        ("Hello   World, unaffable!", "hello world, unaffable!"),
        ("今天 hello world 不错 abc", "今天hello world不错abc"),
        ("don't (well-known) 3.14 1,000 10:30", "don't (well-known) 3.14 1,000 10:30"),
        ('he said "hello world", today', 'he said "hello world", today'),
        ('("hello")', '("hello")'),
        ("问题:“hello” abc?", "问题: “hello” abc?"),
        ("a@b.c cost $5 50% #1", "a@b. c cost $5 50% #1"),
        ("", ""),
    ],
)
def test_decode(text, decoded):
    tokenizer = Tokenizer([*SMALL, *[char for char in '.:"$%#)@' if char not in SMALL]])
    assert tokenizer.decode(tokenizer([text])["token_ids"][0]) == decoded


def test_decode_and_special_tokens(uncased):
    ids = uncased.encode("今[MASK]天x").ids
    assert uncased.decode(ids) == "今天x"
    assert uncased.decode(ids, keep_special=True) == "[CLS]今[MASK]天x [SEP]"
    assert uncased.decode([uncased.token_to_id("##able"), uncased.token_to_id("##a")]) == "ablea"
    with pytest.raises(VocabularyError, match="no token with id -1"):
        uncased.decode([-1])
    with pytest.raises(DataError, match=r"shape \[1, 2\]"):
        uncased.decode([[1, 2]])


@given(st.text("今天气不错很好的问题文章。", max_size=20))
def test_decoding_chinese_is_the_inverse(text):
    assert _RANDOM[True].decode(_RANDOM[True].encode(text).ids) == text


# Vocabulary files


@pytest.mark.parametrize(
    "content, message",
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", r"'a' more than once, in lines 5, 7; of its 7 lines 1 repeat"),
        (b"[PAD]\n[UNK]\n[CLS]\n\n[SEP]\n", "empty token in line 4 of 5"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n\n\n", "empty token in line 5, 6 of 6"),
        (b"[PAD]\na\n[SEP]\n", r"3 tokens but not \[UNK\], \[CLS\]"),
        (b"", "0 tokens but not"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n天\n".encode("gb18030"), "not UTF-8"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\rb\n", "which no UTF-8 vocab.txt can hold"),
    ],
)
def test_damaged_vocabularies(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        Tokenizer.from_folder(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_line_ends(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIAL, "a", "\u2028", "\u0085", " b"]).encode())
    assert Tokenizer.from_folder(tmp_path).vocabulary == [*SPECIAL, "a", "\u2028", "\u0085", " b"]


def test_a_byte_order_mark_is_no_part_of_the_first_token(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\n".join([*SPECIAL, "a"]).encode("utf-8-sig"))
    assert Tokenizer.from_folder(tmp_path).vocabulary == [*SPECIAL, "a"]


def test_a_list_is_checked_too():
    with pytest.raises(VocabularyError, match="'a' more than once"):
        Tokenizer([*SPECIAL, "a", "a"])
    with pytest.raises(VocabularyError, match="no UTF-8"):
        Tokenizer([*SPECIAL, "\ud800"])


def test_missing_files(tmp_path):
    with pytest.raises(VocabularyError, match="no folder"):
        Tokenizer.from_folder(tmp_path / "nowhere")
    with pytest.raises(VocabularyError, match="Cannot read the vocabulary"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("honoured", [True, False])
def test_save_and_load(tmp_path, lowercase, honoured):
    tokenizer = Tokenizer(SMALL, lowercase, special_tokens=["<T>"], special_tokens_in_text=honoured)
    tokenizer.save(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["tokenizer_config.json", "vocab.txt"]
    same = Tokenizer.from_folder(tmp_path / "new")
    again = pickle.loads(pickle.dumps(tokenizer))
    for other in (same, again):
        assert other.vocabulary == SMALL and other.lowercase == lowercase
        for text in [*TORTURE, "É<T>[MASK]"]:
            assert other.tokenize(text) == tokenizer.tokenize(text)
    assert Tokenizer.from_folder(tmp_path / "new", lowercase=not lowercase).lowercase != lowercase


def test_nothing_half_written(tmp_path, monkeypatch):
    Tokenizer(SMALL).save(tmp_path)
    before = (tmp_path / "vocab.txt").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(CheckpointError, match="nothing was left half-written"):
        Tokenizer([*SMALL, "more"]).save(tmp_path)
    assert (tmp_path / "vocab.txt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "values, message",
    [
        ({"strip_accents": False}, "strip_accents = False; only True"),
        ({"do_lower_case": False, "strip_accents": True}, "strip_accents = True; only False"),
        ({"tokenize_chinese_chars": False}, "tokenize_chinese_chars"),
        ({"do_lower_case": "yes"}, "lowercase is 'yes'"),
        ([], "JSON list"),
    ],
)
def test_settings_that_are_not_googles(tmp_path, values, message):
    Tokenizer(SMALL).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_settings_that_are_not_json(tmp_path):
    Tokenizer(SMALL).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_bytes(b"{")
    with pytest.raises(ConfigError, match="not JSON"):
        Tokenizer.from_folder(tmp_path)


def test_settings_of_hugging_face(tmp_path):
    Tokenizer(SMALL).save(tmp_path)
    values = {"do_lower_case": False, "strip_accents": None, "extra_special_tokens": [{"content": "<T>"}], "model_max_length": 512}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert not tokenizer.lowercase and tokenizer.special_tokens == ("<T>",)
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.from_folder(tmp_path).lowercase


def test_transformers_reads_ours_and_we_read_theirs(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer(SMALL, lowercase=False)
    tokenizer.save(tmp_path / "ours")
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path / "ours")
    text = "Unaffable hello 今天 [MASK] É"
    assert theirs(text)["input_ids"] == tokenizer.encode(text).ids.tolist()
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").unlink(missing_ok=True)
    same = Tokenizer.from_folder(tmp_path / "theirs")
    assert same.vocabulary == SMALL and not same.lowercase


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "no tokenizer.json"),
        ({"model": {"type": "BPE", "vocab": {}}}, "holds a BPE tokenizer"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 2}}}, "without gaps"),
    ],
)
def test_damaged_tokenizer_json(tmp_path, values, message):
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(VocabularyError, match=message):
        Tokenizer.from_folder(tmp_path)


# Word granularity

# jieba knows neither 小桥流水儿 nor T恤衫子 nor t恤; 天天 is in SMALL, and no word for a tokenizer without `words`.
WORDS = ["今天", "天气", "不错", "问题", "文章", "小桥流水儿", "人工智能", "𠮷野家"]
MIXED = ["T恤", "t恤", "恤衫", "T恤衫子"]
WORDY = [*SMALL, *"人工智能小桥流水儿恤衫子𠮷野家T", *WORDS, *MIXED, "##今天", "[今天]", "<今天>"]


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def wordy(request) -> Tokenizer:
    return Tokenizer(WORDY, request.param, special_tokens=["<今天>"], words="jieba")


def jieba_with(words: list[str]):
    """A `jieba.Tokenizer` that knows these words too; its `cut` is the reference."""
    with warnings.catch_warnings(action="ignore"):
        import jieba
    own = jieba.Tokenizer()
    own.FREQ, own.total = own.gen_pfdict(own.get_dict_file())
    own.initialized = True
    for word in sorted(words):
        if not own.FREQ.get(word):
            own.add_word(word)
    return own


@pytest.fixture(scope="module")
def cut():
    own = jieba_with([*WORDS, *MIXED])
    return lambda text: own.cut(text, HMM=False)


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("今天很不错。", "今天 很 不错 。"),
        ("问题,文章?hello今天unaffable", "问题 , 文章 ? hello 今天 un ##aff ##able"),
        ("今天天气不错", "今 天 天 气 不错"),  # 今天天气 is a word of jieba's and none of the vocabulary: as before
        ("今天 天气", "今天 天气"),
        ("今 天", "今 天"),
        ("小桥流水儿小桥流水", "小桥流水儿 小 桥 流 水"),
        ("豈有人工智能", "豈 [UNK] 人工智能"),
        ("𠮷野家", "𠮷野家"),
        ("今天[MASK]天气[MASK]今[MASK]天", "今天 [MASK] 天气 [MASK] 今 [MASK] 天"),
        ("[今天]今天<今天>", "[今天] 今天 <今天>"),
        ("a##今天", "a [UNK] [UNK] 今天"),
        ("x恤衫", "x 恤衫"),
        ("今天，" * 300, "今天 [UNK] " * 300),
        ("", ""),
    ],
)
def test_words_of_the_vocabulary_stay_whole(wordy, text, tokens):
    assert wordy.tokenize(text) == tokens.split()
    assert wordy.encode(text).tokens[1:-1] == tokens.split()


@pytest.mark.parametrize("text, tokens", [("丄丅丏丠両", ["丄丅丏", "丠両"]), ("天丄", ["天丄"]), ("丄天丄丄", ["丄", "天丄", "丄"])])
def test_words_of_characters_that_no_dictionary_has(text, tokens):
    """Of cuts of equal probability, jieba's; and a character that jieba does not know costs something."""
    words = ["丄丅", "丄丅丏", "丏丠両", "丠両", "天丄"]
    assert Tokenizer([*SPECIAL, *"丄丅丏丠両天", *words], words="jieba").tokenize(text) == tokens
    assert jieba_with(words).lcut(text, HMM=False) == tokens


def test_words_are_those_of_the_folded_text():
    uncased, cased = (Tokenizer(WORDY, lowercase, words="jieba") for lowercase in (True, False))
    assert uncased.tokenize("T恤 T恤衫子 天\u0301气\u0301 maxT恤") == ["t恤", "t恤", "衫", "子", "天气", "m", "##a", "##x", "t恤"]
    assert cased.tokenize("T恤 T恤衫子 天\u0301气 maxT恤") == ["T恤", "T恤衫子", "天", "[UNK]", "气", "m", "##a", "##x", "T恤"]


def test_spans_of_words():
    tokenizer = Tokenizer(WORDY, words="jieba")
    encoding = tokenizer.encode("\u3000今\u200b天，不错\u0301!T恤", "问题[MASK]文章")
    assert encoding.tokens == ["[CLS]", "今天", "[UNK]", "不错", "!", "t恤", "[SEP]", "问题", "[MASK]", "文章", "[SEP]"]
    assert encoding.offsets[1:6] == [(1, 4), (4, 5), (5, 8), (8, 9), (9, 11)]
    assert encoding.offsets[6:] == [(0, 0), (0, 2), (2, 8), (8, 10), (0, 0)]
    assert encoding.segment_ids.tolist() == [0] * 7 + [1] * 4
    batch = [("\u3000今\u200b天，不错\u0301!T恤", "问题[MASK]文章"), "今天"]
    assert tokenizer(batch)["token_ids"][0].tolist() == encoding.ids.tolist()
    assert list(map(tuple, tokenizer.offsets(batch)[0].tolist())) == encoding.offsets
    short = tokenizer.encode(*batch[0], max_length=6)
    assert short.tokens == ["[CLS]", "今天", "[UNK]", "[SEP]", "问题", "[SEP]"] and short.cut == 5


def words_and_noise(words: list[str]) -> st.SearchStrategy[str]:
    rare = ["今天天气", "[MASK]", "[今天]", "ΑΣ", "Hello", " ", "e\u0301", "今\u200b天", "天\u0301气", "max", "𠮷野", "不错误"]
    noise = st.text(st.sampled_from(NASTY + "今天气不错人工智能小桥流水儿"), max_size=6)
    return st.lists(st.one_of(st.sampled_from(words), st.sampled_from(rare), noise, st.characters(exclude_categories=())), max_size=12).map(
        "".join
    )


@settings(max_examples=300, deadline=None)
@given(words_and_noise([*WORDS[:-1], *MIXED, "T恤衫"]))
@example("ΑΣ今天Σ")
@example("\ud800今天\udfff天气")
def test_words_are_those_of_jieba(wordy, cut, text):
    """The plain reference over jieba's own cut, which looks at no character outside of its block."""
    assert [wordy.vocabulary[token] for token in wordy._plain_ids(text)] == tokenize_words(
        text, set(WORDY) - {"𠮷野家"}, wordy.lowercase, cut
    )
    check_spans(wordy, text)


@settings(max_examples=300, deadline=None)
@given(words_and_noise(WORDS))
@example("ΑΣ今天Σ")
@example("\ud800今天\udfff天气")
def test_a_word_stands_for_its_characters_and_all_else_is_as_before(text):
    ours, plain = _WORDS_ONLY.encode(text), _NO_WORDS.encode(text)
    assert ours.tokens == ["[CLS]", *_WORDS_ONLY.tokenize(text), "[SEP]"]
    assert ours.ids.tolist() == _WORDS_ONLY([text])["token_ids"][0].tolist()
    rest = zip(plain.tokens, plain.offsets, strict=True)
    for token, span in zip(ours.tokens, ours.offsets, strict=True):
        if token in {*WORDS, "天天"}:
            parts = list(islice(rest, len(token)))
            assert token == "".join(part for part, _ in parts) and span == (parts[0][1][0], parts[-1][1][1])
        else:
            assert (token, span) == next(rest)
    assert next(rest, None) is None


_WORDS_ONLY = Tokenizer([token for token in WORDY if token not in MIXED], words="jieba")
_NO_WORDS = Tokenizer(_WORDS_ONLY.vocabulary)


def test_real_lines_with_words(shared_data):
    """A vocabulary made as WoBERT's was, with jieba's most frequent words: exactly the words of jieba as it is."""
    own = jieba_with([])
    plain = Tokenizer(shared_data / "vocab" / "bert-chinese-vocab.txt", special_tokens_in_text=False)
    frequent = sorted(own.FREQ, key=own.FREQ.__getitem__, reverse=True)[:20_000]
    tokenizer = Tokenizer(list(dict.fromkeys([*plain.vocabulary, *frequent])), special_tokens_in_text=False, words="jieba")
    known = set(tokenizer.vocabulary)
    lines = real_lines(shared_data, 20)
    for text in lines:
        assert tokenizer.tokenize(text) == tokenize_words(text, known, True, lambda chunk: own.cut(chunk, HMM=False))
    for text in lines[::50]:
        check_spans(tokenizer, text)
    assert sum(len(tokenizer.tokenize(text)) for text in lines) < 0.9 * sum(len(plain.tokenize(text)) for text in lines)


@given(st.lists(st.sampled_from([*WORDS, *"今天气不错。人工智能"]), max_size=12).map("".join))
def test_decoding_words_is_the_inverse(text):
    assert _WORDS_ONLY.decode(_WORDS_ONLY.encode(text).ids) == text


def test_decoding_words_beside_others(wordy):
    assert wordy.decode(wordy.encode("今天 hello world 天气,[MASK]不错").ids) == "今天hello world天气,不错"


def test_save_and_load_words(tmp_path, wordy):
    wordy.save(tmp_path / "words")
    same, again = Tokenizer.from_folder(tmp_path / "words"), pickle.loads(pickle.dumps(wordy))
    for other in (same, again):
        assert other.words == "jieba" and other.vocabulary == WORDY and other.lowercase == wordy.lowercase
        assert other.tokenize("今天很不错<今天>") == ["今天", "很", "不错", "<今天>"]
        assert repr(other) == f"Tokenizer({len(WORDY)} tokens, lowercase={wordy.lowercase}, words='jieba')"
    assert Tokenizer.from_folder(tmp_path / "words", words=None).tokenize("今天") == ["今", "天"]
    assert json.loads((tmp_path / "words" / "tokenizer_config.json").read_text())["words"] == "jieba"
    Tokenizer(WORDY).save(tmp_path / "none")
    assert "words" not in json.loads((tmp_path / "none" / "tokenizer_config.json").read_text())
    assert Tokenizer.from_folder(tmp_path / "none").words is None
    assert Tokenizer.from_folder(tmp_path / "none", words="jieba").tokenize("今天") == ["今天"]


@pytest.mark.parametrize("words", ["thulac", "Jieba", "", True, ["jieba"]])
def test_unknown_words(tmp_path, words):
    with pytest.raises(ConfigError, match=re.escape(f"words is {words!r}; expected 'jieba' or None")):
        Tokenizer(WORDY, words=words)
    Tokenizer(WORDY).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"words": words}))
    with pytest.raises(ConfigError, match=re.escape(f"words is {words!r}; expected 'jieba' or None")):
        Tokenizer.from_folder(tmp_path)


def test_a_pruned_vocabulary_keeps_its_words():
    from bert4k.surgery import pruned as prune

    pruned = prune(_WORDS_ONLY, [_WORDS_ONLY.token_to_id(token) for token in [*SPECIAL, *"今天气", "今天"]])
    assert pruned.words == "jieba" and pruned.tokenize("今天，天气") == ["今天", "[UNK]", "天", "气"]


def test_threads_agree_on_words():
    tokenizer = Tokenizer(WORDY, words="jieba")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(tokenizer.tokenize, ["今天很不错"] * 8))
    assert results == [["今天", "很", "不错"]] * 8


def test_another_process_reads_jieba_once_quietly_and_for_itself(tmp_path):
    """A pickled tokenizer in a fresh interpreter: no Keras, no jieba before the first text, nothing said, stored or changed outside."""
    code = """
import os, pickle, sys
tokenizer = pickle.load(sys.stdin.buffer)
assert "jieba" not in sys.modules
print(" ".join(tokenizer.tokenize("今天很不错")))
import jieba
assert not jieba.dt.initialized and not jieba.dt.FREQ
print(sorted({"keras", "tensorflow", "torch", "jax", "transformers"} & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-X", "utf8", "-W", "always", "-c", code],
        input=pickle.dumps(_WORDS_ONLY),
        capture_output=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert (run.returncode, run.stderr.decode()) == (0, "")
    assert run.stdout.decode() == "今天 很 不错\n[]\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("vocabulary, words", [(WORDY, None), ([token for token in SMALL if token != "天天"], "jieba")])
def test_where_there_are_no_words_jieba_is_not_read(monkeypatch, vocabulary, words):
    monkeypatch.setitem(sys.modules, "jieba", None)
    assert Tokenizer(vocabulary, words=words).tokenize("今天天") == ["今", "天", "天"]


# The rest


def test_threads_agree():
    tokenizer = Tokenizer(SMALL)
    texts = [text + str(number) for number in range(50) for text in TORTURE]
    expected = [Tokenizer(SMALL).tokenize(text) for text in texts[: len(TORTURE)]]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: [tokenizer.tokenize(text) for text in texts], range(8)))
    assert all(result == results[0] for result in results)
    assert results[0][: len(TORTURE)] == expected


def test_many_words_are_forgotten_not_lost(monkeypatch):
    monkeypatch.setattr("bert4k.tokenizers.wordpiece._REMEMBERED_WORDS", 3)
    tokenizer = Tokenizer(SMALL)
    text = "ab ba abc hello un unaffable x y z ab"
    for _ in range(2):
        assert tokenizer.tokenize(text) == full_tokenize(text, set(SMALL))
    assert len(tokenizer._pieces) == 3


def test_importing_it_imports_no_keras():
    code = "import sys, bert4k.tokenizers; print(sorted({'keras', 'tensorflow', 'torch', 'jax', 'transformers'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_texts_may_stand_without_added_tokens(tmp_path: Path) -> None:
    bare, framed = Tokenizer(SMALL, added_tokens=False), Tokenizer(SMALL)
    texts = ["今天天气", ("不错", "很好的问题")]
    rows, segments = bare.unpadded(texts)
    assert [row.tolist() for row in rows] == [
        [id_ for id_ in row.tolist() if id_ not in (framed.cls_id, framed.sep_id)] for row in framed.unpadded(texts)[0]
    ]
    assert [segment.tolist() for segment in segments] == [[0] * 4, [0] * 2 + [1] * 5]
    found = bare.encode(*texts[1], max_length=5)
    assert (found.text_index, found.segment_ids.tolist(), found.cut) == ([0, 0, 1, 1, 1], [0, 0, 1, 1, 1], 2)
    assert found.offsets == [(0, 1), (1, 2), (0, 1), (1, 2), (2, 3)]
    bare.save(tmp_path)
    assert not Tokenizer.from_folder(tmp_path).added_tokens
    assert pickle.loads(pickle.dumps(bare)).encode("今").ids.tolist() == bare.encode("今").ids.tolist()
