"""`Linker`: texts to the entities that they name.

    linker = Linker.load("runs/links")
    for links in linker.link(["苹果发布会将在下周举行"]):
        for link in links:
            print(link.start, link.end, link.surface, link.id, link.score, link.entity)

Three steps, for all texts together: mentions are found, candidates fetched, and candidates ranked. The best one stands if it is probable
enough; if not, or if there is none, the mention means nothing that the knowledge base has (NIL, `id` None).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.errors import CheckpointError, ConfigError, DataError
from bert4k.linking.calibration import RANKER_ALONE, Calibration
from bert4k.linking.candidates import Candidates, Nearest
from bert4k.linking.evidence import Evidence
from bert4k.linking.knowledge_base import Entity, KnowledgeBase
from bert4k.linking.prior import features
from bert4k.linking.prompts import Asked, Writer
from bert4k.linking.settings import most_candidates
from bert4k.linking.statistics import AnnotationStatistics, DictionaryLinker
from bert4k.recipe import recipe_of, stored_settings

if TYPE_CHECKING:
    from bert4k.linking.mentions import Span

RECIPE = "entity_linking"
LAST = "linker.json"  # written at the end of a training: what is needed beside the models
COUNTS = "statistics.json"

Finder = Callable[[Sequence[str]], "list[list[Span]]"]
Typer = Callable[[Sequence[Asked]], Sequence[str]]
Ranker = Callable[[Sequence[Asked], Sequence[Sequence[Entity]]], Sequence[NDArray[np.float64]]]


class Linked(NamedTuple):
    """A mention, text[start:end] == surface, and the entity that it means; `id` and `entity` are None for NIL.

    score: how probable the entity is, from 0 to 1; of NIL, the best candidate, 0 where there was none. type: the first type of the entity;
    of NIL, what the text lets one expect, if types were learnt."""

    start: int
    end: int
    surface: str
    id: str | None
    score: float
    entity: Entity | None
    type: str | None = None


class Linker:
    """Finds mentions by `finder`, their candidates by `candidates`, and ranks them by `ranker`; a candidate below `threshold` is none, and
    `typer`, if there is one, says of what type such a mention is. calibration: how much it counts, beside what the ranker says, how near
    the vectors of candidates are, where there are vectors.

    May be used by several threads, one of which works at a time: a model has the whole machine anyway, and many texts together are read
    faster than one after another."""

    def __init__(
        self,
        finder: Finder,
        candidates: Candidates,
        ranker: Ranker,
        threshold: float,
        typer: Typer | None = None,
        calibration: Calibration = RANKER_ALONE,
    ) -> None:
        self.finder, self.candidates, self.ranker, self.threshold = finder, candidates, ranker, threshold
        self.typer, self.calibration = typer, calibration
        self._lock = threading.RLock()

    @classmethod
    def load(cls, run: str | Path, knowledge_base: str | Path | None = None, changed: bool = False) -> Linker:
        """The linker that `bert4k train entity_linking` has trained in the folder `run`.

        knowledge_base: a file of `KnowledgeBase.build` instead of the one of the training. changed: whether it may hold other entities than
        it did in training, as after `KnowledgeBase.add`; if not, it is refused with a `ConfigError`. Raises `CheckpointError` for a run
        that is not finished."""
        return load(Path(run), knowledge_base, changed)

    def link(self, texts: Sequence[str]) -> list[list[Linked]]:
        """The mentions of each text, in their order. Raises `DataError` unless texts are a list of strings; an empty one has none."""
        texts = texts if isinstance(texts, str) else list(texts)  # of an iterator, looking at it would leave nothing
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise DataError("link() takes a list of texts. Put a single text in a list, and give strings.")
        with self._lock:
            asked = self.find(texts)
            found = iter(self.disambiguate([each for own in asked for each in own]))
        return [[next(found) for _ in own] for own in asked]

    def find(self, texts: Sequence[str]) -> list[list[Asked]]:
        """The mentions of each text, without what they mean."""
        with self._lock:
            spans = self.finder(texts)
        return [[Asked(text, each.start, each.end) for each in own] for text, own in zip(texts, spans, strict=True)]

    def disambiguate(self, asked: Sequence[Asked]) -> list[Linked]:
        """What given mentions mean."""
        return self.decide(asked, self.best(asked))

    def best(self, asked: Sequence[Asked]) -> list[Linked]:
        """The best candidate of given mentions, however improbable."""
        with self._lock:
            entities, cosines = self.candidates.with_cosines(asked)
            scores = self.ranker(asked, entities)
        if cosines is not None:
            scores = [self.calibration.apply(*each) for each in zip(scores, cosines, strict=True)]
        return [chosen(*each) for each in zip(asked, entities, scores, strict=True)]

    def decide(self, asked: Sequence[Asked], best: Sequence[Linked]) -> list[Linked]:
        """What mentions mean, given what `best` says of them: NIL where that is not probable enough."""
        found = [each if each.score >= self.threshold else each._replace(id=None, entity=None, type=None) for each in best]
        if self.typer is not None:
            nil = [place for place, each in enumerate(found) if each.id is None]
            with self._lock:
                types = self.typer([asked[place] for place in nil])
            for place, type in zip(nil, types, strict=True):
                found[place] = found[place]._replace(type=type)
        return found


def chosen(asked: Asked, entities: Sequence[Entity], scores: NDArray[np.float64]) -> Linked:
    """The best of the candidates of a mention, if there is one; of equal ones, the first."""
    if not len(scores):
        return Linked(asked.start, asked.end, asked.surface, None, 0.0, None)
    best = int(np.argmax(scores))
    entity = entities[best]
    return Linked(asked.start, asked.end, asked.surface, entity.id, float(scores[best]), entity, next(iter(entity.types), None))


def best_threshold(scores: Sequence[float], right: Sequence[bool], expected: int) -> float:
    """The score at which links, of which `right` tells the right ones, are best cut off: for the highest F1 where so many are `expected`;
    of equal ones, the lowest. Halfway between the last score that is kept and the first that is not; 0 keeps all."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    values = np.asarray(scores, np.float64)[order]
    if not len(values):
        return 0.5
    hits = np.cumsum(np.asarray(right, bool)[order])
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + max(expected, 1))
    # Equal scores are kept or dropped together.
    f1[:-1][values[:-1] == values[1:]] = -1
    last = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return 0.0 if last == len(values) - 1 else float((values[last] + values[last + 1]) / 2)


# The run folder. -----------------------------------------------------------------------------------------------------------------


def load(run: Path, knowledge_base: str | Path | None, changed: bool) -> Linker:
    """See `Linker.load`."""
    recipe_of(run, (RECIPE,))
    if not (run / LAST).exists():
        raise CheckpointError(f"The run {run} is not finished. Give `bert4k train {RECIPE}` the same settings again, and it goes on.")
    settings = stored_settings(run / "settings.json")
    told = json.loads((run / LAST).read_text(encoding="utf-8"))
    opened = KnowledgeBase(run / told["knowledge_base"] if knowledge_base is None else knowledge_base)
    check_fingerprint(opened, told["fingerprint"], changed)
    statistics = AnnotationStatistics.load(run / COUNTS)
    return Linker(
        stored_finder(run, settings, opened, statistics),
        stored_candidates(run, settings, opened, statistics),
        stored_ranker(run, settings, statistics),
        told["threshold"],
        stored_typer(run, settings),
        Calibration(*told["calibration"]),
    )


def check_fingerprint(knowledge_base: KnowledgeBase, expected: str, changed: bool = False) -> None:
    """Raise `ConfigError` when a knowledge base holds other entities than in training."""
    if knowledge_base.fingerprint != expected and not changed:
        raise ConfigError(
            f"{knowledge_base.path} holds other entities than in training (fingerprint {knowledge_base.fingerprint[:12]}, then"
            f" {expected[:12]}), so ids may mean something else. Give back the one of the training, or train anew; if entities were only"
            " added, corrected or deleted, allow it with `bert4k link --changed`, or with Linker.load(run, changed=True)."
        )


def stored_finder(run: Path, settings: dict[str, Any], knowledge_base: KnowledgeBase, statistics: AnnotationStatistics) -> Finder:
    """What finds mentions."""
    from bert4k.linking.mentions import Span, detect, encode

    matches = matcher(knowledge_base, statistics)
    if settings["head"] == "dictionary":
        return lambda texts: [[Span(start, end, 1.0) for start, end in matches(text)] for text in texts]
    from bert4k.finetuning import read_model

    model, tokenizer, [overlaps, *chosen] = read_model(run / "mentions")
    threshold = chosen[0] if chosen else settings["mention_threshold"]  # what was trained before one was chosen has its setting

    def find(texts: Sequence[str]) -> list[list[Span]]:
        rows, pieces = encode(texts, tokenizer, settings["longest"], None if settings["dictionary"] == "none" else matches)
        return detect(model, rows, pieces, len(texts), settings["head"], threshold, overlaps)

    return find


def matcher(knowledge_base: KnowledgeBase, statistics: AnnotationStatistics) -> Callable[[str], list[tuple[int, int]]]:
    """The places of a text at which names stand that annotators mark, as the dictionary alone would take them for mentions."""
    known = DictionaryLinker(knowledge_base, statistics)
    return lambda text: [(match.start, match.end) for match in known.matches(text)]


def stored_candidates(run: Path, settings: dict[str, Any], knowledge_base: KnowledgeBase, statistics: AnnotationStatistics) -> Candidates:
    """What finds candidates."""
    nearest = stored_nearest(run, settings, knowledge_base) if settings["retrieval"] else None
    return Candidates(knowledge_base, statistics, most_candidates(settings), settings["least_links"], nearest, settings["nearest"])


def stored_nearest(run: Path, settings: dict[str, Any], knowledge_base: KnowledgeBase) -> Nearest:
    """The bi-encoder with the vectors of all entities, which are made where they are not there."""
    from bert4k.finetuning import read_model
    from bert4k.linking.retrieval import EntityVectors

    model, tokenizer, _ = read_model(run / "retrieval")
    with (run / "retrieval" / "model.keras").open("rb") as file:
        made_by = f"{hashlib.file_digest(file, 'sha256').hexdigest()} {knowledge_base.fingerprint}"
    writer = Writer(tokenizer, settings["longest"])
    path = run / "retrieval" / "entities.npy"
    return Nearest(
        model, writer, EntityVectors.kept(path, made_by, lambda: EntityVectors.make(path, model, writer, knowledge_base, made_by))
    )


def stored_typer(run: Path, settings: dict[str, Any]) -> Typer | None:
    """What tells the types of mentions, if they were learnt."""
    if not settings.get("types"):
        return None
    from bert4k.finetuning import read_model
    from bert4k.linking.types import types_of

    model, tokenizer, classes = read_model(run / "types")
    writer = Writer(tokenizer, settings["longest"])
    return lambda asked: types_of(model, writer, asked, classes)


def stored_ranker(run: Path, settings: dict[str, Any], statistics: AnnotationStatistics) -> Ranker:
    """What ranks candidates."""
    if settings["ranker"] == "counts":
        return lambda asked, entities: [
            features(statistics, each.surface, own, max(len(own), 1))[:, 0].astype(np.float64)
            for each, own in zip(asked, entities, strict=True)
        ]
    from bert4k.finetuning import read_model
    from bert4k.linking import siamese  # noqa: F401  # by whose import Keras knows its layers
    from bert4k.linking.ranking import rank

    model, tokenizer, _ = read_model(run / "ranking")
    if settings["ranker"] == "generative":
        from bert4k.linking import generative

        titles = Writer(tokenizer, settings["longest"])
        return lambda asked, entities: generative.rank(model, titles, asked, entities)
    writer = Writer(tokenizer, settings["longest_pair"])
    evidence = Evidence(statistics if settings["prior"] else None, settings.get("overlap", False))
    return lambda asked, entities: rank(model, writer, asked, entities, evidence)
