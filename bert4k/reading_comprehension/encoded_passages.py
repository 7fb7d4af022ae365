"""Passages that a checkpoint has read before there is a question: kept as vectors, they are asked at the speed of the DGCNN.

    encoded = EncodedPassages.of(qa, passages)                          # qa: of a run with --reader dgcnn_encoder
    encoded.save("passages.safetensors"); encoded = EncodedPassages.read("passages.safetensors", qa)
    encoded.answer("白云山海拔多少米", among=[3, 17, 4])                  # those that a search found, or all

The vectors are those at which the DGCNN begins, in float16: 64 KB for a passage of 250 characters. Answers are those of `qa.answer`; what a
passage has in common with a question is found when it is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from bert4k.answering import Evidence, Passage, Question, question_of
from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError, ConfigError
from bert4k.finetuning import outputs_of
from bert4k.reading_comprehension.answering_machine import QA
from bert4k.reading_comprehension.inputs import Pieces, Separate
from bert4k.reading_comprehension.spans import choose, silenced, spans_in


class EncodedPassages:
    """Passages as vectors. texts: the passages; rows: of each piece, the number of its passage, the places of its tokens [n, 2] and their
    vectors float16 [n, units]."""

    def __init__(self, qa: QA, texts: Sequence[str], rows: Sequence[tuple[int, NDArray[np.int32], NDArray[np.float16]]]) -> None:
        self.qa, self.texts, self.rows = qa, list(texts), list(rows)
        _, self.reader = halves(qa)

    @classmethod
    def of(cls, qa: QA, texts: Sequence[str]) -> EncodedPassages:
        """Read passages, of any length."""
        encoder, _ = halves(qa)
        given = Pieces([Question("", tuple(Passage(text) for text in texts))], qa.representation)
        vectors = outputs_of(encoder, _PassageSide(given))
        found = [
            (passage, row.places, np.asarray(told[row.span], np.float16))
            for row, (_, passage), told in zip(given.rows, given.of, vectors, strict=True)
        ]
        return cls(qa, texts, found)

    def answer(self, question: str, among: Sequence[int] | None = None) -> Evidence:
        """As `QA.answer`, from the passages with the numbers `among`; its `passage` is a number of them all. Raises `DataError` for a
        question that is empty, and where there is no passage."""
        numbers = range(len(self.texts)) if among is None else among
        question_of({"question": question, "passages": [self.texts[number] for number in numbers]}, "the question")
        chosen = sorted(set(numbers))
        rows = [row for row in self.rows if row[0] in set(chosen)]
        given = Pieces([Question(question, tuple(Passage(self.texts[number]) for number in chosen))], self.qa.representation)
        told: Any = outputs_of(self.reader, _Asked(given, [vectors for *_, vectors in rows]))
        found: list[Evidence] = []
        for (number, places, _), piece, probabilities in zip(rows, given.rows, told, strict=True):
            one = probabilities[piece.span]
            found += spans_in(one, places, self.texts[number], number, self.qa.threshold, self.qa.longest_answer)
        return silenced([choose(found)], self.qa.least)[0]

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file, whole or not at all, with what made the vectors."""
        tensors = {
            "vectors": np.concatenate([vectors for *_, vectors in self.rows]),
            "places": np.concatenate([places for _, places, _ in self.rows]),
            "passages": np.array([number for number, *_ in self.rows], np.int32),
            "lengths": np.array([len(places) for _, places, _ in self.rows], np.int32),
        }
        with replacing(Path(path)) as (temporary,):
            save_file(tensors, temporary, {"model": made_by(self.qa), "texts": json.dumps(self.texts)})

    @classmethod
    def read(cls, path: str | Path, qa: QA) -> EncodedPassages:
        """What `save` wrote. Raises `CheckpointError` when it is damaged, or was made by another model."""
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                vectors, places, passages, lengths = (file.get_tensor(name) for name in ("vectors", "places", "passages", "lengths"))
            texts = json.loads(about["texts"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}). Remove it, and encode the passages anew.") from error
        if about["model"] != made_by(qa):
            raise CheckpointError(f"The vectors in {path} are those of another model than the one that is asked. Encode the passages anew.")
        ends = np.cumsum(lengths)
        rows = zip(passages.tolist(), (ends - lengths).tolist(), ends.tolist(), strict=True)
        return cls(qa, texts, [(number, places[begin:end], vectors[begin:end]) for number, begin, end in rows])


def halves(qa: QA) -> tuple[keras.Model, keras.Model]:
    """The model in two, with the same weights: "passage", token ids [B, L], to vectors [B, L, units]; and a list of token ids of questions
    [B, Q], these vectors, which are real, bool [B, L], and, if it takes it, "passage_overlap", to probabilities [B, L, 2]."""
    if not isinstance(qa.representation, Separate):
        raise ConfigError(
            "Only a run with --reader dgcnn_encoder can read passages before there is a question: joint needs both, and characters have no"
            " need of it."
        )
    reader = qa.model.get_layer("reader")
    question, question_real, passage, *_ = reader.input
    asking = keras.Model(qa.model.input["question"], [question, question_real])
    return keras.Model({"passage": qa.model.input["passage"]}, passage), Answering(asking, reader)


class Answering(keras.Model):
    """The second half of `halves`."""

    def __init__(self, asking: keras.Model, reader: keras.layers.Layer) -> None:
        super().__init__()
        self.asking, self.reader = asking, reader

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        ids, *passage = inputs
        return self.reader(*self.asking(ids), *passage)


def made_by(qa: QA) -> str:
    """A number of the weights, by which vectors of other weights are told from these."""
    digest = hashlib.sha256()
    for values in qa.model.get_weights():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


class _PassageSide:
    """Pieces without their question."""

    def __init__(self, given: Pieces) -> None:
        self.given = given

    def lengths(self) -> list[int]:
        return self.given.lengths()

    def inputs(self, rows: Sequence[int], length: int) -> dict[str, Any]:
        return {"passage": self.given.inputs(rows, length)["passage"]}


class _Asked:
    """Pieces of passages with their question, whose vectors are known."""

    def __init__(self, given: Pieces, vectors: Sequence[NDArray[np.float16]]) -> None:
        self.given, self.vectors = given, vectors

    def lengths(self) -> list[int]:
        return self.given.lengths()

    def inputs(self, rows: Sequence[int], length: int) -> list[Any]:
        inputs = self.given.inputs(rows, length)
        vectors = np.zeros((len(rows), length, self.vectors[0].shape[1]), np.float32)
        real = np.zeros((len(rows), length), bool)
        for at, row in enumerate(rows):
            own = self.given.rows[row].span
            vectors[at, own], real[at, own] = self.vectors[row], True
        return [inputs["question"], vectors, real, *(inputs[name] for name in ("passage_overlap",) if name in inputs)]
