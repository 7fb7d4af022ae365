"""A tiny training, for tests to run here or in a process of its own.

    python tiny.py '{"folder": "...", "runs": [{"run": "...", "use": 2, "settings": {...}}, ...], "hooks": {...}}'

use: so many of the simulated devices. hooks: "logical_devices": simulate so many on TensorFlow; "half_written": stop for ever in the
middle of that snapshot (the first is 1); "half_saved": the same in the middle of the finished model; "seconds_a_batch": every batch takes
so long.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bert4k.tasks.pretrain import Model, Optimizer, Ratios, Settings, pretrain

CHARACTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, "，", "。"]
MODEL = Model(layers=1, width=16, heads=2)
MIXTURE = Ratios(masked=1, sentence_order=1, left_to_right=1, right_to_left=1, seq2seq=1, seq2seq_cloze=1, permuted=1, pairs=1)


def write_corpus(folder: Path) -> Path:
    """texts.txt, pairs.tsv, unseen.txt, unseen_pairs.tsv and vocab.txt, in which every character foretells the next one."""
    draw = random.Random(0)

    def line(size: int) -> str:
        start = draw.randrange(len(CHARACTERS))
        return "".join(CHARACTERS[(start + place) % len(CHARACTERS)] for place in range(size)) + "。"

    for name, count in (("texts", 60), ("unseen", 12)):
        documents = ["\n".join(line(draw.randint(3, 9)) for _ in range(draw.randint(1, 5))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    for name, count in (("pairs", 40), ("unseen_pairs", 8)):
        pairs = (f"{line(draw.randint(2, 8))}\t{line(draw.randint(2, 8))}\n" for _ in range(count))
        (folder / f"{name}.tsv").write_text("".join(pairs), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


def settings(folder: Path, run: Path, **changes: Any) -> Settings:
    """Twelve steps on the corpus of a folder. A dict changes some of the settings of `model`, `optimizer` or `mixture`."""
    made = Settings(
        run=run,
        text=[folder / "texts.txt"],
        pairs=[folder / "pairs.tsv"],
        held_out=[folder / "unseen.txt", folder / "unseen_pairs.tsv"],
        vocabulary=folder / "vocab.txt",
        whole_words=False,
        model=MODEL,
        mixture=MIXTURE,
        optimizer=Optimizer(learning_rate=1e-2, warmup_steps=3),
        length=32,
        rows=2,
        steps=12,
        log_every=2,
        snapshot_every=4,
        evaluate_every=6,
    )
    nested = {
        name: replace(getattr(made, name), **value) for name, value in changes.items() if isinstance(value, dict) and name != "weights"
    }
    return replace(made, **changes | nested)


def work_in_this_process(change: Any = setattr) -> None:
    """No processes to tokenise a few lines, and no measuring of the machine."""
    from bert4k.pretraining import run, shards

    change(shards, "prepare", partial(shards.prepare, workers=0))
    change(run, "peak_flops", lambda dtype: 1e12)


def stop_for_ever(where: str) -> None:
    print(where, flush=True)
    time.sleep(1000)


def _hook(hooks: dict[str, Any]) -> None:
    if "logical_devices" in hooks:
        import tensorflow as tf

        devices = [tf.config.LogicalDeviceConfiguration()] * hooks["logical_devices"]
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    from bert4k import hub
    from bert4k.pretraining import snapshots
    from bert4k.pretraining.stream import Stream

    if "half_written" in hooks:
        save_file, number = snapshots.save_file, iter(range(1, 1000))

        def half_written(arrays: Any, path: Path, metadata: Any) -> None:
            save_file(arrays, path, metadata=metadata)
            if next(number) == hooks["half_written"]:
                os.truncate(path, path.stat().st_size // 2)
                stop_for_ever("half-written")

        snapshots.save_file = half_written
    if "half_saved" in hooks:
        write_bundle = hub.write_bundle

        def half_saved(prefix: Path, tensors: Any) -> None:
            write_bundle(prefix, dict(list(tensors.items())[:5]))
            stop_for_ever("half-saved")

        hub.write_bundle = half_saved
    if "seconds_a_batch" in hooks:
        batch = Stream.batch

        def slow(self: Any, step: int) -> Any:
            time.sleep(hooks["seconds_a_batch"])
            return batch(self, step)

        Stream.batch = slow


def _use(count: int | None) -> None:
    """Let only so many devices be found."""
    import keras

    library: Any = keras.distribution
    name = "list_devices"
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        library, name = tensorflow.config, "list_logical_devices"
    found = _FOUND.setdefault(name, getattr(library, name))
    setattr(library, name, lambda *args: found(*args)[:count])


_FOUND: dict[str, Any] = {}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    _hook(asked.get("hooks", {}))
    work_in_this_process()
    for job in asked["runs"]:
        if "use" in job:
            _use(job["use"])
        print("model:", pretrain(settings(Path(asked["folder"]), Path(job["run"]), **job.get("settings", {}))), flush=True)
