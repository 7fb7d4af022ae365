"""The rules of Google's `FullTokenizer` (google-research/bert `tokenization.py`), one after another, as plainly as possible.

Written from the rules and from nothing in bert4k, to be compared with it. Each function does one pass over the text; nothing
is remembered, looked up in advance or fast.
"""

import unicodedata
from collections.abc import Callable, Iterable

CHINESE = {
    *range(0x4E00, 0x9FFF + 1),
    *range(0x3400, 0x4DBF + 1),
    *range(0x20000, 0x2A6DF + 1),
    *range(0x2A700, 0x2B73F + 1),
    *range(0x2B740, 0x2B81F + 1),
    *range(0x2B820, 0x2CEAF + 1),
    *range(0xF900, 0xFAFF + 1),
    *range(0x2F800, 0x2FA1F + 1),
}
ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def clean(text: str) -> str:
    result = ""
    for char in text:
        if char in ("\t", "\n", "\r"):
            result += " "
        elif ord(char) in (0, 0xFFFD) or unicodedata.category(char) in ("Cc", "Cf"):
            continue
        elif unicodedata.category(char) == "Zs":
            result += " "
        else:
            result += char
    return result


def space_chinese(text: str) -> str:
    result = ""
    for char in text:
        result += " " + char + " " if ord(char) in CHINESE else char
    return result


def strip_accents(word: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFD", word) if unicodedata.category(char) != "Mn")


def split_punctuation(word: str) -> list[str]:
    parts = [""]
    for char in word:
        if char in ASCII_PUNCTUATION or unicodedata.category(char)[0] == "P":
            parts += [char, ""]
        else:
            parts[-1] += char
    return [part for part in parts if part]


def basic_tokenize(text: str, lowercase: bool) -> list[str]:
    words = []
    for word in space_chinese(clean(text)).split():
        if lowercase:
            word = strip_accents(word.lower())
        words += split_punctuation(word)
    return " ".join(words).split()


def wordpiece_tokenize(word: str, vocabulary: set[str]) -> list[str]:
    if len(word) > 200:
        return ["[UNK]"]
    pieces: list[str] = []
    rest = word
    while rest:
        prefix = "##" if pieces else ""
        for size in range(len(rest), 0, -1):
            if prefix + rest[:size] in vocabulary:
                pieces.append(prefix + rest[:size])
                rest = rest[size:]
                break
        else:
            return ["[UNK]"]
    return pieces


def full_tokenize(text: str, vocabulary: set[str], lowercase: bool = True) -> list[str]:
    return [piece for word in basic_tokenize(text, lowercase) for piece in wordpiece_tokenize(word, vocabulary)]


def tokenize_words(text: str, vocabulary: set[str], lowercase: bool, cut: Callable[[str], Iterable[str]]) -> list[str]:
    """WoBERT's rule: of the words of `cut`, Chinese ones in the vocabulary stay whole; what lies between is tokenised as before."""
    pieces: list[str] = []
    for chunk in clean(text).split():
        between = ""
        for word in cut(strip_accents(chunk.lower()) if lowercase else chunk):
            if len(word) > 1 and word in vocabulary and any(ord(char) in CHINESE for char in word):
                pieces += [*full_tokenize(between, vocabulary, lowercase=False), word]
                between = ""
            else:
                between += word
        pieces += full_tokenize(between, vocabulary, lowercase=False)
    return pieces


def truncate_pair(first: list, second: list, room: int) -> None:
    """Google's `_truncate_seq_pair`: shorten in place."""
    while len(first) + len(second) > room:
        if len(first) > len(second):
            first.pop()
        else:
            second.pop()
