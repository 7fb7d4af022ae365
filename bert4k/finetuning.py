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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import (
    hub,
    structured,  # noqa: F401  # by whose import Keras knows the heads of a stored model
)
from bert4k.backend import set_seed
from bert4k.checkpoints.stored import replacing
from bert4k.decoding.batches import padded
from bert4k.errors import CheckpointError
from bert4k.model import Transformer
from bert4k.pretrained import TABLES
from bert4k.progress import measured
from bert4k.recipe import recipe_of, stored_settings
from bert4k.tokenizers import Tokenizer, read_tokenizer
from bert4k.training import FGM, LearningCurves, LengthBatches, Objective, RDrop, Scored, Trainer, WarmupDecay, layer_rates, make_optimizer
from bert4k.tuning import Tuning

BEST = "best.weights.h5"


@dataclass(frozen=True)
class Encoded:
    """Texts as the model takes them: token ids and segment ids, a row each."""

    token_ids: Sequence[NDArray[np.int32]]
    segment_ids: Sequence[NDArray[np.int32]]
    pad_id: int = 0

    def lengths(self) -> list[int]:
        """The tokens of each."""
        return [len(row) for row in self.token_ids]

    def inputs(self, rows: Sequence[int], length: int) -> dict[str, NDArray[np.int32]]:
        """Those with the numbers `rows`, filled up with padding (of segment 0) to `length`."""
        columns = {"token_ids": (self.token_ids, self.pad_id), "segment_ids": (self.segment_ids, 0)}
        return {name: padded([column[row] for row in rows], fill, length, len(rows)) for name, (column, fill) in columns.items()}


def loaded(source: str, tuning: Tuning, mask: str = "encoder", outputs: Sequence[str] = ("sequence",)) -> tuple[Transformer, Tokenizer]:
    """The network of a checkpoint, as `hub.load` gives it, made ready to be tuned; its tokenizer."""
    set_seed(tuning.seed)
    network, tokenizer = hub.load(source, mask, outputs, dtype=tuning.dtype)
    if tuning.lora is not None:
        network.enable_lora(tuning.lora)
    return network, tokenizer


def body(source: str, tuning: Tuning) -> tuple[Transformer, Tokenizer, dict[str, Any], Any, Any]:
    """The network of a checkpoint under the mask encoder and its tokenizer; symbolic inputs for it, what it makes of them, [B, L, H], and
    which tokens are real, bool [B, L]."""
    network, tokenizer = loaded(source, tuning)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
    return network, tokenizer, inputs, network(inputs), ops.not_equal(inputs["token_ids"], network.config.pad_token_id)


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
) -> dict[str, float]:
    """Train `model`, on a network of so many layers, and leave it with the weights of the epoch whose `metric`, of what `score` returns, is
    the highest (or, with mode "min", the lowest); returns the numbers of that epoch. rates: learning rates of its head, as in
    `make_optimizer`. callbacks: further ones, after the score of an epoch was told."""
    trainer = Trainer(model, _objective(tuning))
    steps = max(1, tuning.epochs * len(batches) // tuning.accumulate)
    schedule = WarmupDecay(tuning.learning_rate, steps, round(tuning.warmup * steps))
    falling = layer_rates(layers, tuning.layer_decay) if tuning.layer_decay != 1 and tuning.lora is None else {}
    how: dict[str, Any] = {"weight_decay": tuning.weight_decay, "accumulate": tuning.accumulate, "ema": tuning.ema}
    trainer.compile(make_optimizer("adamw", schedule, **how, rates=(rates or {}) | falling, dtype=tuning.dtype), loss)
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


def _objective(tuning: Tuning) -> Objective:
    objective = Objective() if tuning.rdrop is None else RDrop(tuning.rdrop)
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
        # Keras stores no state of random numbers with the weights: so that of an epoch follows from its number.
        states = [each for each in self.model.non_trainable_variables if each.path.endswith("seed_generator_state")]
        for place, state in enumerate(states):
            state.assign([int(np.random.default_rng([self.batches.seed, epoch, place]).integers(2**31)), 0])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.done += 1
        self.advance(1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        left = (time.monotonic() - self.began) / max(self.done, 1) * (self.epochs - epoch - 1) * len(self.batches)
        told = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        print(f"epoch {epoch + 1} of {self.epochs}  {told}  ({left:.0f} s left)", file=sys.stderr, flush=True)


def outputs_of(model: keras.Model, encoded: Encoded, tokens: int = 8192) -> list[NDArray[np.float32]]:
    """What `model` gives for each text: a row [...] or [L, ...], padding included."""
    batches = LengthBatches(encoded.lengths(), lambda rows, length: (encoded.inputs(rows, length), 0), tokens, shuffle=False)
    found = []
    with measured(len(batches), "predicting") as advance:
        for index in range(len(batches)):
            found.append(model.predict_on_batch(batches[index][0]))
            advance(1)
    return batches.in_order(found)


# The run folder. -----------------------------------------------------------------------------------------------------------------


def finish(run: Path, model: keras.Model, network: Transformer, tokenizer: Tokenizer, labels: Sequence[str]) -> None:
    """Write what `evaluate` and `predict` need; model.keras comes last, and says that the run is finished."""
    write_json(run / "labels.json", list(labels))
    tokenizer.save(run)
    shutil.rmtree(run / "network", ignore_errors=True)
    known = (network.config.family, "google") in TABLES  # of some families there is no release in TensorFlow's format
    hub.save(network, tokenizer, run / "network", "google" if known else "huggingface")
    model.save(run / "unfinished.keras")
    (run / "unfinished.keras").replace(run / "model.keras")
    (run / BEST).unlink(missing_ok=True)
    shutil.rmtree(run / "backup", ignore_errors=True)


def finished(run: Path, recipe: str) -> tuple[keras.Model, Tokenizer, list[str], dict[str, Any]]:
    """Model, tokenizer, labels and settings of a finished run of `recipe`. Raises `CheckpointError` when there is none."""
    recipe_of(run, (recipe,))
    if not (run / "model.keras").exists():
        raise CheckpointError(f"The run {run} is not finished. Give `bert4k train {recipe}` the same settings again, and it goes on.")
    model = keras.saving.load_model(run / "model.keras", compile=False)
    return (
        model,
        read_tokenizer(run),
        json.loads((run / "labels.json").read_text(encoding="utf-8")),
        stored_settings(run / "settings.json"),
    )


def write_json(path: Path, value: Any) -> None:
    """`value` as a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """`text` as a UTF-8 file, whole or not at all."""
    with replacing(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8")
