"""Find who stands in which relation to what: subject, predicate and object, with their places in the raw text (GPLinker).

    bert4k train relation_extraction --run runs/relations --train train.jsonl --dev dev.jsonl
    bert4k evaluate runs/relations test.jsonl
    bert4k predict runs/relations 王小明在北京上学 -                       # - reads lines

Files are JSON lines: {"text": "...", "triples": [{"subject": "王小明", "predicate": "住在", "object": "北京"}]}; spo_list, as in DuIE, is
triples, too. They may overlap in any way. What is learnt is where a subject and an object stand nearest to each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bert4k.errors import DataError, did_you_mean
from bert4k.reading import read_rows
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras

    from bert4k.finetuning import Encoded
    from bert4k.structured import Link
    from bert4k.tokenizers import Tokenizer

Place = tuple[int, int]  # text[start:end]
PLACES = 100  # of a subject, and of an object, in a text, that are looked at: the first ones


@dataclass(frozen=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    head_size: int = setting(64, "numbers by which tokens are compared, for each kind of entity and each end of each predicate")


class Triple(NamedTuple):
    """As texts."""

    subject: str
    predicate: str
    object: str


class Found(NamedTuple):
    """A triple with its places in the raw text."""

    subject: Place
    predicate: str
    object: Place

    def of(self, text: str) -> Triple:
        """What stands there."""
        return Triple(text[slice(*self.subject)], self.predicate, text[slice(*self.object)])


@dataclass(frozen=True)
class Example:
    """A text and what it says."""

    text: str
    triples: tuple[Triple, ...]


def read(path: Path, known: Sequence[str] | None = None) -> list[Example]:
    """The examples of a file. Raises `DataError`, with the line, for what is not as expected, and for predicates that are not `known`."""
    found = []
    for row in read_rows(path, ("text", "triples")):
        where, text, told = f"{path}, line {row.line}: ", row.values["text"], row.values["triples"]
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}the text is {text!r}; expected one that is not empty. Correct or remove the line.")
        if not isinstance(told, list):
            raise DataError(f"{where}triples is {str(told)[:80]!r}; expected a list of objects with subject, predicate and object.")
        triples = []
        for each in told:
            parts = [each.get(name) if isinstance(each, dict) else None for name in Triple._fields]
            if isinstance(parts[2], dict):  # DuIE 2.0: the object's value, beside values of other slots
                parts[2] = parts[2].get("@value")
            if not all(isinstance(part, str) and part.strip() for part in parts):
                raise DataError(f"{where}found the triple {str(each)[:80]}; expected texts as subject, predicate and object.")
            triples.append(Triple(*map(str, parts)))
            if known is not None and triples[-1].predicate not in known:
                names = f"{did_you_mean(triples[-1].predicate, known)} Known: {', '.join(known)}."
                raise DataError(f"{where}the predicate {triples[-1].predicate!r} does not occur in training.{names}")
        found.append(Example(text, tuple(dict.fromkeys(triples))))
    return found


def locate(text: str, triple: Triple) -> Found | None:
    """Where subject and object stand nearest to each other, if possible apart; None where one of them does not stand in the text."""

    def places(part: str) -> list[Place]:
        begins = (match.start() for match in re.finditer(f"(?={re.escape(part)})", text))
        return [(begin, begin + len(part)) for begin in islice(begins, PLACES)]

    def apart(both: tuple[Place, Place]) -> tuple[bool, int]:
        gap = max(both[0][0], both[1][0]) - min(both[0][1], both[1][1])
        return gap < 0, abs(gap)

    both = min(product(places(triple.subject), places(triple.object)), key=apart, default=None)
    return None if both is None else Found(both[0], triple.predicate, both[1])


def encode(examples: Sequence[Example], tokenizer: Tokenizer, longest: int) -> tuple[Encoded, list[list[Place]]]:
    """`[CLS] text [SEP]`, cut to fit, and where in the text each token stands, (0, 0) for added ones."""
    from bert4k.finetuning import encoded_with_places

    return encoded_with_places([example.text for example in examples], tokenizer, longest)


def links(examples: Sequence[Example], places: Sequence[Sequence[Place]], predicates: Sequence[str]) -> list[list[Link]]:
    """The triples in tokens; says how many there are not."""
    from bert4k.finetuning import in_tokens
    from bert4k.structured import Link

    absent = cut = 0
    found = []
    for example, own in zip(examples, places, strict=True):
        tokens, of_text = in_tokens(own), []
        for triple in example.triples:
            located = locate(example.text, triple)
            ends = located and (tokens(*located.subject), tokens(*located.object))
            absent += located is None
            if ends and ends[0] and ends[1]:
                of_text.append(Link(ends[0], predicates.index(triple.predicate), ends[1]))
            elif located:
                cut += 1
        found.append(of_text)
    if absent:
        print(f"{absent:,} triples have a subject or an object that does not stand in their text; they are not learnt", file=sys.stderr)
    if cut:
        print(f"{cut:,} triples begin or end within a token, or were cut off; they are not learnt", file=sys.stderr)
    return found


def build(settings: Settings, predicates: int) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with a GPLinker on top, which gives scores [B, 2 + 2P, L, L]; the network itself; its tokenizer."""
    import keras

    from bert4k.finetuning import body, within_text
    from bert4k.structured import GPLinker

    network, tokenizer, inputs, x, real = body(settings.model, settings.tuning)
    x = keras.layers.Dropout(settings.tuning.dropout)(x)
    scores = GPLinker(predicates, settings.head_size, name="links")(x, within_text(inputs, real, tokenizer))
    return keras.Model(inputs, scores), network, tokenizer


def answers(model: keras.Model, encoded: Encoded, places: Sequence[Sequence[Place]], predicates: Sequence[str]) -> list[list[Found]]:
    """The triples of each text, in the order in which they stand there."""
    from bert4k.finetuning import outputs_of
    from bert4k.structured import link

    def place(of: Sequence[Place], span: Place) -> Place:
        return of[span[0]][0], of[span[1] - 1][1]

    told = zip(outputs_of(model, encoded, read=lambda rows: list(map(link, rows))), places, strict=True)
    return [
        sorted(Found(place(own, each.subject), predicates[each.predicate], place(own, each.object)) for each in row) for row, own in told
    ]


def score(predicted: Sequence[Sequence[Found]], examples: Sequence[Example]) -> dict[str, float]:
    """Precision, recall and F1 of triples of all texts together (micro); right is one with exactly these three texts."""
    from bert4k.scores import overlap

    told = [[each.of(example.text) for each in row] for row, example in zip(predicted, examples, strict=True)]
    found = overlap(told, [example.triples for example in examples])
    return {"precision": found.precision, "recall": found.recall, "f1": found.f1}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train relation_extraction`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    import numpy as np

    from bert4k import finetuning
    from bert4k.structured import GlobalPointerLoss, link_targets
    from bert4k.training import LengthBatches

    examples = [example for path in settings.train for example in read(path)]
    predicates = sorted({triple.predicate for example in examples for triple in example.triples})
    if not any(locate(example.text, triple) for example in examples for triple in example.triples):
        raise DataError(f"The {len(examples):,} training examples hold no triple that stands in its text. Look at subjects and objects.")
    dev = read(settings.dev, predicates)
    model, network, tokenizer = build(settings, len(predicates))
    learn, learn_places = encode(examples, tokenizer, settings.longest)
    targets = links(examples, learn_places, predicates)

    def collate(rows: list[int], length: int) -> tuple[Any, ...]:
        return learn.inputs(rows, length), np.stack([link_targets(targets[row], len(predicates), length) for row in rows])

    judge, judge_places = encode(dev, tokenizer, settings.longest)
    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        LengthBatches(learn.lengths(), collate, settings.tuning.tokens, seed=settings.tuning.seed),
        GlobalPointerLoss(),
        lambda: score(answers(model, judge, judge_places, predicates), dev),
        "f1",
        settings.tuning,
        divergence="sigmoid",
    )
    found = answers(model, judge, judge_places, predicates)
    report(settings.run, settings.dev, found, dev, predicates)
    finetuning.finish(settings.run, model, network, tokenizer, predicates)
    return {"run": str(settings.run), "epoch": best["epoch"], **score(found, dev)}


def report(folder: Path, path: Path, found: Sequence[Sequence[Found]], examples: Sequence[Example], predicates: Sequence[str]) -> None:
    """report.md: how good predictions are for the examples of a file, by predicate."""
    from bert4k.finetuning import write_text
    from bert4k.scores import overlap, table

    told = [[each.of(example.text) for each in row] for row, example in zip(found, examples, strict=True)]
    gold = [example.triples for example in examples]

    def of(predicate: str | None) -> Any:
        return overlap(*([[each for each in row if predicate in (None, each.predicate)] for row in rows] for rows in (told, gold)))

    absent = sum(locate(example.text, triple) is None for example in examples for triple in example.triples)
    lines = [f"# {path.name}: {len(examples):,} texts", "", table({name: of(name) for name in predicates} | {"all": of(None)}, "predicate")]
    lines += ["", f"Of the right triples, {absent:,} have a subject or an object that does not stand in the text, and cannot be found."]
    write_text(folder / "report.md", "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k import finetuning

    model, tokenizer, predicates, settings = finetuning.finished(run, "relation_extraction")
    examples = read(path, predicates)
    found = answers(model, *encode(examples, tokenizer, settings["longest"]), predicates)
    report(finetuning.evaluation_folder(run, path), path, found, examples, predicates)
    return {"file": str(path), "examples": len(examples), **score(found, examples)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: the triples of each text, with their places in it."""
    from bert4k import finetuning

    model, tokenizer, predicates, settings = finetuning.finished(run, "relation_extraction")
    found = answers(model, *encode([Example(text, ()) for text in texts], tokenizer, settings["longest"]), predicates)

    def shown(text: str, place: Place) -> dict[str, Any]:
        return {"start": place[0], "end": place[1], "text": text[slice(*place)]}

    return [
        {
            "text": text,
            "triples": [{"subject": shown(text, a), "predicate": predicate, "object": shown(text, b)} for a, predicate, b in told],
        }
        for text, told in zip(texts, found, strict=True)
    ]
