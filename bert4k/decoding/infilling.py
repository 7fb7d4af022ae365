"""`infill`: texts with blanks, of known or unknown length, filled jointly in any order.

[MASK]        a blank of one token
[MASK]{3}     of three
[MASK]{1,6}   of one to six: every length is tried
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from bert4k import masks
from bert4k.decoding import blanks
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.decoding.generation import random_numbers
from bert4k.decoding.orders import PERMUTED, Order, checked_order, sequence
from bert4k.decoding.samplers import Beam, Greedy, Sampler
from bert4k.errors import ConfigError, DataError
from bert4k.model import Transformer
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer
from bert4k.tokenizers.vocabulary import MASK

ORDERS = ("confidence", "left_to_right", "right_to_left")
MOST_LENGTHS = 256  # ways in which the blanks of one text may share out their lengths

_BLANK = re.compile(re.escape(MASK) + r"(\{[^}]*(?:\}|$))?")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(?:,\s*(\d{1,9})\s*)?\}")


@dataclass(frozen=True)
class Infilling:
    """A text whose blanks are filled.

    text: as it was given, a pair as a pair, with the `fills` where the blanks were. `token_ids`, `log_probs` (natural logarithm, of a
    token when it was written) and `steps` (at which it was, from 0) have one entry a token of the blanks, from left to right.
    score: the sum of `log_probs` / their number ** length_penalty. alternatives: the other lengths, the best first.
    """

    text: str | tuple[str, ...]
    fills: tuple[str, ...]
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    steps: tuple[int, ...]
    score: float
    alternatives: tuple[Infilling, ...] = ()

    def __str__(self) -> str:
        return self.text if isinstance(self.text, str) else "\t".join(self.text)


def infill(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[Any],
    *,
    order: Order = "confidence",
    iterations: int | None = None,
    sampler: Sampler | None = None,
    length_penalty: float = 1.0,
    batch_size: int = 32,
) -> list[Infilling]:
    """The texts, or pairs of texts, with their blanks filled, one Infilling a text, in their order.

    `[MASK]` is a blank of one token, `[MASK]{3}` of three, `[MASK]{1,6}` of one to six. The blanks of a text are filled jointly, one token
    at a step, each given those filled before it. Under the mask "encoder" the others are seen as [MASK]s, as any BERT knows them. Under
    "permuted" they are not seen, as a permuted language model is trained: there the sum of `log_probs` is the exact logarithm of the
    probability of the fills in the order in which they came. Special tokens are never written.

    order: "confidence" (the token of which the model is surest comes first), "left_to_right", "right_to_left", or the numbers of the
    blanks, from 0, the first to be filled in front, each from left to right; one such sequence for all texts, or one for each.
    iterations: instead, fill all blanks at once, and so many times less one open those again whose tokens are least probable, fewer each
    time: mask-predict (Ghazvininejad et al. 2019, arXiv:1904.09324). Only under "encoder". 1 is one parallel pass.
    sampler: `bert4k.greedy()` (the default) or `bert4k.sample(...)`, for the token of a blank.
    length_penalty: lengths are compared by the sum of the log-probabilities divided by tokens ** length_penalty; 1 is the mean, as
    mask-predict has it. All lengths are tried together, of several blanks all combinations (256 at most).

    Raises `DataError` for a text without a blank, a blank without tokens, or more of them than the model has positions, and `ConfigError`
    for an order that is none, any other mask, and a model without an "mlm" output.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not texts:
        raise DataError("infill() takes a list of texts or pairs, with at least one. Put a single text in a list.")
    order = checked_order(order, ORDERS, len(texts))
    sampler = sampler or Greedy()
    plan = _plan(model, order, iterations, sampler)
    if not abs(length_penalty) < inf:
        raise ConfigError(f"length_penalty={length_penalty}: expected a number; 0 compares sums, 1 means.")
    tokenizer.check_rows(model.config.vocab_size)
    templates = [_template(model, tokenizer, place, text) for place, text in enumerate(texts)]
    rows = [row for template in templates for row in template.rows(order)]
    kind = blanks.Unseen if model.mask in PERMUTED else blanks.InPlace
    run = blanks.filler(kind(model, plan, sampler))
    uniform = random_numbers([row.token_ids for row in rows], sampler, bucket(max(len(row.at) for row in rows)))[:, 0]
    found: list[list[Infilling]] = [[] for _ in templates]
    batches = list(by_length([len(row.token_ids) for row in rows], batch_size))
    for batch in track(batches, len(batches), "infilling"):
        state = run(_request(tokenizer, [rows[place] for place in batch], uniform[batch], iterations))
        fields = (ops.convert_to_numpy(field) for field in (state.tokens, state.log_probs, state.steps))
        for place, *values in zip(batch, *fields, strict=False):
            row = rows[place]
            found[row.text].append(templates[row.text].filled(tokenizer, row, values, length_penalty))
    ranked = [sorted(each, key=lambda one: (-one.score, len(one.token_ids))) for each in found]
    return [replace(best, alternatives=tuple(others)) for best, *others in ranked]


# Texts to rows, and back. ---------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A text with blanks of these sizes."""

    text: int
    sizes: tuple[int, ...]
    token_ids: list[int]
    segment_ids: list[int]
    at: list[int]  # where each token of a blank stands
    turn: list[int]  # when each is filled


@dataclass(frozen=True)
class _Template:
    """A text: what stands around its blanks, how long each may be, and the row in which each is one token."""

    number: int
    pieces: tuple[tuple[str, ...], ...]  # of each part of a pair, one more than it has blanks
    lengths: tuple[range, ...]
    token_ids: tuple[int, ...]
    segment_ids: tuple[int, ...]
    mask_id: int

    def rows(self, order: Order) -> Iterator[_Row]:
        """One for every combination of lengths."""
        for sizes in product(*self.lengths):
            left = iter(sizes)
            counts = [next(left) if token == self.mask_id else 1 for token in self.token_ids]
            token_ids, segment_ids = (np.repeat(ids, counts) for ids in (self.token_ids, self.segment_ids))
            at = np.flatnonzero(token_ids == self.mask_id)
            turn = np.argsort(self._numbers(order, sizes)).tolist()
            yield _Row(self.number, sizes, token_ids.tolist(), segment_ids.tolist(), at.tolist(), turn)

    def _numbers(self, order: Order, sizes: tuple[int, ...]) -> list[int]:
        """The numbers of the blanks' tokens in the order in which they are filled."""
        if isinstance(order, str):  # under "confidence" nobody asks
            return sequence("left_to_right" if order == "confidence" else order, sum(sizes), self.number, "tokens")
        tokens = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        return np.concatenate([tokens[blank] for blank in sequence(order, len(sizes), self.number, "blanks")]).tolist()

    def filled(self, tokenizer: Tokenizer, row: _Row, values: Sequence[np.ndarray], length_penalty: float) -> Infilling:
        """The text with the blanks of `row` filled. values: the tokens, their log-probabilities and their steps, each [P]."""
        token_ids, log_probs, steps = (each[: len(row.at)] for each in values)
        fills = tuple(tokenizer.decode(ids) for ids in np.split(token_ids, np.cumsum(row.sizes)[:-1]))
        left = iter(fills)
        parts = tuple(pieces[0] + "".join(next(left) + piece for piece in pieces[1:]) for pieces in self.pieces)
        score = float(log_probs.sum(dtype=np.float64)) / len(log_probs) ** length_penalty
        text = parts[0] if len(parts) == 1 else parts
        return Infilling(text, fills, tuple(token_ids.tolist()), tuple(log_probs.tolist()), tuple(steps.tolist()), score)


def _template(model: Transformer, tokenizer: Tokenizer, number: int, text: Any) -> _Template:
    """The text, checked against the model."""
    parts = (text,) if isinstance(text, str) else text
    if not (isinstance(parts, tuple | list) and len(parts) in (1, 2) and all(isinstance(part, str) for part in parts)):
        raise DataError(f"Text {number} is {text!r}; expected a string, or a pair (first, second) of strings.")
    lengths = tuple(_length(number, blank) for part in parts for blank in _BLANK.finditer(part))
    if not lengths:
        raise DataError(
            f"Text {number}, {text!r}, has no blank. Write {MASK}, {MASK}{{3}} or {MASK}{{1,6}} where tokens are to be filled in."
        )
    combinations = prod(len(length) for length in lengths)
    if combinations > MOST_LENGTHS:
        raise DataError(
            f"The blanks of text {number} may have {combinations:,} combinations of lengths; at most {MOST_LENGTHS} are tried."
            " Give narrower ranges, or the length of some of them."
        )
    plain = [_BLANK.sub(MASK, part) for part in parts]
    encoding = tokenizer.encode(plain[0], plain[1] if len(plain) == 2 else None)
    if np.count_nonzero(encoding.ids == tokenizer.mask_id) != len(lengths):
        raise DataError(
            f"Text {number} has {len(lengths)} blanks, and the tokenizer reads another number of {MASK} in it. Make the tokenizer without"
            f" special_tokens_in_text=False, and without special tokens that contain {MASK}."
        )
    longest = len(encoding) + sum(length[-1] - 1 for length in lengths)
    limit = model.config.max_position_embeddings
    if longest > limit:
        raise DataError(
            f"Text {number} has {longest} tokens with its blanks; the model has {limit} positions. Shorten the text or the blanks."
        )
    pieces = tuple(tuple(part.split(MASK)) for part in plain)
    return _Template(number, pieces, lengths, tuple(encoding.ids.tolist()), tuple(encoding.segment_ids.tolist()), tokenizer.mask_id)


def _length(number: int, blank: re.Match[str]) -> range:
    """How many tokens a blank may have."""
    count = blank[1]
    found = _COUNT.fullmatch("{1}" if count is None else count)
    if found is None:
        raise DataError(
            f"{blank[0]!r} in text {number} is no blank. Expected {MASK}{{3}} or {MASK}{{1,6}}; put a space before a brace that is text."
        )
    least, most = int(found[1]), int(found[2] or found[1])
    if not 1 <= least <= most:
        raise DataError(f"{blank[0]!r} in text {number}: expected at least 1 token, and first the least, then the most: {MASK}{{1,6}}.")
    return range(least, most + 1)


# Plans and requests. --------------------------------------------------------------------------------------------------


def _plan(model: Transformer, order: Order, iterations: int | None, sampler: Sampler) -> blanks.Plan:
    if model.config.num_decoder_layers:
        raise ConfigError("infill() needs a masked language model, and an encoder-decoder writes its answers: use bert4k.generate().")
    if "mlm" not in model.parts:
        raise ConfigError("Infilling needs the model's output layer over the vocabulary. Load it with outputs=('mlm',).")
    if model.mask != masks.encoder and model.mask not in PERMUTED:
        raise ConfigError(
            f"infill() fills blanks from both sides, and the mask is {masks.title(model.mask)}. Use model.with_mask('encoder'), or"
            " model.with_mask('permuted') for a permuted language model."
        )
    if not isinstance(sampler, Sampler) or isinstance(sampler, Beam) or sampler.width != 1:
        raise ConfigError(f"infill(sampler={sampler!r}): a blank gets one token. Use bert4k.greedy(), or bert4k.sample() with count=1.")
    if iterations is None:
        return blanks.Plan() if order == "confidence" else blanks.InTurn()
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise ConfigError(f"iterations={iterations!r}: expected a whole number, at least 1, or None to fill one token at a step.")
    if model.mask != masks.encoder:
        raise ConfigError(
            f"iterations={iterations} takes back what was written, and under the mask {masks.title(model.mask)} what is revealed stays."
            " Use model.with_mask('encoder'), or leave iterations away."
        )
    if order != "confidence":
        raise ConfigError(
            f"iterations={iterations} fills all blanks at once, and order={order!r} one after the other. Give one of the two."
        )
    return blanks.MaskPredict()


def _request(tokenizer: Tokenizer, rows: list[_Row], uniform: np.ndarray, iterations: int | None) -> blanks.Request:
    count, length = bucket(len(rows)), length_bucket(len(rows[0].token_ids))
    most = max(len(row.at) for row in rows)
    slots = bucket(most)
    at = padded([row.at for row in rows], 0, slots, count)
    exists = np.arange(slots)[None] < padded([[len(row.at)] for row in rows], 0, 1, count)
    blank = np.full((count, length), -1, np.int32)
    row, number = np.nonzero(exists)
    blank[row, at[row, number]] = number
    writable = np.ones(len(tokenizer), bool)
    writable[list(tokenizer.special_ids)] = False
    return blanks.Request(
        token_ids=padded([row.token_ids for row in rows], tokenizer.pad_id, length, count),
        segment_ids=padded([row.segment_ids for row in rows], 0, length, count),
        real=np.arange(length)[None] < padded([[len(row.token_ids)] for row in rows], 0, 1, count),
        blank=blank,
        at=at,
        exists=exists,
        turn=padded([row.turn for row in rows], 0, slots, count),
        uniform=np.concatenate([uniform[:, :slots], np.repeat(uniform[-1:, :slots], count - len(rows), axis=0)]),
        writable=writable,
        limit=np.int32(most if iterations is None else iterations),
    )
