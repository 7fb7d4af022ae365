"""Pretrain one small transformer that is three machines: it fills blanks, continues a poem and answers a couplet.

    python -m bert4k.tasks.pretrain --data ../shared/data --run runs/poem
    python -m bert4k.tasks.pretrain --data ../shared/data --evaluate runs/poem/model

Needs `opencc` (`pip install bert4k[pretrain]`); resumes where it stopped when it is started again with the same run folder.

The three objectives of UniLM (Dong et al. 2019, arXiv:1905.03197) run on the same weights in every step and differ in
nothing but what may be seen, which the permuted mask reads from the input "order" (the time at which a token is revealed):

    masked         order 0 0 0 0 ...     everybody sees everybody: BERT's masked language model
    left_to_right  order 0 1 2 3 ...     a language model
    seq2seq        order 0 0 0 1 2 ...   the source sees itself, the target sees the source and its own past

Rows are packed with several texts, which `same_document` keeps apart; a packed text computes what it would compute alone.
What is left out: next-sentence prediction (so the checkpoint has no pooled output), dropout, several devices.
"""

import argparse
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import masks
from bert4k.config import Config
from bert4k.decoding.batches import bucket, by_length, padded
from bert4k.errors import DataError
from bert4k.hub import check_target, load, save
from bert4k.model import Transformer
from bert4k.tokenizers import Tokenizer

Array = NDArray[np.int32]


def setting(default: Any, text: str) -> Any:
    """A field of `Settings`: its default and the help of its flag."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result. Each field is a flag of the command."""

    seed: int = setting(1, "seed of the initial weights and of every draw of the data")
    layers: int = setting(4, "transformer layers")
    width: int = setting(192, "hidden size (H)")
    heads: int = setting(6, "attention heads (N); must divide the width")
    length: int = setting(128, "tokens in a packed row (L), and positions of the model")
    rows: int = setting(8, "packed rows of each objective in a step (B)")
    steps_per_epoch: int = setting(50, "steps between two lines of the log and two backups")
    epochs: int = setting(60, "how many times that")
    warmup_steps: int = setting(300, "steps over which the learning rate rises")
    learning_rate: float = setting(1.5e-3, "highest learning rate; it falls to 0 along a cosine")
    weight_decay: float = setting(0.01, "AdamW's decay of matrices")
    masked_share: float = setting(
        0.3, "share of the tokens that the masked objective asks for; 0.15 is BERT's, more teaches a small model faster"
    )
    minimum_count: int = setting(4, "rarer characters become [UNK]")
    held_out: float = setting(0.01, "share of the documents and couplets that is kept from training")

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.epochs * self.steps_per_epoch


# The data. ----------------------------------------------------------------------------------------------------------

POEMS = ("quantangshi_trad", "songci_simp", "yuanqu_simp", "other_classics")
NOTE = re.compile(r"[（(\[［〖〔{][^）)\]］〗〕}]*[）)\]］〗〕}]")
GAP = re.compile(r"[□○●�]")
MARKS = "，。、？！；：「」《》“”"
FOREIGN = re.compile(rf"[^\u3400-\u9fff\U00020000-\U000323af{MARKS}]")
CLAUSE = re.compile(r"[^，。、？！；：]+[，。、？！；：]*")

Couplet = tuple[str, str]


class Poem(NamedTuple):
    """A stretch of a document, at most as long as a row, and whether the document ends with it."""

    text: str
    ends: bool


@dataclass(frozen=True)
class Corpus:
    """What the model learns from, or what it is measured on."""

    poems: list[Poem]
    couplets: list[Couplet]

    def sizes(self) -> dict[str, int]:
        """Numbers of poems (stretches of documents), of their characters, and of couplets."""
        return {"poems": len(self.poems), "characters": sum(len(poem.text) for poem in self.poems), "couplets": len(self.couplets)}


def read_corpora(data: Path, settings: Settings) -> tuple[Corpus, Corpus]:
    """The texts in simplified characters: those for training and those held out.

    A document or couplet is held out by a hash of its text, so the split does not depend on order or seed. What both
    sides share is dropped: a held-out poem with a line of a training poem, a couplet with a half in the other side's poems.
    """
    from opencc import OpenCC

    simplified = OpenCC("t2s").convert
    documents: list[list[str]] = []
    for name in POEMS:
        for document in simplified(_read(data / f"raw_poetry/{name}.txt.gz")).split("\n\n"):
            lines = [FOREIGN.sub("", NOTE.sub("", line)) for line in document.split("\n")[2:] if not GAP.search(line)]
            documents.append([line for line in lines if line])
    lines = simplified(_read(data / "s2s_couplet/poetry_parallel_lines.tsv.gz")).split("\n")
    pairs = [
        (upper, lower)
        for upper, _, lower in (line.partition("\t") for line in lines)
        if len(upper) == len(lower) > 0 and not FOREIGN.search(upper + lower)
    ]
    return split_corpora(documents, pairs, settings)


def _read(path: Path) -> str:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"Cannot read {path} ({error}). Expected the poems and couplets; say with --data where they are.") from error


def split_corpora(documents: Iterable[list[str]], couplets: Iterable[Couplet], settings: Settings) -> tuple[Corpus, Corpus]:
    """Training and held-out corpus of documents (lists of lines) and couplets; see `read_corpora`."""
    parts: tuple[list[list[str]], list[list[str]]] = ([], [])
    for document in documents:
        if document:
            parts[_is_held_out("".join(document), settings)].append(document)
    learnt = {line for document in parts[0] for line in clauses(document)}
    unseen = [document for document in parts[1] if learnt.isdisjoint(clauses(document))]
    kept_secret = {line for document in unseen for line in clauses(document)}
    pairs: tuple[list[Couplet], list[Couplet]] = ([], [])
    for couplet in dict.fromkeys(couplets):
        held_out = _is_held_out(couplet[0], settings)
        if not set(couplet) & (learnt if held_out else kept_secret):
            pairs[held_out].append(couplet)
    lowers = {lower for _, lower in pairs[0]}
    pairs_unseen = [couplet for couplet in pairs[1] if couplet[1] not in lowers]
    limit = settings.length - 2
    return (
        Corpus([poem for document in parts[0] for poem in cut(document, limit)], pairs[0]),
        Corpus([poem for document in unseen for poem in cut(document, limit)], pairs_unseen),
    )


def _is_held_out(text: str, settings: Settings) -> bool:
    return crc32(text.encode()) % 10_000 < settings.held_out * 10_000


def clauses(document: Iterable[str]) -> Iterator[str]:
    """The verse lines of at least five characters, without punctuation."""
    for line in document:
        yield from (clause for clause in re.split(f"[{MARKS}]+", line) if len(clause) >= 5)


def cut(document: Iterable[str], limit: int) -> list[Poem]:
    """Whole lines, as many as fit into `limit` characters; a longer line is cut."""
    texts = [""]
    for line in document:
        for start in range(0, len(line), limit):
            piece = line[start : start + limit]
            if texts[-1] and len(texts[-1]) + len(piece) > limit:
                texts.append("")
            texts[-1] += piece
    return [Poem(text, index == len(texts) - 1) for index, text in enumerate(texts) if text]


def make_vocabulary(corpus: Corpus, minimum_count: int) -> list[str]:
    """The special tokens, then the characters of the corpus by count."""
    counts = Counter[str]()
    for text, _ in corpus.poems:
        counts.update(text)
    for upper, lower in corpus.couplets:
        counts.update(upper + lower)
    common = sorted((-count, character) for character, count in counts.items() if count >= minimum_count)
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(character for _, character in common)]


# The objectives. ----------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """One text as the model takes it; each field int32 [L]. A label is what the output must say there, -1 for nothing."""

    token_ids: Array
    segment_ids: Array
    order: Array
    labels: Array


def masked(tokenizer: Tokenizer, text: str, random: np.random.Generator, share: float = 0.15) -> Example:
    """BERT's cloze: a share of the tokens is to be told; of these 80 % are [MASK], 10 % another token, 10 % unchanged."""
    encoding = tokenizer.encode(text)
    count = len(encoding) - 2
    chosen = 1 + random.permutation(count)[: max(1, round(share * count))]
    labels = np.full(len(encoding), -1, np.int32)
    labels[chosen] = encoding.ids[chosen]
    luck = random.random(len(chosen))
    other = random.integers(5, len(tokenizer), len(chosen))
    token_ids = encoding.ids.copy()
    token_ids[chosen] = np.where(luck < 0.8, tokenizer.mask_id, np.where(luck < 0.9, other, token_ids[chosen]))
    return Example(token_ids, encoding.segment_ids, np.zeros_like(token_ids), labels)


def left_to_right(tokenizer: Tokenizer, poem: Poem) -> Example:
    """The next token at every position; the end is to be told only where the document ends."""
    encoding = tokenizer.encode(poem.text)
    labels = np.append(encoding.ids[1:], -1).astype(np.int32)
    if not poem.ends:
        labels[-2] = -1
    return Example(encoding.ids, encoding.segment_ids, np.arange(len(encoding), dtype=np.int32), labels)


def seq2seq(tokenizer: Tokenizer, couplet: Couplet) -> Example:
    """`[CLS] source [SEP] target [SEP]`: the next token, from the source's [SEP] on."""
    encoding = tokenizer.encode(*couplet)
    order = np.cumsum(encoding.segment_ids, dtype=np.int32)
    labels = np.append(encoding.ids[1:], -1).astype(np.int32)
    labels[: np.argmax(order) - order.max()] = -1
    return Example(encoding.ids, encoding.segment_ids, order, labels)


OBJECTIVES = ("masked", "left_to_right", "seq2seq")


def predictions(settings: Settings) -> dict[str, int]:
    """The most predictions in a packed row by objective (P): room for what its texts ask, and little more."""
    shares = {"masked": 1.25 * settings.masked_share, "left_to_right": 1.0, "seq2seq": 0.5}
    return {objective: round(share * settings.length) for objective, share in shares.items()}


def draw(objective: str, corpus: Corpus, tokenizer: Tokenizer, settings: Settings, random: np.random.Generator) -> Iterator[Example]:
    """Examples without end."""
    while True:
        match objective:
            case "masked":
                text = some_clauses(corpus.poems[random.integers(len(corpus.poems))].text, random)
                yield masked(tokenizer, text, random, settings.masked_share)
            case "left_to_right":
                yield left_to_right(tokenizer, corpus.poems[random.integers(len(corpus.poems))])
            case "seq2seq":
                yield seq2seq(tokenizer, some_couplet(corpus.couplets, random))


def some_clauses(text: str, random: np.random.Generator) -> str:
    """The text, or (3 times of 10) a few neighbouring clauses without the last one's mark: people ask for single lines, too."""
    parts = CLAUSE.findall(text)
    if len(parts) < 2 or random.random() < 0.7:
        return text
    start = int(random.integers(len(parts)))
    return "".join(parts[start : start + int(random.integers(1, 4))]).rstrip("，。、？！；：") or text


def some_couplet(couplets: Sequence[Couplet], random: np.random.Generator) -> Couplet:
    """A couplet, or (3 times of 10) one or two parts of couplets joined by a comma.

    Parallel lines are parallel character by character and so are their parts before and after the caesura, which is
    three characters from the end; so other lengths than five and seven come for free.
    """

    def whole() -> Couplet:
        return couplets[int(random.integers(len(couplets)))]

    def part() -> Couplet:
        upper, lower = whole()
        match random.integers(4):
            case 0:
                return upper[:-3], lower[:-3]
            case 1:
                return upper[-3:], lower[-3:]
        return upper, lower

    if random.random() < 0.7:
        return whole()
    parts = [couplet for couplet in (part() for _ in range(random.integers(1, 3))) if couplet[0]] or [whole()]
    return "，".join(upper for upper, _ in parts), "，".join(lower for _, lower in parts)


# Batches. -----------------------------------------------------------------------------------------------------------

Batch = tuple[dict[str, Array], Array, NDArray[np.float32]]


def pack(examples: Iterator[Example], rows: int, length: int, predictions: int) -> Batch:
    """Fill rows [B, L] with examples, each put into the first row that has room for it and for its predictions.

    Returns the inputs, the labels int32 [B, P] of the positions in `inputs["positions"]`, and their weights, 0 or 1.
    Stops at the eighth example that finds no room.
    """
    inputs = {name: np.zeros((rows, length), np.int32) for name in ("token_ids", "segment_ids", "order", "document_ids", "position_ids")}
    inputs["positions"] = np.zeros((rows, predictions), np.int32)
    labels, weights = np.zeros((rows, predictions), np.int32), np.zeros((rows, predictions), np.float32)
    used, told, texts = np.zeros((3, rows), np.int32)
    refused = 0
    while refused < 8:
        example = next(examples)
        size, places = len(example.token_ids), np.flatnonzero(example.labels >= 0)
        room = np.flatnonzero((used + size <= length) & (told + len(places) <= predictions))
        if not len(room):
            refused += 1
            continue
        row = room[0]
        here, there = slice(used[row], used[row] + size), slice(told[row], told[row] + len(places))
        for name in ("token_ids", "segment_ids", "order"):
            inputs[name][row, here] = getattr(example, name)
        inputs["document_ids"][row, here] = texts[row]
        inputs["position_ids"][row, here] = np.arange(size)
        inputs["positions"][row, there] = used[row] + places
        labels[row, there], weights[row, there] = example.labels[places], 1.0
        used[row] += size
        told[row] += len(places)
        texts[row] += 1
    return inputs, labels, weights


def batches(corpus: Corpus, tokenizer: Tokenizer, settings: Settings, start: int = 0) -> Iterator[tuple[dict[str, Any], ...]]:
    """What `fit` takes, from step `start` on: inputs, labels and weights by objective. A step's batch depends on seed and step alone."""
    for step in range(start, settings.steps):
        packed = {}
        for number, objective in enumerate(OBJECTIVES):
            examples = draw(objective, corpus, tokenizer, settings, np.random.default_rng((settings.seed, step, number)))
            packed[objective] = pack(examples, settings.rows, settings.length, predictions(settings)[objective])
        yield tuple({objective: batch[part] for objective, batch in packed.items()} for part in range(3))


# Training. ----------------------------------------------------------------------------------------------------------


def make_transformer(vocab_size: int, settings: Settings) -> Transformer:
    """A fresh transformer with the masked-LM head, which serves all three objectives."""
    config = Config(
        vocab_size=vocab_size,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=settings.length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return Transformer(config, masks.permuted() & masks.same_document, outputs=("sequence", "mlm"))


def make_trainer(transformer: Transformer, settings: Settings) -> keras.Model:
    """The model that `fit` trains: the three objectives side by side, one output each, float logits [B, P, V].

    The vocabulary's product, about half of all arithmetic, is computed for the predicted positions only.
    """
    body = transformer.with_outputs("sequence")
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    for objective in OBJECTIVES:
        names = ("token_ids", "segment_ids", "order", "document_ids", "position_ids", "positions")
        given = {name: keras.Input((None,), dtype="int32", name=f"{objective}_{name}") for name in names}
        real = ops.not_equal(given["token_ids"], transformer.config.pad_token_id)
        sequence = body({name: given[name] for name in names[:-1]} | {"real": real})
        inputs[objective] = given
        outputs[objective] = transformer.head("mlm", ops.take_along_axis(sequence, given["positions"][:, :, None], axis=1))
    trainer = keras.Model(inputs, outputs)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, settings.steps - settings.warmup_steps, warmup_target=settings.learning_rate, warmup_steps=settings.warmup_steps
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay, beta_2=0.98, epsilon=1e-6, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    trainer.compile(optimizer, dict.fromkeys(OBJECTIVES, loss))
    return trainer


class Log(keras.callbacks.Callback):
    """One line of JSON an epoch, printed and added to `path`: step, loss by objective, tokens a second, minutes left."""

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__()
        self.path, self.settings = path, settings

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        settings, seconds = self.settings, time.perf_counter() - self.began
        tokens = len(OBJECTIVES) * settings.rows * settings.length * settings.steps_per_epoch
        losses = {objective: round(float((logs or {})[f"{objective}_loss"]), 4) for objective in OBJECTIVES}
        pace = {"tokens_per_second": round(tokens / seconds), "minutes_left": round((settings.epochs - epoch - 1) * seconds / 60, 1)}
        line = json.dumps({"step": (epoch + 1) * settings.steps_per_epoch} | losses | pace)
        print(line, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def pretrain(corpus: Corpus, run: Path, settings: Settings) -> tuple[Transformer, Tokenizer]:
    """Train on `corpus`, from the start or from the run folder's backup. Leaves log.jsonl and, at the end, model/ in the run folder.

    Raises `CheckpointError` when the run folder has a finished model already.
    """
    check_target(run / "model")
    run.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(settings.seed)
    tokenizer = Tokenizer(make_vocabulary(corpus, settings.minimum_count))
    transformer = make_transformer(len(tokenizer), settings)
    trainer = make_trainer(transformer, settings)
    progress = run / "backup/training_metadata.json"
    epochs_done = json.loads(progress.read_text(encoding="utf-8"))["epoch"] if progress.exists() else 0
    trainer.fit(
        batches(corpus, tokenizer, settings, start=epochs_done * settings.steps_per_epoch),
        steps_per_epoch=settings.steps_per_epoch,
        epochs=settings.epochs,
        callbacks=[keras.callbacks.BackupAndRestore(run / "backup", delete_checkpoint=False), Log(run / "log.jsonl", settings)],
        shuffle=False,  # each draw is random already
        verbose=0,
    )
    save(transformer, tokenizer, run / "model", format="google")
    return transformer, tokenizer


# Measuring. ---------------------------------------------------------------------------------------------------------


def read_human_couplets(data: Path) -> list[Couplet]:
    """The couplets that people wrote; no training text."""
    uppers, lowers = ((data / f"s2s_couplet/train1000_{side}.txt").read_text(encoding="utf-8").split("\n") for side in ("in", "out"))
    couplets = zip(uppers, lowers, strict=True)
    return [(upper.replace(" ", ""), lower.replace(" ", "")) for upper, lower in couplets if upper.strip()]


def judge(model: Transformer, examples: Sequence[Example], batch_size: int = 32) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """For each example, the log-probability of every label and whether the model thinks it the likeliest.

    `model` is one with "mlm" as its only output, under any mask that needs no "order"; nothing is packed.
    """
    answers: dict[int, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
    for batch in by_length([len(example.token_ids) for example in examples], batch_size):
        length = min(bucket(len(examples[batch[0]].token_ids)), model.config.max_position_embeddings)
        rows = {name: [getattr(examples[index], name).tolist() for index in batch] for name in ("token_ids", "segment_ids")}
        logits = model.predict_on_batch({name: padded(each, 0, length, len(batch)) for name, each in rows.items()})
        for row, index in enumerate(batch):
            places = np.flatnonzero(examples[index].labels >= 0)
            labels, told = examples[index].labels[places], logits[row, places]
            answers[index] = (
                told[np.arange(len(places)), labels] - np.logaddexp.reduce(told, axis=1),
                told.argmax(axis=1) == labels,
            )
    return [answers[index] for index in range(len(examples))]


def evaluate(model: Transformer, tokenizer: Tokenizer, held_out: Corpus, human: Sequence[Couplet], seed: int = 1) -> dict[str, float]:
    """The numbers of the model card, each under the mask that a user would load.

    masked_accuracy: share of the tokens hidden by [MASK] (15 %, 80/10/10) told exactly; masked_character_accuracy: without
    punctuation, which is easy. left_to_right_perplexity: per token of the poem and its end.
    *_perplexity of couplets: per token of the true second half and its end, given the first. *_preference: share of the true
    second halves that are likelier than the second half, of the same length, of another couplet.
    """
    random = np.random.default_rng(seed)
    cloze = [masked(tokenizer, poem.text, random) for poem in held_out.poems]
    told = np.concatenate([right for _, right in judge(model.with_mask("encoder"), cloze)])
    hidden = np.concatenate([example.token_ids[example.labels >= 0] == tokenizer.mask_id for example in cloze])
    marks = [tokenizer.token_to_id(mark) for mark in MARKS if mark in tokenizer.vocabulary]
    character = ~np.isin(np.concatenate([example.labels[example.labels >= 0] for example in cloze]), marks)
    poems = judge(model.with_mask("lm"), [left_to_right(tokenizer, poem) for poem in held_out.poems])
    numbers = {
        "masked_accuracy": float(np.mean(told[hidden])),
        "masked_character_accuracy": float(np.mean(told[hidden & character])),
        "left_to_right_perplexity": _perplexity(poems),
    }
    answering = model.with_mask("seq2seq")
    for name, couplets in (("parallel_lines", held_out.couplets), ("human_couplets", human)):
        true = judge(answering, [seq2seq(tokenizer, couplet) for couplet in couplets])
        numbers[f"{name}_perplexity"] = _perplexity(true)
        rivals = exchange(couplets, random)
        other = judge(answering, [seq2seq(tokenizer, rival) for rival in rivals.values()])
        won = [true[index][0].sum() > likelihoods.sum() for index, (likelihoods, _) in zip(rivals, other, strict=True)]
        numbers[f"{name}_preference"] = float(np.mean(won))
    return numbers


def _perplexity(answers: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    return float(np.exp(-np.mean(np.concatenate([likelihoods for likelihoods, _ in answers]))))


def exchange(couplets: Sequence[Couplet], random: np.random.Generator) -> dict[int, Couplet]:
    """Index of a couplet -> its first half with another one's second half of the same length, where there is one."""
    by_length: dict[int, list[int]] = {}
    for index, (_, lower) in enumerate(couplets):
        by_length.setdefault(len(lower), []).append(index)
    rivals = {}
    for group in by_length.values():
        shuffled = [group[place] for place in random.permutation(len(group))]
        for index, other in zip(shuffled, shuffled[1:] + shuffled[:1], strict=True):
            if couplets[other][1] != couplets[index][1]:
                rivals[index] = (couplets[index][0], couplets[other][1])
    return rivals


# The command. -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the data, train or resume, and print the held-out numbers; or only the numbers of a finished folder."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.pretrain", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with raw_poetry/ and s2s_couplet/")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="train: folder for the log, the backups and the model")
    what.add_argument("--evaluate", type=Path, help="do not train: folder of the model to measure")
    for each in fields(Settings):
        text = f"{each.metadata['help']} (%(default)s)"
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default, help=text)
    flags = vars(parser.parse_args(arguments))
    data, run, finished = flags.pop("data"), flags.pop("run"), flags.pop("evaluate")
    settings = Settings(**flags)
    training, held_out = read_corpora(data, settings)
    sizes = {name: corpus.sizes() for name, corpus in (("training", training), ("held_out", held_out))}
    print(json.dumps({"settings": asdict(settings)} | sizes), flush=True)
    if run:
        pretrain(training, run, settings)
    model, tokenizer = load(finished or run / "model", outputs=("mlm",))
    print(json.dumps(evaluate(model, tokenizer, held_out, read_human_couplets(data), settings.seed), indent=2))


if __name__ == "__main__":
    main()
