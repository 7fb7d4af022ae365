"""What each learned part of entity linking is worth: the same runs with and without it, with several seeds.

    python -m bert4k.tasks.shipped.linking --data ../shared/data --out runs/linking
    python tests/linking_world.py --out runs/linking/world --entities 5000 --train 3000 --dev 1500
    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python -m bert4k.tasks.shipped.linking_ablations wenbai \\
        --data runs/linking --runs runs/ablations --out ablations.json

Every variant of a study is `bert4k train entity_linking` with a few settings, in a folder of its own under --runs; a part that is the same
in two variants is trained once. Each is in the file as soon as it is done, with its scores, seconds and commit; the same command again
makes those that are missing. Scores are those of the best epoch on dev, as for published dev scores; on dev, too, the weights of the ranker
and of the vectors are fitted, four numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bert4k.errors import ConfigError
from bert4k.hub import locate
from bert4k.recipe import same_settings
from bert4k.tasks import entity_linking
from bert4k.tasks.shipped import results
from bert4k.tuning import Tuning


@dataclass(frozen=True)
class Variant:
    """A run: settings and `Tuning` beside those of its study; `parts`, the variant whose finished parts it takes over; `network`, the one
    whose network of mentions it begins with, in place of the checkpoint."""

    settings: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)
    parts: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class Study:
    """Variants that differ in what is asked, on one data set: what they have in common, and which of their scores are told."""

    data: str
    asks: str
    scores: tuple[str, ...]
    variants: dict[str, Variant]
    settings: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] = field(default_factory=dict)


# Rates of the blocks and of the embeddings that are no rates: what is learnt is the head alone.
FROZEN = {"layer_decay": 1e-9}
SCRATCH = {"scratch": True}
MENTIONS = ("mention_precision", "mention_recall", "mention_f1")
RANKING = ("ranking", "recall@1", "recall@5", "recall@10")
NO_RANKER = {"ranker": "counts"}

STUDIES = {
    "mentions": Study(
        "ccks2019_marks",
        "where mentions are; exact places, gold marks, 8,000 texts to learn from",
        MENTIONS,
        {
            "global_pointer": Variant({"dictionary": "none"}),
            "global_pointer_with_dictionary": Variant(),
            "half_pointer_with_dictionary": Variant({"head": "half_pointer"}),
            "half_pointer": Variant({"head": "half_pointer", "dictionary": "none"}),
            "global_pointer_with_dictionary_from_scratch": Variant({}, SCRATCH),
        },
        {"head": "global_pointer", "longest": 64, **NO_RANKER},
        {"tokens": 512, "learning_rate": 5e-4, "epochs": 4},
    ),
    "mentions_found": Study(
        "ccks2019_found",
        "where mentions are, learnt from 35,000 texts with what another system found; judged on gold marks",
        MENTIONS,
        {"global_pointer": Variant()},
        {"head": "global_pointer", "dictionary": "none", "longest": 64, **NO_RANKER},
        {"tokens": 2048, "learning_rate": 7e-4, "epochs": 2},
    ),
    "mentions_found_then_marked": Study(
        "ccks2019_marks",
        "the same network tuned on the 8,000 texts with gold marks",
        MENTIONS,
        {
            "global_pointer_with_dictionary": Variant(network="mentions_found/global_pointer"),
            "global_pointer": Variant({"dictionary": "none"}, network="mentions_found/global_pointer"),
        },
        {"head": "global_pointer", "longest": 64, **NO_RANKER},
        {"tokens": 512, "learning_rate": 4e-4, "epochs": 6},
    ),
    "terms": Study(
        "chip2019",
        "the standard term of a clinical one, among 1,067: first the nearest vectors, then, of ten, the best pair",
        RANKING,
        {
            "bi_encoder": Variant(NO_RANKER, {"epochs": 6}),
            "then_cross_encoder": Variant(parts="bi_encoder"),
            "then_cross_encoder_without_hard_negatives": Variant({"hard_negatives": False}, parts="bi_encoder"),
            "bi_encoder_from_scratch": Variant(NO_RANKER, {"epochs": 6, **SCRATCH}),
            "bi_encoder_frozen": Variant(NO_RANKER, {"epochs": 1, **FROZEN}),
            "then_cross_encoder_without_prior": Variant({"prior": False}, parts="bi_encoder"),
            "then_cross_encoder_from_scratch": Variant({}, SCRATCH, parts="bi_encoder"),
            "then_cross_encoder_frozen": Variant({}, FROZEN, parts="bi_encoder"),
        },
        {"head": "dictionary", "retrieval": True, "nearest": 10, "longest": 48, "longest_pair": 64},
        {"tokens": 2048, "learning_rate": 4e-4, "epochs": 2},
    ),
    "questions": Study(
        "kgclue",
        "the entity that a question asks about, learnt from 2,000; hardly a name has two bearers: what is to be found is the name",
        ("f1", *MENTIONS, "ranking", "recall@10"),
        {
            "half_pointer_with_dictionary": Variant(),
            "half_pointer": Variant({"dictionary": "none"}),
            "dictionary": Variant({"head": "dictionary"}),
        },
        {"longest": 64, "candidates": 10, **NO_RANKER},
        {"tokens": 2048, "learning_rate": 4e-4, "epochs": 2},
    ),
    "world": Study(
        "world",
        "the made-up world, a small one, by difficulty",
        ("f1", "mention_f1", "nil_f1", "accuracy", "ranking", "recall@10"),
        {
            "cross_encoder": Variant(),
            "without_a_network": Variant({"head": "dictionary", **NO_RANKER}),
            "without_overlap": Variant({"overlap": False}, parts="cross_encoder"),
            "without_prior": Variant({"prior": False}, parts="cross_encoder"),
        },
        {"longest": 64, "longest_pair": 128, "candidates": 10, "judged": 300},
        {"tokens": 2048, "learning_rate": 4e-4, "epochs": 1},
    ),
}
LEARNT_FROM = {"kgclue": 2000}  # of what there is to learn from, the first lines


def files(data: Path, name: str, folder: Path) -> dict[str, Path]:
    """Knowledge base, texts to learn from and files to be judged on, the first of which chooses epochs, by name."""
    place = data / name
    train = place / "train.jsonl"
    if name in LEARNT_FROM:
        with train.open(encoding="utf-8") as lines:
            train = folder / f"{name}-{LEARNT_FROM[name]}.jsonl"
            train.write_text("".join(line for line, _ in zip(lines, range(LEARNT_FROM[name]), strict=False)), encoding="utf-8")
    levels = sorted(place.glob("dev-*.jsonl"))
    dev = levels[len(levels) // 2 :][:1] or [place / "dev.jsonl"]
    return {"kb": place / "kb.jsonl", "train": train, "dev": dev[0]} | {path.stem: path for path in levels}


def run(study: Study, name: str, variant: str, seed: int, model: str, dtype: str, data: Path, runs: Path) -> dict[str, Any]:
    """One training; its scores on dev in percent."""
    keras.utils.clear_session()
    one, began, place = study.variants[variant], time.perf_counter(), runs / f"{name}/{variant}-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    for part in ("mentions", "retrieval") if one.parts else ():
        if (source := runs / f"{name}/{one.parts}-{seed}" / part).exists() and not (place / part).exists():
            shutil.copytree(source, place / part)
    found = files(data, study.data, place.parent)
    settings = entity_linking.Settings(
        run=place,
        kb=found["kb"],
        train=[found["train"]],
        dev=found["dev"],
        model=str(runs / f"{one.network}-{seed}" / "mentions" / "network") if one.network else model,
        tuning=Tuning(seed=seed, dtype=dtype, **study.tuning | one.tuning),
        **study.settings | one.settings,
    )
    try:
        same_settings(settings, place / "settings.json", ("run",), recipe="entity_linking")
    except ConfigError:  # of a study that was another one then
        shutil.rmtree(place)
        return run(study, name, variant, seed, model, dtype, data, runs)
    scores = entity_linking.train(settings)
    levels = [level for level in found if level.startswith("dev-")]
    told = {score: 100 * scores[score] for score in study.scores}
    if levels:
        linker = entity_linking.Linker.load(place)
        by_level = {
            level: entity_linking.score(linker, entity_linking.read(found[level], linker.candidates.knowledge_base, "stop"))
            for level in levels
        }
        told = {f"{level[4:]} {score}": 100 * each[score] for score in study.scores for level, each in by_level.items()}
    return {"seed": seed, "scores": told, "seconds": time.perf_counter() - began, "made": results.provenance()}


def measure(
    name: str,
    seeds: Sequence[int],
    model: str,
    dtype: str,
    data: Path,
    runs: Path,
    out: Path,
    about: dict[str, Any],
    only: Sequence[str] | None = None,
) -> None:
    """The runs of a study, or `only` of some of its variants, that the file does not have yet; those that were made otherwise are made
    anew."""
    study = STUDIES[name]
    for seed in seeds:
        for variant, one in study.variants.items():
            if only and variant not in only:
                continue
            how = {"settings": study.settings | one.settings, "tuning": study.tuning | one.tuning | {"dtype": dtype}}
            how |= {key: value for key, value in asdict(one).items() if key in ("parts", "network") and value}
            before = results.read(out, about).get(name, {"data": study.data, "asks": study.asks, "variants": {}})
            known = before["variants"].get(variant, {})
            made = known.get("runs", []) if all(known.get(key) == value for key, value in how.items()) else []
            if any(each["seed"] == seed for each in made):
                continue
            made = [*made, run(study, name, variant, seed, model, dtype, data, runs)]
            before["variants"][variant] = how | {"scores": summary(made), "runs": made}
            results.keep(out, about, name, results.rounded(before))
            print(json.dumps({f"{name}/{variant}": results.rounded(made[-1]["scores"], 1)}), flush=True)


def summary(made: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean and the spread (highest less lowest) of each score."""
    scores = {score: [each["scores"][score] for each in made] for score in made[0]["scores"]}
    return {score: {"mean": float(np.mean(values)), "spread": float(np.ptp(values))} for score, values in scores.items()}


def table(found: dict[str, Any]) -> str:
    """Markdown: a table for each study, a line for each variant, the spread behind the mean where there are several seeds."""
    parts = []
    for name, study in ((each, found[each]) for each in STUDIES if each in found):
        variants = study["variants"]
        scores = list(next(iter(variants.values()))["scores"])
        parts += [f"\n{name}: {study['asks']} ({study['data']})\n", f"| variant | {' | '.join(scores)} | seeds | seconds a run |"]
        parts.append("|---" * (len(scores) + 3) + "|")
        for variant, each in variants.items():
            cells = [f"{of['mean']:.1f}" + (f" ({of['spread']:.1f})" if len(each["runs"]) > 1 else "") for of in each["scores"].values()]
            seconds = np.mean([one["seconds"] for one in each["runs"]])
            parts.append(f"| {variant} | {' | '.join(cells)} | {len(each['runs'])} | {seconds:.0f} |")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run study after study; put the numbers into a file and print them as tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bert4k.tasks.shipped.linking_ablations", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("model", help="folder of the checkpoint, or a name of `bert4k list`")
    parser.add_argument("--data", type=Path, required=True, help="folder that bert4k.tasks.shipped.linking has written, with world/ in it")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders, outside the repository")
    parser.add_argument("--out", type=Path, required=True, help="file for the numbers (JSON); runs that are in it already are kept")
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES), help="studies (all)")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="of these studies (all); those whose parts they take over come first")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of shuffling, dropout and new weights (%(default)s)")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="what the networks compute in (%(default)s)")
    flags = parser.parse_args(arguments)
    folder = locate(flags.model)
    known = {variant for name in flags.only for variant in STUDIES[name].variants}
    if unknown := sorted(set(flags.variants or ()) - known):
        parser.error(f"no variant of {', '.join(flags.only)} is called {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    about = {"what": "entity linking, part by part", "model": folder.name, "files_sha256": results.weights_digest(folder)}
    results.read(flags.out, about)  # complains before the work, not after it
    for name in flags.only:
        measure(name, flags.seeds, flags.model, flags.dtype, flags.data, flags.runs, flags.out, about, flags.variants)
    print(table(results.read(flags.out, about)))


if __name__ == "__main__":
    main()
