"""Scores by hand, and against scikit-learn's definitions written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert4k.errors import DataError
from bert4k.scores import ClassScore, by_class, confusion, draw_confusion, f1, overlap, table

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
