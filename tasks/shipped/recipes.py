"""What the recipes reach on real data with a checkpoint, and with the same network from random weights.

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python -m bert4k.tasks.shipped.recipes wenbai --data ../shared/data --out recipes.json

Every row (rows.py) is `bert4k train RECIPE` with a few settings; the best epoch on dev is what is told, as for published dev scores. Every
run is in the file as soon as it is done, with its score, epoch, seconds and commit; the same command again makes those that are missing.
PyTorch in mixed_bfloat16 was fastest on a processor with AMX, with one thread where other work shares the cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4k.hub import locate
from bert4k.tasks.shipped import results
from bert4k.tasks.shipped.rows import ROWS, Row
from bert4k.tuning import Tuning

STARTS = ("checkpoint", "scratch")
SHARES = ("accuracy", "f1", "spearman", "auc")  # scores up to 1, which are told in percent


def run(row: Row, files: tuple[Path, Path], model: str, start: str, seed: int, rate: float, dtype: str) -> dict[str, Any]:
    """One training; its best score on dev."""
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
        row.metric: scores[row.metric] * (100 if row.metric in SHARES else 1),
        "epoch": scores.get("epoch"),
        "seconds": time.perf_counter() - began,
        "made": results.provenance(),
    }


def measure(name: str, data: Path, model: str, seeds: Sequence[int], rate: float, dtype: str, out: Path, about: dict[str, Any]) -> None:
    """The runs of a data set that the file does not have yet; those that were made otherwise are made anew."""
    row = ROWS[name]
    with tempfile.TemporaryDirectory() as place:
        files, (train, dev) = row.prepare(data, Path(place))
        how = {"recipe": row.recipe, "metric": row.metric, "train": train, "dev": dev, "epochs": row.epochs, "settings": row.settings}
        how |= {"rate": rate, "dtype": dtype}
        before = results.read(out, about).get(name, {})
        runs = before["runs"] if all(before.get(key) == value for key, value in how.items()) else []
        for seed in seeds:
            for start in STARTS:
                if any((each["start"], each["seed"]) == (start, seed) for each in runs):
                    continue
                runs = [*runs, results.rounded(run(row, files, model, start, seed, rate, dtype))]
                results.keep(
                    out, about, name, results.rounded(how | summary(runs, row.metric) | {"published": row.published, "runs": runs})
                )
                print(json.dumps({name: {key: value for key, value in runs[-1].items() if key != "made"}}), flush=True)


def summary(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The mean and the spread (highest less lowest) of the runs of each start that there are."""
    found = {}
    for start in STARTS:
        if scores := [each[metric] for each in runs if each["start"] == start]:
            found[start] = {"mean": float(np.mean(scores)), "spread": float(np.ptp(scores)), "of_seeds": scores}
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: a line for each data set of which both starts were measured."""
    lines = ["| data | recipe | examples; dev | score on dev | from the checkpoint (seeds) | from scratch | seconds a run |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, row in ((each, found[each]) for each in ROWS if all(start in found.get(each, ()) for start in STARTS)):
        scores = [f"{row[start]['mean']:.1f} ({', '.join(f'{each:.1f}' for each in row[start]['of_seeds'])})" for start in STARTS]
        seconds = np.mean([each["seconds"] for each in row["runs"]])
        lines.append(
            f"| {name} | {row['recipe']} | {row['train']:,}; {row['dev']:,} | {row['metric']} | {' | '.join(scores)} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure data set after data set; put the numbers into a file and print them as a table."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.recipes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); runs that are in it already are kept")
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="data sets (all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of shuffling, dropout and new weights (%(default)s)")
    parser.add_argument("--rate", type=float, default=4e-4, help="learning rate (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="what the network computes in (%(default)s)")
    flags = parser.parse_args(arguments)
    folder = locate(flags.model)
    about = {"model": folder.name, "files_sha256": results.weights_digest(folder)}
    results.read(flags.out, about)  # complains before the work, not after it
    for name in flags.only:
        measure(name, flags.data, flags.model, flags.seeds, flags.rate, flags.dtype, flags.out, about)
    print(table(results.read(flags.out, about)))


if __name__ == "__main__":
    main()
