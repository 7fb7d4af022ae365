"""How a mention in its text, and an entity with what is known of it, are written for a model: as rows of tokens.

writer = Writer(tokenizer, longest=192)
row = writer.pair(Asked("苹果发布会", 0, 2), entity)                # [CLS] [unused1] 苹果 [unused2] 发布会 [SEP] 苹果；公司；... [SEP]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.linking.entities import Entity
from bert4k.linking.texts import LinkedText
from bert4k.tokenizers import Tokenizer

# What stands around a mention: the first two of which the vocabulary has both.
MARKS = (("[unused1]", "[unused2]"), ("「", "」"), ("#", "#"), ("[MASK]", "[MASK]"))
# Values of so many characters stay whole where a description must be cut (as in the system that won CCKS2019).
SHORT = 30
# Of a long text, so many characters for each token of a row are looked at on either side of a mention.
NEAR = 4


class Asked(NamedTuple):
    """A mention, text[start:end], of which is asked what it means."""

    text: str
    start: int
    end: int

    @property
    def surface(self) -> str:
        """The mention itself."""
        return self.text[self.start : self.end]


def asked_of(texts: Sequence[LinkedText]) -> list[Asked]:
    """The mentions of texts, one after the other, as questions."""
    return [Asked(text.text, mention.start, mention.end) for text in texts for mention in text.mentions]


class Row(NamedTuple):
    """Token ids, segments, and which tokens are of the mention, or of the name of the entity: int32 [L] each."""

    token_ids: NDArray[np.int32]
    segment_ids: NDArray[np.int32]
    named: NDArray[np.int32]


class Writer:
    """Writes rows of at most `longest` tokens. Of a text that is too long, what stands around the mention is kept.

    `pair` puts a mention and an entity together, of which the text has at least half of the room if it needs it; `mention` and `entity`
    are rows of one of them."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self.tokenizer, self.longest = tokenizer, longest
        known = set(tokenizer.vocabulary) if hasattr(tokenizer, "vocabulary") else set()
        found = next((pair for pair in MARKS if known.issuperset(pair)), ())
        self.mark_tokens = found or ("", "")
        self.marks = [[tokenizer.token_to_id(token)] for token in found] or [[], []]
        self._known = lru_cache(maxsize=20_000)(self._described)
        self._parted = lru_cache(maxsize=1_000)(self._in_parts)  # a mention is written once with each of its candidates

    def mention(self, asked: Asked) -> Row:
        """`[CLS] text [SEP]` with marks around the mention."""
        ids, named = self._around(asked, self.longest - self.tokenizer.frame.size(1))
        return self._row([ids], [named])

    def entity(self, entity: Entity) -> Row:
        """`[CLS] name; description [SEP]`."""
        ids, named = self._known(entity)
        room = self.longest - self.tokenizer.frame.size(1)
        return self._row([ids[:room]], [named[:room]])

    def pair(self, asked: Asked, entity: Entity) -> Row:
        """`[CLS] text [SEP] name; description [SEP]` with marks around the mention; named tokens are those of the mention."""
        room = self.longest - self.tokenizer.frame.size(2)
        told, _ = self._known(entity)
        ids, named = self._around(asked, max(room - len(told), room // 2))
        told = told[: room - len(ids)]
        return self._row([ids, told], [named, [0] * len(told)])

    def _row(self, parts: Sequence[list[int]], named: Sequence[list[int]]) -> Row:
        frame = self.tokenizer.frame
        first = len(frame.before) + len(parts[0]) + len(frame.between)
        row = np.array(frame.around(parts), np.int32)
        segment_ids = np.arange(len(row)) >= (first if len(parts) > 1 else len(row))
        return Row(row, segment_ids.astype(np.int32), np.array(frame.of(0).around(named), np.int32))

    def _around(self, asked: Asked, room: int) -> tuple[list[int], list[int]]:
        """The text with its marks in at most `room` tokens, and which of them are the mention's."""
        before, mention, after = self._parted(asked)
        mention = mention[: max(room - sum(map(len, self.marks)), 0)]
        left = max(room - sum(map(len, self.marks)) - len(mention), 0)
        behind = min(len(after), max(left // 2, left - len(before)))
        before = before[max(len(before) - (left - behind), 0) :]
        ids = [*before, *self.marks[0], *mention, *self.marks[1], *after[:behind]]
        begin = len(before) + len(self.marks[0])
        return ids[:room], [int(begin <= place < begin + len(mention)) for place in range(len(ids[:room]))]

    def _in_parts(self, asked: Asked) -> tuple[list[int], list[int], list[int]]:
        """What stands before the mention, the mention, and what stands behind it, as far as a row may have room for it. Marks part words
        from each other, so the three are tokenised by themselves."""
        near = NEAR * self.longest
        before, after = asked.text[max(asked.start - near, 0) : asked.start], asked.text[asked.end : asked.end + near]
        first, mention, last = (self.tokenizer.spans(part)[0] for part in (before, asked.surface, after))
        return first, mention, last

    def _described(self, entity: Entity) -> tuple[list[int], list[int]]:
        ids, _, ends = self.tokenizer.spans(described(entity, 2 * self.longest))
        ids = ids[: self.longest]
        return ids, [int(end <= len(entity.name)) for end in ends[: self.longest]]


def described(entity: Entity, room: int) -> str:
    """An entity in at most about `room` characters: name; aliases; types; description; facts as `predicate：object`. Where they are too
    long, values of more than `SHORT` characters are cut, each by the same share."""
    aliases = "、".join(alias for alias in entity.aliases if alias != entity.name)
    facts = [f"{predicate}：{value}" for predicate, value in entity.facts]
    fields = [each for each in (aliases, "、".join(entity.types), entity.description, *facts) if each]
    long = sum(len(each) for each in fields if len(each) > SHORT)
    short = sum(len(each) for each in fields if len(each) <= SHORT) + len(entity.name) + len(fields)
    share = max(room - short, 0) / long if long else 1.0
    kept = [each if len(each) <= SHORT or share >= 1 else each[: max(SHORT, int(share * len(each)))] for each in fields]
    return "；".join([entity.name, *kept])[:room]
