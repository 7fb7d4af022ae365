"""A training in a folder: it starts, is killed at any moment, goes on, and ends with a checkpoint in Google's format.

Several processes may train together (JAX): all compute, and the first one writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from bert4k.backend import agreed, generator_states, parts, process, set_generator_states
from bert4k.errors import ConfigError
from bert4k.pretraining import snapshots
from bert4k.pretraining.journal import Journal, write_curves, write_table
from bert4k.pretraining.packing import Batch, join
from bert4k.pretraining.stream import OBJECTIVES, ON_PAIRS, Mixture, Shares, Source, Stream
from bert4k.pretraining.trainer import SWAPPED, Pretrainer, as_fit_takes, peak_flops
from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Pace:
    """How long to train, and how often to do what, in steps of the optimizer."""

    steps: int
    log_every: int = 50
    snapshot_every: int = 500
    evaluate_every: int = 1000
    keep: int = 2
    minutes: float | None = None  # stop after so long, with a snapshot; a later call goes on

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "snapshot_every", "evaluate_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1.")


class Fed(keras.utils.PyDataset):
    """Batches as Keras feeds them, by their number: of each, the part that falls to this process.

    Not a generator: Keras reads a few batches ahead, for their shapes, and would drop them on TensorFlow's strategies."""

    def __init__(self, batch: Callable[[int], Batch], groups: int, count: int | None = None) -> None:
        super().__init__()
        self.batch, self.count = batch, count
        number, processes = process()
        self.part = slice(number * groups // processes, (number + 1) * groups // processes)

    @property
    def num_batches(self) -> int | None:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return keras.tree.map_structure(lambda values: values[self.part], as_fit_takes(self.batch(index)))


class Evaluation:
    """Held-out texts in batches, the same at every call and for any number of groups, and what a model makes of them."""

    def __init__(
        self,
        sources: Sequence[Source],
        tokenizer: Tokenizer,
        mixture: Mixture,
        shares: Shares,
        groups: int,
        rows: int,
        length: int,
        batches: int,
        seed: int,
    ) -> None:
        """batches: the most of each source, of one group each; `groups` of them are computed at once."""
        ratios = {name for name, ratio in mixture.ratios().items() if ratio}
        singles: dict[str, list[Batch]] = {}
        predictions = 0
        for source in sources:
            on_pairs = bool(source.shards.counts["pairs"])
            wanted = {name: float(name in ratios and (name in ON_PAIRS) == on_pairs) for name in OBJECTIVES}
            if not any(wanted.values()):
                continue
            stream = Stream([source], tokenizer, Mixture(**wanted), shares, 1, rows, length, seed)
            count = max(1, min(batches, round(stream.epoch_steps * sum(wanted.values()))))
            singles[source.name] = [stream.batch(step) for step in range(count)]
            predictions, shape = max(predictions, stream.shape.predictions), stream.shape
        # One shape for all: one graph.
        self.batches: dict[str, Fed] = {}
        for name, found in singles.items():
            whole = replace(shape, groups=groups, predictions=predictions)
            joined = [join(found[begin : begin + groups], whole) for begin in range(0, len(found), groups)]
            self.batches[name] = Fed(joined.__getitem__, groups, len(joined))

    def __call__(self, pretrainer: Pretrainer) -> dict[str, float]:
        """`{source}/{objective}_loss`, `_accuracy` and `_count`: mean over what is told, natural logarithm."""
        numbers: dict[str, float] = {}
        for name, batches in self.batches.items():
            logs = pretrainer.evaluate(batches, verbose=0, return_dict=True)
            told = [objective for objective in (*OBJECTIVES, SWAPPED) if logs.get(f"{objective}_count")]
            numbers |= {f"{name}/{each}_{kind}": float(logs[f"{each}_{kind}"]) for each in told for kind in ("loss", "accuracy", "count")}
        return numbers


def train(
    run: Path,
    pretrainer: Pretrainer,
    stream: Stream,
    pace: Pace,
    evaluation: Evaluation | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    tell: Callable[[dict[str, Any]], None] = lambda row: None,
) -> int:
    """Train a compiled `pretrainer` on `stream` from the newest snapshot in the run folder, or from the start; returns the step it reached.

    A step is one of the optimizer's; with accumulated gradients it takes several batches. Leaves log.jsonl, evaluation.jsonl, curves.csv,
    curves.png and snapshots/. `tell` gets every row of the log. Raises `ConfigError` when the devices cannot share a batch evenly."""
    groups, devices = stream.shape.groups, parts()
    if groups % devices or groups % process()[1]:
        raise ConfigError(f"A batch of {groups} groups cannot be shared by {devices} devices. Give a multiple of {devices} as groups.")
    if process()[0] == 0:
        snapshots.clear_unfinished(run)
        snapshots.clear_unfinished(run / "snapshots")
    pretrainer.optimizer.build(pretrainer.trainable_variables)
    keeper = Keeper(run, pretrainer, stream, pace, evaluation, snapshots.restore(run / "snapshots", pretrainer), tell)
    if keeper.step < pace.steps:
        keeper.begin()
    while keeper.step < pace.steps and not keeper.out_of_time:
        # An epoch of Keras is one line of the log, whose metrics are means over the epoch. Epochs of one call are of one length, so the
        # first and the last line may take a call of their own.
        done, left = keeper.step % pace.log_every, pace.steps - keeper.step
        size = min(pace.log_every - done, left)
        lines = left // size if not done else 1
        epoch = keeper.step // pace.log_every
        with _raw_weights(pretrainer.optimizer):
            pretrainer.fit(
                Fed(_batches(stream, keeper.step * keeper.batches), groups),
                initial_epoch=epoch,
                epochs=epoch + lines,
                steps_per_epoch=size * keeper.batches,
                callbacks=[keeper, *callbacks],
                verbose=0,
                shuffle=False,
            )
    return keeper.step


def _batches(stream: Stream, start: int) -> Callable[[int], Batch]:
    """The batches from `start` on, by their number.

    With the first, random generators are put back to where they were: on PyTorch, Keras draws a number to feed batches in no random order,
    and how often a training was interrupted is not to change what dropout draws."""
    states = generator_states()

    def batch(number: int) -> Batch:
        if number == 0:
            set_generator_states(states)
        return stream.batch(start + number)

    return batch


@contextmanager
def _raw_weights(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """`fit` would put the moving averages in the place of the weights whenever it returns; that is for the end of the training."""
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


class Keeper(keras.callbacks.Callback):
    """Keeps the log, the snapshots and the measurements of a run, each at its own pace."""

    def __init__(
        self,
        run: Path,
        pretrainer: Pretrainer,
        stream: Stream,
        pace: Pace,
        evaluation: Evaluation | None,
        start: int,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self.run, self.stream, self.pace, self.step, self.tell = run, stream, pace, start, tell
        self.evaluation = evaluation if evaluation and evaluation.batches else None
        self.set_model(pretrainer)
        # That of mixed_float16 is one that scales the loss, round the other.
        optimizer: Any = getattr(pretrainer.optimizer, "inner_optimizer", pretrainer.optimizer)
        self.batches = optimizer.gradient_accumulation_steps or 1  # of a step
        self.finish = pretrainer.optimizer.finalize_variable_values
        self.writes = process()[0] == 0
        self.log = Journal(run / "log.jsonl", not self.writes)
        self.measured = Journal(run / "evaluation.jsonl", not self.writes)
        self.log.go_back_to(start)
        self.measured.go_back_to(start)
        self.out_of_time = False
        self.started = time.monotonic()

    def begin(self) -> None:
        """Measure the machine, and a fresh model."""
        self.peak = peak_flops(self.model.transformer.parts["embeddings/norm"].compute_dtype) * parts()
        if not self.measured.rows:
            self._measure()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        before, pace = self.step, self.pace
        self.step += self.params["steps"] // self.batches
        self._log({name: float(value) for name, value in (logs or {}).items()}, (time.perf_counter() - self.began) / (self.step - before))
        self.out_of_time = pace.minutes is not None and agreed(time.monotonic() - self.started > 60 * pace.minutes)
        finished = self.step == pace.steps
        if finished:
            self.finish(self.model.trainable_variables)
            for variable in self.model.trainable_variables:  # a copy: JAX would give the weights' memory away, and the averages are in it
                variable.assign(keras.ops.convert_to_numpy(variable))
        if finished or self.out_of_time or self.step // pace.evaluate_every > before // pace.evaluate_every:
            self._measure()
        if finished or self.out_of_time or self.step // pace.snapshot_every > before // pace.snapshot_every:
            self._snapshot()
        self.model.stop_training = self.out_of_time

    def _log(self, logs: dict[str, float], seconds: float) -> None:
        """Add a line to the log; seconds: of a step."""
        told = [name for name in (*OBJECTIVES, SWAPPED) if logs.get(f"{name}_count")]
        flops = self.model.flops() * self.batches / seconds
        row = {
            "step": self.step,
            "tokens": self._tokens(),
            "epoch": round(self.step * self.batches / self.stream.epoch_steps, 4),
            "loss": round(logs["loss"], 4),
            **{f"{name}_loss": round(logs[f"{name}_loss"], 4) for name in told},
            "learning_rate": float(f"{float(self.model.optimizer.learning_rate):.4g}"),
            "tokens_per_second": round(self.stream.shape.tokens * self.batches / seconds),
            "gigaflops": round(flops / 1e9),
            "utilisation": round(flops / self.peak, 3),
            "minutes_left": round((self.pace.steps - self.step) * seconds / 60, 1),
        }
        self.log.add(row)
        if self.writes:
            self.tell(row)

    def _measure(self) -> None:
        if self.evaluation:
            states = generator_states()
            row = {"step": self.step, "tokens": self._tokens()} | self.evaluation(self.model)
            set_generator_states(states)
            self.measured.add({name: round(value, 5) if isinstance(value, float) else value for name, value in row.items()})
        if not self.writes:
            return
        rows = {row["step"]: row for row in self.log.rows}
        for row in self.measured.rows:
            rows[row["step"]] = {**rows.get(row["step"], {}), **row}
        write_table([rows[step] for step in sorted(rows)], self.run / "curves.csv")
        write_curves(self.log.rows, self.measured.rows, self.run / "curves.png")

    def _snapshot(self) -> None:
        if self.writes:
            snapshots.write(self.run / "snapshots", self.model, self.step, self.pace.keep)

    def _tokens(self) -> int:
        """Tokens seen so far."""
        return self.step * self.batches * self.stream.shape.tokens
