"""A task's own score among Keras' numbers, and learning curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError


class Scored(keras.callbacks.Callback):
    """Adds what `score()` returns, numbers by name, to the numbers of every epoch.

    Callbacks after this one know them, so that the best epoch is kept, and training ends, by the task's own score, with what Keras has:

        [Scored(score), keras.callbacks.EarlyStopping("f1", mode="max", patience=3, restore_best_weights=True, start_from_epoch=0)]

    Put `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)` before it to score (and keep) averaged weights.
    """

    def __init__(self, score: Callable[[], dict[str, float]]) -> None:
        super().__init__()
        self.score = score

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self.score())


class LearningCurves(keras.callbacks.Callback):
    """Writes metrics.jsonl, a line each epoch and, of the loss, each `every` steps, and draws curves.png of them, into `folder`.

    A run that goes on adds to the lines of the epochs that were finished. Raises `CheckpointError` when the folder cannot be written to."""

    def __init__(self, folder: str | Path, every: int = 50) -> None:
        super().__init__()
        self.folder, self.every = Path(folder), every
        self.rows: list[dict[str, Any]] = []
        self.step = 0

    def read(self) -> list[dict[str, Any]]:
        """The lines that are there, up to the end of the last epoch."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        rows = [json.loads(line) for line in lines]
        ends = [place for place, row in enumerate(rows) if "epoch" in row]
        return rows[: ends[-1] + 1] if ends else []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.rows = self.read()
        self.step = self.rows[-1]["step"] if self.rows else 0
        if (self.folder / "metrics.jsonl").exists():
            with replacing(self.folder / "metrics.jsonl") as (temporary,):
                temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        if self.step % self.every == 0:
            self._add({"step": self.step, **{name: float(value) for name, value in (logs or {}).items()}})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._add({"step": self.step, "epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})
        self._draw()

    def _add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise CheckpointError(f"Cannot write to {self.folder} ({error.strerror}). Make room, or choose another folder.") from error

    def _draw(self) -> None:
        from matplotlib.figure import Figure

        epochs = [row for row in self.rows if "epoch" in row]
        names = [name for name in epochs[-1] if name not in ("step", "epoch")]
        losses = [name for name in names if "loss" in name]
        figure = Figure(figsize=(10, 4), layout="constrained")
        for axes, title, kept in zip(
            figure.subplots(1, 2), ("loss", "scores"), (losses, [name for name in names if name not in losses]), strict=True
        ):
            for name in kept:
                rows = [row for row in (self.rows if name == "loss" else epochs) if name in row]
                axes.plot([row["step"] for row in rows], [row[name] for row in rows], label=name, marker=".")
            axes.set(title=title, xlabel="steps")
            axes.grid(alpha=0.3)
            if kept:
                axes.legend()
        with replacing(self.folder / "curves.png") as (temporary,):
            figure.savefig(temporary, format="png", dpi=110)
