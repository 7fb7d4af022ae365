"""Reading texts: real tokens a second of bert4k.embed and of transformers on torch (sdpa), and lines a second of tokenising.

    python tests/bench/bench_encoder.py                       # a table; KERAS_BACKEND chooses bert4k's backend
    python tests/bench/bench_encoder.py --out encoder.json    # the same as JSON, with the machine, the versions and the commit
    python tests/bench/bench_encoder.py --texts FILE          # tokenise the lines of a file: UTF-8, .gz or plain

A base-size BERT (12 layers, width 768, 21,128 tokens, random weights, float32), the same in both systems, which take turns in one process
so that a busy machine slows both. bert4k is given texts; transformers is given ids, and so does not pay for tokenising.

    mixed     32 texts of 8 to 128 tokens, half of them below 24, to their mean vectors. transformers: one batch, padded to the longest;
              and one batch for each bucket of lengths (up to 16, 32, 64, 128; or nine finer ones), padded to the longest in it
    full      8 texts of 128 tokens
    one       one text of 12 tokens
    tokens    lines of 85 characters in batches of 64 to padded ids: bert4k on one thread; the `tokenizers` engine with its own BERT rules,
              and transformers' BertTokenizerFast, on all threads

    first     seconds of the first call: compiling, and the first touch of everything
    median    seconds of a call after that
    rate      real tokens, or lines, a second
    ratio     the other's median by bert4k's: above 1, bert4k is faster
    peak      the highest resident memory during the first call, MB above what was resident before; on Linux

Then the largest difference between the two systems' vectors, and how many milliseconds of bert4k's call tokenising takes.
"""

import argparse
import gzip
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from bench_generate import limit_threads, timed
from recording import installed, record

PUNCTUATION = "，。、：；！？（）《》"


# The two systems. -----------------------------------------------------------------------------------------------------------------------


def base_model() -> tuple[Any, Any]:
    """The model of bert4k, and its tokenizer."""
    import keras

    import bert4k

    keras.utils.set_random_seed(1)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [*PUNCTUATION, *map(chr, (*range(0x4E00, 0x9FA6), *range(0x3400, 0x4DB6)))]
    tokenizer = bert4k.Tokenizer([*special, *characters][:21128])
    return bert4k.Transformer(bert4k.Config(vocab_size=len(tokenizer))), tokenizer


def their_model(folder: str) -> Any:
    """The same weights in `transformers`."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    settings: dict[str, Any] = {"add_pooling_layer": False, "attn_implementation": "sdpa", "dtype": torch.float32}
    return transformers.BertModel.from_pretrained(folder, **settings).eval()


def ours(model: Any, tokenizer: Any, texts: list[str]) -> Callable[[], np.ndarray]:
    import bert4k

    return lambda: bert4k.embed(model, tokenizer, texts)


def theirs(model: Any, rows: list[np.ndarray], groups: list[list[int]]) -> Callable[[], np.ndarray]:
    """The mean vectors of rows of ids; each group of rows is one batch, padded to its longest."""
    import torch

    batches = []
    for group in groups:
        longest = max(len(rows[row]) for row in group)
        ids = np.array([np.pad(rows[row], (0, longest - len(rows[row]))) for row in group])
        real = np.array([np.arange(longest) < len(rows[row]) for row in group])
        batches.append(
            (group, torch.tensor(ids), None if real.all() else torch.tensor(real.astype("int64")), torch.tensor(real)[..., None])
        )

    def call() -> np.ndarray:
        vectors = np.zeros((len(rows), model.config.hidden_size), np.float32)
        with torch.inference_mode():
            for group, ids, mask, real in batches:
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
                vectors[group] = ((hidden * real).sum(1) / real.sum(1)).numpy()
        return vectors

    return call


def resident(field: str) -> int | None:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").split("\n") if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def first_call(call: Callable[[], Any]) -> dict[str, float | None]:
    before = resident("VmRSS")
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew, at what is resident now
    seconds = timed(call)
    peak = resident("VmHWM")
    return {"first": seconds, "peak_mb": None if before is None or peak is None else round((peak - before) / 1e6)}


def measured(part: str, calls: dict[str, Callable[[], Any]], amount: int, rounds: int) -> list[dict[str, Any]]:
    """Each call once, then by turns. amount: the tokens or lines of a call."""
    first = {name: first_call(call) for name, call in calls.items()}
    later: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            later[name].append(timed(call))
    ours = statistics.median(later["bert4k"])
    rows = []
    for name, seconds in later.items():
        median = statistics.median(seconds)
        rows.append({"part": part, "system": name, **first[name], "median": median, "rate": amount / median, "ratio": median / ours})
    return rows


# What is read. --------------------------------------------------------------------------------------------------------------------------


def made_up_texts(tokenizer: Any, lengths: list[int], rng: np.random.Generator) -> list[str]:
    """Random texts of so many tokens, [CLS] and [SEP] included."""
    characters = np.array(tokenizer.vocabulary[5:])
    return ["".join(rng.choice(characters, length - 2)) for length in lengths]


def mixed_lengths(rng: np.random.Generator) -> list[int]:
    """32 lengths of 8 to 128, half of them below 24."""
    return [128, *(8 * 16 ** rng.beta(1, 1.6, 31)).astype(int).tolist()]


def made_up_lines(rng: np.random.Generator, count: int = 8192) -> list[str]:
    """Lines of 85 characters: of the commonest, with punctuation, digits and some Latin words."""
    characters = np.array([chr(0x4E00 + place) for place in rng.permutation(20902)[:4000]])
    weights = 1 / np.arange(10, 4010)
    lines = []
    for drawn in rng.choice(characters, (count, 85), p=weights / weights.sum()):
        for place in rng.choice(85, 9, replace=False):
            drawn[place] = PUNCTUATION[place % len(PUNCTUATION)]
        line = "".join(drawn)
        lines.append(line if rng.random() < 0.7 else f"{line[:40]} BERT base {rng.integers(1900, 2030)} {line[60:]}")
    return lines


def lines_of(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").split("\n")[:10_000]


def tokenising(tokenizer: Any, folder: str, lines: list[str], with_transformers: bool) -> dict[str, Callable[[], Any]]:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    engine = tokenizers.Tokenizer(models.WordPiece({token: at for at, token in enumerate(tokenizer.vocabulary)}, unk_token="[UNK]"))
    engine.normalizer, engine.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    engine.post_processor = processors.BertProcessing(("[SEP]", tokenizer.sep_id), ("[CLS]", tokenizer.cls_id))
    engine.enable_padding()
    batches = [lines[first : first + 64] for first in range(0, len(lines), 64)]
    calls: dict[str, Callable[[], Any]] = {
        "bert4k": lambda: [tokenizer(batch) for batch in batches],
        "tokenizers engine": lambda: [np.array([row.ids for row in engine.encode_batch_fast(batch)]) for batch in batches],
    }
    if with_transformers:
        from transformers import BertTokenizerFast

        fast = BertTokenizerFast.from_pretrained(folder)
        calls["BertTokenizerFast"] = lambda: [fast(batch, padding=True, return_tensors="np") for batch in batches]
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="calls of each after the first")
    parser.add_argument("--threads", type=int, default=2, help="of both systems")
    parser.add_argument("--texts", type=Path, help="lines to tokenise; made up without")
    parser.add_argument("--out", type=Path, help="write the results there, as JSON")
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"

    compared = installed("transformers") is not None and installed("torch") is not None
    if not compared:
        print("bert4k is measured alone: transformers and torch are not both installed. `make test` installs them in .venv.")
    limit_threads(options.threads)

    import bert4k
    from bert4k.decoding.batches import layouts

    rng = np.random.default_rng(1)
    mixed = mixed_lengths(rng)
    model, tokenizer = base_model()
    about: dict[str, Any] = {
        "backend": os.environ["KERAS_BACKEND"],
        "threads": options.threads,
        "rounds": options.rounds,
        "mixed_lengths": mixed,
        "real_tokens": sum(mixed),
        "computed_tokens": sum(rows * length for rows, length in (layout.shape for layout in layouts(mixed, 32))),
    }
    print(f"mixed: {sum(mixed)} real tokens; bert4k computes {about['computed_tokens']}, padding to the longest {32 * max(mixed)}")
    print(f"{'part':7} {'system':24}{'first s':>9}{'median s':>10}{'rate':>9}{'ratio':>7}{'peak MB':>9}", flush=True)
    results: list[dict[str, Any]] = []

    def measure(part: str, calls: dict[str, Callable[[], Any]], amount: int) -> None:
        for row in measured(part, calls, amount, options.rounds):
            results.append(row)
            ratio = "" if row["system"] == "bert4k" else f"{row['ratio']:.2f}"
            peak = "" if row["peak_mb"] is None else row["peak_mb"]
            print(f"{part:7} {row['system']:24}{row['first']:9.2f}{row['median']:10.3f}{row['rate']:9.0f}{ratio:>7}{peak:>9}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        bert4k.save(model, tokenizer, f"{folder}/model", format="huggingface")
        other = their_model(f"{folder}/model") if compared else None
        for part, lengths in (("mixed", mixed), ("full", [128] * 8), ("one", [12])):
            texts = made_up_texts(tokenizer, lengths, rng)
            calls = {"bert4k": ours(model, tokenizer, texts)}
            if compared:
                rows = [tokenizer.encode(text).ids for text in texts]
                calls["transformers"] = theirs(other, rows, [list(range(len(rows)))])
                for count, buckets in ((4, (16, 32, 64, 128)), (9, (8, 12, 16, 24, 32, 48, 64, 96, 128))) if part == "mixed" else ():
                    placed = np.searchsorted(buckets, lengths)
                    groups = [np.flatnonzero(placed == bucket).tolist() for bucket in np.unique(placed)]
                    calls[f"transformers, {count} buckets"] = theirs(other, rows, groups)
            measure(part, calls, sum(lengths))
            if compared:
                about[f"difference_{part}"] = float(np.abs(calls["bert4k"]() - calls["transformers"]()).max())
            about[f"tokenising_{part}_ms"] = timed(lambda texts=texts: tokenizer.unpadded(texts)) * 1e3
        lines = lines_of(options.texts) if options.texts else made_up_lines(rng)
        measure("tokens", tokenising(tokenizer, f"{folder}/model", lines, compared), len(lines))

    for name in about:
        if name.startswith(("difference", "tokenising")):
            print(f"{name:24} {about[name]:.2g}")
    if options.out:
        record(options.out, about | {"results": results})


if __name__ == "__main__":
    main()
