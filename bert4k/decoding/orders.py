"""Orders in which the tokens of a text are revealed: their names, and the log-probability of a text under any of them.

A permuted language model factorises a text in every order (Yang et al. 2019, arXiv:1906.08237): its log-probability is the sum over the
tokens of log p(token | those revealed before, and where it stands). One pass gives all terms: behind the text stands a [MASK]
query for each token, in its place, which sees what was revealed before the token and which nobody sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import index
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from keras import ops

from bert4k import masks
from bert4k.backend import compiled
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.errors import ConfigError, DataError, did_you_mean
from bert4k.layers import Attention
from bert4k.model import Transformer
from bert4k.positions import Places
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer

Order = str | Sequence[int] | Sequence[Sequence[int]]  # a name, one sequence for all texts, or one for each

# Those under which a token is seen by the tokens revealed after it and by itself, and the order is an input.
PERMUTED = (masks.permuted(), masks.permuted() & masks.same_document)


def checked_order(order: Any, names: Sequence[str], texts: int) -> Order:
    """The order, arrays as lists; raises `ConfigError` unless it is one of these names, a sequence, or a sequence for each text."""
    order = order.tolist() if isinstance(order, np.ndarray) else order
    if isinstance(order, str):
        if order not in names:
            raise ConfigError(
                f"There is no order {order!r}.{did_you_mean(order, names)} Orders are {', '.join(names)}, and sequences such as (2, 0, 1)."
            )
    elif not isinstance(order, Sequence):
        raise ConfigError(f"order={order!r}: expected one of {', '.join(names)}, or a sequence such as (2, 0, 1).")
    elif _nested(order) and len(order) != texts:
        raise ConfigError(f"order holds {len(order)} sequences and there are {texts} texts. Give one sequence for all, or one for each.")
    return order


def sequence(order: Order, count: int, text: int, what: str) -> list[int]:
    """The numbers 0 to count - 1 of the things (`what`: "blanks") of text number `text`, in their order.

    Raises `ConfigError` when the order that was given is no permutation of them."""
    if order == "left_to_right":
        return list(range(count))
    if order == "right_to_left":
        return list(range(count))[::-1]
    own: Any = order[text] if _nested(order) else order
    try:
        numbers = [index(number) for number in own]
    except TypeError:
        numbers = []
    if sorted(numbers) != list(range(count)):
        raise ConfigError(
            f"order={tuple(own)} is no order of the {count} {what} of text {text}: expected each number from 0 to {count - 1} once,"
            " the one that comes first in front."
        )
    return numbers


def _nested(order: Any) -> bool:
    return not isinstance(order, str) and len(order) > 0 and isinstance(order[0], Sequence | np.ndarray)


class _Job(NamedTuple):
    """A text, and for each of its tokens that are told where it stands and after how many others it is revealed."""

    token_ids: list[int]
    segment_ids: list[int]
    at: list[int]
    time: list[int]


def score_permuted(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], order: Order = "left_to_right", seed: int = 0, batch_size: int = 32
) -> np.ndarray:
    """The log-probability (natural) of each text when its tokens are revealed in this order, float32 [N].

    The mask must be "permuted". The sum over the tokens of a text (of both, for a pair), each given those revealed before it, [CLS], [SEP]
    and its place: as in training, where the added tokens are context. So the number of tokens is known, and the probabilities
    of all texts of one length sum to 1.

    order: "left_to_right", "right_to_left", "random" (another for each text, which follows from `seed` and the text), or the numbers of the
    text's tokens, from 0, the first to be revealed in front; one such sequence for all texts, or one for each.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise DataError("Expected a list of texts, with at least one. Put a single text in a list.")
    check_permuted(model, "Scoring in an order")
    order = checked_order(order, ("left_to_right", "right_to_left", "random"), len(texts))
    tokenizer.check_rows(model.config.vocab_size)
    jobs = [_job(model, tokenizer, place, text, order, seed) for place, text in enumerate(texts)]
    totals = np.zeros(len(jobs), np.float32)
    if "permuted_log_probs" not in model.programs:
        model.programs["permuted_log_probs"] = compiled(model, partial(_log_probs, model))
    program = model.programs["permuted_log_probs"]
    batches = list(by_length([len(job.token_ids) for job in jobs], batch_size))
    for batch in track(batches, len(batches), "scoring"):
        rows = [jobs[place] for place in batch]
        count, length = bucket(len(rows)), length_bucket(len(rows[0].token_ids))
        told = bucket(max(1, *(len(row.at) for row in rows)))
        found = program(
            padded([row.token_ids for row in rows], tokenizer.pad_id, length, count),
            padded([row.segment_ids for row in rows], 0, length, count),
            np.arange(length)[None] < padded([[len(row.token_ids)] for row in rows], 0, 1, count),
            padded([_order_of_tokens(row) for row in rows], 0, length, count),
            padded([row.at for row in rows], 0, told, count),
            padded([row.time for row in rows], 0, told, count),
            np.int32(tokenizer.mask_id),
        )
        for place, row, values in zip(batch, rows, ops.convert_to_numpy(found), strict=False):
            totals[place] = values[: len(row.at)].sum(dtype=np.float64)
    return totals


def check_permuted(model: Transformer, what: str) -> None:
    """Raise `ConfigError` unless the model is a permuted language model that takes its order as an input."""
    if "mlm" not in model.parts:
        raise ConfigError(f"{what} needs the model's output layer over the vocabulary. Load it with outputs=('mlm',).")
    if model.mask not in PERMUTED:
        raise ConfigError(f"{what} needs the mask permuted, and the mask is {masks.title(model.mask)}. Use model.with_mask('permuted').")


def _job(model: Transformer, tokenizer: Tokenizer, place: int, text: Any, order: Order, seed: int) -> _Job:
    encoding = tokenizer.encode(*text) if isinstance(text, tuple | list) else tokenizer.encode(text)
    limit = model.config.max_position_embeddings
    if len(encoding) > limit:
        raise DataError(f"Text {place} has {len(encoding)} tokens; the model has {limit} positions. Split or shorten it.")
    at = [spot for spot, origin in enumerate(encoding.text_index) if origin is not None]
    if order == "random":
        numbers = np.random.default_rng([seed, crc32(encoding.ids.tobytes())]).permutation(len(at)).tolist()
    else:
        numbers = sequence(order, len(at), place, "tokens")
    return _Job(encoding.ids.tolist(), encoding.segment_ids.tolist(), at, np.argsort(numbers).tolist())


def _order_of_tokens(job: _Job) -> list[int]:
    """The time at which each token of the row is revealed: 0 for what is given."""
    order = np.zeros(len(job.token_ids), np.int32)
    order[job.at] = np.add(job.time, 1)
    return order.tolist()


def _log_probs(model: Transformer, token_ids: Any, segment_ids: Any, real: Any, order: Any, at: Any, time: Any, mask_id: Any) -> Any:
    """Log-probabilities float32 [B, P] of the tokens [B, L] at the places `at` [B, P], each given what is revealed up to `time` [B, P]."""
    length = token_ids.shape[1]
    content = model.mask.tokens(segment_ids, real, order=order)
    queries = model.mask.tokens(ops.take_along_axis(segment_ids, at, axis=1), ops.ones_like(at, "bool"), order=time)
    everybody = masks.Tokens(*(ops.concatenate(pair, axis=1) for pair in zip(content, queries, strict=True)))
    allowed = model.mask(everybody, content)  # no query is among the keys: nobody sees one

    position_ids = ops.concatenate([ops.maximum(content.index, 0), at], axis=1)
    places = Places(position_ids, position_ids[:, :length])

    def attend(attention: Attention, x: Any) -> Any:
        return attention.attend(x, attention.keys_values(x[:, :length], places.keys), allowed, places=places)

    everything = ops.concatenate([token_ids, ops.broadcast_to(mask_id, at.shape)], axis=1)
    x = model.run(everything, everybody.segment, position_ids, attend)[:, length:]
    log_probs = ops.log_softmax(ops.cast(model.head("mlm", x), "float32"), axis=-1)
    return ops.take_along_axis(log_probs, ops.take_along_axis(token_ids, at, axis=1)[..., None], axis=-1)[..., 0]
