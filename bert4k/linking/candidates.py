"""The entities that a mention may mean: those that have its name, or, of too many or none, those nearest to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bert4k.linking.knowledge_base import Entity, KnowledgeBase
from bert4k.linking.prompts import Asked, Writer
from bert4k.linking.statistics import AnnotationStatistics

Vectors = NDArray[np.float32]

if TYPE_CHECKING:
    import keras

    from bert4k.linking.retrieval import EntityVectors


class Nearest:
    """A bi-encoder with the vectors of all entities."""

    def __init__(self, model: keras.Model, writer: Writer, vectors: EntityVectors) -> None:
        self.model, self.writer, self.vectors = model, writer, vectors

    def queries(self, asked: Sequence[Asked]) -> Vectors:
        """The vectors of mentions, float32 [N, H]."""
        from bert4k.linking.retrieval import vectors_of

        return vectors_of(self.model, [self.writer.mention(each) for each in asked], self.writer.tokenizer.pad_id)

    def cosines(self, queries: Vectors, ids: Sequence[Sequence[str]]) -> list[Vectors]:
        """How near each of its candidates is to each mention, float32 [K] for each; 0 for an entity that has no vector."""
        return [self.vectors.of(own) @ query for query, own in zip(queries, ids, strict=True)]

    def sorted(self, queries: Vectors, ids: Sequence[Sequence[str]], most: int, more: int) -> list[list[str]]:
        """The `most` ids of each that are nearest to the mention, the nearest first, then `more` that are nearest among all entities."""
        others = self.vectors.nearest(queries, more) if more else [[] for _ in queries]
        found = []
        for cosines, own, further in zip(self.cosines(queries, ids), ids, others, strict=True):
            order = sorted(range(len(own)), key=lambda place: -cosines[place])[:most]
            found.append(list(dict.fromkeys([*(own[place] for place in order), *further])))
        return found


class Candidates:
    """Up to `most` entities for each mention. Those with its name come in the order of how often training linked it to them; where they are
    more than `most`, and there is a bi-encoder, those nearest to the mention in its text are taken, and the most often linked one.

    least: of a surface that training has linked to some so often, only those (Su's "1 of 50 becomes 1 of 5", with 2); None: all. more: so
    many entities that are nearest to the mention come in addition, whatever they are called."""

    def __init__(
        self,
        knowledge_base: KnowledgeBase,
        statistics: AnnotationStatistics,
        most: int,
        least: int | None = None,
        nearest: Nearest | None = None,
        more: int = 0,
    ) -> None:
        self.knowledge_base, self.statistics, self.most, self.least = knowledge_base, statistics, most, least
        self.nearest, self.more = nearest, more

    def named(self, surface: str) -> list[str]:
        """The ids of all that have this name, those most often linked first."""
        if self.least:
            return self.statistics.candidates(surface, self.knowledge_base, self.least)
        counts = self.statistics.counts(surface)
        return sorted(self.knowledge_base.candidates(surface), key=lambda id: -counts[id])

    def ids(self, asked: Sequence[Asked], queries: Vectors | None = None) -> list[list[str]]:
        """Those of each mention. queries: `nearest.queries(asked)`, where they are there already."""
        known = {surface: self.named(surface) for surface in {each.surface for each in asked}}
        named = [known[each.surface] for each in asked]
        found = [ids[: self.most] for ids in named]
        if self.nearest is None:
            return found
        many = [place for place, ids in enumerate(named) if len(ids) > self.most or self.more]
        near = self.nearest.queries([asked[place] for place in many]) if queries is None else queries[many]
        told = self.nearest.sorted(near, [named[place] for place in many], self.most, self.more)
        for place, ids in zip(many, told, strict=True):
            # The most often linked first, then the nearest, as many as were asked for; one may have been deleted since it got its vector.
            some = list(dict.fromkeys([*named[place][:1], *ids]))[: self.most + self.more]
            found[place] = [id for id in some if id in known[asked[place].surface] or id in self.knowledge_base]
        return found

    def entities(self, asked: Sequence[Asked], queries: Vectors | None = None) -> list[list[Entity]]:
        """`ids`, as entities."""
        ids = self.ids(asked, queries)
        known = self.knowledge_base.known(list(dict.fromkeys(id for own in ids for id in own)))
        return [[known[id] for id in own if id in known] for own in ids]

    def with_cosines(self, asked: Sequence[Asked]) -> tuple[list[list[Entity]], list[Vectors] | None]:
        """`entities`, and how near each is to its mention (None: there is no bi-encoder); the vector of a mention is made once for both."""
        if self.nearest is None:
            return self.entities(asked), None
        queries = self.nearest.queries(asked)
        entities = self.entities(asked, queries)
        return entities, self.nearest.cosines(queries, [[each.id for each in own] for own in entities])
