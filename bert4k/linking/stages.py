"""The parts of a linker, trained one after the other: what finds mentions, what finds candidates, what ranks them, what tells types.

Each is a model in a folder of its own in the run folder, finished when its model.keras is there; so a run that was killed goes on with the
part that was not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from bert4k import finetuning
from bert4k.errors import DataError
from bert4k.linking import generative, mentions, ranking, retrieval, siamese, types
from bert4k.linking.calibration import RANKER_ALONE, Calibration
from bert4k.linking.candidates import Candidates, Nearest
from bert4k.linking.evidence import Evidence
from bert4k.linking.knowledge_base import KnowledgeBase
from bert4k.linking.linker import Ranker, matcher
from bert4k.linking.prompts import Asked, Writer, asked_of
from bert4k.linking.ranking import Question
from bert4k.linking.rows import rows_of
from bert4k.linking.settings import Settings
from bert4k.linking.statistics import AnnotationStatistics
from bert4k.linking.texts import LinkedText
from bert4k.losses import SimCSE
from bert4k.telling import some, told_loss
from bert4k.training import Grouped, LengthBatches

NAMESAKES = 20  # among which the bi-encoder is judged, of each mention


def trained(part: Path) -> bool:
    """Whether a part of the run is finished."""
    return (part / "model.keras").exists()


def train_mentions(
    settings: Settings,
    texts: Sequence[LinkedText],
    dev: Sequence[LinkedText],
    knowledge_base: KnowledgeBase,
    statistics: AnnotationStatistics,
) -> None:
    """What finds mentions, in mentions/. Where no training text has mentions that overlap, what is found does not, either."""
    assert settings.head != "dictionary"
    head: mentions.Head = settings.head
    print("learning to find mentions", file=sys.stderr)
    model, network, tokenizer = mentions.build(settings.model, settings.tuning, head, settings.dictionary)
    matches = None if settings.dictionary == "none" else matcher(knowledge_base, statistics)
    learn, pieces = mentions.encode([text.text for text in texts], tokenizer, settings.longest, matches)
    judge, judge_pieces = mentions.encode([text.text for text in dev], tokenizer, settings.longest, matches)
    places, gold = ([[(each.start, each.end) for each in text.mentions] for text in part] for part in (texts, dev))
    targets = mentions.in_pieces(places, pieces)
    if not any(targets):
        raise DataError("No mention of the training texts begins and ends with tokens, so nothing can be learnt. Look at their offsets.")
    if settings.dictionary != "none":
        mentions.begin(model, learn, targets, head)
    overlapping = any(one[1] > other[0] for row in places for one, other in pairwise(sorted(row)))

    thresholds = mentions.THRESHOLDS if settings.mention_threshold is None else (settings.mention_threshold,)

    def judged() -> dict[str, float]:
        found = mentions.detect_at(model, judge, judge_pieces, len(dev), head, thresholds, overlapping)
        return mentions.best_threshold(found, gold, thresholds)

    tuning = settings.tuning
    collate = mentions.lessons(learn, targets, head, settings.dictionary)
    reached = finetuning.fit(
        settings.run / "mentions",
        model,
        network.config.num_hidden_layers,
        LengthBatches(learn.lengths(), collate, max(tuning.tokens, settings.longest), seed=tuning.seed),
        mentions.loss(head),
        judged,
        "f1",
        tuning,
        divergence="sigmoid",
    )
    finetuning.finish(settings.run / "mentions", model, network, tokenizer, [overlapping, reached["threshold"]])


def train_retrieval(
    settings: Settings,
    texts: Sequence[LinkedText],
    dev: Sequence[LinkedText],
    knowledge_base: KnowledgeBase,
    statistics: AnnotationStatistics,
) -> None:
    """The bi-encoder, in retrieval/, judged by how often the right entity is the nearest of those that dev names and their namesakes."""
    print("learning vectors of mentions and entities", file=sys.stderr)
    model, network, tokenizer = retrieval.build(settings.model, settings.tuning, settings.pooling)
    writer = Writer(tokenizer, settings.longest)
    pairs = linked_mentions(texts)
    ids = list(dict.fromkeys(id for _, id in pairs))
    number = {id: place for place, id in enumerate(ids)}
    entities = [writer.entity(entity) for entity in knowledge_base.entities(ids)]
    subjects = [number[id] for _, id in pairs]
    batches = retrieval.batches(
        [writer.mention(one) for one, _ in pairs],
        [entities[place] for place in subjects],
        subjects,
        tokenizer.pad_id,
        settings.tuning.tokens,
        settings.tuning.seed,
    )
    judge = some(linked_mentions(dev), settings.judged, settings.tuning.seed)
    namesakes = Candidates(knowledge_base, statistics, NAMESAKES).ids([one for one, _ in judge])
    pool = list(dict.fromkeys([id for _, id in judge] + [id for row in namesakes for id in row]))
    place = {id: at for at, id in enumerate(pool)}
    known = [writer.entity(entity) for entity in knowledge_base.entities(pool)]
    wanted = np.array([place[id] for _, id in judge])

    def judged() -> dict[str, float]:
        own = retrieval.vectors_of(model, [writer.mention(one) for one, _ in judge], tokenizer.pad_id)
        others = retrieval.vectors_of(model, known, tokenizer.pad_id)
        return {"nearest": float(np.mean(np.argmax(own @ others.T, axis=1) == wanted)) if len(judge) else 0.0}

    finetuning.fit(
        settings.run / "retrieval",
        Grouped(model),
        network.config.num_hidden_layers,
        batches,
        SimCSE(),
        judged,
        "nearest",
        settings.tuning,
        divergence=None,
    )
    finetuning.finish(settings.run / "retrieval", model, network, tokenizer, [])


def train_types(settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], knowledge_base: KnowledgeBase) -> None:
    """What tells the type of a mention, in types/, judged on those of dev whose type training knows."""
    learn = types.typed(texts, knowledge_base)
    classes = sorted({type for _, type in learn})
    judge = some([each for each in types.typed(dev, knowledge_base) if each[1] in classes], settings.judged, settings.tuning.seed)
    if len(classes) < 2:
        raise DataError(
            f"The entities that training texts mention have {len(classes)} types ({', '.join(classes)}); expected two or more to tell"
            " apart. Give the entities of the knowledge base types, or leave out --types."
        )
    print("learning the types of mentions", file=sys.stderr)
    model, network, tokenizer = types.build(settings.model, settings.tuning, len(classes))
    writer, tuning = Writer(tokenizer, settings.longest), settings.tuning
    rows = rows_of([writer.mention(asked) for asked, _ in learn], tokenizer.pad_id)
    targets = np.array([classes.index(type) for _, type in learn])

    def judged() -> dict[str, float]:
        told = types.types_of(model, writer, [asked for asked, _ in judge], classes)
        return {"accuracy": sum(mine == type for mine, (_, type) in zip(told, judge, strict=True)) / max(len(judge), 1)}

    finetuning.fit(
        settings.run / "types",
        model,
        network.config.num_hidden_layers,
        LengthBatches(
            rows.lengths(),
            lambda chosen, length: (rows.inputs(chosen, length), targets[chosen]),
            max(tuning.tokens, settings.longest),
            seed=tuning.seed,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        judged,
        "accuracy",
        tuning,
    )
    finetuning.finish(settings.run / "types", model, network, tokenizer, classes)


def train_ranking(
    settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], candidates: Candidates, statistics: AnnotationStatistics
) -> None:
    """What ranks candidates, in ranking/, judged by how often the right entity of a mention of dev is the best of its candidates."""
    print("learning to rank candidates", file=sys.stderr)
    if settings.ranker == "generative":
        _train_writing(settings, texts, dev, candidates)
    else:
        _train_reading(settings, texts, dev, candidates, statistics)


def _train_reading(
    settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], candidates: Candidates, statistics: AnnotationStatistics
) -> None:
    """What reads each candidate, with the text or apart from it."""
    tuning, knowledge_base = settings.tuning, candidates.knowledge_base
    evidence = Evidence(statistics if settings.prior else None, settings.overlap)
    if settings.ranker == "cross":
        model, network, tokenizer = ranking.build(settings.model, tuning, settings.pooling, evidence.size)
    else:
        encoder: Literal["checkpoint", "bilstm"] = "bilstm" if settings.ranker == "bilstm" else "checkpoint"
        model, network, tokenizer = siamese.build(settings.model, tuning, encoder, evidence.size)
    writer = Writer(tokenizer, settings.longest_pair)
    pool = some(list(knowledge_base.ids()), 20_000, tuning.seed)
    learn = [each for each in questions(texts, candidates, settings, candidates.nearest) if each.right or each.others or pool]
    how = (writer, knowledge_base.entities, evidence, settings.negatives)
    batches = ranking.RankingBatches(learn, *how, tokens=tuning.tokens, pool=pool, seed=tuning.seed)
    judged = ranking_judge(settings, dev, candidates, lambda asked, own: ranking.rank(model, writer, asked, own, evidence))
    finetuning.fit(
        settings.run / "ranking",
        Grouped(model),
        network.config.num_hidden_layers,
        batches,
        ranking.loss(),
        judged,
        "accuracy",
        tuning,
        ranking.RATES if evidence.size else None,
        divergence="sigmoid",
    )
    finetuning.finish(settings.run / "ranking", model, network, tokenizer, [])


def _train_writing(settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], candidates: Candidates) -> None:
    """What writes the title of one of the candidates."""
    model, network, tokenizer = generative.build(settings.model, settings.tuning)
    writer, pairs = Writer(tokenizer, settings.longest), linked_mentions(texts)
    ids = list(dict.fromkeys(id for _, id in pairs))
    known = dict(zip(ids, candidates.knowledge_base.entities(ids), strict=True))
    finetuning.fit(
        settings.run / "ranking",
        model,
        network.config.num_hidden_layers,
        generative.lessons([(one, known[id]) for one, id in pairs], writer, settings.tuning.tokens, settings.tuning.seed),
        told_loss(),
        ranking_judge(settings, dev, candidates, lambda asked, own: generative.rank(network, writer, asked, own)),
        "accuracy",
        settings.tuning,
    )
    finetuning.finish(settings.run / "ranking", network, network, tokenizer, [])


def ranking_judge(settings: Settings, dev: Sequence[LinkedText], candidates: Candidates, ranker: Ranker) -> Callable[[], dict[str, float]]:
    """How often the right entity of a mention of dev, of which some are drawn, is the best of its candidates."""
    judge = some(linked_mentions(dev), settings.judged, settings.tuning.seed)
    asked = [one for one, _ in judge]
    entities = candidates.entities(asked)

    def judged() -> dict[str, float]:
        found = ranker(asked, entities)
        right = (len(own) > 0 and own[values.argmax()].id == id for values, own, (_, id) in zip(found, entities, judge, strict=True))
        return {"accuracy": sum(right) / max(len(judge), 1)}

    return judged


def calibration_on(settings: Settings, dev: Sequence[LinkedText], candidates: Candidates, ranker: Ranker) -> Calibration:
    """What the ranker says and how near vectors are, if there are any, weighed on mentions of dev, of which some are drawn."""
    if candidates.nearest is None:
        return RANKER_ALONE
    judge = some(list(zip(asked_of(dev), right_of(dev), strict=True)), settings.judged, settings.tuning.seed)
    asked = [one for one, _ in judge]
    entities, cosines = candidates.with_cosines(asked)
    assert cosines is not None  # there is a bi-encoder
    right = [[entity.id == id for entity in own] for own, (_, id) in zip(entities, judge, strict=True)]
    return Calibration.fit(ranker(asked, entities), cosines, right)


def linked_mentions(texts: Sequence[LinkedText]) -> list[tuple[Asked, str]]:
    """The mentions of texts that mean an entity, with its id."""
    pairs = zip(asked_of(texts), right_of(texts), strict=True)
    return [(one, id) for one, id in pairs if id is not None]


def questions(texts: Sequence[LinkedText], candidates: Candidates, settings: Settings, nearest: Nearest | None) -> list[Question]:
    """The mentions of training texts with what they mean and what else they could: of the same name, then with the nearest vectors."""
    asked, right = asked_of(texts), right_of(texts)
    others = candidates.ids(asked)
    counts = [len(ids) for ids in others]
    if not settings.hard_negatives:
        others = [[] for _ in asked]
    elif nearest is not None:
        few = [place for place, ids in enumerate(others) if len(set(ids) - {right[place]}) < settings.negatives]
        queries = nearest.queries([asked[place] for place in few])
        more = nearest.sorted(queries, [[] for _ in few], 0, settings.negatives + 1)
        for place, ids in zip(few, more, strict=True):
            others[place] = list(dict.fromkeys([*others[place], *ids]))
    return [
        Question(one, id, tuple(each for each in ids if each != id), max(count, 1))
        for one, id, ids, count in zip(asked, right, others, counts, strict=True)
    ]


def right_of(texts: Sequence[LinkedText]) -> list[str | None]:
    """What they mean."""
    return [mention.id for text in texts for mention in text.mentions]
