"""Link the mentions in short texts to the entries of a knowledge base: find them, fetch who has that name, choose whom the text is about.

    bert4k train entity_linking --run runs/links --kb kb.jsonl --train train.jsonl --dev dev.jsonl
    bert4k evaluate runs/links test.jsonl
    bert4k link runs/links 苹果发布会将在下周举行                          # mentions in colour, with what they mean
    bert4k predict runs/links - < texts.txt                              # lines as CCKS2019 has them, or, with types, CCKS2020

Texts are JSON lines: {"text": "...", "mentions": [{"start": 0, "end": 2, "id": "42"}]}, the id null (NIL) for what the knowledge base does
not have, or as in CCKS2019: {"text_id": "7", "text": "...", "mention_data": [{"kb_id": "42", "mention": "苹果", "offset": "0"}]}. The
knowledge base is one that `KnowledgeBase.build` has made, or a file that it takes: {"id": "42", "name": "苹果", "aliases": ["Apple"],
"description": "...", "type": "公司"} a line, a table, or kb_data of CCKS2019; of a file, the run keeps a knowledge base of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert4k.errors import ConfigError, DataError
from bert4k.linking import linker as parts
from bert4k.linking.knowledge_base import KnowledgeBase
from bert4k.linking.linker import Linked, Linker, best_threshold
from bert4k.linking.metrics import linking_scores, ranking_accuracy, recall_at
from bert4k.linking.problems import Policy, Problems
from bert4k.linking.prompts import Asked, asked_of
from bert4k.linking.settings import Settings
from bert4k.linking.statistics import AnnotationStatistics
from bert4k.linking.texts import LinkedText, Mention, competition_line, read_texts, write_texts

LAST = parts.LAST  # the file that says that a run is finished
KNOWLEDGE = "knowledge.db"


def read(path: Path, knowledge_base: KnowledgeBase, faults: Policy) -> list[LinkedText]:
    """The texts of a file. Raises `DataError`, with the line, for what is not as expected, or says what was left out."""
    problems = Problems(faults)
    texts = read_texts(path, knowledge_base, problems)
    if problems.counts:
        print(f"{path} has faults, which are passed over:\n{problems}", file=sys.stderr)
    return texts


def open_knowledge_base(settings: Settings) -> KnowledgeBase:
    """The one that is given, or one built of a file in the run folder. Raises `ConfigError` when it is not what the run began with."""
    from bert4k.finetuning import write_json

    try:
        with settings.kb.open("rb") as file:
            built = file.read(15) == b"SQLite format 3"
            file.seek(0)
            content = "" if built else hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"Cannot read {settings.kb} ({error.strerror}). Give --kb a knowledge base, or a file of entities.") from error
    place, record = settings.kb.resolve() if built else settings.run / KNOWLEDGE, settings.run / "knowledge.json"
    opened = KnowledgeBase(place) if built else None
    now = content if opened is None else opened.fingerprint
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else now
    if now != before:
        raise ConfigError(
            f"{settings.kb} is not what it was when {settings.run} was started ({now[:12]}, then {before[:12]}), so what was learnt of its"
            " entities may be wrong. Give back the former one to go on, or another --run to train anew."
        )
    if opened is None:
        problems = Problems(settings.faults)
        opened = KnowledgeBase(place) if record.exists() else KnowledgeBase.build(settings.kb, place, problems)
        if problems.counts:
            print(f"{settings.kb} has faults, which are passed over:\n{problems}", file=sys.stderr)
    write_json(record, now)
    return opened


class Reading(NamedTuple):
    """What a linker makes of texts, for all that is asked of them. Ranking is what takes long, so a mention that is found and one that is
    given at the same place are ranked once."""

    found: list[list[Asked]]  # the mentions that it finds in each text
    best: dict[Asked, Linked]  # the best candidate of each of them, and of the given ones, however improbable

    @classmethod
    def of(cls, linker: Linker, texts: Sequence[LinkedText]) -> Reading:
        """Find and rank."""
        found = linker.find([text.text for text in texts])
        asked = list(dict.fromkeys([each for own in found for each in own] + asked_of(texts)))
        return cls(found, dict(zip(asked, linker.best(asked), strict=True)))


def score(linker: Linker, texts: Sequence[LinkedText], reading: Reading | None = None) -> dict[str, float]:
    """How right links are as CCKS2019 counts ("f1"), and part by part: mentions, what is NIL, and, given the right mentions, how often the
    right entity is among the first candidates ("recall@k"), how often it is the best of them ("ranking"), how often it, or NIL, is told
    ("accuracy", of those that mean an entity "accuracy_linked"), and how often the type is right where types were learnt. reading: that
    of these texts, if there is one already."""
    from bert4k.linking.types import typed

    reading = reading or Reading.of(linker, texts)
    texts = [dataclasses.replace(text, id=str(number)) for number, text in enumerate(texts)]  # whatever ids a file has, some of them twice
    found = linking_scores(linked(linker, texts, reading), texts)
    asked, right = asked_of(texts), [each.id for text in texts for each in text.mentions]
    has = [place for place, id in enumerate(right) if id is not None]
    recall = recall_at(linker.candidates.ids([asked[place] for place in has]), [{str(right[place])} for place in has])
    best = [reading.best[each] for each in asked]
    ranking = ranking_accuracy([each.id for each in best], right)
    accuracy = ranking_accuracy([each.id if each.score >= linker.threshold else None for each in best], right)
    numbers = {
        f"{prefix}{name}": value
        for prefix, part in (("", "links"), ("mention_", "mentions"), ("nil_", "nil"))
        for name, value in zip(("precision", "recall", "f1"), found[part][:3], strict=True)
    }
    if linker.typer is not None:
        known = typed(texts, linker.candidates.knowledge_base)
        told = linker.typer([asked for asked, _ in known])
        numbers["type_accuracy"] = sum(mine == type for mine, (_, type) in zip(told, known, strict=True)) / max(len(known), 1)
    numbers |= {"accuracy": accuracy["all"], "accuracy_linked": accuracy["linked"], "ranking": ranking["linked"]}
    return numbers | {f"recall@{k}": value for k, value in recall.items()}


def linked(linker: Linker, texts: Sequence[LinkedText], reading: Reading) -> list[LinkedText]:
    """The texts with the mentions that are found in them instead of their own."""
    asked = [each for own in reading.found for each in own]
    links = iter(linker.decide(asked, [reading.best[each] for each in asked]))
    found = [[next(links) for _ in own] for own in reading.found]
    return [
        dataclasses.replace(text, mentions=tuple(Mention(*each[:4], each.type if each.id is None else None) for each in own))
        for text, own in zip(texts, found, strict=True)
    ]


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train entity_linking`: train what finds mentions, what finds candidates, and what ranks them, each to its best epoch; weigh
    the last two and set the threshold on dev; write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.linking import stages

    knowledge_base = open_knowledge_base(settings)
    texts = [text for path in settings.train for text in read(path, knowledge_base, settings.faults)]
    dev = read(settings.dev, knowledge_base, settings.faults)
    if not any(mention.id for text in texts for mention in text.mentions):
        raise DataError(f"None of the {len(texts):,} training texts has a mention with the id of an entity, so there is nothing to learn.")
    statistics = AnnotationStatistics.learn(texts, knowledge_base)
    statistics.save(settings.run / parts.COUNTS)
    if settings.head != "dictionary" and not stages.trained(settings.run / "mentions"):
        stages.train_mentions(settings, texts, dev, knowledge_base, statistics)
    if settings.retrieval and not stages.trained(settings.run / "retrieval"):
        stages.train_retrieval(settings, texts, dev, knowledge_base, statistics)
    stored = dataclasses.asdict(settings)
    candidates = parts.stored_candidates(settings.run, stored, knowledge_base, statistics)
    if settings.ranker != "counts" and not stages.trained(settings.run / "ranking"):
        stages.train_ranking(settings, texts, dev, candidates, statistics)
    if settings.types and not stages.trained(settings.run / "types"):
        stages.train_types(settings, texts, dev, knowledge_base)
    finder = parts.stored_finder(settings.run, stored, knowledge_base, statistics)
    typer, ranker = parts.stored_typer(settings.run, stored), parts.stored_ranker(settings.run, stored, statistics)
    weights = stages.calibration_on(settings, dev, candidates, ranker)
    linker = parts.Linker(finder, candidates, ranker, 0.0, typer, weights)
    reading = Reading.of(linker, dev)
    linker.threshold = threshold_on(reading, dev)
    scores = score(linker, dev, reading)
    report(settings.run, settings.dev, len(dev), scores)
    own = knowledge_base.path == settings.run / KNOWLEDGE
    told = {
        "knowledge_base": KNOWLEDGE if own else str(knowledge_base.path),
        "fingerprint": knowledge_base.fingerprint,
        "threshold": linker.threshold,
        "calibration": weights,
    }
    finetuning.write_json(settings.run / LAST, told)
    return {"run": str(settings.run), "threshold": linker.threshold, **scores}


def threshold_on(reading: Reading, texts: Sequence[LinkedText]) -> float:
    """How probable a link must be for the highest F1 on these texts."""
    scores, right = [], []  # type: list[float], list[bool]
    expected = [{(each.start, each.end, each.id) for each in text.mentions if each.id is not None} for text in texts]
    for own, gold in zip(reading.found, expected, strict=True):
        for each in map(reading.best.__getitem__, own):
            if each.id is not None:
                scores.append(each.score)
                right.append((each.start, each.end, each.id) in gold)
    return best_threshold(scores, right, sum(map(len, expected)))


def report(folder: Path, path: Path, texts: int, scores: dict[str, float]) -> None:
    """report.md: all scores on the texts of a file."""
    from bert4k.finetuning import write_text

    rows = [f"| {name} | {100 * value:.2f} |" for name, value in scores.items()]
    lines = [f"# {path.name}: {texts:,} texts", "", "| score | % |", "|---|---:|", *rows]
    write_text(folder / "report.md", "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report and the predictions."""
    from bert4k.finetuning import evaluation_folder

    linker = Linker.load(run)
    texts = read(path, linker.candidates.knowledge_base, "stop")
    reading = Reading.of(linker, texts)
    scores, folder = score(linker, texts, reading), evaluation_folder(run, path)
    report(folder, path, len(texts), scores)
    write_texts(folder / "predictions.jsonl", linked(linker, texts, reading), nil=False)
    return {"file": str(path), "texts": len(texts), **scores}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: each text with its links, as CCKS2019 has them: what is NIL is left out; but where types were learnt,
    it has the id NIL_TYPE, as in CCKS2020. A text may be a line of such a file, a JSON object with text and text_id; the id of others is
    their number, from 1."""
    given, linker = [text_of(text, number) for number, text in enumerate(texts, 1)], Linker.load(run)
    return [json.loads(competition_line(text, nil=linker.typer is not None)) for text in linked(linker, given, Reading.of(linker, given))]


def text_of(line: str, number: int) -> LinkedText:
    """A text, or a JSON object with one."""
    try:
        values = json.loads(line) if line.lstrip().startswith("{") else None
    except (ValueError, RecursionError):  # a text that begins so
        values = None
    if isinstance(values, dict) and isinstance(values.get("text"), str):
        told = [id for id in map(values.get, ("text_id", "id")) if id is not None]
        return LinkedText(str(told[0] if told else number), values["text"])
    return LinkedText(str(number), line)
