"""Which system answers best from passages: DGCNN, half pointers, UniLM and [MASK]s, on the same questions and by the same score.

    python -m bert4k.tasks.shipped.questions --data ../shared/data --out runs/questions
    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python -m bert4k.tasks.shipped.answers wenbai --questions runs/questions --out answers.json

Every system learns from the same questions, each with two passages, one of which answers it for four of five questions, and is judged on
the same test questions with one passage (a fifth of them then have no answer, and the passage is another question's) and with ten. An
answer that scores too little is not given: too little is what makes the answers to questions of dev, with as many passages, score highest,
for each system alike. Beside them stands who never answers.

Every run is in the file as soon as it is done, with scores, epoch, seconds and commit; the same command again makes those that are missing.
The questions are by default those of WebQA alone: their passages are short, so a processor gets through, and the published numbers
(Su, kexue.fm archives 6906, 7115 and 7148) are of WebQA and SogouQA. Seconds are those of a machine that others may be using, too.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4k.answering import Evidence, Question, read_questions, scores_of_kinds
from bert4k.errors import DataError
from bert4k.hub import locate
from bert4k.reading_comprehension.spans import calibrated, silenced
from bert4k.recipe import same_settings
from bert4k.tasks.shipped import results
from bert4k.tasks.shipped.questions import LONGEST_ANSWER, SOURCES
from bert4k.tasks.shipped.rows import some

PASSAGES = (1, 10)
SILENT = "always silent"


@dataclass(frozen=True)
class System:
    """A recipe and how it is trained. An epoch of dgcnn_qa has one of the two passages of each question, that of other recipes both."""

    recipe: str
    epochs: int
    settings: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)


RATE = 4e-4  # of the weights of a checkpoint


def dgcnn(reader: str, epochs: int, rate: float, rows: int, **settings: Any) -> System:
    """A reader of dgcnn_qa. The average of its weights is over fewer steps than by default, since there are few."""
    how = {"reader": reader, "longest_answer": LONGEST_ANSWER, "second_stage": 0, "rows": rows}
    return System("dgcnn_qa", epochs, how | settings, {"learning_rate": rate, "ema": 0.99})


SYSTEMS = {
    "DGCNN, characters, no overlap": dgcnn("dgcnn_characters", 20, 2e-4, 32, overlap=False),
    "DGCNN, characters": dgcnn("dgcnn_characters", 20, 2e-4, 32),
    "DGCNN, characters and words": dgcnn("dgcnn_words", 20, 2e-4, 32),
    "DGCNN on the frozen checkpoint": dgcnn("dgcnn_encoder", 8, RATE, 16, frozen=True),
    "DGCNN on the checkpoint": dgcnn("dgcnn_encoder", 8, RATE, 16),
    "half pointers on the checkpoint": dgcnn("joint", 8, RATE, 16),
    "UniLM on the checkpoint": System("generative_qa", 5, {"extractive": True}, {"learning_rate": RATE, "tokens": 2048}),
    "[MASK]s on the checkpoint": System("mlm_qa", 5, {"extractive": True}, {"learning_rate": RATE, "tokens": 2048}),
}


# The questions. ------------------------------------------------------------------------------------------------------------------


def chosen(path: Path, sources: Sequence[str], most: int | None = None) -> list[str]:
    """The lines of a file of questions that are of some sources, at most so many: which, follows from checksums of their ids."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except OSError as error:
        raise DataError(f"Cannot read {path} ({error.strerror}). Make it with `python -m bert4k.tasks.shipped.questions`.") from error
    by_id = {row["id"]: line for line in lines if (row := json.loads(line))["source"] in sources}
    return [by_id[name] for name in some(list(by_id), most)]


def prepare(folder: Path, place: Path, sources: Sequence[str], most: int | None, judged: int) -> dict[str, int]:
    """Write what is learnt from and judged on into `place`; how many questions each file has."""
    limits = {"train_2": most} | {f"dev_{count}": judged for count in PASSAGES} | {f"test_{count}": None for count in PASSAGES}
    sizes = {}
    for name, limit in limits.items():
        lines = chosen(folder / f"{name}.jsonl", sources, limit)
        if not lines:
            raise DataError(f"{folder / name}.jsonl has no question of {', '.join(sources)}. Give other --sources.")
        (place / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        sizes[name] = len(lines)
    return sizes


def digest(place: Path) -> str:
    """The SHA-256 of all prepared files."""
    total = hashlib.sha256()
    for path in sorted(place.glob("*.jsonl")):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


# A run. --------------------------------------------------------------------------------------------------------------------------


def run(system: System, place: Path, model: str, seed: int, dtype: str) -> dict[str, Any]:
    """One training, and how it does on the test questions."""
    keras.utils.clear_session()
    recipe = importlib.import_module(f"bert4k.tasks.{system.recipe}")
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "run"
        own.mkdir()
        settings = recipe.Settings(run=own, train=[place / "train_2.jsonl"], dev=place / "dev_10.jsonl", model=model, **system.settings)
        settings = replace(settings, tuning=replace(settings.tuning, epochs=system.epochs, seed=seed, dtype=dtype, **system.tuning))
        same_settings(settings, own / "settings.json", (), recipe=system.recipe)  # as the command line does
        began = time.perf_counter()
        told = recipe.train(settings)
        seconds = time.perf_counter() - began
        reader = recipe.QA.load(own)
        found = {str(count): judge(reader, place, count) for count in PASSAGES}
    return {"seed": seed, "epoch": told["epoch"], "training_seconds": seconds, "passages": found, "made": results.provenance()}


def judge(reader: Any, place: Path, count: int) -> dict[str, Any]:
    """The scores of a reader on test questions with so many passages, in percent; the score below which it is silent; and its speed."""
    dev, test = (read_questions(place / f"{part}_{count}.jsonl") for part in ("dev", "test"))
    least = calibrated(likeliest(reader, dev), dev)
    began = time.perf_counter()
    found = silenced(likeliest(reader, test), least)
    seconds = time.perf_counter() - began
    return {"least_score": least, "questions_per_second": len(test) / seconds, **scored([each.text for each in found], test)}


def likeliest(reader: Any, questions: Sequence[Question]) -> list[Evidence]:
    """The answers of a `QA` of any recipe, however little they score."""
    told = reader.likeliest(questions) if hasattr(reader, "likeliest") else reader.answers(questions)
    return [Evidence(*each) for each in told]


def scored(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """`scores_of_kinds` in percent."""
    return {
        kind: {name: value if name == "questions" else 100 * value for name, value in scores.items()}
        for kind, scores in scores_of_kinds(answers, questions).items()
    }


def measure(name: str, place: Path, model: str, seed: int, dtype: str, out: Path, about: dict[str, Any]) -> None:
    """The run of a system with a seed, if the file does not have it yet; those that were made otherwise are left out of the file."""
    system = SYSTEMS[name]
    how = {"recipe": system.recipe, "epochs": system.epochs, "settings": system.settings, "tuning": system.tuning, "dtype": dtype}
    before = results.read(out, about).get(name, {})
    runs = before["runs"] if all(before.get(key) == value for key, value in how.items()) else []
    if any(each["seed"] == seed for each in runs):
        return
    runs = [*runs, results.rounded(run(system, place, model, seed, dtype))]
    results.keep(out, about, name, how | {"runs": runs})
    told = {count: each["all"]["mean"] for count, each in runs[-1]["passages"].items()}
    print(json.dumps({name: {"seed": seed, "mean": told, "seconds": runs[-1]["training_seconds"]}}), flush=True)


def silent(place: Path) -> dict[str, Any]:
    """As a run, of who never answers."""
    tests = {count: read_questions(place / f"test_{count}.jsonl") for count in PASSAGES}
    return {"runs": [{"passages": {str(count): scored([""] * len(test), test) for count, test in tests.items()}}]}


def table(found: dict[str, Any]) -> str:
    """Markdown: two lines for each system that was measured, with one passage a question and with ten; means of the seeds."""
    lines = ["| system | passages | exact | F1 | mean (seeds) | mean of answerable | silent where right | questions/s | training, s |"]
    lines.append("|---|---:|---:|---:|---|---:|---:|---:|---:|")
    for name in (each for each in (SILENT, *SYSTEMS) if each in found):
        runs = found[name]["runs"]
        for count in map(str, PASSAGES):
            own = [each["passages"][count] for each in runs]
            cells = [mean_of(own, "all", "exact"), mean_of(own, "all", "f1")]
            seeds = ", ".join(f"{each['all']['mean']:.1f}" for each in own)
            cells += [f"{mean_of(own, 'all', 'mean')} ({seeds})" if len(own) > 1 else mean_of(own, "all", "mean")]
            cells += [mean_of(own, "answerable", "mean"), mean_of(own, "unanswerable", "exact")]
            cells += [f"{np.mean([each['questions_per_second'] for each in own]):.1f}" if "questions_per_second" in own[0] else "-"]
            cells += [f"{np.mean([each['training_seconds'] for each in runs]):.0f}" if "training_seconds" in runs[0] else "-"]
            lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_of(scores: Sequence[dict[str, Any]], kind: str, metric: str) -> str:
    """The mean of several runs, as the table has it; "-" where there are no such questions."""
    values = [each[kind][metric] for each in scores if kind in each]
    return f"{np.mean(values):.1f}" if values else "-"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure system after system; put the numbers into a file and print them as a table."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.answers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--questions", type=Path, required=True, help="folder that `python -m bert4k.tasks.shipped.questions` wrote")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); runs that are in it already are kept")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="systems (all)")
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["webqa"], help="data sets of the questions (%(default)s)")
    parser.add_argument("--most", type=int, help="questions to learn from (all)")
    parser.add_argument("--judged", type=int, default=100, help="questions of dev, by which epochs and silence are chosen (%(default)s)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of shuffling, dropout and new weights (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="what the networks compute in (%(default)s)")
    flags = parser.parse_args(arguments)
    folder = locate(flags.model)
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        sizes = prepare(flags.questions, place, flags.sources, flags.most, flags.judged)
        about = {"model": folder.name, "files_sha256": results.weights_digest(folder), "sources": flags.sources, "questions": sizes}
        about |= {"questions_sha256": digest(place)}
        results.keep(flags.out, about, SILENT, results.rounded(silent(place)))
        for seed in flags.seeds:
            for name in flags.only:
                measure(name, place, flags.model, seed, flags.dtype, flags.out, about)
    print(table(results.read(flags.out, about)))


if __name__ == "__main__":
    main()
