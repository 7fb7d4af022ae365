"""A text in passages: whole sentences, as many as fit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bert4k.scores import plain

SIZE = 250
"""Characters of the longest passage: what a question is answered from at once."""

# To the mark that ends it, with the quotation marks and brackets behind; or to the end of the line, with the blanks behind.
_SENTENCE = re.compile(r".+?(?:[。！？!?；;…]+[”’」』）)》]*\s*|\.\s+|\n\s*|\Z)", re.DOTALL)


def cut(text: str, size: int = SIZE) -> Iterator[tuple[int, int]]:
    """The passages [start, end) of a text, at most `size` characters each: together they hold all of it but blanks and lone punctuation.

    A passage ends where a sentence does and at blank lines, unless less than a quarter would be in it: so a heading stays with what it
    heads. A sentence that is too long is cut into pieces, each of which begins in the middle of the one before, so that what is shorter
    than half a passage stands whole in one of them."""
    start = end = 0
    for sentence in _SENTENCE.finditer(text):
        begin, last = sentence.start(), sentence.start() + len(sentence[0].rstrip())
        if last - start > size:
            yield from _trimmed(text, start, end)
            start = begin
        while last - start > size:
            yield from _trimmed(text, start, start + size)
            start += max(size // 2, 1)
        end = sentence.end()
        if sentence[0].count("\n") > 1 and last - start >= size / 4:
            yield from _trimmed(text, start, end)
            start = end
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The passage without blanks around it; nothing when nothing can be asked of it."""
    part = text[start:end]
    if plain(part):
        start += len(part) - len(part.lstrip())
        yield start, start + len(part.strip())
