"""What may come next: changes of the next token's log-probabilities that depend on what has been written."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from keras import ops

from bert4k.decoding.samplers import IMPOSSIBLE, LOST
from bert4k.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """Rules for every hypothesis of a decoding run.

    forbidden: token ids that never come. min_tokens: the end token comes after at least so many, or earlier where the other
    rules leave nothing else. no_repeat_ngram: no sequence of so many tokens comes twice (Paulus et al. 2017,
    arXiv:1705.04304); 0 switches it off.
    repetition_penalty: multiplies the log-probability of tokens written before, so above 1 makes them less likely (after
    Keskar et al. 2019, arXiv:1909.05858, who divide logits).

    Where a constraint says what may come (`allowed`), nothing else ever does: where it leaves only tokens that would repeat an n-gram,
    one of them comes.
    """

    forbidden: tuple[int, ...] = ()
    min_tokens: int = 0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.min_tokens < 0 or self.no_repeat_ngram < 0:
            raise ConfigError(f"min_tokens={self.min_tokens}, no_repeat_ngram={self.no_repeat_ngram}: expected 0 (off) or more.")
        if not 0 < self.repetition_penalty < inf:
            raise ConfigError(f"repetition_penalty={self.repetition_penalty}: expected a number above 0; 1 changes nothing.")

    def __call__(self, log_probs: Any, tokens: Any, length: Any, end: Any, allowed: Any = None) -> Any:
        """Log-probabilities [B, W, V] of the next token, given the first `length` [B, W] of the tokens [B, W, T], and what a constraint
        allows, bool [B, W, V] (None: everything)."""
        vocabulary = log_probs.shape[-1]
        ids = ops.arange(vocabulary, dtype="int32")
        if self.repetition_penalty != 1.0:
            written = ops.arange(tokens.shape[2], dtype="int32") < length[..., None]
            log_probs = ops.where(_marked(tokens, written, vocabulary), log_probs * self.repetition_penalty, log_probs)
        if self.forbidden:
            never = ops.any(ids[:, None] == ops.convert_to_tensor(self.forbidden, "int32")[None], axis=1)
            log_probs = ops.where(never, IMPOSSIBLE, log_probs)
        if allowed is not None:
            log_probs = ops.where(allowed, log_probs, IMPOSSIBLE)
        if self.no_repeat_ngram:
            others = ops.where(_marked(*self._completions(tokens, length), vocabulary), IMPOSSIBLE, log_probs)
            log_probs = others if allowed is None else _if_any(others, log_probs)  # without a constraint, a text can always end
        if self.min_tokens:
            log_probs = _if_any(
                ops.where(ops.logical_and(ids == end, length[..., None] < self.min_tokens), IMPOSSIBLE, log_probs), log_probs
            )
        return log_probs

    def _completions(self, tokens: Any, length: Any) -> tuple[Any, Any]:
        """The tokens that would complete an n-gram written before, and whether each of them is one: both [B, W, X]."""
        slots, size = tokens.shape[2], self.no_repeat_ngram
        last = slots - size + 1  # number of places where an n-gram may begin
        if last < 1:
            return tokens, ops.zeros_like(tokens, dtype="bool")
        begins = ops.arange(last, dtype="int32")
        same = begins + size - 1 < length[..., None]
        for offset in range(size - 1):
            recent = ops.take_along_axis(tokens, ops.maximum(length - size + 1 + offset, 0)[..., None], axis=2)
            same = ops.logical_and(same, ops.equal(tokens[..., offset : offset + last], recent))
        return tokens[..., size - 1 :], same


def _if_any(strict: Any, lenient: Any) -> Any:
    """`strict` for every hypothesis that it leaves a token, else `lenient`: log-probabilities [B, W, V]."""
    return ops.where(ops.any(strict > LOST, axis=-1, keepdims=True), strict, lenient)


def _marked(tokens: Any, marked: Any, vocabulary: int) -> Any:
    """bool [B, W, V]: whether a token id occurs among `tokens` [B, W, X] where `marked` is True."""
    unmarked = ops.zeros((*tokens.shape[:2], vocabulary + 1), "int32")
    return scattered(unmarked, tokens, marked, ops.ones_like(tokens))[..., :vocabulary] > 0


def scattered(ground: Any, tokens: Any, marked: Any, values: Any) -> Any:
    """`ground` int32 [B, W, V + 1] with `values` at the columns `tokens` where `marked` is True, all three [B, W, X]. The last column
    takes what is not marked and means nothing."""
    rows, width, columns = ground.shape
    column = ops.reshape(ops.where(marked, tokens, columns - 1), (-1,))
    row = ops.repeat(ops.arange(rows * width, dtype="int32"), tokens.shape[2])
    flat = ops.reshape(ground, (rows * width, columns))
    found = ops.scatter_update(flat, ops.stack([row, column], axis=1), ops.reshape(values, (-1,)))
    return ops.reshape(found, (rows, width, columns))
