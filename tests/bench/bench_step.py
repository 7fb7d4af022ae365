"""Where the time of one decoding step goes: TensorFlow's own profile of it, beside the matrix products alone.

    python tests/bench/bench_step.py                 # a table for each shape
    python tests/bench/bench_step.py --out step.json # the same as JSON, with the machine, the versions and the commit
    python tests/bench/bench_step.py --threads 1     # where other work shares the cores

A base-size BERT (12 layers, width 768, 21,128 tokens, random weights) continues 64 tokens: the median of steps without the profiler, and
the milliseconds of each kind of operation with it (kinds that run side by side on two cores add up to more than the step). `floor` is
the same matrix products in a graph of their own, `weights` the time in which this machine reads as many bytes as the step's weights have.
"""

import argparse
import collections
import glob
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from bench_generate import LENGTH, base_model, limit_threads
from recording import record

SHAPES = ((1, 1), (1, 4), (8, 1), (8, 4))  # batch, beams
KINDS = {
    "_MklMatMul": "products with weights",
    "MatMul": "products with weights",
    "_MklBatchMatMulV2": "attention",
    "BatchMatMulV2": "attention",
    "_MklSoftmax": "attention",
    "Softmax": "attention",
    "TensorScatterUpdate": "writing the cache",
    "TopKV2": "choosing tokens",
    "ArgMax": "choosing tokens",
    "LogSoftmax": "choosing tokens",
}
PROFILED = 5  # steps under the profiler


def milliseconds(call: Any, rounds: int = 12) -> float:
    """The median of a call, after three to get warm."""
    times = []
    for _ in range(rounds + 3):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[3:])


def profile(call: Any) -> dict[str, float]:
    """Milliseconds of every kind of operation in one call."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(PROFILED):
            call()
        tf.profiler.experimental.stop()
        [path] = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        space = xplane_pb2.XSpace()
        with open(path, "rb") as file:
            space.ParseFromString(file.read())
    spent: dict[str, float] = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, _, operation = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if name and "::" not in f"{name}:{operation}" and " " not in operation:  # "path/of/the/node:Operation"
                    spent[KINDS.get(operation, "everything else")] += event.duration_ps / 1e9 / PROFILED
    return dict(spent)


def floor(model: Any, rows: int) -> float:
    """Milliseconds of a step's products with weights, one after the other, for so many rows."""
    import tensorflow as tf

    kernels = [weight.value for weight in model.weights if weight.path.endswith("kernel") and "pooled" not in weight.path]
    table = model.parts["embeddings/token"].embeddings.value
    inputs = {size: tf.random.normal((rows, size)) for size in {kernel.shape[0] for kernel in kernels} | {table.shape[1]}}

    @tf.function
    def products() -> Any:
        told = [tf.reduce_sum(tf.matmul(inputs[kernel.shape[0]], kernel)) for kernel in kernels]
        return tf.add_n(told) + tf.reduce_sum(tf.matmul(inputs[table.shape[1]], table, transpose_b=True))

    return milliseconds(lambda: products().numpy())


def reading(model: Any) -> float:
    """Milliseconds in which as many bytes as the model has weights are read, by a sum over an array of that size."""
    numbers = np.ones(sum(int(np.prod(weight.shape)) for weight in model.weights), np.float32)
    import tensorflow as tf

    array = tf.constant(numbers)
    return milliseconds(lambda: tf.reduce_sum(array).numpy())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Where the time of one decoding step goes.")
    parser.add_argument("--out", type=Path, help="write the results there, as JSON")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 where other work shares the cores")
    options = parser.parse_args()
    limit_threads(options.threads)
    import keras

    import bert4k
    from bert4k.decoding import generation
    from bert4k.decoding.loop import decoder

    model, tokenizer = base_model()
    rng, weights, found = np.random.default_rng(1), reading(model), []
    for batch, beams in SHAPES:
        sources = ["".join(tokenizer.vocabulary[index] for index in row) for row in rng.integers(5, len(tokenizer), (batch, LENGTH - 1))]
        sampler = bert4k.greedy() if beams == 1 else bert4k.beam(beams)
        rows = generation._encode(model, tokenizer, sources, LENGTH)
        program = generation._program(model, sampler, generation._rules(model, tokenizer, LENGTH, 0, 1.0), LENGTH, False, 0)
        run = decoder(program)
        request = generation._request(model, tokenizer, rows, [], LENGTH, generation.random_numbers(rows, sampler, LENGTH))
        request = keras.tree.map_structure(keras.ops.convert_to_tensor, request)
        context, state = run.begin(request)

        def step(run: Any = run, request: Any = request, context: Any = context, state: Any = state) -> None:
            bool(run.advance(request, context, state)[1])

        one = {"batch": batch, "beams": beams, "step": milliseconds(step), "floor": floor(model, batch * beams), "weights": weights}
        found.append(one | {"operations": profile(step)})
        print(f"batch {batch}, beams {beams}: {one['step']:.1f} ms a step; floor {one['floor']:.1f}, weights {weights:.1f}", flush=True)
        for kind, spent in sorted(found[-1]["operations"].items(), key=lambda item: -item[1]):
            print(f"    {kind:24}{spent:8.2f} ms")
    if options.out:
        record(options.out, {"threads": options.threads, "rows": found})


if __name__ == "__main__":
    main()
