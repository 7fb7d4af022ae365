"""The scores that are of this checkpoint's tasks alone: ROUGE of titles in its manner, the form of a couplet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bert4k import scores
from bert4k.tasks.shipped.cleaning import ANY_HAN, clean

FIRST_CLAUSE = re.compile(r"[^，。；！？：,;!?]*")

Pair = tuple[str, str]


# Titles. ------------------------------------------------------------------------------------------------------------


def rouge(candidates: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 of single characters, of pairs of neighbours and of the longest common subsequence (Lin 2004, W04-1013), in percent.

    `bert4k.scores.rouge` of `comparable` texts."""
    return scores.rouge(*(list(map(comparable, texts)) for texts in (candidates, references)))


def comparable(text: str) -> str:
    """`text` as the training text is written, in lower case: a model of that text can write it no other way."""
    return clean(text).lower()


def first_clause(text: str) -> str:
    """What stands before the first mark: the title that costs nothing. A text that begins with a mark has it whole."""
    found = FIRST_CLAUSE.match(text)
    return found[0] if found and found[0] else text


# Couplets. ----------------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """How many of `answers` are as long as their first line; and of those `to_differ`, whose first line repeats no character, how
    many are as long and repeat none either (what is too short repeats none for nothing)."""

    answers: int
    as_long: int
    to_differ: int
    without_repeat: int


def couplet_form(couplets: Iterable[Pair]) -> Form:
    """The form of answers to first lines. Only Chinese characters can repeat; marks may."""
    answers = as_long = to_differ = without_repeat = 0
    for upper, answer in couplets:
        answers += 1
        as_long += len(upper) == len(answer)
        if not repeats(upper):
            to_differ += 1
            without_repeat += len(upper) == len(answer) and not repeats(answer)
    return Form(answers, as_long, to_differ, without_repeat)


def repeats(line: str) -> bool:
    """Whether a Chinese character stands twice in a line."""
    return any(count > 1 for char, count in Counter(line).items() if ANY_HAN.match(char))


def rivals(couplets: Sequence[Pair], random: np.random.Generator) -> dict[int, Pair]:
    """Index of a couplet -> its first line with another couplet's second line of the same length, where there is another one."""
    by_length: dict[int, list[int]] = {}
    for index, (_, lower) in enumerate(couplets):
        by_length.setdefault(len(lower), []).append(index)
    found = {}
    for group in by_length.values():
        shuffled = [group[place] for place in random.permutation(len(group))]
        for index, other in zip(shuffled, shuffled[1:] + shuffled[:1], strict=True):
            if couplets[other][1] != couplets[index][1]:
                found[index] = (couplets[index][0], couplets[other][1])
    return found
