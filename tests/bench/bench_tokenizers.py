"""Lines a second: the `tokenizers` engine with its own BERT rules, bert4k, and bert4k with offsets, on the same lines and vocabulary.

    python tests/bench/bench_tokenizers.py VOCAB TEXT...      # TEXT: UTF-8, one text a line, .gz or plain

Each figure is the best of three; the engine uses as many cores as it likes (TOKENIZERS_PARALLELISM=false: one), bert4k
uses one. Rules differ in rare characters, so the lines whose ids differ are counted too.
"""

import argparse
import gzip
import time
from collections.abc import Callable
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from bert4k.tokenizers import Tokenizer

BATCH = 64


def lines_of(path: Path, limit: int) -> list[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return text.split("\n")[:limit]


def rate(run: Callable[[], object], lines: int) -> int:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return round(lines / min(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("vocab", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=10_000, help="lines of each text (default: 10000)")
    arguments = parser.parse_args()

    lines = [line for path in arguments.texts for line in lines_of(path, arguments.limit)]
    batches = [lines[first : first + BATCH] for first in range(0, len(lines), BATCH)]
    print(f"{len(lines)} lines, {sum(map(len, lines)) / len(lines):.0f} characters each")

    ours = Tokenizer(arguments.vocab, special_tokens_in_text=False)
    ids = {token: index for index, token in enumerate(ours.vocabulary)}
    engine = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=200))
    engine.normalizer = normalizers.BertNormalizer()
    engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    print(f"engine, ids                {rate(lambda: engine.encode_batch_fast(lines, add_special_tokens=False), len(lines)):8d} lines/s")
    print(f"engine, ids and offsets    {rate(lambda: engine.encode_batch(lines, add_special_tokens=False), len(lines)):8d} lines/s")
    print(f"bert4k, padded batches     {rate(lambda: [ours(batch) for batch in batches], len(lines)):8d} lines/s")
    print(f"bert4k, padded offsets     {rate(lambda: [ours.offsets(batch) for batch in batches], len(lines)):8d} lines/s")

    differing = sum(encoding.tokens != ours.tokenize(line) for encoding, line in zip(engine.encode_batch(lines), lines, strict=True))
    print(f"lines whose tokens differ  {differing:8d}")


if __name__ == "__main__":
    main()
