"""What the layers of one run are told beside x: the condition of its norms, and the scores of the attention layer before.

Hooks hand on x alone, and a block that a user overrides knows nothing of either; so they lie in a context, as Keras keeps `training`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_CONDITION: ContextVar[Any] = ContextVar("condition", default=None)


@contextmanager
def conditioned(condition: Any) -> Iterator[None]:
    """Within, conditional norms normalise under `condition`, float [B, C]; None and () are none."""
    token = _CONDITION.set(None if isinstance(condition, tuple) else condition)
    try:
        yield
    finally:
        _CONDITION.reset(token)


def current_condition() -> Any:
    """The condition of this run; None where there is none."""
    return _CONDITION.get()


class Scores:
    """The scores of attention, summed up from layer to layer: [B, N, Q, K], or None before the first."""

    def __init__(self, before: Any = None) -> None:
        self.sum = before

    def add(self, scores: Any) -> Any:
        """The sum with those of one more layer."""
        self.sum = scores if self.sum is None else self.sum + scores
        return self.sum


_SCORES: ContextVar[Scores | None] = ContextVar("scores", default=None)


@contextmanager
def summed_scores(before: Any = None) -> Iterator[Scores]:
    """Within, residual attention adds its scores to those of the layers before, of which there are `before`."""
    scores = Scores(before)
    token = _SCORES.set(scores)
    try:
        yield scores
    finally:
        _SCORES.reset(token)


def current_scores() -> Scores:
    """Those of this run; of a layer that is called by itself, none."""
    return _SCORES.get() or Scores()
