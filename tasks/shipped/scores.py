"""The scores that have no package of their own here: ROUGE on characters, the form of a couplet, entities of tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bert4k.scores import f1, overlap
from bert4k.tasks.ner import Entity, spans
from bert4k.tasks.shipped.cleaning import ANY_HAN, clean

FIRST_CLAUSE = re.compile(r"[^，。；！？：,;!?]*")

Pair = tuple[str, str]


# Titles. ------------------------------------------------------------------------------------------------------------


def rouge(candidates: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F1 of single characters, of pairs of neighbours and of the longest common subsequence (Lin 2004, W04-1013), in percent.

    Of `comparable` texts, spaces left out. Own code: the packages cut words at spaces, and bring much along."""
    scores: dict[str, list[float]] = {"rouge_1": [], "rouge_2": [], "rouge_l": []}
    for candidate, reference in zip(candidates, references, strict=True):
        own, other = (comparable(text).replace(" ", "") for text in (candidate, reference))
        for size in (1, 2):
            grams = [Counter(text[at : at + size] for at in range(len(text) - size + 1)) for text in (own, other)]
            scores[f"rouge_{size}"].append(f1((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total()).f1)
        scores["rouge_l"].append(f1(common_subsequence(own, other), len(own), len(other)).f1)
    return {name: 100 * float(np.mean(values)) for name, values in scores.items()}


def comparable(text: str) -> str:
    """`text` as the training text is written, in lower case: a model of that text can write it no other way."""
    return clean(text).lower()


def common_subsequence(one: str, other: str) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for char in one:
        now = [0]
        for at, against in enumerate(other):
            now.append(before[at] + 1 if char == against else max(before[at + 1], now[at]))
        before = now
    return before[-1]


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


# Entities. ----------------------------------------------------------------------------------------------------------


def entities(tags: Sequence[str]) -> set[Entity]:
    """(start, end, kind) of a sentence's tags."""
    return set(spans(tags))


def entity_f1(predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Precision, recall and F1 in percent of all entities of all sentences: right are those with the exact span and kind."""
    found = overlap([entities(tags) for tags in predicted], [entities(tags) for tags in gold])
    return {"precision": 100 * found.precision, "recall": 100 * found.recall, "f1": 100 * found.f1}
