"""What a dictionary alone says of where mentions are, as log-odds counted on training texts: where a head that is to know it begins.

A head learns slowly what a single channel is worth: AdamW moves a weight by no more than the learning rate in a step, so one weight of one
channel goes a few hundredths of a unit in a hundred steps, where the hundreds of a hidden state, all together, go many units. Counted, the
channel's worth is there from the first step on, and the network learns what the dictionary does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

SEEN = 0.5  # added to each count, so that what never occurs has finite odds (Haldane 1956)


@keras.saving.register_keras_serializable("bert4k")
class DictionaryOdds(keras.layers.Layer):
    """Adds to the logits of a head of mentions what the dictionary says, by its matches, int32 [B, L, 2]: whether a name begins at a token,
    and whether one ends there.

    To half pointers [B, L, 1, 2] it adds `odds[end, match]`, of each end by its own channel; to spans [B, 1, L, L] `odds[ends]`, by
    `_ends`. All are 0 until `set_weights` gives them what `count_ends` or `count_spans` has found."""

    def __init__(self, spans: bool, **more: Any) -> None:
        super().__init__(**more)
        self.spans = spans

    def build(self, logits_shape: Any, matches_shape: Any) -> None:
        self.odds = self.add_weight(shape=(4,) if self.spans else (2, 2), initializer="zeros", name="odds")

    def call(self, logits: Any, matches: Any) -> Any:
        odds = ops.cast(self.odds, logits.dtype)
        if self.spans:
            return logits + ops.take(odds, _ends(matches))[:, None]
        return logits + (odds[:, 0] + ops.cast(matches, logits.dtype) * (odds[:, 1] - odds[:, 0]))[:, :, None]

    def compute_output_shape(self, logits_shape: Any, matches_shape: Any) -> Any:
        return logits_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "spans": self.spans}


def _ends(matches: Any) -> Any:
    """How many ends of each span are those of names, 0 to 2, and 3 when both are those of one name; int32 [B, L, L] of matches [B, L, 2].

    Names do not overlap: both are of one name when no other begins in between."""
    begins, ends = matches[:, :, 0][:, :, None], matches[:, :, 1][:, None, :]
    begun = ops.cumsum(matches[:, :, 0], axis=1)
    return begins + ends + begins * ends * ops.cast(ops.equal(begun[:, :, None], begun[:, None, :]), "int32")


def count_ends(matches: Sequence[NDArray[np.int32]], mentions: Sequence[Sequence[tuple[int, int]]]) -> NDArray[np.float32]:
    """The log-odds that a mention begins (0) or ends (1) at a token where no name of the dictionary does (0) or one does (1), [2, 2]; of
    rows of matches [L, 2] and the (first token, last token + 1) of the mentions in them."""
    right, every = np.zeros((2, 2)), np.zeros((2, 2))
    for row, places in zip(matches, mentions, strict=True):
        for channel, at in ((0, {first for first, _ in places}), (1, {end - 1 for _, end in places})):
            every[channel] += np.bincount(row[:, channel], minlength=2)
            right[channel] += np.bincount(row[sorted(at), channel], minlength=2)
    return _log_odds(right, every)


def count_spans(matches: Sequence[NDArray[np.int32]], mentions: Sequence[Sequence[tuple[int, int]]]) -> NDArray[np.float32]:
    """The log-odds that a span is a mention, by how many of its ends are those of names and, at last, of one name, [4]; as above."""
    right, every = np.zeros(4), np.zeros(4)
    for row, places in zip(matches, mentions, strict=True):
        ends = np.asarray(ops.convert_to_numpy(_ends(ops.convert_to_tensor(row[None]))))[0]
        every += np.bincount(ends[np.triu_indices(len(row))], minlength=4)
        right += np.bincount([ends[first, end - 1] for first, end in set(places)], minlength=4)
    return _log_odds(right, every)


def _log_odds(right: NDArray[np.float64], every: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.log((right + SEEN) / (every - right + SEEN)).astype(np.float32)
