"""Find entities in texts: their place in the raw text, and their kind.

    bert4k train ner --run runs/names --train train.txt --dev dev.txt --head global_pointer
    bert4k evaluate runs/names test.txt
    bert4k predict runs/names 王小明在北京上学 -                          # - reads lines

Files are `character tag` lines with a blank line after each sentence (tags B-PER I-PER O, or B M E S), or JSON lines (.jsonl) such as
{"text": "...", "entities": [{"start": 0, "end": 3, "label": "PER"}]}, `end` being the place after the last character, or as in CLUENER:
{"text": "...", "label": {"PER": {"王小明": [[0, 2]]}}}, where it is that of the last one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bert4k.errors import DataError, did_you_mean
from bert4k.reading import read_text
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras

    from bert4k.finetuning import Encoded
    from bert4k.tokenizers import Tokenizer

Entity = tuple[int, int, str]  # start, end, kind: text[start:end]


@dataclass(frozen=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    longest: int = setting(256, "tokens of a text; what is longer is cut")
    head: Literal["crf", "global_pointer"] = setting("crf", "crf: tags of tokens; global_pointer: spans, which may overlap or nest")
    head_rate: float = setting(20.0, "learning rate of the transitions of the CRF, as a multiple of that of the network")


@dataclass(frozen=True)
class Example:
    """A text with its entities."""

    text: str
    entities: tuple[Entity, ...]
    where: str


def read(path: Path, known: Sequence[str] | None = None) -> list[Example]:
    """The examples of a file. Raises `DataError`, with the line, for what is not as expected, and for kinds that are not `known`."""
    tables = path.name.removesuffix(".gz").endswith((".jsonl", ".json"))
    found = list((_json_examples if tables else _tagged_examples)(path, read_text(path)))
    if not found:
        raise DataError(f"{path} holds no example. Expected `character tag` lines with blank lines between sentences, or JSON lines.")
    for example in found:
        for start, end, kind in example.entities:
            if not 0 <= start < end <= len(example.text):
                raise DataError(f"{example.where}: {start} to {end} is no place in a text of {len(example.text)} characters. Correct it.")
            if known is not None and kind not in known:
                names = f"{did_you_mean(kind, known)} Known: {', '.join(known)}."
                raise DataError(f"{example.where}: the kind {kind!r} does not occur in training.{names}")
    return found


def _tagged_examples(path: Path, text: str) -> Iterator[Example]:
    characters: list[str] = []
    tags: list[str] = []
    begins = 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            cells = line.split("\t") if "\t" in line else line.rsplit(" ", 1)
            if len(cells) != 2 or len(cells[0]) != 1 or not (cells[1] == "O" or cells[1][:2] in ("B-", "I-", "M-", "E-", "S-")):
                raise DataError(f"{path}, line {number}: found {line!r}; expected a character and its tag, such as `京 I-LOC`, or `的 O`.")
            begins = begins or number
            characters.append(cells[0])
            tags.append(cells[1])
        elif characters:
            yield Example("".join(characters), tuple(spans(tags)), f"{path}, line {begins}")
            characters, tags, begins = [], [], 0


def spans(tags: Sequence[str]) -> list[Entity]:
    """The entities of tags, B I O or B M E S; one that continues nothing begins an entity, as in conlleval."""
    found: list[Entity] = []
    start, kind = 0, ""
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, named = tag.partition("-")
        if kind and (prefix not in "IME" or named != kind):
            found.append((start, at, kind))
            kind = ""
        if named and not kind:
            start, kind = at, named
        if kind and prefix in "ES":
            found.append((start, at + 1, kind))
            kind = ""
    return found


def _json_examples(path: Path, text: str) -> Iterator[Example]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                values = json.loads(line)
                if "entities" in values:
                    told = [(each["start"], each["end"], str(each["label"])) for each in values["entities"]]
                else:
                    kinds = values["label"].items()
                    told = [(start, last + 1, kind) for kind, names in kinds for places in names.values() for start, last in places]
                yield Example(str(values["text"]), tuple(sorted(set(told))), where)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(
                    f"{where}: {line[:80]!r} is not as expected ({error!r}): an object with text, and entities with start, end and label."
                ) from error


def encode(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> tuple[Encoded, list[list[tuple[int, int]]]]:
    """`[CLS] text [SEP]`, cut to fit, and where in the text each token stands, (0, 0) for added ones."""
    from bert4k.finetuning import encoded_with_places

    return encoded_with_places(texts, tokenizer, longest)


def of_tokens(entities: Sequence[Entity], offsets: Sequence[tuple[int, int]]) -> list[Entity]:
    """(first token, last token + 1, kind) of the entities that tokens begin and end with; others cannot be told in tokens."""
    from bert4k.finetuning import in_tokens

    of = in_tokens(offsets)
    return [(*place, kind) for start, end, kind in entities if (place := of(start, end))]


def build(settings: Settings, kinds: int) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with its head: a chain [B, L, T, T] over tags (O, then B and I of each kind), or scores [B, C, L, L] of spans."""
    import keras

    from bert4k.finetuning import body, within_text
    from bert4k.structured import CRF, EfficientGlobalPointer

    network, tokenizer, inputs, x, real = body(settings.model, settings.tuning)
    x = keras.layers.Dropout(settings.tuning.dropout)(x)
    real = within_text(inputs, real, tokenizer)
    if settings.head == "global_pointer":
        return keras.Model(inputs, EfficientGlobalPointer(kinds, name="spans")(x, real)), network, tokenizer
    emissions = keras.layers.Dense(1 + 2 * kinds, dtype="float32", name="tags")(x)
    return keras.Model(inputs, CRF(name="crf")(emissions, real)), network, tokenizer


def answers(model: keras.Model, encoded: Encoded, offsets: Sequence[Any], kinds: Sequence[str], head: str) -> list[list[Entity]]:
    """The entities of each text."""
    from keras import ops

    from bert4k.finetuning import outputs_of
    from bert4k.structured import spans_above, viterbi

    def read(rows: Any) -> Any:
        return list(map(spans_above, rows)) if head == "global_pointer" else ops.convert_to_numpy(viterbi(rows)[0])

    names, found = ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")], []
    for output, places in zip(outputs_of(model, encoded, read=read), offsets, strict=True):
        if head == "global_pointer":
            told = [(first, end, kinds[kind]) for first, end, kind, _ in output]
        else:
            told = spans(["O" if start == end else names[tag] for (start, end), tag in zip(places, output, strict=False)])
        found.append(sorted((places[first][0], places[end - 1][1], kind) for first, end, kind in told))
    return found


def score(predicted: Sequence[Sequence[Entity]], examples: Sequence[Example]) -> dict[str, float]:
    """Precision, recall and F1 of entities with the exact place and kind."""
    from bert4k.scores import overlap

    found = overlap(predicted, [example.entities for example in examples])
    return {"precision": found.precision, "recall": found.recall, "f1": found.f1}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train ner`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    import numpy as np

    from bert4k import finetuning
    from bert4k.structured import CRFLoss, GlobalPointerLoss
    from bert4k.training import LengthBatches

    examples = [example for path in settings.train for example in read(path)]
    kinds = sorted({kind for example in examples for _, _, kind in example.entities})
    if not kinds:
        raise DataError("The training examples hold no entity. Look at their tags or spans.")
    dev = read(settings.dev, kinds)
    model, network, tokenizer = build(settings, len(kinds))
    (learn, learn_places), (judge, judge_places) = (
        encode([each.text for each in part], tokenizer, settings.longest) for part in (examples, dev)
    )
    targets = [of_tokens(each.entities, places) for each, places in zip(examples, learn_places, strict=True)]
    if lost := sum(len(each.entities) for each in examples) - sum(map(len, targets)):
        print(f"{lost:,} entities begin or end within a token, or were cut off; they are not learnt", file=sys.stderr)
    if settings.head == "crf" and (overlapping := [each for each in examples if overlaps(each.entities)]):
        raise DataError(f"{overlapping[0].where}: entities overlap, which tags cannot say. Use --head global_pointer.")

    def tags(rows: list[int], length: int) -> Any:
        found = np.full((len(rows), length), -1, np.int32)
        for at, row in enumerate(rows):
            found[at, : len(learn_places[row])] = [0 if end > start else -1 for start, end in learn_places[row]]
            for first, end, kind in targets[row]:
                found[at, first:end] = 2 + 2 * kinds.index(kind)
                found[at, first] -= 1
        return found

    def pairs(rows: list[int], length: int) -> Any:
        found = np.zeros((len(rows), len(kinds), length, length), np.float32)
        for at, row in enumerate(rows):
            for first, end, kind in targets[row]:
                found[at, kinds.index(kind), first, end - 1] = 1
        return found

    labels, loss = (tags, CRFLoss()) if settings.head == "crf" else (pairs, GlobalPointerLoss())
    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        LengthBatches(
            learn.lengths(),
            lambda rows, length: (learn.inputs(rows, length), labels(rows, length)),
            settings.tuning.tokens,
            seed=settings.tuning.seed,
        ),
        loss,
        lambda: score(answers(model, judge, judge_places, kinds, settings.head), dev),
        "f1",
        settings.tuning,
        {r"(^|/)crf/": settings.head_rate} if settings.head == "crf" else None,
        divergence="softmax" if settings.head == "crf" else "sigmoid",
    )
    found = answers(model, judge, judge_places, kinds, settings.head)
    report(settings.run, settings.dev, found, dev, kinds)
    finetuning.finish(settings.run, model, network, tokenizer, kinds)
    return {"run": str(settings.run), "epoch": best["epoch"], **score(found, dev)}


def overlaps(entities: Sequence[Entity]) -> bool:
    """Whether two of them share a character."""
    ordered = sorted(entities)
    return any(after[0] < before[1] for before, after in pairwise(ordered))


def report(folder: Path, path: Path, found: Sequence[Sequence[Entity]], examples: Sequence[Example], kinds: Sequence[str]) -> None:
    """report.md: how good predictions are for the examples of a file, by kind."""
    from bert4k.finetuning import write_text
    from bert4k.scores import overlap, table

    def of(kind: str | None) -> Any:
        return overlap(
            *([[each for each in row if kind in (None, each[2])] for row in rows] for rows in (found, [e.entities for e in examples]))
        )

    scores = {kind: of(kind) for kind in kinds} | {"all": of(None)}
    write_text(folder / "report.md", f"# {path.name}: {len(examples):,} texts\n\n{table(scores, 'entity')}\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k import finetuning

    model, tokenizer, kinds, settings = finetuning.finished(run, "ner")
    examples = read(path, kinds)
    found = answers(model, *encode([each.text for each in examples], tokenizer, settings["longest"]), kinds, settings["head"])
    report(finetuning.evaluation_folder(run, path), path, found, examples, kinds)
    return {"file": str(path), "examples": len(examples), **score(found, examples)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: the entities of each text, with their places in it."""
    from bert4k import finetuning

    model, tokenizer, kinds, settings = finetuning.finished(run, "ner")
    found = answers(model, *encode(texts, tokenizer, settings["longest"]), kinds, settings["head"])
    return [
        {"text": text, "entities": [{"start": a, "end": b, "label": kind, "text": text[a:b]} for a, b, kind in told]}
        for text, told in zip(texts, found, strict=True)
    ]
