"""The ranker's opinion and the cosine, weighed on dev."""

from __future__ import annotations

import numpy as np
import pytest

from bert4k.linking.calibration import RANKER_ALONE, RIDGE, Calibration


def mentions(count: int, weights: Calibration, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], list[list[bool]]]:
    """Scores and cosines of two to six candidates each, which are right as often as a logistic regression with these weights has it."""
    random = np.random.default_rng(seed)
    sizes = random.integers(2, 7, count)
    scores, cosines = (
        [draw(size) for size in sizes] for draw in (lambda k: random.uniform(0.01, 0.99, k), lambda k: random.uniform(-1, 1, k))
    )
    right = [list(random.random(len(one)) < weights.apply(one, other)) for one, other in zip(scores, cosines, strict=True)]
    return scores, cosines, right


def likelihood(weights: Calibration, scores: list[np.ndarray], cosines: list[np.ndarray], right: list[list[bool]]) -> float:
    """What `fit` makes as large as it can, written out candidate by candidate."""
    total = 0.0
    for own, near, labels in zip(scores, cosines, right, strict=True):
        for score, cosine, label in zip(own, near, labels, strict=True):
            x = (
                weights.logit * np.log(score / (1 - score))
                + weights.cosine * cosine
                + weights.behind * (cosine - max(near))
                + weights.constant
            )
            total += np.log(1 / (1 + np.exp(-x if label else x)))
    return float(total - RIDGE / 2 * np.sum((np.array(weights) - np.array(RANKER_ALONE)) ** 2))


def all_but_certain(count: int) -> tuple[list[np.ndarray], list[np.ndarray], list[list[bool]]]:
    """Mentions of whose candidates the ranker is as sure as can be, and wrong with every fourth: there the slope is steep and the curvature
    almost none, and Newton's whole step leads nowhere."""
    scores = [np.array([1 - 2e-6, 2e-6])] * count
    return scores, [np.array([0.3, 0.1 + 0.001 * number]) for number in range(count)], [[number % 4 > 0, False] for number in range(count)]


@pytest.mark.parametrize(
    "given", [mentions(300, Calibration(0.5, 2.0, 4.0, -1.0)), mentions(20, Calibration(3.0, 9.0, 90.0, -5.0)), all_but_certain(60)]
)
def test_the_weights_are_those_of_the_highest_likelihood(given: tuple[list[np.ndarray], list[np.ndarray], list[list[bool]]]) -> None:
    found = Calibration.fit(*given)
    best = likelihood(found, *given)
    assert best > likelihood(RANKER_ALONE, *given)
    for place in range(4):
        for step in (-0.01, 0.01):
            moved = np.array(found)
            moved[place] += step
            assert likelihood(Calibration(*moved), *given) < best


def test_the_weights_that_made_the_data_are_found() -> None:
    made = Calibration(0.5, 2.0, 4.0, -1.0)
    np.testing.assert_allclose(Calibration.fit(*mentions(3000, made)), made, atol=0.2)


def test_two_that_err_in_different_places_are_better_together() -> None:
    scores, cosines, right = mentions(2000, Calibration(1.0, 4.0, 0.0, -3.0))
    weights = Calibration.fit(scores[:1000], cosines[:1000], right[:1000])
    told = [(score, cosine, weights.apply(score, cosine), own) for score, cosine, own in zip(scores, cosines, right, strict=True)][1000:]
    by_score, by_cosine, by_both = (np.mean([each[3][int(np.argmax(each[place]))] for each in told]) for place in range(3))
    assert by_both > max(by_score, by_cosine) + 0.02


@pytest.mark.parametrize("right", [[[False, False]], [[True, True]], []])
def test_where_nothing_tells_right_from_wrong_the_ranker_stands(right: list[list[bool]]) -> None:
    given = [np.array([0.2, 0.7])] * len(right)
    weights = Calibration.fit(given, given, right)
    assert weights == RANKER_ALONE
    np.testing.assert_allclose(weights.apply(np.array([0.0, 0.3, 1.0]), np.zeros(3)), [1e-6, 0.3, 1 - 1e-6])
    assert weights.apply(np.zeros(0), np.zeros(0)).shape == (0,)


def test_what_can_be_told_apart_without_error_has_finite_weights() -> None:
    weights = Calibration.fit([np.array([0.0, 1.0])] * 50, [np.array([-1.0, 1.0])] * 50, [[False, True]] * 50)
    assert np.isfinite(weights).all() and weights.apply(np.array([0.0, 1.0]), np.array([-1.0, 1.0])).round().tolist() == [0, 1]
