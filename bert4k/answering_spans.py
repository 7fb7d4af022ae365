"""STAND-IN, to be replaced: both names belong to `bert4k.answering`, which finds answers by normalised match. Delete this file then."""

from __future__ import annotations

import re
from typing import NamedTuple


class Evidence(NamedTuple):
    """An answer with where it stands: the number of the passage, and the characters [start, end) of its text; "" and -1, 0, 0 for none."""

    text: str
    score: float
    passage: int = -1
    start: int = 0
    end: int = 0


def occurrences(text: str, answer: str) -> list[tuple[int, int]]:
    """(start, end) of every place of `text` where `answer` stands, in lower or upper case; of an answer of several parts, with blanks
    between, those of each part."""
    parts = [answer] if answer.lower() in text.lower() else answer.split()
    return sorted({match.span() for part in parts if part for match in re.finditer(re.escape(part), text, re.IGNORECASE)})
