"""Where answers stand in texts, however they are written there."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from bert4k.scores import plain

Span = tuple[int, int]


def occurrences(text: str, answer: str) -> list[Span]:
    """Every place [start, end) of `text` at which `answer` stands, compared as `scores.plain` compares: full and half width, lower and
    upper case, blanks and punctuation make no difference. Punctuation at an end is in a place where the answer has it there, too.

    An answer that does not stand as a whole and has blanks is one of several parts (as "巴西 俄罗斯" in SogouQA): then these are the
    places of all parts, in the order of the text, provided that every part stands somewhere. A number or a word of Latin letters is
    preferred where it is no part of a longer one: 3 is not found in 1394 if it stands alone elsewhere. An answer of punctuation is nowhere.
    """
    if whole := _places(text, answer):
        return whole
    parts = [part for part in answer.split() if plain(part)]
    found = [_places(text, part) for part in parts] if len(parts) > 1 else []
    return sorted({place for places in found for place in places}) if all(found) else []


def _places(text: str, answer: str) -> list[Span]:
    """The places of an answer as a whole."""
    wanted, (folded, starts, ends) = plain(answer), _folded(text)
    found = []
    at = folded.find(wanted) if wanted else -1
    while at >= 0:
        last = at + len(wanted) - 1
        # A character that stands for several (½ is 1⁄2) is in an answer as a whole or not at all.
        if (at == 0 or starts[at] != starts[at - 1]) and (last + 1 == len(folded) or ends[last] != ends[last + 1]):
            found.append(_widened(text, starts[at], ends[last], answer))
        at = folded.find(wanted, at + 1)
    return [place for place in found if _alone(text, *place)] or found


def _widened(text: str, start: int, end: int, answer: str) -> Span:
    """A place with the punctuation at both ends that the answer has there, too: 12 of 12%."""
    before, after = _ends(answer)
    for char in reversed(before):
        if not start or _compatible(text[start - 1]) != char:
            break
        start -= 1
    for char in after:
        if end == len(text) or _compatible(text[end]) != char:
            break
        end += 1
    return start, end


@lru_cache(maxsize=256)
def _ends(answer: str) -> tuple[list[str], list[str]]:
    """What `plain` leaves out at both ends of an answer, blanks apart."""
    chars = list(map(_compatible, answer.strip()))
    kept = [at for at, char in enumerate(chars) if plain(char)]
    return chars[: kept[0]], chars[kept[-1] + 1 :]


def _alone(text: str, start: int, end: int) -> bool:
    """Whether a place is no part of a longer number or word of Latin letters."""
    borders = (text[start - 1 : start], text[start]), (text[end - 1], text[end : end + 1])
    return not any(_kind(before) and _kind(before) == _kind(after) for before, after in borders)


def _kind(char: str) -> str:
    """Whether a character of half or full width is a digit or a Latin letter; "" for all else."""
    char = unicodedata.normalize("NFKC", char)
    return "digit" if char.isdecimal() else "letter" if char.isascii() and char.isalpha() else ""


@lru_cache(maxsize=32)
def _folded(text: str) -> tuple[str, list[int], list[int]]:
    """`plain(text)`, and for each of its characters the place [start, end) in `text` of what it was made of."""
    folded, starts, ends = [], [], []
    for start, end in _clusters(text):
        for char in _plain_of(text[start:end]):
            folded.append(char)
            starts.append(start)
            ends.append(end)
    return "".join(folded), starts, ends


_plain_of = lru_cache(maxsize=1 << 16)(plain)


def _clusters(text: str) -> Iterator[Span]:
    """The text in parts that can be normalised each for itself: single characters, or one with what joins it (accents, ｶ with ﾞ)."""
    alone = "".join(map(_compatible, text)) == unicodedata.normalize("NFKC", text)
    start = 0
    for at in range(1, len(text) + 1):
        if alone or at == len(text) or not _joins(text[at - 1], text[at]):
            yield start, at
            start = at


def _joins(before: str, char: str) -> bool:
    pair = unicodedata.normalize("NFKC", before + char)
    return unicodedata.combining(char) > 0 or pair != _compatible(before) + _compatible(char)


@lru_cache(maxsize=1 << 16)
def _compatible(char: str) -> str:
    return unicodedata.normalize("NFKC", char)
