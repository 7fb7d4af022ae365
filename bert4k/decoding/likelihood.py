"""`fill`, `score` and `embed`: what a model knows of given texts, in batches by length.

The output layer over the vocabulary runs only on the positions that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from bert4k import masks
from bert4k.backend import compiled
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.decoding.generation import check_generates
from bert4k.errors import ConfigError, DataError, did_you_mean
from bert4k.model import Transformer, check_tokens
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer


class Candidate(NamedTuple):
    """A token for a blank, and its probability."""

    token: str
    probability: float


POOLINGS = ("mean", "max", "first", "pooled")


def fill(model: Transformer, tokenizer: Tokenizer, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """The `top_k` most probable tokens for each [MASK] of `text`, left to right, the best first.

    Each blank is filled by itself, given the text with all its blanks. Needs the mask "encoder" and an "mlm" output.
    """
    _check_encoder(model, "fill()")
    tokenizer.check_rows(model.config.vocab_size)
    encoding = tokenizer.encode(text)
    at = np.flatnonzero(encoding.ids == tokenizer.mask_id)
    if not at.size:
        raise DataError(f"There is no [MASK] in {text!r}. Write [MASK] where a token is to be filled in.")
    if not 1 <= top_k <= model.config.vocab_size:
        raise ConfigError(f"top_k={top_k}: expected between 1 and the {model.config.vocab_size} tokens of the vocabulary.")
    row = encoding.ids.tolist()
    check_tokens(model.config, {"token_ids": [row]})
    token_ids = padded([row], tokenizer.pad_id, length_bucket(len(row)), 1)
    places = padded([at.tolist()], 0, bucket(len(at)), 1)
    real = np.arange(token_ids.shape[1])[None] < len(row)
    segment_ids = np.zeros_like(token_ids)
    log_probs = ops.convert_to_numpy(_program(model, "log_probs", _log_probs)(token_ids, segment_ids, real, places))[0, : len(at)]
    order = np.argsort(-log_probs, axis=-1, kind="stable")[:, :top_k]
    return [
        [Candidate(tokenizer.id_to_token(int(token)), float(np.exp(values[token]))) for token in best]
        for values, best in zip(log_probs, order, strict=True)
    ]


def score(model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], batch_size: int = 32) -> np.ndarray:
    """The log-probability (natural) of each text under the model, float32 [N].

    Under a mask that does not look ahead, the sum over the text's tokens and its final [SEP], each given those before it; under one with
    a `source` part (seq2seq), texts are pairs (source, target), and the sum is over the target. Under "encoder", the
    pseudo-log-likelihood: each token in turn is masked and predicted from all others (Salazar et al. 2020, arXiv:1910.14659).
    """
    encodings = _encoded(model, tokenizer, texts)
    if model.mask == masks.encoder:
        _check_encoder(model, "score()")
        jobs = [job for text, encoding in enumerate(encodings) for job in _masked_once(text, encoding, tokenizer)]
    else:
        check_generates(model)
        jobs = [_shifted(text, encoding, model) for text, encoding in enumerate(encodings)]
    totals = np.zeros(len(encodings), np.float64)
    program = _program(model, "target_log_probs", _target_log_probs)
    batches = list(by_length([len(job.token_ids) for job in jobs], batch_size))
    for batch in track(batches, len(batches), "scoring"):
        rows = [jobs[index] for index in batch]
        count, length = bucket(len(rows)), length_bucket(len(rows[0].token_ids))
        wanted = bucket(max(len(row.at) for row in rows))
        found = program(
            padded([row.token_ids for row in rows], tokenizer.pad_id, length, count),
            padded([row.segment_ids for row in rows], 0, length, count),
            np.arange(length)[None] < padded([[len(row.token_ids)] for row in rows], 0, 1, count),
            padded([row.at for row in rows], 0, wanted, count),
            padded([row.targets for row in rows], 0, wanted, count),
        )
        for row, values in zip(rows, ops.convert_to_numpy(found), strict=False):
            totals[row.text] += values[: len(row.at)].sum(dtype=np.float64)
    return totals.astype(np.float32)


def embed(model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], pooling: str = "mean", batch_size: int = 32) -> np.ndarray:
    """One vector a text (or pair), float32 [N, H].

    pooling: "mean" or "max" over all its tokens, [CLS] and [SEP] included; "first", the vector of [CLS]; "pooled", the model's
    output of that name."""
    if pooling not in POOLINGS:
        raise ConfigError(f"There is no pooling {pooling!r}.{did_you_mean(pooling, POOLINGS)} Poolings are {', '.join(POOLINGS)}.")
    if pooling == "pooled" and "pooled/dense" not in model.parts:
        raise ConfigError("pooling='pooled' needs the model's pooler. Load it with outputs=('pooled',), or use pooling='mean'.")
    encodings = _encoded(model, tokenizer, texts)
    vectors = np.zeros((len(encodings), model.config.hidden_size), np.float32)
    program = _program(model, f"embed/{pooling}", partial(_pooled, pooling=pooling))
    batches = list(by_length([len(encoding) for encoding in encodings], batch_size))
    for batch in track(batches, len(batches), "embedding"):
        rows = [encodings[index] for index in batch]
        count, length = bucket(len(rows)), length_bucket(len(rows[0]))
        found = program(
            padded([row.ids.tolist() for row in rows], tokenizer.pad_id, length, count),
            padded([row.segment_ids.tolist() for row in rows], 0, length, count),
            np.arange(length)[None] < padded([[len(row)] for row in rows], 0, 1, count),
        )
        vectors[batch] = ops.convert_to_numpy(found)[: len(rows)]
    return vectors


class _Job(NamedTuple):
    """One row of a batch: predict `targets` at the positions `at`, for the text of that number."""

    text: int
    token_ids: list[int]
    segment_ids: list[int]
    at: list[int]
    targets: list[int]


def _masked_once(text: int, encoding: Any, tokenizer: Tokenizer) -> list[_Job]:
    """One row for each token of the text that is not an added one, with that token masked."""
    ids, segments, jobs = encoding.ids.tolist(), encoding.segment_ids.tolist(), []
    for place, origin in enumerate(encoding.text_index):
        if origin is not None:
            jobs.append(_Job(text, [*ids[:place], tokenizer.mask_id, *ids[place + 1 :]], segments, [place], [ids[place]]))
    return jobs


def _shifted(text: int, encoding: Any, model: Transformer) -> _Job:
    """Every token but the first, or every token of the target, predicted where the token before it stands."""
    ids, segments = encoding.ids.tolist(), encoding.segment_ids.tolist()
    wanted = [place for place in range(1, len(ids)) if segments[place] == 1 or not model.mask.uses("source")]
    if not wanted:
        raise DataError(f"Text {text} has no target to score. Under the mask {masks.title(model.mask)} give pairs: (source, target).")
    return _Job(text, ids, segments, [place - 1 for place in wanted], [ids[place] for place in wanted])


def _encoded(model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any]) -> list[Any]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise DataError(f"Expected a list of texts, got {type(texts).__name__}. Put a single text in a list.")
    if not texts:
        raise DataError("There are no texts: the list is empty. Give at least one.")
    tokenizer.check_rows(model.config.vocab_size)
    encodings = []
    for place, text in enumerate(texts):
        encodings.append(tokenizer.encode(*text) if isinstance(text, tuple | list) else tokenizer.encode(text))
        if len(encodings[-1]) > model.config.max_position_embeddings:
            limit = model.config.max_position_embeddings
            raise DataError(f"Text {place} has {len(encodings[-1])} tokens; the model has {limit} positions. Split or shorten it.")
    return encodings


def _check_encoder(model: Transformer, what: str) -> None:
    if "mlm" not in model.parts:
        raise ConfigError(f"{what} needs the model's output layer over the vocabulary. Load it with outputs=('mlm',).")
    if model.mask != masks.encoder:
        raise ConfigError(
            f"{what} fills blanks from both sides, and the mask is {masks.title(model.mask)}. Use model.with_mask('encoder')."
        )


def _program(model: Transformer, name: str, function: Any) -> Any:
    """`function(model, ...)` compiled, once for a model."""
    if name not in model.programs:
        model.programs[name] = compiled(model, partial(function, model))
    return model.programs[name]


def _hidden(model: Transformer, token_ids: Any, segment_ids: Any, real: Any) -> Any:
    """The last layer, [B, L, H]."""
    tokens = model.mask.tokens(segment_ids, real)
    allowed = model.mask(tokens, tokens)
    return model.run(token_ids, segment_ids, ops.maximum(tokens.index, 0), lambda attention, x: attention(x, allowed))


def _log_probs(model: Transformer, token_ids: Any, segment_ids: Any, real: Any, at: Any) -> Any:
    """Log-probabilities over the vocabulary at the positions `at` [B, P]: float32 [B, P, V]."""
    x = ops.take_along_axis(_hidden(model, token_ids, segment_ids, real), at[..., None], axis=1)
    return ops.log_softmax(ops.cast(model.head("mlm", x), "float32"), axis=-1)


def _target_log_probs(model: Transformer, token_ids: Any, segment_ids: Any, real: Any, at: Any, targets: Any) -> Any:
    """Log-probabilities of the tokens `targets` at the positions `at`, both [B, P]: float32 [B, P]."""
    return ops.take_along_axis(_log_probs(model, token_ids, segment_ids, real, at), targets[..., None], axis=-1)[..., 0]


def _pooled(model: Transformer, token_ids: Any, segment_ids: Any, real: Any, pooling: str) -> Any:
    x = _hidden(model, token_ids, segment_ids, real)
    if pooling == "pooled":
        return ops.cast(model.head("pooled", x), "float32")
    x = ops.cast(x, "float32")
    match pooling:
        case "first":
            return x[:, 0]
        case "max":
            return ops.max(ops.where(real[..., None], x, -1e9), axis=1)
    return ops.sum(ops.where(real[..., None], x, 0.0), axis=1) / ops.sum(ops.cast(real, "float32"), axis=1, keepdims=True)
