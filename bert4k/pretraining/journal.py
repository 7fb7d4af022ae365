"""What a run leaves to look at: lines of JSON while it goes, a table (CSV) and learning curves (PNG) made of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError

Row = dict[str, Any]


class Journal:
    """A file of JSON lines, each with a "step". `rows` are those in it, which `add` and `go_back_to` change with the file; one that only
    `reads` leaves the file to another process."""

    def __init__(self, path: Path, reads: bool = False) -> None:
        self.path, self.reads = path, reads
        self.rows: list[Row] = []
        if path.exists():
            # "replace": a killed process may have left half of a character.
            for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    self.rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue  # the end of the file, or a line that a killed process left unfinished

    def add(self, row: Row) -> None:
        """Append a row to the file. Raises `CheckpointError` when it cannot be written."""
        self.rows.append(row)
        if self.reads:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as error:
            raise CheckpointError(f"Cannot write {self.path} ({error.strerror}). Make room and start again: the run goes on.") from error

    def go_back_to(self, step: int) -> None:
        """Forget the rows after `step`: the run that goes on from there writes them again."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        if self.path.exists() and not self.reads:
            with replacing(self.path) as (temporary,):
                temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows), encoding="utf-8")


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Rows as CSV, with a column for every key that occurs."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as (temporary,), temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_curves(training: Sequence[Row], evaluation: Sequence[Row], path: Path) -> None:
    """Learning curves over the tokens seen: the loss of every objective; accuracy and perplexity on held-out text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    figure: Figure = pyplot.figure(figsize=(15, 4.6), layout="constrained")
    losses, accuracy, perplexity = figure.subplots(1, 3)
    of_training = [key for key in _keys(training) if key.endswith("_loss") and "/" not in key]
    _lines(losses, training, of_training, lambda key: key.removesuffix("_loss"))
    losses.set(title="training", ylabel="loss (natural logarithm)")
    # Sentence order asks for masked words too, in other texts: one of the two says enough.
    of_cloze = _ending(evaluation, "/masked_accuracy") or _ending(evaluation, "/sentence_order_accuracy")
    _lines(accuracy, evaluation, of_cloze, lambda key: key.removesuffix("_accuracy").replace("/", ", "))
    accuracy.set(title="held-out text: masked tokens told exactly", ylabel="share")
    shifted = _ending(evaluation, "left_to_right_loss", "pairs_loss")
    _lines(perplexity, evaluation, shifted, lambda key: key.removesuffix("_loss").replace("/", ", "), math.exp)
    perplexity.set(title="held-out text: told token by token", ylabel="perplexity", yscale="log")
    for axes in (losses, accuracy, perplexity):
        axes.set_xlabel("tokens seen, millions")
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend(fontsize=7)
    with replacing(path) as (temporary,):
        figure.savefig(temporary, format="png", dpi=110)
    pyplot.close(figure)


def _ending(rows: Iterable[Row], *ends: str) -> list[str]:
    return [key for key in _keys(rows) if key.endswith(ends)]


def _keys(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _lines(axes: Any, rows: Sequence[Row], keys: Sequence[str], label: Any, transform: Any = float) -> None:
    for key in keys:
        points = [(row["tokens"] / 1e6, transform(row[key])) for row in rows if key in row]
        axes.plot(*zip(*points, strict=True), label=label(key), linewidth=1.2, marker="." if len(points) < 30 else None, markersize=4)
