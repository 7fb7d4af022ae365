"""Answers read off probabilities: against trying everything."""

from __future__ import annotations

import numpy as np
import pytest

from bert4k.answering import Evidence, Passage, Question, answer_scores
from bert4k.reading_comprehension.spans import NOTHING, calibrated, choose, silenced, spans_in, targets


def whole(text: str) -> np.ndarray:
    return np.array([(at, at + 1) for at in range(len(text))], np.int32)


@pytest.mark.parametrize("seed", range(20))
def test_decoding_is_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Tokens of one to three characters, some of which stand nowhere, and blanks between them.
    places, at = [], 0
    for size in rng.integers(0, 4, 30):
        at += int(rng.integers(0, 2))
        places.append((at, at + int(size)))
        at += int(size)
    text = "".join(rng.choice(list("北京1a "), at))
    told = rng.uniform(0, 1, (30, 2)).astype("float32")
    expected = {}
    for first, (start, _) in enumerate(places):
        for last in range(first, 30):
            end = places[last][1]
            if told[first, 0] > 0.6 and told[last, 1] > 0.6 and 0 < end - start <= 7:
                expected[start, end, float(told[first, 0]) * float(told[last, 1])] = text[start:end]
    found = spans_in(told, np.array(places, np.int32), text, 4, 0.6, 7)
    assert {(each.start, each.end, each.score): each.text for each in found} == expected
    assert all(each.passage == 4 for each in found)


def test_targets_of_all_places() -> None:
    assert targets([(0, 1), (2, 4)], 5).T.tolist() == [[1, 0, 1, 0, 0], [1, 0, 0, 1, 0]]


def test_passages_vote_and_repeats_do_not() -> None:
    def span(text: str, score: float, passage: int, start: int = 0) -> Evidence:
        return Evidence(text, score, passage, start, start + len(text))

    assert choose([]) == NOTHING
    # 0.36 / 1.6 = 0.225 against 0.5 / 2 = 0.25 of two passages; within one passage it would be 0.25 / 1.5.
    assert choose([span("北京", 0.6, 0), span("南京", 0.5, 1), span("南京", 0.5, 2)]).text == "南京"
    assert choose([span("北京", 0.6, 0), span("南京", 0.5, 1), span("南京", 0.5, 1, 9)]).text == "北京"
    # The same in other width and case; the evidence is where it is surest.
    assert choose([span("ＡＢ", 0.5, 0), span("a b", 0.6, 1, 3), span("c", 0.7, 2)]) == span("a b", 0.6, 1, 3)
    assert choose([span("！", 0.9, 0)]) == NOTHING


@pytest.mark.parametrize("seed", range(10))
def test_calibration_is_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, questions = [], []
    for _ in range(12):
        gold = str(rng.choice(["北京", "南京", ""], p=[0.4, 0.3, 0.3]))
        questions.append(Question("哪", (Passage("x"),), (gold,) if gold else ()))
        found.append(Evidence(str(rng.choice(["北京", "南京市"])), float(rng.choice([0.1, 0.2, 0.3, 0.4, 0.5])), 0, 0, 2))

    def worth(least: float) -> float:
        return answer_scores([each.text for each in silenced(found, least)], questions)["mean"]

    assert worth(calibrated(found, questions)) == pytest.approx(max(worth(least) for least in (0, 0.15, 0.25, 0.35, 0.45, 1)))


def test_calibration_where_all_have_answers() -> None:
    questions = [Question("哪", (Passage("北京"),), ("北京",))] * 3
    assert calibrated([Evidence("北京", 0.2, 0, 0, 2)] * 3, questions) == 0
    assert silenced([Evidence("北京", 0.2, 0, 0, 2)], 0.3) == [NOTHING]
