"""Generation: tokens a second of bert4k and of transformers on torch, with the same weights, in the same run.

    python tests/bench/bench_generate.py            # a table; KERAS_BACKEND chooses bert4k's backend
    python tests/bench/bench_generate.py --out results/generate.json   # the same as JSON, with the machine, the versions and the commit
    python tests/bench/bench_generate.py --threads 1   # where other work shares the cores

A base-size BERT (12 layers, width 768, 21,128 tokens, random weights) continues 64 tokens by exactly 64 more, greedily and with
four beams, one source and eight. The systems take turns in one process, so that a busy machine slows both.

    first    seconds of the first call: compiling, and the first touch of everything
    median   seconds of a call after that
    tokens   new tokens a second, of all sources together
    ratio    transformers' median by bert4k's: above 1, bert4k is faster
    same     whether both wrote the same tokens

The last rows are the small checkpoint that is shipped with the library.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from recording import record

LENGTH = 64  # tokens of a source, [CLS] included, and new tokens


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def limit_threads(count: int) -> None:
    """Threads wait for each other at every matrix product: on a busy machine that would measure the scheduler."""
    import torch

    torch.set_num_threads(count)
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)


def base_model() -> tuple[Any, Any]:
    """The model of bert4k, and its tokenizer."""
    import keras

    import bert4k
    from bert4k.config import Config
    from bert4k.model import Transformer

    keras.utils.set_random_seed(1)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = bert4k.Tokenizer(special + [chr(0x4E00 + index) for index in range(21128 - len(special))])
    return Transformer(Config(vocab_size=len(tokenizer)), "lm", ("mlm",)), tokenizer


def their_model(model: Any, tokenizer: Any) -> Any:
    """The same weights in `transformers`, by way of a folder."""
    import torch
    import transformers

    import bert4k

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        bert4k.save(model, tokenizer, f"{folder}/model", format="huggingface")
        return transformers.BertLMHeadModel.from_pretrained(f"{folder}/model", is_decoder=True, dtype=torch.float32).eval()


def ours(model: Any, tokenizer: Any, sources: list[str], beams: int) -> Callable[[], list[list[int]]]:
    import bert4k

    sampler = bert4k.greedy() if beams == 1 else bert4k.beam(beams)

    def call() -> list[list[int]]:
        found = bert4k.generate(model, tokenizer, sources, sampler, max_tokens=LENGTH, min_tokens=LENGTH)
        return [list(one.token_ids) for one in found]

    return call


def theirs(model: Any, tokenizer: Any, sources: list[str], beams: int) -> Callable[[], list[list[int]]]:
    import torch

    ids = torch.tensor(np.array([tokenizer.encode(source).ids[:-1] for source in sources]))
    never = sorted(tokenizer.special_ids - {tokenizer.sep_id})

    def call() -> list[list[int]]:
        with torch.inference_mode():
            found = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=LENGTH,
                min_new_tokens=LENGTH,
                num_beams=beams,
                do_sample=False,
                suppress_tokens=never,
                eos_token_id=tokenizer.sep_id,
                pad_token_id=tokenizer.pad_id,
            )
        return found[:, ids.shape[1] :].tolist()

    return call


def measured(calls: dict[str, Callable[[], list[list[int]]]], rounds: int) -> dict[str, dict[str, Any]]:
    """Each call once, then by turns."""
    first = {name: timed(call) for name, call in calls.items()}
    later: dict[str, list[float]] = {name: [] for name in calls}
    written: dict[str, list[list[int]]] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            written[name] = call()
            later[name].append(time.perf_counter() - began)
    median = {name: statistics.median(seconds) for name, seconds in later.items()}
    return {
        name: {
            "first": first[name],
            "median": median[name],
            "tokens": sum(map(len, written[name])) / median[name],
            "ratio": median["transformers"] / median["bert4k"] if "transformers" in calls else None,
            "same": written[name] == written["transformers"] if "transformers" in calls else None,
        }
        for name in calls
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a second of bert4k and transformers.")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each after the first")
    parser.add_argument("--out", type=Path, help="write the results there, as JSON")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of both systems; 1 where other work shares the cores")
    options = parser.parse_args()
    limit_threads(options.threads)

    import bert4k

    rng = np.random.default_rng(1)
    model, tokenizer = base_model()
    other = their_model(model, tokenizer)
    small, small_tokenizer = bert4k.load("wenbai", mask="lm", outputs=("mlm",))
    rows = []
    for batch, beams in ((1, 1), (1, 4), (8, 1), (8, 4)):
        sources = ["".join(tokenizer.vocabulary[index] for index in row) for row in rng.integers(5, len(tokenizer), (batch, LENGTH - 1))]
        calls = {"bert4k": ours(model, tokenizer, sources, beams), "transformers": theirs(other, tokenizer, sources, beams)}
        results = {"base": measured(calls, options.rounds)}
        known = [token for token in small_tokenizer.vocabulary if len(token) == 1 and "\u4e00" <= token <= "\u9fff"]
        sources = ["".join(row) for row in rng.choice(known, (batch, LENGTH - 1))]
        results["wenbai"] = measured({"bert4k": ours(small, small_tokenizer, sources, beams)}, options.rounds)
        for size, systems in results.items():
            for system, values in systems.items():
                rows.append({"model": size, "batch": batch, "beams": beams, "system": system} | values)
                if len(rows) == 1:
                    heads = ("first s", "median s", "tokens/s", "ratio")
                    print(f"{'model':6}{'batch':>6}{'beams':>6}  {'system':13}" + "".join(f"{head:>10}" for head in heads) + "  same")
                ratio = f"{values['ratio']:10.2f}" if system == "bert4k" and values["ratio"] else " " * 10
                same = "" if system != "bert4k" or values["same"] is None else "yes" if values["same"] else "no"
                print(
                    f"{size:6}{batch:6}{beams:6}  {system:13}{values['first']:10.2f}{values['median']:10.3f}"
                    f"{values['tokens']:10.1f}{ratio}  {same}",
                    flush=True,
                )
    if options.out:
        record(options.out, {"threads": options.threads, "rounds": options.rounds, "rows": rows})


if __name__ == "__main__":
    main()
