"""Numbers that a ranker is given beside what it reads: how often a name meant an entity, and what the text shares with what is known of it.

    evidence = Evidence(statistics, overlap=True)
    evidence.of(Asked("苹果发布会", 0, 2), entities, candidates=4)          # float32 [K, evidence.size]

That a text names what the knowledge base says of an entity is the plainest evidence there is, and what a network learns last: it must come
to compare any piece with any other. On few examples it does not, and ranks by the counts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bert4k.linking.entities import Entity
from bert4k.linking.prior import FEATURES, features
from bert4k.linking.prompts import Asked
from bert4k.linking.statistics import AnnotationStatistics
from bert4k.linking.surfaces import folded

# What a text shares with what is known of an entity, in characters n, as log(1 + n) / 3: those in pieces of PIECE, and the longest piece,
# of two or more.
SHARED = ("covered", "longest")
PIECE = 3  # characters that two texts seldom share by chance
AROUND = 128  # characters of the text that are looked at on either side of a mention: each is looked for in what is known
KNOWN = 2048  # characters of what is known that are looked at: the facts, then the description
_GONE = "\0"  # in place of the mention; folding leaves no such character in a text


@dataclass(frozen=True)
class Evidence:
    """What a ranker is given. statistics: what training texts tell of names (`prior.features`), None for nothing; overlap: `shared`."""

    statistics: AnnotationStatistics | None = None
    overlap: bool = False

    @property
    def size(self) -> int:
        """How many numbers there are of an entity."""
        return len(FEATURES) * (self.statistics is not None) + len(SHARED) * self.overlap

    def of(
        self, asked: Asked, entities: Sequence[Entity], candidates: int, right: str | None = None, counted: bool = False
    ) -> NDArray[np.float32]:
        """Of some entities, float32 [len(entities), size], among so many `candidates` of a mention; right, counted: see `features`."""
        found = [] if self.statistics is None else [features(self.statistics, asked.surface, entities, candidates, right, counted)]
        return np.concatenate([*found, *([shared(asked, entities)] if self.overlap else [])], axis=1)


def shared(asked: Asked, entities: Sequence[Entity]) -> NDArray[np.float32]:
    """`SHARED` of some entities, float32 [len(entities), 2]. The mention itself, wherever it stands, counts for nobody."""
    near = asked.text[max(0, asked.start - AROUND) : asked.end + AROUND]
    text = folded(near).replace(folded(asked.surface), _GONE)
    counts = np.array([_in_common(text, _known(entity)) for entity in entities], np.float32).reshape(len(entities), len(SHARED))
    return (np.log1p(counts) / 3).astype(np.float32)


def _in_common(text: str, known: str) -> tuple[int, int]:
    covered, longest, reached = 0, 0, 0
    for place in range(len(text)):
        end = place + PIECE
        if end <= len(text) and text[place:end] in known:
            covered, reached = covered + end - max(place, reached), end
        while (end := place + longest + 1) <= len(text) and text[place:end] in known:
            longest += 1
    return covered, longest if longest > 1 else 0  # one character is shared by any two texts


@lru_cache(maxsize=20_000)
def _known(entity: Entity) -> str:
    """What is said of an entity, without what it is called."""
    return folded("\n".join([*(value for _, value in entity.facts), entity.description])[:KNOWN])
