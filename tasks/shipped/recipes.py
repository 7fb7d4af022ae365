"""What the recipes reach on real data with a checkpoint, and with the same network from random weights.

    python -m bert4k.tasks.shipped.recipes wenbai --data ../shared/data --out recipes.json

Every row is `bert4k train RECIPE` with a few settings, on the data set's own train and dev files; the best epoch on dev is what is told,
as for published dev scores, and test files are not touched. Every run is in the file, with its score, epoch and seconds.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4k.hub import locate
from bert4k.tasks.shipped import results
from bert4k.tuning import Tuning

Files = tuple[Path, Path]  # to learn from, to be judged on
STARTS = ("checkpoint", "scratch")


def lines_of(path: Path) -> list[str]:
    """The lines of a file, plain or gzipped."""
    with gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file:
        return [line.rstrip("\r\n") for line in file]


def as_they_are(train: str, dev: str) -> Callable[[Path, Path], Files]:
    """Files that the recipe reads itself."""
    return lambda data, place: (data / train, data / dev)


def changed(train: str, dev: str, change: Callable[[str], str], head: str = "", suffix: str = ".txt") -> Callable[[Path, Path], Files]:
    """Files of which every line is changed, below the line `head` where there is one."""

    def prepare(data: Path, place: Path) -> Files:
        made = place / f"train{suffix}", place / f"dev{suffix}"
        for path, name in zip(made, (train, dev), strict=True):
            lines = [head] * bool(head) + [change(line) for line in lines_of(data / name)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return made

    return prepare


def without_place(line: str) -> str:
    """`科0<TAB>O`, a character with its place in the word, to `科<TAB>O`."""
    token, tab, tag = line.partition("\t")
    return f"{token[:1]}{tab}{tag}"


def three_columns(line: str) -> str:
    """`id||text||pair||score` to a table row."""
    return "\t".join(cell.replace("\t", " ") for cell in line.split("||")[1:])


@dataclass(frozen=True)
class Row:
    """A data set, the recipe that learns it and how, and by which of the recipe's scores it is told."""

    recipe: str
    metric: str
    prepare: Callable[[Path, Path], Files]
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "resume": Row("ner", "f1", as_they_are("ner_resume/train.char.bmes.gz", "ner_resume/dev.char.bmes"), 6),
    "weibo": Row(
        "ner",
        "f1",
        changed("ner_weibo/weiboNER_2nd_conll.train.gz", "ner_weibo/weiboNER_2nd_conll.dev", without_place),
        10,
    ),
    "cluener": Row("ner", "f1", as_they_are("ner_cluener/train.jsonl.gz", "ner_cluener/dev.jsonl"), 4),
    "sts_b_zh": Row(
        "similarity",
        "spearman",
        changed("sts_b_zh/cnsd-sts-train.txt.gz", "sts_b_zh/cnsd-sts-dev.txt", three_columns, "text\tpair\tlabel", ".tsv"),
        4,
        {"kind": "bi"},
    ),
    "thucnews": Row(
        "classify",
        "accuracy",
        changed("thucnews_headlines/train.txt.gz", "thucnews_headlines/dev.txt.gz", str, "text\tlabel", ".tsv"),
        2,
        {"longest": 48},
    ),
}


def run(row: Row, files: Files, model: str, start: str, seed: int, rate: float, dtype: str) -> dict[str, Any]:
    """One training; its best score on dev, in percent."""
    keras.utils.clear_session()
    recipe, began = importlib.import_module(f"bert4k.tasks.{row.recipe}"), time.perf_counter()
    tuning = Tuning(learning_rate=rate, epochs=row.epochs, seed=seed, dtype=dtype, scratch=start == "scratch")
    with tempfile.TemporaryDirectory() as place:
        train, dev = files
        settings = recipe.Settings(run=Path(place) / "run", train=[train], dev=dev, model=model, tuning=tuning, **row.settings)
        settings.run.mkdir()
        scores = recipe.train(settings)
    return {
        "start": start,
        "seed": seed,
        row.metric: 100 * scores[row.metric],
        "epoch": scores.get("epoch"),
        "seconds": time.perf_counter() - began,
    }


def measure(name: str, data: Path, model: str, seeds: Sequence[int], rate: float, dtype: str) -> dict[str, Any]:
    """All runs of a data set, and the mean and the spread of each start."""
    row, runs = ROWS[name], []
    with tempfile.TemporaryDirectory() as place:
        files = row.prepare(data, Path(place))
        for start in STARTS:
            for seed in seeds:
                runs.append(run(row, files, model, start, seed, rate, dtype))
                print(json.dumps({name: results.rounded(runs[-1], 4)}), flush=True)
    found: dict[str, Any] = {"recipe": row.recipe, "metric": row.metric, "epochs": row.epochs, "settings": row.settings, "rate": rate}
    for start in STARTS:
        scores = [each[row.metric] for each in runs if each["start"] == start]
        found[start] = {"mean": float(np.mean(scores)), "spread": float(np.ptp(scores)), "of_seeds": scores}
    return found | {"dtype": dtype, "runs": runs}


def table(found: dict[str, Any]) -> str:
    """Markdown: a line for each data set."""
    lines = ["| data | recipe | dev | from the checkpoint | from scratch | seconds a run |", "|---|---|---|---|---|---|"]
    for name in (each for each in ROWS if each in found):
        row = found[name]
        scores = [f"{row[start]['mean']:.1f} ± {row[start]['spread'] / 2:.1f}" for start in STARTS]
        seconds = np.mean([each["seconds"] for each in row["runs"]])
        lines.append(f"| {name} | {row['recipe']} | {row['metric']} | {' | '.join(scores)} | {seconds:.0f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure data set after data set; put the numbers into a file and print them as a table."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.recipes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); what is in it already is kept")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="data sets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of shuffling, dropout and new weights (%(default)s)")
    parser.add_argument("--rate", type=float, default=4e-4, help="learning rate (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="what the network computes in (%(default)s)")
    flags = parser.parse_args(arguments)
    folder = locate(flags.model)
    about = {"model": folder.name, "files_sha256": results.weights_digest(folder)}
    results.read(flags.out, about)  # complains before the work, not after it
    for name in flags.only:
        numbers = measure(name, flags.data, flags.model, flags.seeds, flags.rate, flags.dtype)
        results.keep(flags.out, about, name, results.rounded(numbers | {"made": results.provenance()}, 4))
    print(table(results.read(flags.out, about)))


if __name__ == "__main__":
    main()
