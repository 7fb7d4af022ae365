"""What XLA costs and gives on TensorFlow without an accelerator, where Keras compiles by it unless told not to.

    python tests/bench/bench_xla.py                 # a table
    python tests/bench/bench_xla.py --out xla.json  # the same as JSON, with the machine, the versions and the commit

The shipped checkpoint with a head of two classes is trained on batches of 32 texts of up to 64 tokens: processor seconds of the first step
of each of four lengths, and the median of later ones, taken in turn with and without XLA.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from recording import record

from bert4k.finetuning import body
from bert4k.structured import Pooling
from bert4k.training import Trainer, make_optimizer
from bert4k.tuning import Tuning


def trainer(xla: bool) -> Trainer:
    """A classifier on the shipped checkpoint."""
    _, _, inputs, x, real = body("wenbai", Tuning())
    made = Trainer(keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(Pooling("first")(x, real))))
    made.compile(make_optimizer("adamw", 1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=xla)
    return made


def seconds(model: Trainer, batch: dict[str, Any], length: int) -> float:
    """Of the processor, for one step on the first tokens of `batch`."""
    part, began = {name: ids[:, :length] for name, ids in batch.items()}, time.process_time()
    model.train_on_batch(part, np.zeros(len(part["token_ids"]), "int32"))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write JSON here")
    parser.add_argument("--steps", type=int, default=10, help="steps to take the median of")
    options = parser.parse_args()
    ids = np.random.default_rng(0).integers(10, 7000, (32, 64)).astype("int32")
    batch = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
    models = {xla: trainer(xla) for xla in (False, True)}
    first = {xla: [seconds(model, batch, length) for length in (64, 48, 32, 16)] for xla, model in models.items()}
    later: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.steps):
        for xla, model in models.items():
            later[xla].append(seconds(model, batch, 64))
    rows = {
        "XLA" if xla else "tf.function": {
            "first_of_each_length": [round(each, 2) for each in first[xla]],
            "later": round(statistics.median(later[xla]), 3),
        }
        for xla in models
    }
    for name, row in rows.items():
        print(f"{name:12}", *(f"{key} {value} s" for key, value in row.items()), sep="  ")
    if options.out:
        record(options.out, rows)


if __name__ == "__main__":
    main()
