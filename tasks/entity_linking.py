"""Link the mentions in short texts to the entries of a knowledge base: find them, fetch who has that name, choose whom the text is about.

    bert4k train entity_linking --run runs/links --kb kb.jsonl --train train.jsonl --dev dev.jsonl
    bert4k evaluate runs/links test.jsonl
    bert4k link runs/links 苹果发布会将在下周举行                          # mentions in colour, with what they mean
    bert4k predict runs/links - < texts.txt                              # lines as CCKS2019 has them

Texts are JSON lines: {"text": "...", "mentions": [{"start": 0, "end": 2, "id": "42"}]}, the id null (NIL) for what the knowledge base does
not have, or as in CCKS2019: {"text_id": "7", "text": "...", "mention_data": [{"kb_id": "42", "mention": "苹果", "offset": "0"}]}. The
knowledge base is one that `KnowledgeBase.build` has made, or a file that it takes: {"id": "42", "name": "苹果", "aliases": ["Apple"],
"description": "...", "type": "公司"} a line, a table, or kb_data of CCKS2019; of a file, the run keeps a knowledge base of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bert4k.errors import ConfigError, DataError
from bert4k.recipe import required, setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    from bert4k.linking.candidates import Candidates, Nearest
    from bert4k.linking.knowledge_base import KnowledgeBase
    from bert4k.linking.linker import Linker, Ranker
    from bert4k.linking.prompts import Asked
    from bert4k.linking.ranking import Question
    from bert4k.linking.statistics import AnnotationStatistics
    from bert4k.linking.texts import LinkedText

LAST = "linker.json"  # the file that says that a run is finished
KNOWLEDGE = "knowledge.db"


@dataclass(frozen=True, kw_only=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    kb: Path = required("the knowledge base: one that was built, or a file of entities")
    faults: Literal["stop", "skip"] = setting("stop", "what is wrong with a line of a file: stop there, or count, show and leave it out")
    longest: int = setting(128, "tokens of a text in which mentions are found, longer ones are read in pieces; and of an entity's vector")
    longest_pair: int = setting(192, "tokens of a text and an entity that are read together; what is longer is cut")
    head: Literal["half_pointer", "global_pointer", "dictionary"] = setting(
        "half_pointer",
        "half_pointer: where mentions begin and end; global_pointer: spans, which may overlap and nest; dictionary: the names of the"
        " knowledge base that annotators mark, without a model",
    )
    dictionary: Literal["none", "features", "boundaries"] = setting(
        "features", "what a head knows of these names: nothing; where they begin and end; and that mentions begin and end nowhere else"
    )
    mention_threshold: float = setting(0.5, "how probable a mention must be, or each end of it; lower finds more")
    candidates: int = setting(20, "entities that are ranked for a mention: the most often linked, or, with retrieval, the nearest")
    least_links: int | None = setting(
        None, "where training links a name to some entities at least so often, only these are candidates (2 in Su's system of CCKS2019)"
    )
    retrieval: bool = setting(False, "train a bi-encoder, too, for the candidates of names that many entities have, and for hard negatives")
    nearest: int = setting(0, "with retrieval: so many entities whose vectors are nearest are candidates, whatever they are called")
    ranker: Literal["cross", "siamese", "bilstm", "generative", "counts"] = setting(
        "cross",
        "cross: text and entity are read as one; siamese: apart, then compared by attention; bilstm: the same without the network of the"
        " checkpoint, by Su's BiLSTM; generative: the title of one of the candidates is written (the prior has no part in it);"
        " counts: who was meant most often, without a model",
    )
    prior: bool = setting(True, "whether how often training linked a name to an entity counts in ranking")
    negatives: int = setting(3, "wrong entities that a mention is compared with in each epoch, of the same name as far as possible")
    hard_negatives: bool = setting(True, "of the same name, then with the nearest vectors; without it, any entities")
    pooling: str = setting("mean", "of the last layer: mean, max, first ([CLS]) or attention")
    judged: int = setting(2000, "mentions of dev, drawn at random, on which ranking is judged after every epoch")

    def __post_init__(self) -> None:
        if self.nearest and not self.retrieval:
            raise ConfigError(f"nearest is {self.nearest}, and entities have no vectors without a bi-encoder. Give --retrieval, too.")
        if not 0 < self.mention_threshold < 1 or self.candidates < 1 or self.negatives < 1:
            raise ConfigError("Expected a mention_threshold between 0 and 1, and at least one of the candidates and of the negatives.")


def read(path: Path, knowledge_base: KnowledgeBase, faults: Literal["stop", "skip"]) -> list[LinkedText]:
    """The texts of a file. Raises `DataError`, with the line, for what is not as expected, or says what was left out."""
    from bert4k.linking.problems import Problems
    from bert4k.linking.texts import read_texts

    problems = Problems(faults)
    texts = read_texts(path, knowledge_base, problems)
    if problems.counts:
        print(f"{path} has faults, which are passed over:\n{problems}", file=sys.stderr)
    return texts


def open_knowledge_base(settings: Settings) -> KnowledgeBase:
    """The one that is given, or one built of a file in the run folder. Raises `ConfigError` when it is not what the run began with."""
    import hashlib

    from bert4k.finetuning import write_json
    from bert4k.linking.knowledge_base import KnowledgeBase
    from bert4k.linking.problems import Problems

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


def asked_of(texts: Sequence[LinkedText]) -> list[Asked]:
    """The mentions of texts, one after the other, as questions."""
    from bert4k.linking.prompts import Asked

    return [Asked(text.text, mention.start, mention.end) for text in texts for mention in text.mentions]


def questions(texts: Sequence[LinkedText], candidates: Candidates, settings: Settings, nearest: Nearest | None) -> list[Question]:
    """The mentions of training texts with what they mean and what else they could: of the same name, then with the nearest vectors."""
    from bert4k.linking.ranking import Question

    asked, right = asked_of(texts), [mention.id for text in texts for mention in text.mentions]
    others = candidates.ids(asked)
    counts = [len(ids) for ids in others]
    if not settings.hard_negatives:
        others = [[] for _ in asked]
    elif nearest is not None:
        few = [place for place, ids in enumerate(others) if len(set(ids) - {right[place]}) < settings.negatives]
        more = nearest.sorted([asked[place] for place in few], [[] for _ in few], 0, settings.negatives + 1)
        for place, ids in zip(few, more, strict=True):
            others[place] = list(dict.fromkeys([*others[place], *ids]))
    return [
        Question(one, id, tuple(each for each in ids if each != id), max(count, 1))
        for one, id, ids, count in zip(asked, right, others, counts, strict=True)
    ]


def score(linker: Linker, texts: Sequence[LinkedText]) -> dict[str, float]:
    """How right links are as CCKS2019 counts ("f1"), and part by part: mentions, what is NIL, and, given the right mentions, how often the
    right entity is among the first candidates and how often it is chosen."""
    from bert4k.linking.metrics import linking_scores, ranking_accuracy, recall_at

    found = linking_scores(linked(linker, texts), texts)
    asked, right = asked_of(texts), [mention.id for text in texts for mention in text.mentions]
    has = [place for place, id in enumerate(right) if id is not None]
    recall = recall_at(linker.candidates.ids([asked[place] for place in has]), [{str(right[place])} for place in has])
    accuracy = ranking_accuracy([each.id for each in linker.disambiguate(asked)], right)
    parts = [("", "links"), ("mention_", "mentions"), ("nil_", "nil")]
    numbers = {
        f"{prefix}{name}": value
        for prefix, part in parts
        for name, value in zip(("precision", "recall", "f1"), found[part][:3], strict=True)
    }
    given = {"accuracy": accuracy["all"], "accuracy_linked": accuracy["linked"]}
    return numbers | {f"recall@{k}": value for k, value in recall.items()} | given


def linked(linker: Linker, texts: Sequence[LinkedText]) -> list[LinkedText]:
    """The texts with the mentions that are found in them instead of their own."""
    from bert4k.linking.texts import Mention

    found = linker.link([text.text for text in texts])
    return [
        dataclasses.replace(text, mentions=tuple(Mention(each.start, each.end, each.surface, each.id) for each in own))
        for text, own in zip(texts, found, strict=True)
    ]


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train entity_linking`: train what finds mentions, what finds candidates, and what ranks them, each to its best epoch; set the
    threshold on dev; write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.linking import linker as parts
    from bert4k.linking.statistics import AnnotationStatistics

    knowledge_base = open_knowledge_base(settings)
    texts = [text for path in settings.train for text in read(path, knowledge_base, settings.faults)]
    dev = read(settings.dev, knowledge_base, settings.faults)
    if not any(mention.id for text in texts for mention in text.mentions):
        raise DataError(f"None of the {len(texts):,} training texts has a mention with the id of an entity, so there is nothing to learn.")
    statistics = AnnotationStatistics.learn(texts, knowledge_base)
    statistics.save(settings.run / parts.COUNTS)
    if settings.head != "dictionary" and not trained(settings.run / "mentions"):
        train_mentions(settings, texts, dev, knowledge_base, statistics)
    if settings.retrieval and not trained(settings.run / "retrieval"):
        train_retrieval(settings, texts, dev, knowledge_base, statistics)
    stored = dataclasses.asdict(settings)
    candidates = parts.stored_candidates(settings.run, stored, knowledge_base, statistics)
    if settings.ranker != "counts" and not trained(settings.run / "ranking"):
        print("learning to rank candidates", file=sys.stderr)
        (train_writing if settings.ranker == "generative" else train_ranking)(settings, texts, dev, candidates, statistics)
    finder = parts.stored_finder(settings.run, stored, knowledge_base, statistics)
    linker = parts.Linker(finder, candidates, parts.stored_ranker(settings.run, stored, statistics), 0.0)
    linker.threshold = threshold_on(linker, dev)
    scores = score(linker, dev)
    report(settings.run, settings.dev, len(dev), scores)
    own = knowledge_base.path == settings.run / KNOWLEDGE
    told = {
        "knowledge_base": KNOWLEDGE if own else str(knowledge_base.path),
        "fingerprint": knowledge_base.fingerprint,
        "threshold": linker.threshold,
    }
    finetuning.write_json(settings.run / LAST, told)
    return {"run": str(settings.run), "threshold": linker.threshold, **scores}


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
    from bert4k import finetuning
    from bert4k.linking import mentions
    from bert4k.linking.linker import matcher
    from bert4k.scores import overlap
    from bert4k.training import LengthBatches

    assert settings.head != "dictionary"
    head: mentions.Head = settings.head
    print("learning to find mentions", file=sys.stderr)
    model, network, tokenizer = mentions.build(settings.model, settings.tuning, head, settings.dictionary)
    matches = None if settings.dictionary == "none" else matcher(knowledge_base, statistics)
    learn, pieces = mentions.encode([text.text for text in texts], tokenizer, settings.longest, matches)
    judge, judge_pieces = mentions.encode([text.text for text in dev], tokenizer, settings.longest, matches)
    places, gold = ([[(each.start, each.end) for each in text.mentions] for text in some] for some in (texts, dev))
    targets = mentions.in_pieces(places, pieces)
    if not any(targets):
        raise DataError(
            "No mention of the training texts begins and ends with tokens, so there is nothing to learn. Look at their offsets."
        )
    overlapping = any(one[1] > other[0] for row in places for one, other in pairwise(sorted(row)))

    def judged() -> dict[str, float]:
        found = mentions.detect(model, judge, judge_pieces, len(dev), head, settings.mention_threshold, overlapping)
        scored = overlap([[(each.start, each.end) for each in row] for row in found], gold)
        return {"precision": scored.precision, "recall": scored.recall, "f1": scored.f1}

    tuning = settings.tuning
    collate = mentions.lessons(learn, targets, head, settings.dictionary)
    finetuning.fit(
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
    finetuning.finish(settings.run / "mentions", model, network, tokenizer, [overlapping])


def train_retrieval(
    settings: Settings,
    texts: Sequence[LinkedText],
    dev: Sequence[LinkedText],
    knowledge_base: KnowledgeBase,
    statistics: AnnotationStatistics,
) -> None:
    """The bi-encoder, in retrieval/, judged by how often the right entity is the nearest of those that dev names and their namesakes."""
    import numpy as np

    from bert4k import finetuning
    from bert4k.linking import retrieval
    from bert4k.linking.candidates import Candidates
    from bert4k.linking.prompts import Writer
    from bert4k.losses import SimCSE
    from bert4k.telling import some
    from bert4k.training import Grouped

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
    namesakes = Candidates(knowledge_base, statistics, settings.candidates).ids([one for one, _ in judge])
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


def train_ranking(
    settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], candidates: Candidates, statistics: AnnotationStatistics
) -> None:
    """What ranks candidates, in ranking/, judged by how often the right entity of a mention of dev is the best of its candidates."""
    from bert4k import finetuning
    from bert4k.linking import ranking, siamese
    from bert4k.linking.prompts import Writer
    from bert4k.telling import some
    from bert4k.training import Grouped

    tuning, knowledge_base = settings.tuning, candidates.knowledge_base
    counts = statistics if settings.prior else None
    if settings.ranker == "cross":
        model, network, tokenizer = ranking.build(settings.model, tuning, settings.pooling, settings.prior)
    else:
        encoder: Literal["checkpoint", "bilstm"] = "bilstm" if settings.ranker == "bilstm" else "checkpoint"
        model, network, tokenizer = siamese.build(settings.model, tuning, encoder, settings.prior)
    writer = Writer(tokenizer, settings.longest_pair)
    pool = some(list(knowledge_base.ids()), 20_000, tuning.seed)
    learn = [each for each in questions(texts, candidates, settings, candidates.nearest) if each.right or each.others or pool]
    how = (writer, knowledge_base.entities, counts, settings.negatives)
    batches = ranking.RankingBatches(learn, *how, tokens=tuning.tokens, pool=pool, seed=tuning.seed)
    judged = ranking_judge(settings, dev, candidates, lambda asked, own: ranking.rank(model, writer, asked, own, counts))
    finetuning.fit(
        settings.run / "ranking",
        Grouped(model),
        network.config.num_hidden_layers,
        batches,
        ranking.loss(),
        judged,
        "accuracy",
        tuning,
        ranking.RATES if settings.prior else None,
        divergence="sigmoid",
    )
    finetuning.finish(settings.run / "ranking", model, network, tokenizer, [])


def train_writing(
    settings: Settings, texts: Sequence[LinkedText], dev: Sequence[LinkedText], candidates: Candidates, statistics: AnnotationStatistics
) -> None:
    """What writes the title of one of the candidates, in ranking/, judged in the same way."""
    from bert4k import finetuning
    from bert4k.linking import generative
    from bert4k.linking.prompts import Writer
    from bert4k.telling import told_loss

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
    from bert4k.telling import some

    judge = some(linked_mentions(dev), settings.judged, settings.tuning.seed)
    asked = [one for one, _ in judge]
    entities = candidates.entities(asked)

    def judged() -> dict[str, float]:
        found = ranker(asked, entities)
        right = (len(own) > 0 and own[values.argmax()].id == id for values, own, (_, id) in zip(found, entities, judge, strict=True))
        return {"accuracy": sum(right) / max(len(judge), 1)}

    return judged


def linked_mentions(texts: Sequence[LinkedText]) -> list[tuple[Asked, str]]:
    """The mentions of texts that mean an entity, with its id."""
    pairs = zip(asked_of(texts), [mention.id for text in texts for mention in text.mentions], strict=True)
    return [(one, id) for one, id in pairs if id is not None]


def threshold_on(linker: Linker, texts: Sequence[LinkedText]) -> float:
    """How probable a link must be for the highest F1 on these texts."""
    from bert4k.linking.linker import best_threshold

    scores, right = [], []  # type: list[float], list[bool]
    expected = [{(each.start, each.end, each.id) for each in text.mentions if each.id is not None} for text in texts]
    for own, gold in zip(linker.link([text.text for text in texts]), expected, strict=True):
        for each in own:
            if each.id is not None:
                scores.append(each.score)
                right.append((each.start, each.end, each.id) in gold)
    return best_threshold(scores, right, sum(map(len, expected)))


def report(folder: Path, path: Path, texts: int, scores: dict[str, float]) -> None:
    """report.md: all scores on the texts of a file."""
    from bert4k.finetuning import write_text

    lines = [
        f"# {path.name}: {texts:,} texts",
        "",
        "| score | % |",
        "|---|---:|",
        *(f"| {name} | {100 * value:.2f} |" for name, value in scores.items()),
    ]
    write_text(folder / "report.md", "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report and the predictions."""
    from bert4k.finetuning import evaluation_folder
    from bert4k.linking.linker import Linker
    from bert4k.linking.texts import write_texts

    linker = Linker.load(run)
    texts = read(path, linker.candidates.knowledge_base, "stop")
    scores, folder = score(linker, texts), evaluation_folder(run, path)
    report(folder, path, len(texts), scores)
    write_texts(folder / "predictions.jsonl", linked(linker, texts), nil=False)
    return {"file": str(path), "texts": len(texts), **scores}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: each text with its links, as CCKS2019 has them: what is NIL is left out. A text may be a line of such a
    file, a JSON object with text and text_id; the id of others is their number, from 1."""
    from bert4k.linking.linker import Linker
    from bert4k.linking.texts import competition_line

    given = [text_of(text, number) for number, text in enumerate(texts, 1)]
    return [json.loads(competition_line(text)) for text in linked(Linker.load(run), given)]


def text_of(line: str, number: int) -> LinkedText:
    """A text, or a JSON object with one."""
    from bert4k.linking.texts import LinkedText

    try:
        values = json.loads(line) if line.lstrip().startswith("{") else None
    except ValueError:  # a text that begins so
        values = None
    if isinstance(values, dict) and isinstance(values.get("text"), str):
        return LinkedText(str(values.get("text_id", values.get("id", number))), values["text"])
    return LinkedText(str(number), line)
