"""What every fine-tuning recipe shares: its settings, the network under its head, the fit, the run folder.

A recipe (tasks/classify.py) is a page with the same named parts: Settings, read, encode, build, score; and `train`, `evaluate` and
`predict`, which the command line calls.

A run folder holds settings.json, labels.json, model.keras with vocab.txt, network/ (the network without its head, as a checkpoint),
metrics.jsonl, curves.png and report.md. A run that was killed goes on from its last epoch with the same command.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import (
    hub,
    structured,  # noqa: F401  # by whose import Keras knows the heads of a stored model
)
from bert4k.backend import jit_compile, seed_dropout, set_seed, shapes_are_compiled
from bert4k.checkpoints.stored import replacing
from bert4k.decoding.batches import bucket, padded
from bert4k.errors import CheckpointError, ConfigError
from bert4k.model import Transformer
from bert4k.pretrained import TABLES
from bert4k.progress import measured
from bert4k.recipe import recipe_of, stored_settings
from bert4k.telling import tell_cuts
from bert4k.tokenizers import Tokenizer, read_tokenizer
from bert4k.training import FGM, LearningCurves, LengthBatches, Objective, RDrop, Scored, Trainer, WarmupDecay, layer_rates, make_optimizer
from bert4k.tuning import Tuning

BEST = "best.weights.h5"


class Batchable(Protocol):
    """What becomes batches by length: `Encoded`, and what recipes have of their own."""

    def lengths(self) -> list[int]:
        """The tokens of each."""

    def inputs(self, rows: Sequence[int], length: int) -> Any:
        """Those with the numbers `rows`, filled up to `length`, as the model takes them."""


@dataclass(frozen=True)
class Encoded:
    """Texts, or pairs of texts, as the model takes them: token ids and segment ids, a row each."""

    token_ids: Sequence[NDArray[np.int32]]
    segment_ids: Sequence[NDArray[np.int32]]
    pad_id: int = 0

    def lengths(self) -> list[int]:
        """The tokens of each."""
        return [len(row) for row in self.token_ids]

    def inputs(self, rows: Sequence[int | None], length: int) -> dict[str, NDArray[np.int32]]:
        """Those with the numbers `rows`, filled up with padding (of segment 0) to `length`; of None there is nothing but padding."""
        columns = {"token_ids": (self.token_ids, self.pad_id), "segment_ids": (self.segment_ids, 0)}
        return {
            name: padded([[] if row is None else column[row] for row in rows], fill, length, len(rows))
            for name, (column, fill) in columns.items()
        }


@dataclass(frozen=True)
class Groups:
    """Texts in groups, such as the choices of a question, as `bert4k.training.Grouped` takes them: the numbers of the texts of each."""

    texts: Encoded
    members: Sequence[Sequence[int]]

    @property
    def most(self) -> int:
        """Texts of the largest group (n)."""
        return max(map(len, self.members))

    def lengths(self) -> list[int]:
        """The tokens of the longest text of each."""
        return [max(len(self.texts.token_ids[text]) for text in texts) for texts in self.members]

    def inputs(self, rows: Sequence[int], length: int) -> dict[str, NDArray[np.int32]]:
        """The groups with the numbers `rows`, [B, n, L]; what a smaller group lacks is padding."""
        texts = [text for row in rows for text in (*self.members[row], *[None] * (self.most - len(self.members[row])))]
        return {name: flat.reshape(len(rows), self.most, length) for name, flat in self.texts.inputs(texts, length).items()}


def encoded(texts: Sequence[str | tuple[str, str]], tokenizer: Tokenizer, longest: int) -> Encoded:
    """`[CLS] text [SEP]`, or `[CLS] text [SEP] pair [SEP]`, cut to fit; says how many were cut."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = Encoded(*tokenizer.unpadded(texts, longest), tokenizer.pad_id)
    tell_cuts(sum(len(getattr(each.message, "cut", ())) for each in caught), len(texts), "texts", longest)
    return found


def encoded_with_places(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> tuple[Encoded, list[list[tuple[int, int]]]]:
    """`encoded`, and where in its text each token stands: (start, end), (0, 0) for added ones."""
    rows = [tokenizer.encode(text, max_length=longest) for text in texts]
    tell_cuts(sum(row.cut > 0 for row in rows), len(texts), "texts", longest)
    found = Encoded([row.ids for row in rows], [np.asarray(row.segment_ids) for row in rows], tokenizer.pad_id)
    return found, [list(row.offsets) for row in rows]


def in_tokens(places: Sequence[tuple[int, int]]) -> Callable[[int, int], tuple[int, int] | None]:
    """A function from a span of characters (start, end) to that of tokens (first, last + 1), given where each token stands; it gives None
    for a span that tokens do not begin and end with."""
    begins = {start: at for at, (start, end) in reversed(list(enumerate(places))) if end > start}
    ends = {end: at + 1 for at, (start, end) in enumerate(places) if end > start}
    return lambda start, end: (begins[start], ends[end]) if start in begins and end in ends else None


def loaded(source: str, tuning: Tuning, mask: str = "encoder", outputs: Sequence[str] = ("sequence",)) -> tuple[Transformer, Tokenizer]:
    """The network of a checkpoint, as `hub.load` gives it, made ready to be tuned; its tokenizer."""
    set_seed(tuning.seed)
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), tuning.network_dropout)
    network, tokenizer = hub.load(source, mask, outputs, dtype=tuning.dtype, **({} if tuning.network_dropout is None else dropout))
    if tuning.scratch:
        if tuning.lora is not None:
            raise ConfigError("LoRA changes weights that were learnt; random ones are kept as they are. Leave out lora, or scratch.")
        network = type(network)(network.config, network.mask, network.output_kinds, dtype=tuning.dtype)
    if tuning.lora is not None:
        network.enable_lora(tuning.lora)
    return network, tokenizer


def body(source: str, tuning: Tuning) -> tuple[Transformer, Tokenizer, dict[str, Any], Any, Any]:
    """The network of a checkpoint under the mask encoder and its tokenizer; symbolic inputs for it, what it makes of them, [B, L, H], and
    which tokens are real, bool [B, L]."""
    network, tokenizer = loaded(source, tuning)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
    return network, tokenizer, inputs, network(inputs), ops.not_equal(inputs["token_ids"], network.config.pad_token_id)


def within_text(inputs: dict[str, Any], real: Any, tokenizer: Tokenizer) -> Any:
    """Which tokens are of the text, bool [B, L]: neither padding nor [CLS] or [SEP]. inputs, real: as `body` gives them."""
    ids = inputs["token_ids"]
    return ops.logical_and(real, ops.logical_and(ops.not_equal(ids, tokenizer.cls_id), ops.not_equal(ids, tokenizer.sep_id)))


def fit(
    run: Path,
    model: keras.Model,
    layers: int,
    batches: LengthBatches,
    loss: keras.losses.Loss,
    score: Callable[[], dict[str, float]],
    metric: str,
    tuning: Tuning,
    rates: dict[str, float] | None = None,
    mode: str = "max",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    divergence: str | None = "softmax",
) -> dict[str, float]:
    """Train `model`, on a network of so many layers, and leave it with the weights of the epoch whose `metric`, of what `score` returns, is
    the highest (or, with mode "min", the lowest); returns the numbers of that epoch. rates: learning rates of its head, as in
    `make_optimizer`. callbacks: further ones, after the score of an epoch was told. divergence: how R-Drop is to compare two outputs; None
    for outputs that are no logits."""
    trainer = Trainer(model, _objective(tuning, divergence))
    steps = max(1, tuning.epochs * len(batches) // tuning.accumulate)
    schedule = WarmupDecay(tuning.learning_rate, steps, round(tuning.warmup * steps))
    falling = layer_rates(layers, tuning.layer_decay) if tuning.layer_decay != 1 and tuning.lora is None else {}
    how: dict[str, Any] = {"weight_decay": tuning.weight_decay, "accumulate": tuning.accumulate, "ema": tuning.ema}
    optimizer = make_optimizer("adamw", schedule, **how, rates=(rates or {}) | falling, dtype=tuning.dtype)
    trainer.compile(optimizer, loss, jit_compile=jit_compile())
    optimizer.build(trainer.trainable_variables)  # TensorFlow traces a step a second time if the first one has made variables
    curves, best, choose = LearningCurves(run), run / BEST, {"max": max, "min": min}[mode]
    before = [row for row in curves.read() if metric in row] if best.exists() else []
    threshold = choose((row[metric] for row in before), default=None)
    kept = {"mode": mode, "save_best_only": True, "save_weights_only": True, "initial_value_threshold": threshold}
    backup = keras.callbacks.BackupAndRestore(run / "backup", delete_checkpoint=False)  # until the run is finished
    with measured(len(batches) * tuning.epochs, "training") as advance:
        own: list[Any] = [
            Scored(score),
            curves,
            keras.callbacks.ModelCheckpoint(best, metric, **kept),
            _Course(batches, tuning.epochs, advance),
            *callbacks,
        ]
        epochs = tuning.epochs
        if tuning.patience is not None:
            waiting = _Patience(metric, mode, tuning.patience, before)
            if waiting.over(trainer):  # the run was killed between its last epoch and its end
                epochs = int(before[-1]["epoch"])
            own.append(waiting)
        # What goes on after a kill are the weights themselves, not their average, which is in the model while it is judged.
        own = [*own, backup] if tuning.ema is None else [backup, keras.callbacks.SwapEMAWeights(True), *own]
        trainer.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=own)
    trainer.load_weights(best)
    return choose((row for row in curves.rows if metric in row), key=lambda row: row[metric])


def _objective(tuning: Tuning, divergence: str | None) -> Objective:
    if tuning.rdrop is not None and divergence is None:
        raise ConfigError(f"R-Drop compares probabilities, and what is trained here has none. Leave out --tuning.rdrop {tuning.rdrop}.")
    objective = Objective() if tuning.rdrop is None else RDrop(tuning.rdrop, divergence=str(divergence))
    return objective if tuning.fgm is None else FGM(objective, tuning.fgm)


class _Patience(keras.callbacks.EarlyStopping):
    """Stops after so many epochs without a better score, those before the run was killed among them."""

    def __init__(self, metric: str, mode: str, patience: int, before: Sequence[dict[str, Any]]) -> None:
        super().__init__(metric, mode=mode, patience=patience)
        self.before = before

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        for row in self.before:
            self.on_epoch_end(row["epoch"] - 1, row)

    def over(self, model: keras.Model) -> bool:
        """Whether what came before was long enough."""
        self.set_model(model)
        self.on_train_begin()
        return bool(model.stop_training)


class _Course(keras.callbacks.Callback):
    """Tells batches and dropout the number of their epoch, which is not 0 at first when a run goes on, and people how far it is."""

    def __init__(self, batches: LengthBatches, epochs: int, advance: Callable[[int], object]) -> None:
        super().__init__()
        self.batches, self.epochs, self.advance = batches, epochs, advance

    def on_train_begin(self, logs: Any = None) -> None:
        self.began, self.done = time.monotonic(), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.batches.begin(epoch)
        seed_dropout(self.model, self.batches.seed, epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        self.advance(1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        left = (time.monotonic() - self.began) / max(self.done, 1) * (self.epochs - epoch - 1) * len(self.batches)
        told = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        print(f"epoch {epoch + 1} of {self.epochs}  {told}  ({left:.0f} s left)", file=sys.stderr, flush=True)


def outputs_of(
    model: keras.Model, encoded: Batchable, tokens: int = 8192, read: Callable[[NDArray[np.float32]], Sequence[Any]] | None = None
) -> list[Any]:
    """What `model` gives for each text: a row [...] or [L, ...], padding included; or what `read` makes of the rows of a batch [B, ...],
    something for each, so that large ones are never kept together."""
    if not encoded.lengths():
        return []
    lengths = encoded.lengths()
    found: list[Any] = [None] * len(lengths)
    if jit_compile() is False:
        model.jit_compile = False
    with measured(len(lengths), "predicting") as advance:
        for members, inputs in (_in_few_shapes if shapes_are_compiled() else _in_their_lengths)(encoded, max(tokens, *lengths)):
            rows = model.predict_on_batch(inputs)[: len(members)]
            for number, row in zip(members, rows if read is None else read(rows), strict=True):
                found[int(number)] = row
            advance(len(members))
    return found


def _in_few_shapes(encoded: Batchable, tokens: int) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """Numbers of texts and inputs of batches of at most so many tokens, in few shapes, filled up with copies."""
    lengths = encoded.lengths()
    while tokens > 256 and tokens // 2 >= sum(lengths):  # a handful shall not cost what a whole batch does
        tokens //= 2
    tokens, most = max(tokens, *lengths), bucket(len(lengths))
    batches = LengthBatches(lengths, lambda rows, length: (encoded.inputs(rows, length), 0), tokens, most_rows=most, shuffle=False)
    return ((members, batches[index][0]) for index, (_, members) in enumerate(batches.batches))


def _in_their_lengths(encoded: Batchable, tokens: int) -> Iterator[tuple[NDArray[np.int64], Any]]:
    """The same with as little padding as there can be: texts of about the same length, as long as the longest of them."""
    lengths = np.array(encoded.lengths())
    order, begin = np.argsort(lengths, kind="stable"), 0
    while begin < len(order):
        # Of the texts that follow, so many that they fit if each is as long as the last of them.
        end = begin + int(np.sum(np.arange(1, len(order) - begin + 1) * lengths[order[begin:]] <= tokens))
        yield order[begin:end], encoded.inputs(order[begin:end].tolist(), int(lengths[order[end - 1]]))
        begin = end


# The run folder. -----------------------------------------------------------------------------------------------------------------


def finish(run: Path, model: keras.Model, network: Transformer | None, tokenizer: Tokenizer | None, labels: Sequence[Any]) -> None:
    """Write what `evaluate` and `predict` need; model.keras comes last, and says that the run is finished. network, tokenizer: None in a
    model that is not on a checkpoint. labels: what the recipe has to know of its training examples, to read its model's answers."""
    write_json(run / "labels.json", list(labels))
    if network is not None and tokenizer is not None:
        tokenizer.save(run)
        shutil.rmtree(run / "network", ignore_errors=True)
        known = (network.config.family, "google") in TABLES  # of some families there is no release in TensorFlow's format
        hub.save(network, tokenizer, run / "network", "google" if known else "huggingface")
    model.save(run / "unfinished.keras")
    (run / "unfinished.keras").replace(run / "model.keras")
    (run / BEST).unlink(missing_ok=True)
    shutil.rmtree(run / "backup", ignore_errors=True)


def finished(run: Path, recipe: str) -> tuple[keras.Model, Tokenizer, list[Any], dict[str, Any]]:
    """Model, tokenizer, labels and settings of a finished run of `recipe`. Raises `CheckpointError` when there is none."""
    model, labels, settings = finished_model(run, recipe)
    return model, read_tokenizer(run), labels, settings


def finished_model(run: Path, recipe: str) -> tuple[keras.Model, list[Any], dict[str, Any]]:
    """As `finished`, of a run that may have no tokenizer."""
    recipe_of(run, (recipe,))
    if not (run / "model.keras").exists():
        raise CheckpointError(f"The run {run} is not finished. Give `bert4k train {recipe}` the same settings again, and it goes on.")
    return *_stored_model(run), stored_settings(run / "settings.json")


def read_model(folder: Path) -> tuple[keras.Model, Tokenizer, list[Any]]:
    """Model, tokenizer and labels that `finish` has written: of a run, or of a part of one that trains several models."""
    model, labels = _stored_model(folder)
    return model, read_tokenizer(folder), labels


def _stored_model(folder: Path) -> tuple[keras.Model, list[Any]]:
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    return model, json.loads((folder / "labels.json").read_text(encoding="utf-8"))


def evaluation_folder(run: Path, path: Path) -> Path:
    """Where a run keeps how it did on a file: evaluation/NAME/."""
    folder = run / "evaluation" / path.name.split(".")[0]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, value: Any) -> None:
    """`value` as a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """`text` as a UTF-8 file, whole or not at all."""
    with replacing(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8")
