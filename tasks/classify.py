"""Classify texts, or pairs of texts: one label each, or any number of labels.

    bert4k train classify --run runs/reviews --train train.tsv --dev dev.tsv
    bert4k evaluate runs/reviews test.tsv
    bert4k predict runs/reviews 这家店很好 -                              # - reads lines; a pair is text<TAB>pair

Files have a label and a text, perhaps a pair: `label<TAB>text` lines, a table with a header (.tsv, .csv), or JSON lines (.jsonl) such as
{"label": "财经", "text": "..."}. Under --several, an example has any number of labels: a JSON list, or a cell such as 财经|股票.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4k.errors import DataError, did_you_mean
from bert4k.reading import read_rows
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras

    from bert4k.finetuning import Encoded
    from bert4k.tokenizers import Tokenizer

NO_LABEL = "(none)"


@dataclass(frozen=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    several: bool = setting(False, "an example may have any number of labels")
    pooling: str = setting("mean", "of the last layer: mean, max, first ([CLS]) or attention")


@dataclass(frozen=True)
class Example:
    """A text, or a pair of texts, with its labels: one, or any number."""

    text: str | tuple[str, str]
    labels: tuple[str, ...]


def read(path: Path, several: bool, known: Sequence[str] | None = None) -> list[Example]:
    """The examples of a file. Raises `DataError`, with the line, for what is not as expected, and for labels that are not `known`."""
    found = []
    for row in read_rows(path, ("label", "text"), optional=("pair",)):
        told, text, pair = (row.values.get(name) for name in ("label", "text", "pair"))
        labels = tuple(map(str, told)) if isinstance(told, list) else tuple(str(told).split("|") if several else [str(told)])
        labels = tuple(label.strip() for label in labels if label.strip())
        where = f"{path}, line {row.line}: "
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}the text is {text!r}; expected one that is not empty. Correct or remove the line.")
        if not several and len(labels) != 1:
            raise DataError(f"{where}found {len(labels)} labels, {told!r}; expected one. For any number of labels, train with --several.")
        for label in labels:
            if known is not None and label not in known:
                raise DataError(
                    f"{where}the label {label!r} does not occur in training.{did_you_mean(label, known)} Known: {', '.join(known)}."
                )
        found.append(Example((text, pair) if isinstance(pair, str) and pair else text, labels))
    return found


def encode(examples: Sequence[Example], tokenizer: Tokenizer, longest: int) -> Encoded:
    """`[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`, cut to fit."""
    from bert4k.finetuning import encoded

    return encoded([example.text for example in examples], tokenizer, longest)


def build(settings: Settings, classes: int) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with a pooled head on top, which gives logits [B, C]; the network itself; its tokenizer."""
    import keras

    from bert4k.finetuning import body
    from bert4k.structured import Pooling

    network, tokenizer, inputs, x, real = body(settings.model, settings.tuning)
    x = keras.layers.Dropout(settings.tuning.dropout)(Pooling(settings.pooling)(x, real))
    first = keras.initializers.TruncatedNormal(stddev=0.02)
    return (
        keras.Model(inputs, keras.layers.Dense(classes, kernel_initializer=first, dtype="float32", name="classes")(x)),
        network,
        tokenizer,
    )


def answers(model: keras.Model, encoded: Encoded, labels: Sequence[str], several: bool) -> list[dict[str, float]]:
    """The labels of each text, with their probabilities: the likeliest, or, of several, all above one half."""
    import numpy as np

    from bert4k.finetuning import outputs_of

    logits = np.array(outputs_of(model, encoded), np.float64)
    if several:
        return [{labels[int(at)]: 1 / (1 + np.exp(-row[at])) for at in np.flatnonzero(row > 0)} for row in logits]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return [{labels[int(row.argmax())]: row.max() / row.sum()} for row in odds]


def score(predicted: Sequence[Any], examples: Sequence[Example], labels: Sequence[str]) -> dict[str, float]:
    """Share of examples with exactly the right labels, and F1: of all labels together (micro), and the mean of all classes (macro)."""
    from bert4k.scores import by_class, overlap

    gold = [example.labels for example in examples]
    right = sum(set(mine) == set(true) for mine, true in zip(predicted, gold, strict=True))
    macro = sum(each.f1 for each in by_class(predicted, gold, labels).values()) / len(labels)
    return {"accuracy": right / len(gold), "micro_f1": overlap(predicted, gold).f1, "macro_f1": macro}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train classify`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    import keras
    import numpy as np

    from bert4k import finetuning
    from bert4k.losses import MultilabelSoftmax
    from bert4k.training import LengthBatches

    examples = [example for path in settings.train for example in read(path, settings.several)]
    counts = Counter(label for example in examples for label in example.labels)
    labels = sorted(counts)
    if len(labels) < (1 if settings.several else 2):
        raise DataError(
            f"The training examples have {len(labels)} labels: {', '.join(labels) or 'none'}. Expected two or more to tell apart."
        )
    dev = read(settings.dev, settings.several, labels)
    model, network, tokenizer = build(settings, len(labels))
    learn, judge = (encode(part, tokenizer, settings.longest) for part in (examples, dev))
    targets = np.array([[label in example.labels for label in labels] for example in examples], "float32")

    def collate(rows: list[int], length: int) -> tuple[Any, ...]:
        return learn.inputs(rows, length), targets[rows] if settings.several else targets[rows].argmax(axis=1)

    one = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tuning, metric = settings.tuning, "micro_f1" if settings.several else "accuracy"
    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        LengthBatches(learn.lengths(), collate, tuning.tokens, seed=tuning.seed),
        MultilabelSoftmax() if settings.several else one,
        lambda: score(answers(model, judge, labels, settings.several), dev, labels),
        metric,
        tuning,
        divergence="sigmoid" if settings.several else "softmax",
    )
    found = answers(model, judge, labels, settings.several)
    report(settings.run, settings.dev, found, dev, labels)
    finetuning.finish(settings.run, model, network, tokenizer, labels)
    return {"run": str(settings.run), "epoch": best["epoch"], **score(found, dev, labels)}


def report(folder: Path, path: Path, found: Sequence[Any], examples: Sequence[Example], labels: Sequence[str]) -> None:
    """report.md and, of one label each and not too many classes, confusion.png: how good predictions are for the examples of a file."""
    from bert4k.canvas import MAX_TOKENS
    from bert4k.finetuning import write_text
    from bert4k.scores import by_class, confusion, draw_confusion, overlap, table

    gold = [example.labels for example in examples]
    scores = by_class(found, gold, labels) | {"all": overlap(found, gold)}
    write_text(folder / "report.md", f"# {path.name}: {len(examples):,} examples\n\n{table(scores)}\n")
    if all(len(each) == 1 for each in (*found, *gold)) and len(labels) <= MAX_TOKENS:
        counts = confusion([next(iter(each)) for each in found], [each for (each,) in gold], labels)
        draw_confusion(counts, labels, folder / "confusion.png", path.name)


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k import finetuning

    model, tokenizer, labels, settings = finetuning.finished(run, "classify")
    examples = read(path, settings["several"], labels)
    found = answers(model, encode(examples, tokenizer, settings["longest"]), labels, settings["several"])
    report(finetuning.evaluation_folder(run, path), path, found, examples, labels)
    return {"file": str(path), "examples": len(examples), **score(found, examples, labels)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT...`: the labels of each text, or of text<TAB>pair, with their probabilities."""
    from bert4k import finetuning

    model, tokenizer, labels, settings = finetuning.finished(run, "classify")
    examples = [Example((text, pair) if tab else text, ()) for text, tab, pair in (each.partition("\t") for each in texts)]
    found = answers(model, encode(examples, tokenizer, settings["longest"]), labels, settings["several"])
    return [
        {"text": text, "labels": {name: round(float(p), 4) for name, p in told.items()}} for text, told in zip(texts, found, strict=True)
    ]
