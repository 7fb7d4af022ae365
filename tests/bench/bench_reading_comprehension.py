"""Questions a second with ten passages of 250 characters each: DGCNN beside a base-size checkpoint that reads both together.

    python tests/bench/bench_reading_comprehension.py                   # a line for each reader
    python tests/bench/bench_reading_comprehension.py --out qa.json     # the same as JSON, with the machine, the versions and the commit
    python tests/bench/bench_reading_comprehension.py --threads 1       # where other work shares the cores

From texts to the answer (`QA.answer`), one question at a time, all weights random: DGCNN of 128 units on characters, the same with word
vectors, and half pointers on a BERT of 12 layers of width 768. They take turns, so that what else the machine does slows all of them.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from bench_generate import limit_threads
from recording import record

PASSAGES, CHARACTERS, ROUNDS = 10, 250, 7


def readers(text: str) -> dict[str, Any]:
    """The machines, by their names in the recipe. text: what characters are taken from."""
    import keras

    import bert4k
    from bert4k.config import Config
    from bert4k.model import Transformer
    from bert4k.reading_comprehension import QA
    from bert4k.reading_comprehension.dgcnn import PassagePointers
    from bert4k.reading_comprehension.inputs import Characters, Joint
    from bert4k.reading_comprehension.word_vectors import WordVectors
    from bert4k.tasks.dgcnn_qa import Settings, build

    keras.utils.set_random_seed(1)
    settings = Settings(run=Path(), train=[], dev=Path())
    pairs = sorted({text[at : at + 2] for at in range(0, len(text), 5)})
    words = WordVectors(pairs, np.ones((len(pairs), 128), np.float32))
    found = {}
    for name, vectors in (("dgcnn_characters", None), ("dgcnn_words", words)):
        representation = Characters.counted([text], 1, settings.longest_question, settings.longest, vectors, settings.overlap)
        found[name] = QA(build(settings, representation)[0], representation)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = bert4k.Tokenizer(special + [chr(0x4E00 + index) for index in range(21128 - len(special))])
    network = Transformer(Config(vocab_size=len(tokenizer)), "encoder", ("sequence",))
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids")}
    x = network(inputs)
    joint = Joint(tokenizer, settings.longest_question, settings.longest)
    return found | {"joint": QA(keras.Model(inputs, PassagePointers()(x, x[:, 0])), joint)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Questions a second of the readers of dgcnn_qa.")
    parser.add_argument("--out", type=Path, help="write the results there, as JSON")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1 where other work shares the cores")
    options = parser.parse_args()
    limit_threads(options.threads)
    random = np.random.default_rng(1)
    text = "".join(chr(0x4E00 + int(index)) for index in random.integers(0, 3000, PASSAGES * CHARACTERS * ROUNDS))
    machines = readers(text)
    times: dict[str, list[float]] = {name: [] for name in machines}
    for number in range(ROUNDS):
        begin = number * PASSAGES * CHARACTERS
        passages = [text[begin + at * CHARACTERS : begin + (at + 1) * CHARACTERS] for at in range(PASSAGES)]
        for name, machine in machines.items():
            began = time.perf_counter()
            machine.answer(passages[0][:12], passages)
            times[name].append(time.perf_counter() - began)
    seconds = {name: statistics.median(each[2:]) for name, each in times.items()}  # after two to get warm
    for name, each in seconds.items():
        print(f"{name:18}{1 / each:8.2f} questions/s{1e3 * each:10.1f} ms each{seconds['joint'] / each:8.1f} x joint", flush=True)
    if options.out:
        how = {"passages": PASSAGES, "characters": CHARACTERS, "threads": options.threads}
        record(options.out, how | {"seconds_a_question": seconds, "rounds": times})


if __name__ == "__main__":
    main()
