"""From passages to an answer with its place, by a network that knows its answer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.answering import Evidence
from bert4k.errors import DataError
from bert4k.reading_comprehension import QA
from bert4k.reading_comprehension.inputs import Characters


def machine(longest: int = 256, least: float = 0.0) -> QA:
    """Sure by 0.8 that an answer begins with 小 and ends with 明, by 0.4 that it is 京; it sees nothing else."""
    representation = Characters("小明京讨厌", 8, longest)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("question", "passage")}
    begins = np.array([0, 0, 0.8, 0, 0.4, 0, 0], "float32")
    ends = np.array([0, 0, 0, 0.8, 0.4, 0, 0], "float32")
    told = ops.stack([ops.take(each, inputs["passage"], axis=0) for each in (begins, ends)], axis=-1)
    # Keras wants every input to be used.
    return QA(keras.Model(inputs, told + 0.0 * ops.cast(ops.sum(inputs["question"]), "float32")), representation, least=least)


def test_nothing_of_100000_characters_is_lost() -> None:
    qa = machine()
    for at in (0, 127, 128, 255, 256, 50_000, 99_990):
        text = "讨" * at + "小 、明" + "厌" * (99_996 - at)
        assert qa.answer("谁", ["京", text]) == Evidence("小 、明", pytest.approx(0.64), 1, at, at + 4)


def test_each_place_of_a_piece() -> None:
    for at in range(40):
        text = "讨" * at + "小讨讨明" + "厌" * (40 - at)
        assert machine(longest=10).answer("谁", [text]).start == at


def test_passages_vote_and_doubtful_answers_are_not_given() -> None:
    found = machine().answer("谁", ["讨京", "讨厌", "京"])
    assert found == Evidence("京", pytest.approx(0.16), 0, 1, 2)
    assert machine(least=0.2).answer("谁", ["讨京", "讨厌", "京"]) == Evidence("", 0.0, -1, 0, 0)
    assert machine().answer("谁", ["讨厌"]).text == ""


@pytest.mark.parametrize(("question", "passages"), [(" ", ["京"]), ("谁", []), ("谁", ["京", ""])])
def test_what_is_empty_is_told(question: str, passages: list[str]) -> None:
    with pytest.raises(DataError, match=r"the question: (a question is|a passage is|there is no passage)"):
        machine().answer(question, passages)
