"""How probable an entity is, of two opinions: that of the ranker, and how near its vector is to that of the mention.

    weights = Calibration.fit(scores, cosines, right)                    # on mentions of dev, for each its candidates
    probabilities = weights.apply(scores[0], cosines[0])                 # float64 [K]

The cross-encoder sees a few tokens of both together, and the bi-encoder has seen all entities at once; each errs where the other does not.
A logistic regression weighs them (Platt 1999, "Probabilistic outputs for support vector machines", with more than one score), on texts
that neither has learnt from: of its own training texts, either knows the answer too well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
Cosines = NDArray[np.floating]

LEAST = 1e-6  # below this, and above 1 less this, all probabilities are one
RIDGE = 0.1  # pulls towards what the ranker says: a few mentions, which may be told apart without error, shall not decide everything
STEPS = 100  # of Newton's method, which needs about ten
PRECISION = 1e-9  # of a weight


class Calibration(NamedTuple):
    """The weights of a candidate's logit by the ranker, of its cosine with the mention, and of how much farther off than the nearest
    candidate it is; and a constant."""

    logit: float
    cosine: float
    behind: float
    constant: float

    def apply(self, scores: Values, cosines: Cosines) -> Values:
        """How probable each candidate of a mention is, float64 [K], of what the ranker says, from 0 to 1, and its cosine, both [K]."""
        return sigmoid(seen(scores, cosines) @ np.array(self))

    @classmethod
    def fit(cls, scores: Sequence[Values], cosines: Sequence[Cosines], right: Sequence[Sequence[bool]]) -> Calibration:
        """The weights with which candidates, of which `right` tells the right ones, are likeliest; one array for each mention. Where all
        are right, or none is, what the ranker says stands."""
        inputs = np.concatenate([np.zeros((0, 4)), *(seen(*both) for both in zip(scores, cosines, strict=True))])
        labels = np.array([each for own in right for each in own], np.float64)
        if not 0 < labels.sum() < len(labels):
            return RANKER_ALONE
        weights = start = np.array(RANKER_ALONE)

        def cost(weights: Values) -> float:
            x = inputs @ weights
            return float(np.sum(np.logaddexp(0, x) - labels * x) + RIDGE / 2 * np.sum((weights - start) ** 2))

        for _ in range(STEPS):
            found = sigmoid(inputs @ weights)
            slope = inputs.T @ (found - labels) + RIDGE * (weights - start)
            curvature = (inputs * (found * (1 - found))[:, None]).T @ inputs + RIDGE * np.eye(len(weights))
            step = np.linalg.solve(curvature, slope)
            # A whole step may lead far past the valley where probabilities are close to 0 and 1: half of it, until it leads down.
            while cost(weights - step) > cost(weights) - 1e-4 * slope @ step and np.abs(step).max() > PRECISION:
                step = step / 2
            if np.abs(step).max() <= PRECISION:
                break
            weights = weights - step
        return cls(*map(float, weights))


RANKER_ALONE = Calibration(1.0, 0.0, 0.0, 0.0)


def seen(scores: Values, cosines: Cosines) -> Values:
    """What is weighed, [K, 4]."""
    clipped = np.clip(np.asarray(scores, np.float64), LEAST, 1 - LEAST)
    near = np.asarray(cosines, np.float64)
    return np.stack([np.log(clipped / (1 - clipped)), near, near - near.max(initial=-1.0), np.ones(len(near))], axis=1)


def sigmoid(x: ArrayLike) -> Values:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(x, np.float64))))
