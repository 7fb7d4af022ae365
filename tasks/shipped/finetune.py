"""What a checkpoint is worth to a task: fine-tuned from it against trained from scratch, the same network for as many steps.

    KERAS_BACKEND=torch python -m bert4k.tasks.shipped.finetune MODEL --data ../shared/data --out finetuned.json --dtype mixed_bfloat16

Classification: `[CLS] text [SEP]` of at most 128 tokens, ChnSentiCorp (9,600 reviews) and book_review (10,000 of 20,000), accuracy on
their dev files. Entities: MSRA's train file alone, of which a tenth, by a hash of the sentence, is held out; tags B, I and O for
every token, F1 of exact spans and kinds. Test files are not touched. The learning rate of each start is the best of a small grid with
the first seed, as for published dev scores; the other seeds repeat that rate only. Every run is in the file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.decoding.batches import by_length, length_bucket, padded
from bert4k.errors import DataError
from bert4k.hub import load, locate
from bert4k.model import Transformer
from bert4k.progress import track
from bert4k.tasks.shipped import results
from bert4k.tasks.shipped.scores import entity_f1
from bert4k.tokenizers import Tokenizer
from bert4k.training import WarmupDecay, make_optimizer

STARTS = ("checkpoint", "scratch")
NO_LABEL = -1  # of padding, and of tokens that have no tag


@dataclass(frozen=True)
class Settings:
    """How every run trains. The defaults fit a small model on two cores."""

    rates: tuple[float, ...] = (2e-4, 5e-4)
    seeds: tuple[int, ...] = (1, 2)
    epochs: float = 2.0
    batch: int = 32
    warmup: float = 0.1  # share of the steps in which the rate rises; then it falls linearly to 0
    weight_decay: float = 0.01
    dropout: float = 0.1  # of what the new layer reads; inside, the network is as the checkpoint's config says
    pooling: str = "mean"  # of the last layer, over all tokens; or "first"
    longest: int = 128  # tokens of a text
    dtype: str = "float32"
    limit: int | None = None  # the most examples of a file, for a quick look


# The tasks. ---------------------------------------------------------------------------------------------------------

Tags = list[str]


@dataclass(frozen=True)
class Example:
    """A text as a row of token ids, with one label, or one a token (NO_LABEL where there is none)."""

    row: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Task:
    """Examples to learn from and to be judged on. `score` takes the likeliest class of each place of every dev example."""

    name: str
    classes: int
    by_token: bool
    train: list[Example]
    dev: list[Example]
    metric: str
    score: Callable[[list[NDArray[np.int64]]], dict[str, float]]


def classification(name: str, folder: Path, tokenizer: Tokenizer, settings: Settings, most: int | None = None) -> Task:
    """A task of two columns, label and text_a, with at most `most` training examples, drawn with a fixed seed."""
    parts = [read_labelled(folder / f"{part}.tsv.gz") for part in ("train", "dev")]
    train, dev = sample(parts[0], smallest(most, settings.limit)), sample(parts[1], settings.limit)
    gold = np.array([label for label, _ in dev])

    def accuracy(predicted: list[NDArray[np.int64]]) -> dict[str, float]:
        return {"accuracy": 100 * float(np.mean(np.concatenate(predicted) == gold))}

    learn, judge = ([Example(cut(tokenizer, text, settings.longest), [label]) for label, text in part] for part in (train, dev))
    return Task(name, 2, False, learn, judge, "accuracy", accuracy)


def read_labelled(path: Path) -> list[tuple[int, str]]:
    """(label, text) of a gzipped TSV with the header `label`, `text_a`."""
    header, *lines = read_lines(path)
    if header.split("\t") != ["label", "text_a"]:
        raise DataError(f"{path} begins with {header!r}; expected the columns label and text_a. Fetch the file anew.")
    return [(int(label), text) for label, _, text in (line.partition("\t") for line in lines if line)]


def read_lines(path: Path) -> list[str]:
    """The lines of a gzipped file, and nothing after the last line end."""
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            return file.read().replace("\r\n", "\n").removesuffix("\n").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path} ({error}). Say with --data which folder holds {path.parent.name}/.") from error


def cut(tokenizer: Tokenizer, text: str, longest: int) -> list[int]:
    """`[CLS] text [SEP]`, the text cut to fit."""
    return [tokenizer.cls_id, *tokenizer.spans(text)[0][: longest - 2], tokenizer.sep_id]


def sample(items: list[Any], most: int | None) -> list[Any]:
    """At most so many items, always the same, in their order."""
    if most is None or most >= len(items):
        return items
    return [items[place] for place in sorted(np.random.default_rng(0).permutation(len(items))[:most])]


def smallest(*limits: int | None) -> int | None:
    """The smallest limit that there is."""
    return min((limit for limit in limits if limit is not None), default=None)


def msra(name: str, folder: Path, tokenizer: Tokenizer, settings: Settings, most: int | None = None) -> Task:
    """Entities of MSRA: the train file, of which a tenth of the sentences is kept for dev."""
    sentences = read_tagged(folder / "train.txt.gz")
    held_out = [zlib.crc32("".join(chars).encode()) % 10 == 0 for chars, _ in sentences]
    train = sample([each for each, out in zip(sentences, held_out, strict=True) if not out], smallest(most, settings.limit))
    dev = sample([each for each, out in zip(sentences, held_out, strict=True) if out], smallest(4000, settings.limit))
    names = sorted({tag for _, tags in sentences for tag in tags}, key=lambda tag: (tag != "O", tag))
    learn, judge = ([tag_tokens(chars, tags, names, tokenizer, settings.longest) for chars, tags in part] for part in (train, dev))

    def f1(predicted: list[NDArray[np.int64]]) -> dict[str, float]:
        guessed = [
            tags_of_characters([names[each] for each in classes], spans, len(tags))
            for classes, (_, spans), (_, tags) in zip(predicted, judge, dev, strict=True)
        ]
        return entity_f1(guessed, [tags for _, tags in dev])

    return Task(name, len(names), True, [example for example, _ in learn], [example for example, _ in judge], "f1", f1)


def read_tagged(path: Path) -> list[tuple[list[str], Tags]]:
    """Sentences of `character tag` lines, blank lines between them."""
    sentences: list[tuple[list[str], Tags]] = []
    chars: list[str] = []
    tags: Tags = []
    for line in [*read_lines(path), ""]:
        if line:
            char, _, tag = line.partition(" ")
            chars.append(char)
            tags.append(tag)
        elif chars:
            sentences.append((chars, tags))
            chars, tags = [], []
    return sentences


Spans = list[tuple[int, int]]


def tag_tokens(chars: list[str], tags: Tags, names: Sequence[str], tokenizer: Tokenizer, longest: int) -> tuple[Example, Spans]:
    """A sentence with the tag of its first character for every token; and which characters each token covers."""
    if any(len(char) != 1 for char in chars):
        raise DataError(f"Found {max(chars, key=len)!r} where one character with its tag was expected. Fetch the file anew.")
    ids, starts, ends = (each[: longest - 2] for each in tokenizer.spans("".join(chars)))
    labels = [NO_LABEL, *(names.index(tags[start]) for start in starts), NO_LABEL]
    return Example([tokenizer.cls_id, *ids, tokenizer.sep_id], labels), list(zip(starts, ends, strict=True))


def tags_of_characters(token_tags: Sequence[str], spans: Spans, length: int) -> Tags:
    """A tag for every character: those inside a token go on with what its first one began; what no token covers, or was cut off, is O."""
    tags = ["O"] * length
    for tag, (start, end) in zip(token_tags, spans, strict=True):
        tags[start:end] = [tag, *([tag.replace("B-", "I-")] * (end - start - 1))]
    return tags


TASKS: dict[str, Callable[[Path, Tokenizer, Settings], Task]] = {
    "chnsenticorp": lambda data, tokenizer, settings: classification("chnsenticorp", data / "chnsenticorp", tokenizer, settings),
    "book_review": lambda data, tokenizer, settings: classification("book_review", data / "book_review", tokenizer, settings, 10_000),
    "msra": lambda data, tokenizer, settings: msra("msra", data / "ner_msra", tokenizer, settings, 10_000),
}


# Training. ----------------------------------------------------------------------------------------------------------


def make_classifier(folder: Path, start: str, task: Task, settings: Settings) -> keras.Model:
    """The network with a new layer on top: logits [B, classes], or [B, L, classes] where tokens have labels."""
    body, _ = load(folder, "encoder", ("sequence",), dtype=settings.dtype)
    if start == "scratch":
        body = Transformer(body.config, "encoder", ("sequence",), dtype=settings.dtype)
    token_ids = keras.Input((None,), dtype="int32", name="token_ids")
    x = ops.cast(body({"token_ids": token_ids}), "float32")
    if not task.by_token:
        x = x[:, 0] if settings.pooling == "first" else mean_of_real(x, ops.not_equal(token_ids, body.config.pad_token_id))
    x = keras.layers.Dropout(settings.dropout, dtype="float32")(x)
    logits = keras.layers.Dense(task.classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02), dtype="float32")(x)
    return keras.Model(token_ids, logits)


def mean_of_real(x: Any, real: Any) -> Any:
    """The mean of x [B, L, H] over the tokens that are `real` [B, L]."""
    weights = ops.cast(real, "float32")[..., None]
    return ops.sum(x * weights, axis=1) / ops.sum(weights, axis=1)


def steps_of(task: Task, settings: Settings) -> int:
    """Steps of a training."""
    return max(1, round(settings.epochs * len(task.train) / settings.batch))


def batches(examples: Sequence[Example], task: Task, settings: Settings, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Batches without end, of texts of similar length: in every epoch shuffled, and sorted by length within each 50 batches only.

    Which texts meet differs from epoch to epoch, and hardly any work goes into padding."""
    random = np.random.default_rng(seed)
    lengths = np.array([len(example.row) for example in examples])
    while True:
        order = random.permutation(len(examples))
        chunks = [
            chunk[np.argsort(lengths[chunk], kind="stable")]
            for chunk in np.split(order, range(50 * settings.batch, len(order), 50 * settings.batch))
        ]
        cuts = [each for chunk in chunks for each in np.split(chunk, range(settings.batch, len(chunk), settings.batch))]
        for place in random.permutation(len(cuts)):
            yield as_batch([examples[index] for index in cuts[place]], task, settings)


def as_batch(examples: Sequence[Example], task: Task, settings: Settings) -> tuple[Any, Any, Any]:
    """Token ids [B, L], labels [B] or [B, L], and their weights."""
    length = min(length_bucket(max(len(example.row) for example in examples)), settings.longest)
    token_ids = padded([example.row for example in examples], 0, length, len(examples))
    labels = padded([example.labels for example in examples], NO_LABEL, length if task.by_token else 1, len(examples))
    weights = (labels != NO_LABEL).astype(np.float32)
    labels = np.maximum(labels, 0)
    return (token_ids, labels, weights) if task.by_token else (token_ids, labels[:, 0], weights[:, 0])


def train_and_judge(folder: Path, start: str, task: Task, rate: float, seed: int, settings: Settings) -> dict[str, Any]:
    """One training, and what it reached."""
    began = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model, steps = make_classifier(folder, start, task, settings), steps_of(task, settings)
    schedule = WarmupDecay(rate, steps, round(settings.warmup * steps))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile(make_optimizer("adamw", schedule, weight_decay=settings.weight_decay), loss, jit_compile=False)
    # Batch by batch: on TensorFlow, `fit` takes a generator's first two batches for all shapes that there will be.
    stream = islice(batches(task.train, task, settings, seed), steps)
    losses = [float(model.train_on_batch(*batch)) for batch in track(stream, steps, f"{task.name} from {start}, {rate:g}, seed {seed}")]
    trained = time.perf_counter() - began
    numbers = task.score(predict(model, task, settings))
    return {
        "start": start,
        "rate": rate,
        "seed": seed,
        **numbers,
        "training_loss": float(np.mean(losses[-50:])),
        "seconds": time.perf_counter() - began,
        "seconds_training": trained,
    }


def predict(model: keras.Model, task: Task, settings: Settings) -> list[NDArray[np.int64]]:
    """The likeliest class of every dev example, [1], or of each of its tokens but [CLS] and [SEP]."""
    found: dict[int, NDArray[np.int64]] = {}
    groups = list(by_length([len(example.row) for example in task.dev], 2 * settings.batch))
    for group in track(groups, len(groups), "judging"):
        token_ids, *_ = as_batch([task.dev[index] for index in group], task, settings)
        classes = np.asarray(model.predict_on_batch(token_ids)).argmax(axis=-1)
        for index, row in zip(group, classes, strict=True):
            found[int(index)] = row[1 : len(task.dev[index].row) - 1] if task.by_token else row[None]
    return [found[index] for index in range(len(task.dev))]


def compare(folder: Path, task: Task, settings: Settings, tell: Callable[[dict[str, Any]], None] = lambda run: None) -> dict[str, Any]:
    """From the checkpoint and from scratch: the grid with the first seed, its best rate with the others, and means over seeds."""
    runs: list[dict[str, Any]] = []

    def run(start: str, rate: float, seed: int) -> float:
        runs.append(train_and_judge(folder, start, task, rate, seed, settings))
        tell(runs[-1])
        return float(runs[-1][task.metric])

    summary: dict[str, Any] = {}
    for start in STARTS:
        tried = {rate: run(start, rate, settings.seeds[0]) for rate in settings.rates}
        best = max(tried, key=tried.__getitem__)
        scores = [tried[best], *(run(start, best, seed) for seed in settings.seeds[1:])]
        summary[start] = {"rate": best, task.metric: float(np.mean(scores)), "of_seeds": scores}
    gain = summary["checkpoint"][task.metric] - summary["scratch"][task.metric]
    return {
        "metric": f"{task.metric} on dev, percent, mean over seeds",
        "train": len(task.train),
        "dev": len(task.dev),
        "steps": steps_of(task, settings),
        **summary,
        "gain": gain,
        "runs": runs,
    }


# The command. -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare on task after task; print the numbers and put them into a file."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.finetune", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--data", type=Path, required=True, help="folder with chnsenticorp/, book_review/ and ner_msra/")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); what is in it already is kept")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), help="tasks (all)")
    parser.add_argument("--rates", nargs="+", type=float, default=Settings.rates, help="learning rates to try (%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=Settings.seeds, help="of shuffling, dropout and new weights (%(default)s)")
    parser.add_argument("--epochs", type=float, default=Settings.epochs, help="how often training data are read (%(default)s)")
    parser.add_argument(
        "--pooling", choices=("mean", "first"), default=Settings.pooling, help="what a text's class is read from (%(default)s)"
    )
    parser.add_argument("--longest", type=int, default=Settings.longest, help="tokens of a text (%(default)s)")
    parser.add_argument("--dtype", default=Settings.dtype, help="what the network computes in (%(default)s); mixed_bfloat16 suits AMX")
    parser.add_argument("--limit", type=int, help="at most so many examples of a file, for a quick look")
    flags = vars(parser.parse_args(arguments))
    folder, data, out, only = locate(flags.pop("model")), flags.pop("data"), flags.pop("out"), flags.pop("only")
    settings = Settings(**flags | {"rates": tuple(flags["rates"]), "seeds": tuple(flags["seeds"])})
    tokenizer = Tokenizer.from_folder(folder)
    about = {"model": folder.name, "files_sha256": results.weights_digest(folder)}
    results.read(out, about)  # complains before the work, not after it
    for name in only:
        began = time.perf_counter()
        task = TASKS[name](data, tokenizer, settings)
        numbers = compare(folder, task, settings, lambda run: print(json.dumps(results.rounded(run, 6)), flush=True))
        numbers |= {"settings": vars(settings), "seconds": time.perf_counter() - began, "made": results.provenance()}
        results.keep(out, about, name, results.rounded(numbers, 6))
        print(json.dumps({name: {key: numbers[key] for key in (*STARTS, "gain")}}, indent=2), flush=True)


if __name__ == "__main__":
    main()
