"""What a passage has in common with its question, against sets written out token by token."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bert4k.reading_comprehension.overlap import FEATURES, REACH, codes, overlap
from bert4k.scores import plain


def of_text(text: str) -> np.ndarray:
    """The codes of single characters."""
    starts = np.arange(len(text), dtype=np.int32)
    return codes(text, np.stack([starts, starts + 1], axis=1))


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


def written_out(question: str, passage: str) -> np.ndarray:
    """The features, one character after the other."""

    def pairs(tokens: list[str]) -> set[str]:
        return {a + b for a, b in pairwise(tokens) if a and b}

    asked, given, rows = [plain(char) for char in question], [plain(char) for char in passage], []
    for at, token in enumerate(given):
        around = given[max(at - REACH, 0) : at + REACH + 1]
        beside = pairs(given[max(at - 1, 0) : at + 1]) | pairs(given[at : at + 2])
        own = [token in asked and bool(token), bool(beside & pairs(asked))]
        rows.append([*own, jaccard({*asked} - {""}, {*around} - {""}), jaccard(pairs(asked), pairs(around))])
    return np.array(rows, float).reshape(len(given), FEATURES)


@pytest.mark.parametrize("seed", range(30))
def test_features_are_those_of_the_sets(seed: int) -> None:
    random = np.random.default_rng(seed)
    alphabet = "白云山海拔多少米ABａ，。 " if seed % 2 else "白云山"
    question, passage = ("".join(random.choice(list(alphabet), int(random.integers(0, most)))) for most in (12, 90))
    found = overlap(of_text(question), of_text(passage), slice(0, len(passage)))
    assert found.shape == (len(passage), FEATURES) and found.dtype == np.float16
    np.testing.assert_allclose(found, written_out(question, passage), atol=1e-3)


def test_a_piece_has_the_features_of_the_whole() -> None:
    random = np.random.default_rng(5)
    question, passage = of_text("白云山海拔"), of_text("".join(random.choice(list("白云山海拔，"), 200)))
    whole = overlap(question, passage, slice(0, 200))
    for begin, end in ((0, 50), (3, 60), (90, 91), (100, 200), (199, 200), (20, 20)):
        np.testing.assert_array_equal(overlap(question, passage, slice(begin, end)), whole[begin:end])


def test_width_and_case_are_alike_and_punctuation_is_nothing() -> None:
    assert of_text("Ａa").tolist() == of_text("aA").tolist() and not of_text("，？ 。").any()
    found = overlap(of_text("海拔？"), of_text("山海拔？"), slice(0, 4))
    assert found[:, 0].tolist() == [0, 1, 1, 0] and found[:, 1].tolist() == [0, 1, 1, 0]
    tokens = np.array([[0, 2], [2, 5], [5, 6]], np.int32)  # of several characters
    assert overlap(codes("海拔382米", tokens), codes("海拔382M", tokens), slice(0, 3))[:, 0].tolist() == [1, 1, 0]
