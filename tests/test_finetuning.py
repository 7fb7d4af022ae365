"""Texts that are only read: each gets its own answer, whatever batches they meet in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bert4k import finetuning
from bert4k.finetuning import Encoded, outputs_of

LENGTHS = [3, 40, 7, 7, 1, 22, 40, 9, 30, 8, 2] * 3


class Sums:
    """In place of a model: the sum of the ids of each row, padding included."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def predict_on_batch(self, inputs: dict[str, Any]) -> Any:
        self.shapes.append(inputs["token_ids"].shape)
        return inputs["token_ids"].sum(axis=1)


@pytest.mark.parametrize("compiled", [True, False])
def test_each_text_gets_its_own_answer(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning, "shapes_are_compiled", lambda: compiled)
    rows = [np.arange(1, length + 1, dtype=np.int32) for length in LENGTHS]
    model: Any = Sums()
    encoded = Encoded(rows, [np.zeros_like(row) for row in rows])
    assert outputs_of(model, encoded, 80) == [int(row.sum()) for row in rows]
    assert all(count * length <= 80 for count, length in model.shapes) and len(model.shapes) > 3
    if not compiled:  # no row is there twice, and the longest of a batch is not padded
        assert sum(count for count, _ in model.shapes) == len(rows) and {length for _, length in model.shapes} <= set(LENGTHS)
    assert outputs_of(model, encoded, 8192, read=lambda batch: [SimpleNamespace(sum=int(each)) for each in batch])[1].sum == rows[1].sum()
    assert outputs_of(model, encoded, 10)[0] == 6  # a text that is longer than a batch makes it larger
    assert outputs_of(model, Encoded([], [])) == []
