"""The log-probability of a target given its source, under an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from bert4k.backend import compiled
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.decoding.generation import check_generates, end_token, start_tokens
from bert4k.errors import DataError
from bert4k.layers import Attention
from bert4k.model import Transformer
from bert4k.positions import Places
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer


def score_targets(model: Transformer, tokenizer: Tokenizer, pairs: Sequence[Any], batch_size: int = 32) -> np.ndarray:
    """The sum of the log-probabilities (natural) of each target's tokens and its end, float32 [N]; pairs are (source, target)."""
    check_generates(model)
    tokenizer.check_rows(model.config.vocab_size)
    if isinstance(pairs, str) or not isinstance(pairs, Sequence) or not pairs:
        raise DataError(
            f"score() takes a list of pairs (source, target), got {type(pairs).__name__}, empty or not. Give at least one pair."
        )
    start, end = start_tokens(model, tokenizer), end_token(model, tokenizer)
    sources, targets = [], []
    for place, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise DataError(f"Text {place} has no target to score: an encoder-decoder scores pairs, (source, target). Found {pair!r}.")
        sources.append(tokenizer.encode(pair[0]).ids.tolist())
        targets.append([*start, *map(tokenizer.token_to_id, tokenizer.tokenize(pair[1])), end])
        limit, longest = model.config.max_position_embeddings, max(len(sources[-1]), len(targets[-1]) - 1)
        if longest > limit:
            raise DataError(f"Text {place} has {longest} tokens on one side; the model has {limit} positions. Split or shorten it.")
    if "score_targets" not in model.programs:
        model.programs["score_targets"] = compiled(model, partial(_log_probs, model, len(start) - 1))
    scores = np.zeros(len(pairs), np.float32)
    batches = list(by_length([max(map(len, pair)) for pair in zip(sources, targets, strict=True)], batch_size))
    for batch in track(batches, len(batches), "scoring"):
        count = bucket(len(batch))
        arrays = []
        for rows in (sources, targets):
            there = [rows[index] for index in batch]
            length = length_bucket(max(map(len, there)))
            sizes = padded([[len(row)] for row in there], 0, 1, count)
            arrays += [padded(there, tokenizer.pad_id, length, count), np.arange(length)[None] < sizes]
        scores[batch] = ops.convert_to_numpy(model.programs["score_targets"](*arrays))[: len(batch)]
    return scores


def _log_probs(model: Transformer, given: int, source: Any, source_real: Any, target: Any, target_real: Any) -> Any:
    """float32 [B] of sources [B, S] and targets [B, T], start and end included; the start's first `given` + 1 tokens are not asked for."""
    memory = model.memory(source, ops.zeros_like(source), source_real)
    decoder_ids, wanted = target[:, :-1], target[:, 1:]
    tokens = model.writing_mask.tokens(ops.zeros_like(decoder_ids), target_real[:, :-1])
    allowed, position_ids = model.writing_mask(tokens, tokens), ops.maximum(tokens.index, 0)

    def attend(attention: Attention, x: Any) -> Any:
        memory_of_x = attention.keys_values(x, position_ids)
        return attention.attend(x, memory_of_x, allowed, places=Places(position_ids, position_ids))

    x = model.write(decoder_ids, ops.zeros_like(decoder_ids), position_ids, attend, memory)[:, given:]
    log_probs = ops.log_softmax(ops.cast(model.head(model.vocabulary_output, x), "float32"), axis=-1)
    found = ops.take_along_axis(log_probs, wanted[:, given:, None], axis=-1)[..., 0]
    return ops.sum(ops.where(target_real[:, 1 + given :], found, 0.0), axis=1)
