"""Answers as places in texts: what a network shall say of an answer's tokens, and the answer that stands in what it says.

Begins and ends above a threshold make spans, each as likely as its begin times its end; of the same answer at several places of a passage
the best counts; the passages vote (`bert4k.answering.vote`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bert4k.answering import Answer, Evidence, Question, answer_scores, vote
from bert4k.scores import plain

NOTHING = Evidence("", 0.0)


def targets(spans: Iterable[tuple[int, int]], length: int) -> NDArray[np.float32]:
    """What a network shall say of `length` tokens: [length, 2], 1 where one of the spans (first, last + 1) begins and where one ends."""
    found = np.zeros((length, 2), np.float32)
    for first, end in spans:
        found[first, 0] = found[end - 1, 1] = 1
    return found


def spans_in(
    probabilities: NDArray[np.float32], places: NDArray[np.int32], text: str, passage: int, threshold: float, longest: int
) -> list[Evidence]:
    """All spans of a passage whose begin and end are likelier than `threshold`, of at most `longest` characters.

    probabilities: [L, 2], that the answer begins and ends at a token; places: [L, 2], where in `text` each token starts and ends."""
    begins, ends = (np.flatnonzero(probabilities[:, side] > threshold) for side in (0, 1))
    # An end before its begin has no length, nor has a token that stands nowhere in the text.
    sizes = places[ends, 1][None, :] - places[begins, 0][:, None]
    found = []
    for one, other in zip(*np.nonzero((sizes > 0) & (sizes <= longest) & (ends[None, :] >= begins[:, None])), strict=True):
        start, end = int(places[begins[one], 0]), int(places[ends[other], 1])
        score = float(probabilities[begins[one], 0]) * float(probabilities[ends[other], 1])
        found.append(Evidence(text[start:end], score, passage, start, end))
    return found


def choose(spans: Iterable[Evidence]) -> Evidence:
    """The answer for which the passages vote, where it stands most surely: of a passage each answer counts once, however often it stands
    there. Answers that differ in nothing but width, case, blanks or punctuation are one."""
    best: dict[tuple[int, str], Evidence] = {}
    for span in spans:
        key = span.passage, plain(span.text)
        if key[1] and (key not in best or span.score > best[key].score):
            best[key] = span
    chosen = vote(Answer(text, span.score) for (_, text), span in best.items())
    return max((span for (_, text), span in best.items() if text == chosen.text), key=lambda span: span.score, default=NOTHING)


# No answer. ----------------------------------------------------------------------------------------------------------------------


def silenced(found: Sequence[Evidence], least: float) -> list[Evidence]:
    """Answers, but none where the score is below `least`."""
    return [span if span.score >= least else NOTHING for span in found]


def calibrated(found: Sequence[Evidence], questions: Sequence[Question]) -> float:
    """The least score an answer must have to be given, by which the answers to these questions, right ones known, score highest ("mean" of
    `answer_scores`); of several as good the lowest, and 0 where every answer is better given."""
    order = np.argsort([span.score for span in found], kind="stable")
    given = np.array([answer_scores([found[at].text], [questions[at]])["mean"] for at in order])
    silent = np.array([answer_scores([""], [questions[at]])["mean"] for at in order])
    # worth[n]: the n least sure are not given.
    worth = np.concatenate([[0], np.cumsum(silent)]) + np.concatenate([np.cumsum(given[::-1])[::-1], [0]])
    scores = np.array([found[at].score for at in order])
    apart = np.concatenate([[True], np.diff(scores) > 0, [True]])  # equal scores are given or not together
    chosen = int(np.argmax(np.where(apart, worth, -np.inf)))
    if chosen == 0:
        return 0.0
    return float(scores[-1] + 1e-6) if chosen == len(scores) else float(scores[chosen - 1] + scores[chosen]) / 2
