"""Tokens a second of a pretraining step, by number format, with and without compiling the whole step, and by optimizer.

    KERAS_BACKEND=torch python tests/bench/bench_pretrain.py [--layers 4 --width 256 --groups 2 --rounds 5]

Tokens are drawn at random; all objectives of UniLM's mixture are asked. Each figure is the median of some rounds in one
process; the first step, which compiles, is told apart. On TensorFlow and JAX, Keras' own compiled step is measured.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from bert4k.config import Config
from bert4k.pretraining.shards import prepare
from bert4k.pretraining.stream import Mixture, Shares, Source, Stream
from bert4k.pretraining.trainer import Pretrainer, as_fit_takes, make_transformer
from bert4k.tokenizers import Tokenizer
from bert4k.training import make_optimizer


def made_up_stream(tokenizer: Tokenizer, folder: Path, groups: int) -> Stream:
    """Documents of random characters, in lines of 20 to 80."""
    random = np.random.default_rng(0)
    characters = tokenizer.vocabulary[5:]
    documents = ["\n".join("".join(random.choice(characters, random.integers(20, 80))) for _ in range(12)) for _ in range(300)]
    path = folder / "text.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    shards = prepare(folder / "shards", tokenizer, [path], whole_words=False)
    return Stream([Source("text", shards)], tokenizer, Mixture(), Shares(), groups, 8, 256, seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("layers", 4), ("width", 256), ("heads", 4), ("groups", 2), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(0x4E00, 0x4E00 + 7995))])
    with tempfile.TemporaryDirectory() as folder:
        stream = made_up_stream(tokenizer, Path(folder), options.groups)
        batches = [as_fit_takes(stream.batch(step)) for step in range(options.rounds + 2)]
    config = Config(
        vocab_size=len(tokenizer), hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.heads,
        intermediate_size=4 * options.width, max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    print(f"{keras.backend.backend()}, {stream.shape}")
    for dtype in ("float32", "mixed_bfloat16"):
        for compiled in (False, True) if keras.backend.backend() == "torch" else (True,):
            for optimizer in ("adamw", "muon"):
                model = Pretrainer(make_transformer(config, True, dtype), stream.shape, compiled=compiled)
                model.compile(make_optimizer(optimizer, 1e-3, dtype=dtype))
                seconds = []
                for x, y in batches:
                    began = time.perf_counter()
                    model.fit(*keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y)), batch_size=options.groups, verbose=0)
                    seconds.append(time.perf_counter() - began)
                usual = statistics.median(seconds[2:])
                kind = f"{dtype} {'compiled' if compiled else 'eager'} {optimizer}"
                print(f"{kind:32} {stream.shape.tokens / usual:8,.0f} tokens/s   first step {seconds[0]:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
