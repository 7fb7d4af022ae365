"""What annotators do with a name, counted on training texts: do they mark it, and whom do they mean by it? And a baseline made of that.

After bojone's entry in CCKS2019 (https://kexue.fm/archives/6919): a name that maximum matching finds much more often unmarked than marked is
no mention, and of the entities that share a name, those count that it was seen to mean. All of it is learnt from the texts that are given
and from nothing else: give it training texts only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError
from bert4k.linking.knowledge_base import KnowledgeBase, Match, normalised
from bert4k.linking.texts import LinkedText, Mention

UNMARKED = 5.0  # from this ratio of unmarked to marked occurrences on, a name is no mention


def longest_matching(matches: Sequence[Match], length: int) -> list[Match]:
    """The matches that cover most of a text of so many characters without overlapping; of several such sets the smallest, and of these
    the one whose first match is longest. A shortest path: a step to the next character costs one uncovered one, a step over a match one
    match, which is cheaper.
    """
    at: dict[int, list[Match]] = {}
    for match in matches:
        at.setdefault(match.start, []).append(match)
    # Of the rest of the text from each place on: what it costs, and the match that it begins with.
    costs: list[tuple[int, int]] = [(0, 0)] * (length + 1)
    steps: list[Match | None] = [None] * (length + 1)
    for place in reversed(range(length)):
        uncovered, pieces = costs[place + 1]
        costs[place] = uncovered + 1, pieces
        for match in sorted(at.get(place, ()), key=lambda each: -each.end):
            uncovered, pieces = costs[match.end]
            if (uncovered, pieces + 1) < costs[place]:
                costs[place], steps[place] = (uncovered, pieces + 1), match
    found, place = [], 0
    while place < length:
        if step := steps[place]:
            found.append(step)
        place = step.end if step else place + 1
    return found


@dataclass
class AnnotationStatistics:
    """Counts by normalised name: how often it was marked, how often maximum matching found it unmarked, whom it meant, how often nobody."""

    marked: Counter[str] = field(default_factory=Counter)
    unmarked: Counter[str] = field(default_factory=Counter)
    meant: dict[str, Counter[str]] = field(default_factory=dict)
    nil: Counter[str] = field(default_factory=Counter)

    @classmethod
    def learn(cls, texts: Iterable[LinkedText], knowledge_base: KnowledgeBase) -> AnnotationStatistics:
        """Count on annotated texts; only ones that are trained on."""
        found = cls()
        for text in texts:
            places = {(mention.start, mention.end) for mention in text.mentions}
            for mention in text.mentions:
                surface = normalised(mention.surface)
                found.marked[surface] += 1
                if mention.id is None:
                    found.nil[surface] += 1
                else:
                    found.meant.setdefault(surface, Counter())[mention.id] += 1
            for match in longest_matching(knowledge_base.matches(text.text), len(text.text)):
                if (match.start, match.end) not in places:
                    found.unmarked[normalised(match.surface)] += 1
        return found

    def is_mention(self, surface: str, unmarked: float = UNMARKED) -> bool:
        """Whether annotators mark a name often enough: (unmarked + 1) / (marked + 1) is below the ratio `unmarked`. One never seen is."""
        form = normalised(surface)
        return (self.unmarked[form] + 1) / (self.marked[form] + 1) < unmarked

    def counts(self, surface: str) -> Counter[str]:
        """How often a name meant each entity, by id."""
        return self.meant.get(normalised(surface), Counter())

    def prior(self, surface: str, identifier: str) -> float:
        """The share of the marked occurrences of a name, NIL included, that meant an entity; 0 for a name never marked."""
        form = normalised(surface)
        return self.meant.get(form, Counter())[identifier] / self.marked[form] if self.marked[form] else 0.0

    def candidates(self, surface: str, knowledge_base: KnowledgeBase, least: int = 2, limit: int | None = None) -> list[str]:
        """The ids that a name may mean: those of the knowledge base that it meant at least `least` times, or else all that have it; the
        most frequent first, then in the order of the knowledge base. At most `limit`."""
        counts = self.counts(surface)
        often = [each for each, count in counts.items() if count >= least and each in knowledge_base]
        found = often or knowledge_base.candidates(surface)
        return sorted(found, key=lambda each: -counts[each])[:limit]

    def save(self, path: Path) -> None:
        """Write the counts as JSON."""
        values = {"marked": self.marked, "unmarked": self.unmarked, "meant": self.meant, "nil": self.nil}
        with replacing(path) as (temporary,):
            temporary.write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> AnnotationStatistics:
        """The counts that `save` wrote. Raises `DataError` for anything else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            meant = {surface: Counter(counts) for surface, counts in values["meant"].items()}
            return cls(Counter(values["marked"]), Counter(values["unmarked"]), meant, Counter(values["nil"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"Cannot read annotation statistics from {path} ({error!r}). Give a file that AnnotationStatistics.save wrote."
            ) from error


class DictionaryLinker:
    """Linking without any learning but counting: maximum matching of the names that annotators mark, each with whom it meant most often.

    Without `statistics` every name counts, and means the first entity that has it.
    """

    def __init__(self, knowledge_base: KnowledgeBase, statistics: AnnotationStatistics | None = None, unmarked: float = UNMARKED) -> None:
        self.knowledge_base, self.statistics, self.unmarked = knowledge_base, statistics, unmarked

    def matches(self, text: str) -> list[Match]:
        """The places of a text that are taken for mentions; they do not overlap."""
        found = self.knowledge_base.matches(text)
        if self.statistics:
            found = [match for match in found if self.statistics.is_mention(match.surface, self.unmarked)]
        return longest_matching(found, len(text))

    def candidates(self, surface: str) -> list[str]:
        """The ids that a name may mean, best first."""
        return self.statistics.candidates(surface, self.knowledge_base) if self.statistics else self.knowledge_base.candidates(surface)

    def best(self, surface: str) -> str | None:
        """The id that a name is taken to mean; None (NIL) where there is no candidate, or it was NIL more often than the best of them."""
        best = next(iter(self.candidates(surface)), None)
        if best is None or self.statistics is None:
            return best
        return None if self.statistics.nil[normalised(surface)] > self.statistics.counts(surface)[best] else best

    def link(self, texts: Iterable[LinkedText]) -> list[LinkedText]:
        """The texts with the mentions found, whatever mentions they had."""
        return [
            LinkedText(text.id, text.text, tuple(Mention(*match, self.best(match.surface)) for match in self.matches(text.text)))
            for text in texts
        ]
