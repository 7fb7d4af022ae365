"""How alike two texts mean: pairs read together (cross), or a vector a text (bi), with search for the nearest of many texts.

    bert4k train similarity --run runs/pairs --train train.tsv --dev dev.tsv
    bert4k train similarity --run runs/vectors --kind bi --train train.tsv --dev dev.tsv
    bert4k evaluate runs/vectors test.tsv
    bert4k predict runs/vectors "怎么还款<TAB>如何还钱" -                   # - reads lines
    bert4k search runs/vectors questions.txt 怎么还款 --nearest 5        # kind bi

Files have two texts and a number, the greater the more alike: 0 and 1, or grades such as 0 to 5. `text<TAB>pair<TAB>label` lines, a table
with a header (.tsv, .csv), or JSON lines (.jsonl). Objective simcse needs no number where all pairs are alike, and simcse_unsupervised
nothing but texts.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bert4k.errors import ConfigError, DataError
from bert4k.reading import read_rows
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from bert4k.finetuning import Encoded, Groups
    from bert4k.tokenizers import Tokenizer
    from bert4k.training import LengthBatches

COLUMNS = ("text", "pair", "label")
Range = tuple[float, float]  # the lowest and the highest label of the training examples


@dataclass(frozen=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    longest: int = setting(128, "tokens of a text, of kind cross of both together; what is longer is cut")
    kind: Literal["cross", "bi"] = setting("cross", "cross: a pair is read as one, which is better; bi: a vector a text, to be searched")
    objective: Literal["cosent", "simcse", "simcse_unsupervised"] = setting(
        "cosent",
        "of bi: cosent, the order of the labels; simcse, pairs that are alike, against all other texts of the batch; simcse_unsupervised,"
        " each text and itself under other dropout, against all others (give tuning.network_dropout where the checkpoint has none)",
    )
    alike: float | None = setting(None, "of simcse: pairs with at least this label are alike; without it, those with the highest one")
    scale: float = setting(20.0, "of bi: factor of the cosines, 1 / temperature")
    pooling: str = setting("mean", "of the last layer: mean, max, first ([CLS]) or attention")


@dataclass(frozen=True)
class Example:
    """Two texts and how alike they are; `pair` and `label` are None where the file does not tell them."""

    text: str
    pair: str | None
    label: float | None


def read(path: Path, columns: Sequence[str] = COLUMNS, known: Range | None = None) -> list[Example]:
    """The examples of a file, which needs these `columns`. Raises `DataError`, with the line, for what is not as expected, and for labels
    outside of the range that is `known`."""
    found = []
    for row in read_rows(path, columns, [name for name in COLUMNS if name not in columns]):
        where = f"{path}, line {row.line}: "
        text, pair, told = (row.values.get(name) for name in COLUMNS)
        for each in (text, pair) if "pair" in row.values else (text,):
            if not isinstance(each, str) or not each.strip():
                raise DataError(f"{where}a text is {each!r}; expected one that is not empty. Correct or remove the line.")
        try:
            label = None if told is None else float(told)
        except (TypeError, ValueError):
            label = math.nan
        if label is not None and not math.isfinite(label):
            raise DataError(
                f"{where}the label is {told!r}; expected a number, the greater the more alike. For classes of pairs, train classify."
            )
        if label is not None and known is not None and not known[0] <= label <= known[1]:
            raise DataError(f"{where}the label {label:g} is outside of {known[0]:g} to {known[1]:g}, the range in training. Correct it.")
        found.append(Example(str(text), pair, label))
    return found


def encode(examples: Sequence[Example], tokenizer: Tokenizer, longest: int, kind: str) -> Groups | Encoded:
    """Of kind cross, `[CLS] text [SEP] pair [SEP]`; of bi, both texts as a group of two, `[CLS] text [SEP]` each."""
    from bert4k.finetuning import Groups, encoded

    pairs = [(each.text, each.pair or each.text) for each in examples]
    if kind == "cross":
        return encoded(pairs, tokenizer, longest)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    return Groups(encoded(list(numbers), tokenizer, longest), [(numbers[text], numbers[pair]) for text, pair in pairs])


def build(settings: Settings) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with a pooled head: a logit [B, 1] of kind cross, a vector [B, H] of kind bi; the network itself; its tokenizer."""
    import keras

    from bert4k.finetuning import body
    from bert4k.structured import Pooling

    network, tokenizer, inputs, x, real = body(settings.model, settings.tuning)
    pool = Pooling(settings.pooling)
    if settings.kind == "bi":
        return keras.Model(inputs, pool(keras.layers.Dropout(settings.tuning.dropout)(x), real)), network, tokenizer
    x = keras.layers.Dropout(settings.tuning.dropout)(pool(x, real))
    first = keras.initializers.TruncatedNormal(stddev=0.02)
    return keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=first, dtype="float32", name="alike")(x)), network, tokenizer


def answers(model: keras.Model, given: Groups | Encoded, known: Sequence[float]) -> NDArray[np.float64]:
    """How alike the two texts of each pair are: of kind cross on the scale of the labels, of kind bi as the cosine of their vectors."""
    import numpy as np

    from bert4k.finetuning import Groups, outputs_of
    from bert4k.nearest import unit

    if isinstance(given, Groups):
        vectors = unit(np.array(outputs_of(model, given.texts)))
        one, other = (vectors[list(numbers)] for numbers in zip(*given.members, strict=True))
        return np.asarray(np.sum(one * other, axis=1), np.float64)
    logits = np.array(outputs_of(model, given), np.float64)[:, 0]
    return known[0] + (known[1] - known[0]) / (1 + np.exp(-logits))


def score(predicted: NDArray[np.float64], examples: Sequence[Example], kind: str) -> dict[str, float]:
    """Correlation with the labels, of ranks (which of labels 0 and 1, half and half, cannot exceed 0.866) and of values; of labels 0 and 1,
    how well they are told apart."""
    import numpy as np

    from bert4k.scores import area_under_curve, f1, pearson, spearman

    gold = np.array([example.label for example in examples], np.float64)
    found = {"spearman": spearman(predicted, gold), "pearson": pearson(predicted, gold)}
    if set(gold) == {0, 1}:
        found["auc"] = area_under_curve(predicted, gold == 1)
        if kind == "cross":  # a cosine has no middle
            told, right = predicted > 0.5, gold == 1
            found |= {"accuracy": float(np.mean(told == right)), "f1": f1(int(sum(told & right)), int(sum(told)), int(sum(right))).f1}
    return found


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train similarity`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    from bert4k import finetuning

    told = {"simcse": ("text", "pair"), "simcse_unsupervised": ("text",)}
    columns = told.get(settings.objective, COLUMNS) if settings.kind == "bi" else COLUMNS
    examples = [example for path in settings.train for example in read(path, columns)]
    labels = sorted({each.label for each in examples if each.label is not None}) if "label" in columns else []
    if len(labels) == 1:
        raise DataError(f"All {len(examples):,} training examples have the label {labels[0]:g}. Expected two or more to tell apart.")
    known = labels[:: len(labels) - 1] if labels else []
    dev = read(settings.dev, known=(known[0], known[1]) if known else None)
    if len({each.label for each in dev}) < 2:
        raise DataError(f"{settings.dev}: all labels are {dev[0].label:g}, so there is no order to be right about. Add others.")
    model, network, tokenizer = build(settings)
    if columns == ("text",) and not settings.tuning.dropout and not network.config.hidden_dropout_prob:
        raise ConfigError("Without dropout a text is the same vector twice, and nothing is learnt. Give --tuning.network_dropout 0.1.")
    lessons = cross_lessons if settings.kind == "cross" else bi_lessons
    batches, learner, loss = lessons(settings, model, tokenizer, examples)
    judge = encode(dev, tokenizer, settings.longest, settings.kind)
    apart = settings.kind == "cross" and {each.label for each in dev} == {0, 1}
    best = finetuning.fit(
        settings.run,
        learner,
        network.config.num_hidden_layers,
        batches,
        loss,
        lambda: score(answers(model, judge, known), dev, settings.kind),
        "accuracy" if apart else "spearman",
        settings.tuning,
        divergence="sigmoid" if settings.kind == "cross" else None,
    )
    found = answers(model, judge, known)
    report(settings.run, settings.dev, found, dev, settings.kind)
    finetuning.finish(settings.run, model, network, tokenizer, known)
    return {"run": str(settings.run), "epoch": best["epoch"], **score(found, dev, settings.kind)}


Lessons = tuple["LengthBatches", "keras.Model", Any]  # batches, the model that takes them, and the loss


def cross_lessons(settings: Settings, model: keras.Model, tokenizer: Tokenizer, examples: Sequence[Example]) -> Lessons:
    """The label's place between the lowest and the highest one, as a probability."""
    import keras
    import numpy as np

    from bert4k.training import LengthBatches

    learn = encode(examples, tokenizer, settings.longest, "cross")
    labels = np.array([each.label for each in examples], "float32")
    targets = (labels - labels.min()) / (labels.max() - labels.min())
    tuning = settings.tuning
    batches = LengthBatches(
        learn.lengths(), lambda rows, length: (learn.inputs(rows, length), targets[rows]), tuning.tokens, seed=tuning.seed
    )
    return batches, model, keras.losses.BinaryCrossentropy(from_logits=True)


def bi_lessons(settings: Settings, model: keras.Model, tokenizer: Tokenizer, examples: Sequence[Example]) -> Lessons:
    """What the objective compares within a batch: pairs by their labels, or texts with those of other pairs."""
    import numpy as np

    from bert4k.losses import CoSENT, SimCSE
    from bert4k.training import Grouped, LengthBatches

    if settings.objective == "simcse_unsupervised":
        told = dict.fromkeys(text for each in examples for text in (each.text, each.pair) if text is not None)
        examples = [Example(text, text, None) for text in told]
    elif settings.objective == "simcse":
        examples = alike(examples, settings.alike)
    targets = np.array([each.label or 0 for each in examples] if settings.objective == "cosent" else subjects(examples), "float32")
    learn = encode(examples, tokenizer, settings.longest, "bi")

    def collate(rows: list[int], length: int) -> tuple[Any, ...]:
        repeated = np.diff(rows, prepend=-1) == 0  # they only fill the batch, and no row is to be compared with them
        return learn.inputs(rows, length), np.where(repeated, np.nan, targets[rows])

    loss = (CoSENT if settings.objective == "cosent" else SimCSE)(settings.scale)
    return LengthBatches(learn.lengths(), collate, settings.tuning.tokens // 2, seed=settings.tuning.seed), Grouped(model), loss


def alike(examples: Sequence[Example], least: float | None) -> list[Example]:
    """Those whose label is `least` or more (default: the highest that there is), or that have none."""
    highest = max((each.label for each in examples if each.label is not None), default=0.0)
    least = highest if least is None else least
    found = [each for each in examples if each.label is None or each.label >= least]
    print(f"{len(found):,} of {len(examples):,} pairs are alike (with a label of {least:g} or more, or none)", file=sys.stderr)
    if not found:
        raise DataError(f"No training example has a label of {least:g} or more; the highest is {highest:g}. Give a lower --alike.")
    return found


def subjects(examples: Sequence[Example]) -> list[int]:
    """A number for what each pair is about: the same for pairs that have a text in common, directly or by way of others."""
    towards: dict[str, str] = {}

    def end(text: str) -> str:
        while (further := towards.setdefault(text, text)) != text:
            towards[text] = towards[further]
            text = towards[text]
        return text

    for each in examples:
        towards[end(each.text)] = end(each.pair or each.text)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(end(each.text), len(numbers)) for each in examples]


def report(folder: Path, path: Path, found: NDArray[np.float64], examples: Sequence[Example], kind: str) -> None:
    """report.md: how good predictions are for the examples of a file, and what they are for each label."""
    import numpy as np

    from bert4k.finetuning import write_text

    lines = [f"# {path.name}: {len(examples):,} pairs", "", "| score | |", "|---|---:|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in score(found, examples, kind).items()]
    gold = np.array([example.label for example in examples])
    labels = np.unique(gold)
    if len(labels) <= 20:
        lines += ["", "| label | pairs | told, on average | standard deviation |", "|---:|---:|---:|---:|"]
        each = [(label, found[gold == label]) for label in labels]
        lines += [f"| {label:g} | {len(told):,} | {told.mean():.3f} | {told.std():.3f} |" for label, told in each]
    write_text(folder / "report.md", "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k import finetuning

    model, tokenizer, known, settings = finetuning.finished(run, "similarity")
    examples = read(path, known=(known[0], known[1]) if known else None)
    found = answers(model, encode(examples, tokenizer, settings["longest"], settings["kind"]), known)
    report(finetuning.evaluation_folder(run, path), path, found, examples, settings["kind"])
    return {"file": str(path), "examples": len(examples), **score(found, examples, settings["kind"])}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN TEXT<TAB>TEXT...`: how alike the two are."""
    from bert4k import finetuning

    model, tokenizer, known, settings = finetuning.finished(run, "similarity")
    pairs = []
    for number, each in enumerate(texts, 1):
        text, _, pair = each.partition("\t")
        if not text.strip() or not pair.strip():
            also = f" For one text, `bert4k search {run} FILE TEXT` finds those that are like it." if settings["kind"] == "bi" else ""
            raise DataError(f"Text {number} is {each[:80]!r}; expected two texts with a tab between them.{also}")
        pairs.append(Example(text, pair, None))
    found = answers(model, encode(pairs, tokenizer, settings["longest"], settings["kind"]), known)
    return [{"text": each.text, "pair": each.pair, "alike": round(float(value), 4)} for each, value in zip(pairs, found, strict=True)]


def search(run: Path, corpus: Path, texts: Sequence[str], count: int) -> list[dict[str, Any]]:
    """`bert4k search RUN FILE TEXT...`: of the texts of a file, those nearest to each text, with their lines and cosines.

    The vectors of the file are kept in search/ in the run folder, by its content, and made once. Raises `CheckpointError` when those that
    are kept were made by another model."""
    import numpy as np

    from bert4k import finetuning
    from bert4k.nearest import load_vectors, nearest, save_vectors, unit

    model, tokenizer, _, settings = finetuning.finished(run, "similarity")
    if settings["kind"] != "bi":
        raise ConfigError(f"{run} reads two texts together, and has no vectors of single ones. Train with --kind bi to search.")

    def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
        return unit(np.array(finetuning.outputs_of(model, finetuning.encoded(texts, tokenizer, settings["longest"])), np.float32))

    rows = read_rows(corpus, ("text",))
    if empty := [row.line for row in rows if not isinstance(row.values["text"], str) or not row.values["text"].strip()]:
        raise DataError(f"{corpus}, line {empty[0]}: the text is empty. Remove the line.")
    lines: dict[str, int] = {}
    for row in rows:
        lines.setdefault(row.values["text"], row.line)
    known = list(lines)
    if repeated := len(rows) - len(known):
        print(f"{repeated:,} of {len(rows):,} texts of {corpus} are repeated; each is shown once, with its first line", file=sys.stderr)
    content = hashlib.sha256("\0".join(known).encode("utf-8", "surrogatepass")).hexdigest()
    with (run / "model.keras").open("rb") as file:
        made_by = hashlib.file_digest(file, "sha256").hexdigest()
    kept = run / "search" / f"{corpus.name.split('.')[0]}-{content[:16]}.safetensors"
    if not kept.exists():
        print(f"reading {len(known):,} texts of {corpus}; their vectors are kept in {kept}", file=sys.stderr)
        save_vectors(kept, vectors_of(known), made_by)
    numbers, cosines = nearest(vectors_of(texts), load_vectors(kept, made_by), count)
    return [
        {
            "text": text,
            "nearest": [
                {"text": known[number], "line": lines[known[number]], "alike": round(float(cosine), 4)}
                for number, cosine in zip(own, values, strict=True)
            ],
        }
        for text, own, values in zip(texts, numbers, cosines, strict=True)
    ]
