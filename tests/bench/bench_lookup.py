"""Prompt lookup: seconds of greedy answers with and without proposals from the source, and whether the texts are the same.

    python tests/bench/bench_lookup.py --pairs translate.tsv      # `[MARKER]source<TAB>target` lines, as `bert4k pretrain` reads them

64 sources of 30 to 90 characters, answered by `wenbai` one at a time (--batch for more), with 0, 2, 4 and 8 proposals a step.
Without --pairs, sources are random lines of its vocabulary, which nobody would copy: then it shows what proposals cost.
"""

import argparse
import os
import statistics
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bench_generate import timed

COUNT, SHORTEST, LONGEST = 64, 30, 90


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Greedy answers with and without prompt lookup.")
    parser.add_argument("--pairs", type=Path, help="source<TAB>target lines, UTF-8")
    parser.add_argument("--batch", type=int, default=1, help="sources at a time")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each after the first")
    options = parser.parse_args()
    import bert4k

    model, tokenizer = bert4k.load("wenbai", mask="seq2seq", outputs=("mlm",))
    if options.pairs:
        sources = [line.partition("\t")[0] for line in options.pairs.read_text(encoding="utf-8").split("\n")]
        sources = [source for source in sources if SHORTEST < len(source) < LONGEST][:COUNT]
    else:
        known = [token for token in tokenizer.vocabulary if len(token) == 1 and "\u4e00" <= token <= "\u9fff"]
        sources = ["[TRANSLATE]" + "".join(row) for row in np.random.default_rng(1).choice(known, (COUNT, 50))]
    plain: Any = None
    for proposals in (0, 2, 4, 8):
        texts: list[list[str]] = []

        def call(proposals: int = proposals, texts: list[list[str]] = texts) -> None:
            how = {"max_tokens": 96, "prompt_lookup": proposals, "batch_size": options.batch}
            texts.append([one.text for one in bert4k.generate(model, tokenizer, sources, **how)])

        first, median = timed(call), statistics.median(timed(call) for _ in range(options.rounds))
        plain = plain or (median, texts[0])
        same = "yes" if all(each == plain[1] for each in texts) else "no"
        print(
            f"proposals {proposals}: first {first:6.2f} s, median {median:6.2f} s, {plain[0] / median:.2f} x, same texts: {same}",
            flush=True,
        )


if __name__ == "__main__":
    main()
