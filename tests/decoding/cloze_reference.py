"""Decoding of a cloze checkpoint written out the slow way: what `reference.Bert.after` is to a shifted one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from decoding import reference


def after(bert: reference.Bert, source: Sequence[int], segment: int, mask_id: int) -> reference.Next:
    """What comes after a source, as a function of what has been written, when a token is told in its own place, where a [MASK] stands.

    UniLM's fine-tuning (`pretraining.objectives.seq2seq_cloze`): the [MASK] sees what the mask shows the token that it stands for, itself
    included; what has been written has never seen one. Samplers and beams of `reference` take it as they take `Bert.after`."""

    @cache
    def next_token(written: tuple[int, ...]) -> np.ndarray:
        return bert.log_probs([*source, *written, mask_id], [0] * len(source) + [segment] * (len(written) + 1))[-1]

    return next_token
