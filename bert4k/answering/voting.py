"""Long passages in pieces, and the answer that several pieces and passages give together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bert4k.answering.matching import occurrences


def pieces(tokens: int, room: int) -> Iterator[slice]:
    """A text of so many tokens in pieces of at most `room`, each of which begins in the middle of the one before: so what is shorter than
    half a piece stands whole in one of them."""
    begin = 0
    while begin == 0 or begin + room - max(room // 2, 1) < tokens:
        yield slice(begin, min(begin + room, tokens))
        begin += max(room // 2, 1)


class Answer(NamedTuple):
    """An answer, "" for none, and how sure of it, from 0 to 1."""

    text: str
    confidence: float


class Evidence(NamedTuple):
    """An answer with where it stands: the number of the passage, and the characters [start, end) of its text; "" and -1, 0, 0 for none."""

    text: str
    score: float
    passage: int = -1
    start: int = 0
    end: int = 0


def placed(answer: Answer, passages: Sequence[str]) -> Evidence:
    """An answer with its first place in the passages; one that is told in other words has none."""
    places = ((number, *spans[0]) for number, text in enumerate(passages) if (spans := occurrences(text, answer.text)))
    return Evidence(*answer, *next(places, ()))


def vote(answers: Iterable[Answer]) -> Answer:
    """The answer that several passages together give: each one's confidences s, wherever it was found, count as Σs² / (1 + Σs), so that
    neither many doubtful nor a single sure one decides alone. None counts for nothing: it wins only where nothing was found."""
    found: dict[str, list[float]] = {}
    for text, confidence in answers:
        if text:
            found.setdefault(text, []).append(confidence)
    if not found:
        return Answer("", 0.0)
    worth = {text: sum(each**2 for each in own) / (1 + sum(own)) for text, own in found.items()}
    best = max(worth, key=worth.__getitem__)
    return Answer(best, max(found[best]))
