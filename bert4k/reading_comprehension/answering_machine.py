"""A trained network with what it needs to answer questions: its representation of texts and the rule by which answers are read off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from bert4k.answering import Evidence, Question, question_of
from bert4k.finetuning import finished_model, outputs_of
from bert4k.reading_comprehension import dgcnn  # noqa: F401  # by whose import Keras knows the layers of a stored model
from bert4k.reading_comprehension.inputs import Characters, Joint, Pieces, Representation, Separate
from bert4k.reading_comprehension.spans import choose, silenced, spans_in
from bert4k.tokenizers import read_tokenizer

RECIPE = "dgcnn_qa"


class QA:
    """Answers questions from passages: `QA.load(run).answer(question, passages)`.

    model: probabilities [B, L, 2] of what `representation` makes of texts. threshold: how likely a begin and an end must be.
    longest_answer: characters. least: the score below which no answer is given."""

    def __init__(
        self, model: keras.Model, representation: Representation, threshold: float = 0.1, longest_answer: int = 12, least: float = 0.0
    ) -> None:
        self.model, self.representation = model, representation
        self.threshold, self.longest_answer, self.least = threshold, longest_answer, least

    @classmethod
    def load(cls, run: str | Path) -> QA:
        """That of a finished run of `bert4k train dgcnn_qa`. Raises `CheckpointError` when there is none."""
        run = Path(run)
        model, labels, settings = finished_model(run, RECIPE)
        overlap = "passage_overlap" in model.input
        representation = read_representation(run, settings["reader"], settings["longest_question"], labels[0]["longest"], overlap)
        return cls(model, representation, settings["threshold"], settings["longest_answer"], labels[0]["least_score"])

    def answer(self, question: str, passages: Sequence[str]) -> Evidence:
        """The answer, how sure it is, and where it stands: `passages[found.passage][found.start : found.end] == found.text`; the text is
        "", and the passage -1, where the passages have none. Passages may be of any length. Raises `DataError` for a question or a passage
        that is empty, and where there is no passage."""
        return self.answers([question_of({"question": question, "passages": list(passages)}, "the question")])[0]

    def answers(self, questions: Sequence[Question]) -> list[Evidence]:
        """Those to several questions."""
        return silenced(self.likeliest(questions), self.least)

    def likeliest(self, questions: Sequence[Question]) -> list[Evidence]:
        """The answers that score highest, however little that is; none where no begin and end are above the threshold."""
        given = Pieces(questions, self.representation)
        found: list[list[Evidence]] = [[] for _ in questions]
        outputs: Any = outputs_of(self.model, given)
        for row, (question, passage), told in zip(given.rows, given.of, outputs, strict=True):
            text = questions[question].passages[passage].text
            found[question] += spans_in(told[row.span], row.places, text, passage, self.threshold, self.longest_answer)
        return [choose(own) for own in found]


def read_representation(run: Path, reader: str, longest_question: int, longest: int, overlap: bool) -> Representation:
    """How a finished run with this reader reads texts."""
    match reader:
        case "joint":
            return Joint(read_tokenizer(run), longest_question, longest)
        case "dgcnn_encoder":
            return Separate(read_tokenizer(run), longest_question, longest, overlap)
        case _:
            return Characters.read(run, longest_question, longest, overlap)
