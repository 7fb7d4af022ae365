"""Scores by hand, and against scikit-learn's definitions written out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bert4k.errors import ConfigError, DataError
from bert4k.scores import (
    ClassScore,
    area_under_curve,
    bleu,
    by_class,
    character_f1,
    common_subsequence,
    confusion,
    draw_confusion,
    exact,
    f1,
    overlap,
    pearson,
    plain,
    ranks,
    rouge,
    spearman,
    table,
)

PREDICTED, GOLD = ["a", "a", "b", "c", "b"], ["a", "b", "b", "c", "c"]


def test_by_class() -> None:
    found = by_class([[each] for each in PREDICTED], [[each] for each in GOLD], ["a", "b", "c", "d"])
    assert found["a"] == ClassScore(0.5, 1.0, pytest.approx(2 / 3), 1)
    assert found["b"] == ClassScore(0.5, 0.5, 0.5, 2)
    assert found["c"] == ClassScore(1.0, 0.5, pytest.approx(2 / 3), 2)
    assert found["d"] == ClassScore(0.0, 0.0, 0.0, 0)


def test_overlap_counts_things_once() -> None:
    assert overlap([[1, 2, 2], []], [[2, 3], [4]]) == f1(1, 2, 3) == ClassScore(0.5, 1 / 3, 0.4, 3)


def test_confusion_has_the_right_labels_in_rows() -> None:
    np.testing.assert_array_equal(confusion(PREDICTED, GOLD, ["a", "b", "c"]), [[1, 0, 0], [1, 1, 0], [0, 1, 1]])


def test_a_table_and_a_picture(tmp_path: Path) -> None:
    assert "| 体\\|育 | 50.00 | 100.00 | 66.67 | 1,000 |" in table({"体|育": ClassScore(0.5, 1.0, 2 / 3, 1000)})
    draw_confusion(confusion(PREDICTED, GOLD, ["a", "b", "c"]), ["体育", "财经", "娱乐"], tmp_path / "confusion.png", "三类")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="129"):
        draw_confusion(np.zeros((129, 129), int), ["a"] * 129, tmp_path / "confusion.png", "")


def test_rouge() -> None:
    # One: 3 of 3 and 4 characters. Two: 吃鱼 of 2 and 3 pairs. L: 猫吃鱼.
    assert rouge(["猫吃 鱼"], ["猫爱吃鱼"]) == pytest.approx({"rouge_1": 600 / 7, "rouge_2": 40, "rouge_l": 600 / 7})
    assert rouge(["A猫", "猫猫"], ["a 猫", "狗"]) == pytest.approx({"rouge_1": 50, "rouge_2": 50, "rouge_l": 50})


@pytest.mark.parametrize(
    ("one", "other", "length"), [("", "猫", 0), ("abcbdab", "bdcaba", 4), ("猫狗鱼", "猫狗鱼", 3), ("鱼", "猫鱼狗鱼", 1)]
)
def test_common_subsequence(one: str, other: str, length: int) -> None:
    assert common_subsequence(one, other) == common_subsequence(other, one) == length


def test_bleu_without_sacrebleu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(ConfigError, match="pip install sacrebleu"):
        bleu(["好"], ["好"])


@pytest.mark.parametrize(
    ("answer", "gold", "same", "share"),
    [
        ("北京", ["北京"], True, 1),
        ("《北京》 市。", ["上海", "北京市"], True, 1),
        ("Ａ b", ["aB"], True, 1),
        ("北京市", ["北京", "上海"], False, 0.8),  # 2 of 3 and of 2
        ("京京北", ["北京京京"], False, 6 / 7),
        ("", ["北京"], False, 0),
        ("", [], True, 1),
        ("北京", [], False, 0),
    ],
)
def test_answers(answer: str, gold: list[str], same: bool, share: float) -> None:
    assert exact(answer, gold) == same
    assert character_f1(answer, gold) == pytest.approx(share)


def test_plain() -> None:
    assert plain("“１２％ ，Ａ”——好 ") == "12a好"


@pytest.mark.parametrize("seed", range(3))
def test_ranks_and_correlations(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.integers(0, 5, 30), random.normal(size=30)
    by_hand = [np.sum(a < value) + (np.sum(a == value) + 1) / 2 for value in a]
    np.testing.assert_allclose(ranks(a), by_hand)
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert spearman(a, b) == pytest.approx(np.corrcoef(by_hand, ranks(b))[0, 1])
    assert spearman(b, np.exp(b)) == pytest.approx(1) and spearman(b, -(b**3)) == pytest.approx(-1)
    wins = [(x > y) + (x == y) / 2 for x in a[:12] for y in a[12:]]
    assert area_under_curve(a, np.arange(30) < 12) == pytest.approx(np.mean(wins))


def test_what_goes_with_nothing() -> None:
    assert spearman([1, 1, 1], [1, 2, 3]) == pearson([1, 2, 3], [0.1, 0.1, 0.1]) == 0
    assert area_under_curve([1, 2], [True, True]) == 0.5
