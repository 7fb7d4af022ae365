"""`bert4k score` and `embed`: what a model makes of texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bert4k
from bert4k.commands.common import load, model_and_texts, order_of, pairs, print_json, texts_of
from bert4k.commands.declared import Namespace, argument, command
from bert4k.quiet import import_backend


@command(
    *model_and_texts("lm", "text, or source<TAB>target for the mask seq2seq"),
    argument("--order", help="of the mask permuted: left_to_right, right_to_left, random, or numbers of tokens such as 2,0,1"),
)
def score(options: Namespace) -> None:
    """Log-probability of texts (pseudo-log-likelihood under the mask encoder)."""
    import_backend()
    texts = texts_of(options.texts)
    order = None if options.order is None else order_of(options.order)
    model, tokenizer = load(options, "lm", ("mlm",))
    for text, value in zip(texts, bert4k.score(model, tokenizer, pairs(texts), order=order), strict=True):
        if options.json:
            print_json({"text": text, "log_probability": float(value)})
        else:
            print(f"{value:.3f}\t{text}")


@command(
    *model_and_texts("encoder", "text, or text<TAB>pair"),
    argument("--pooling", default="mean", help="mean, max, first or pooled"),
    argument("--out", type=Path, help="write a NumPy array [texts, hidden] to this .npy file instead"),
)
def embed(options: Namespace) -> None:
    """One vector a text."""
    import_backend()
    texts = texts_of(options.texts)
    model, tokenizer = load(options, "encoder", ("pooled",) if options.pooling == "pooled" else ("sequence",))
    vectors = bert4k.embed(model, tokenizer, pairs(texts), options.pooling)
    if options.out is None:
        for text, vector in zip(texts, vectors, strict=True):
            numbers = [round(float(value), 6) for value in vector]
            print(json.dumps({"text": text, "vector": numbers}, ensure_ascii=False) if options.json else " ".join(map(str, numbers)))
        return
    import numpy as np

    from bert4k.checkpoints.stored import replacing

    with replacing(options.out) as (temporary,), temporary.open("wb") as file:
        np.save(file, vectors)
    print(f"wrote {vectors.shape[0]} vectors of {vectors.shape[1]} numbers to {options.out}", file=sys.stderr)
