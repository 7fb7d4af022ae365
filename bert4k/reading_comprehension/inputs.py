"""Questions and passages as a network takes them: three kinds of representation with one interface.

    Characters    each character a token, by number; with word vectors, also the vector of its word. Question and passage apart.
    Separate      tokens of a checkpoint, `[CLS] question [SEP]` and `[CLS] passage [SEP]` apart: passages are read without a question.
    Joint         tokens of a checkpoint, `[CLS] question [SEP] passage [SEP]` as one row.

Each reads a text once (`text`) and makes a row of a question and a part of a passage (`piece`); `Pieces` are the rows of a prediction, and
`LessonBatches` those of a training. All know where in the raw text every token stands. The first two may also tell what each token of the
passage has in common with the question (`overlap`), which the third sees for itself.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.answering import Question, occurrences, pieces
from bert4k.checkpoints.stored import replacing
from bert4k.decoding.batches import length_bucket, padded
from bert4k.errors import CheckpointError
from bert4k.finetuning import in_tokens
from bert4k.reading_comprehension.overlap import FEATURES, Codes, codes, overlap
from bert4k.reading_comprehension.spans import targets
from bert4k.reading_comprehension.word_vectors import WordVectors, read_word_vectors
from bert4k.tokenizers import Tokenizer
from bert4k.training import LengthBatches

Columns = dict[str, NDArray[np.int32]]  # numbers of tokens, by what they are; all of one length


class Text(NamedTuple):
    """A text as tokens."""

    columns: Columns  # [n] each
    places: NDArray[np.int32]  # [n, 2]: where in the text each token starts and ends
    codes: Codes | None = None  # [n], with `overlap`


class Piece(NamedTuple):
    """A question and a part of a passage, as a network takes them."""

    columns: Columns  # by the names of the network's inputs
    begin: int  # where among the tokens that the network tells of those of the passage begin
    places: NDArray[np.int32]  # [n, 2]: where in the raw text of the passage its tokens stand
    overlap: NDArray[np.float16] | None = None  # [n, FEATURES]: what these tokens have in common with the question

    @property
    def span(self) -> slice:
        """Where the network tells of the passage."""
        return slice(self.begin, self.begin + len(self.places))


class Representation(ABC):
    """How texts become the inputs of a network. longest_question: tokens of a question; what is longer is cut. longest: tokens of a passage
    that are read at once. overlap: with "passage_overlap", what a passage has in common with the question."""

    told: ClassVar[str]  # the input that has as many tokens as the network tells of

    def __init__(self, longest_question: int, longest: int, overlap: bool = False) -> None:
        self.longest_question, self.longest, self.overlap = longest_question, longest, overlap

    @abstractmethod
    def _text(self, text: str) -> Text:
        """The tokens of a text."""

    @abstractmethod
    def _piece(self, question: Text, passage: Text, part: slice) -> Piece:
        """The row of a question and a part of a passage."""

    @abstractmethod
    def _inputs(self, rows: Sequence[Piece], length: int) -> dict[str, NDArray[Any]]:
        """What the network takes, filled up to `length` tokens of what it tells of."""

    def text(self, text: str) -> Text:
        """The tokens of a text."""
        found = self._text(text)
        return found._replace(codes=codes(text, found.places)) if self.overlap else found

    def question(self, text: str) -> Text:
        """Those of a question: the first `longest_question`."""
        columns, places, numbers = self.text(text)
        most = slice(self.longest_question)
        return Text({name: column[most] for name, column in columns.items()}, places[most], None if numbers is None else numbers[most])

    def piece(self, question: Text, passage: Text, part: slice) -> Piece:
        """The row of a question and a part of a passage."""
        found = self._piece(question, passage, part)
        if question.codes is None or passage.codes is None:
            return found
        return found._replace(overlap=overlap(question.codes, passage.codes, part))

    def inputs(self, rows: Sequence[Piece], length: int) -> dict[str, NDArray[Any]]:
        """A batch: what the network takes, filled up to `length` tokens of what it tells of."""
        found = self._inputs(rows, length)
        if self.overlap:
            found["passage_overlap"] = np.zeros((len(rows), length, FEATURES), np.float32)
            for at, row in enumerate(rows):
                found["passage_overlap"][at, row.span] = row.overlap
        return found

    @abstractmethod
    def save(self, folder: str | Path) -> Any:
        """Write what is needed to read texts again."""

    def size(self, row: Piece) -> int:
        """The tokens that a network tells of a row."""
        return len(row.columns[self.told])


# Characters. ---------------------------------------------------------------------------------------------------------------------


class _Numbers(dict[int, int]):
    """Code point -> number of the character; characters that differ in width or case alone are one, and so is all white space."""

    def __init__(self, characters: Sequence[str]) -> None:
        self.known = {char: number for number, char in enumerate(characters, 2)}

    def __missing__(self, code: int) -> int:
        self[code] = self.known.get(folded(chr(code)), 1)
        return self[code]


def folded(char: str) -> str:
    """A character in half width and lower case, where that is one character; white space as a blank."""
    if char.isspace():
        return " "
    for form in (unicodedata.normalize("NFKC", char), char):
        if len(form.lower()) == 1:
            return form.lower()
    return char


class Characters(Representation):
    """characters: those that have a number, from 2 on; 0 is padding, 1 any other. vectors: with word vectors, "question_words" and
    "passage_words" are inputs, too."""

    told = "passage"

    def __init__(
        self,
        characters: Sequence[str],
        longest_question: int,
        longest: int,
        vectors: WordVectors | None = None,
        overlap: bool = False,
    ) -> None:
        super().__init__(longest_question, longest, overlap)
        self.characters, self.vectors = list(characters), vectors
        self._numbers = _Numbers(self.characters)

    @classmethod
    def counted(
        cls,
        texts: Iterable[str],
        least: int,
        longest_question: int,
        longest: int,
        vectors: WordVectors | None = None,
        overlap: bool = False,
    ) -> Characters:
        """The characters that come `least` times in the texts, the most frequent first."""
        counts: Counter[str] = Counter()
        for char, count in Counter("".join(texts)).items():
            counts[folded(char)] += count
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls([char for char, count in ordered if count >= least], longest_question, longest, vectors, overlap)

    def _text(self, text: str) -> Text:
        numbers = self._numbers
        columns = {"": np.fromiter((numbers[ord(char)] for char in text), np.int32, len(text))}
        if self.vectors is not None:
            columns["_words"] = self.vectors.of_characters(text)
        starts = np.arange(len(text), dtype=np.int32)
        return Text(columns, np.stack([starts, starts + 1], axis=1))

    def _piece(self, question: Text, passage: Text, part: slice) -> Piece:
        columns = {f"question{name}": column for name, column in question.columns.items()}
        columns |= {f"passage{name}": column[part] for name, column in passage.columns.items()}
        return Piece(columns, 0, passage.places[part])

    def _inputs(self, rows: Sequence[Piece], length: int) -> dict[str, NDArray[Any]]:
        wide = {"question": self.longest_question, "passage": length}
        found: dict[str, NDArray[Any]] = {}
        for name in rows[0].columns:
            found[name] = padded([row.columns[name] for row in rows], 0, wide[name.partition("_")[0]], len(rows))
            if name.endswith("_words") and self.vectors is not None:
                found[name] = self.vectors.table[found[name]]
        return found

    def save(self, folder: str | Path) -> None:
        with replacing(Path(folder) / "characters.txt") as (temporary,):
            temporary.write_bytes("".join(f"{char}\n" for char in self.characters).encode("utf-8", "surrogatepass"))
        if self.vectors is not None:
            self.vectors.save(Path(folder) / "words.bin")

    @classmethod
    def read(cls, folder: Path, longest_question: int, longest: int, overlap: bool = False) -> Characters:
        """What `save` wrote."""
        path, words = folder / "characters.txt", folder / "words.bin"
        if not path.exists():
            raise CheckpointError(f"{path} is missing, without which the run cannot read texts. Restore it, or train anew.")
        characters = path.read_bytes().decode("utf-8", "surrogatepass").split("\n")[:-1]
        return cls(characters, longest_question, longest, read_word_vectors(words) if words.exists() else None, overlap)


# Tokens of a checkpoint. -------------------------------------------------------------------------------------------------------------


class _Tokens(Representation):
    """Those of `tokenizer`."""

    def __init__(self, tokenizer: Tokenizer, longest_question: int, longest: int, overlap: bool = False) -> None:
        super().__init__(longest_question, longest, overlap)
        self.tokenizer = tokenizer

    def _text(self, text: str) -> Text:
        ids, starts, ends = self.tokenizer.spans(text)
        return Text({"token_ids": np.array(ids, np.int32)}, np.stack([np.array(starts, np.int32), np.array(ends, np.int32)], axis=1))

    def _marked(self, *parts: NDArray[np.int32]) -> NDArray[np.int32]:
        """[CLS], and each part with [SEP] after it."""
        row = [np.array([self.tokenizer.cls_id], np.int32)]
        for part in parts:
            row += [part, np.array([self.tokenizer.sep_id], np.int32)]
        return np.concatenate(row)

    def save(self, folder: str | Path) -> Any:
        return self.tokenizer.save(folder)


class Separate(_Tokens):
    """Inputs "question" and "passage"."""

    told = "passage"

    def _piece(self, question: Text, passage: Text, part: slice) -> Piece:
        columns = {
            "question": self._marked(question.columns["token_ids"]),
            "passage": self._marked(passage.columns["token_ids"][part]),
        }
        return Piece(columns, 1, passage.places[part])

    def _inputs(self, rows: Sequence[Piece], length: int) -> dict[str, NDArray[Any]]:
        wide = {"question": self.longest_question + 2, "passage": length}
        return {name: padded([row.columns[name] for row in rows], self.tokenizer.pad_id, wide[name], len(rows)) for name in wide}


class Joint(_Tokens):
    """Inputs "token_ids" and "segment_ids", 1 in the passage."""

    told = "token_ids"

    def _piece(self, question: Text, passage: Text, part: slice) -> Piece:
        one, other = question.columns["token_ids"], passage.columns["token_ids"][part]
        ids = self._marked(one, other)
        begin = len(one) + 2
        return Piece({"token_ids": ids, "segment_ids": np.asarray(np.arange(len(ids)) >= begin, np.int32)}, begin, passage.places[part])

    def _inputs(self, rows: Sequence[Piece], length: int) -> dict[str, NDArray[Any]]:
        fills = {"token_ids": self.tokenizer.pad_id, "segment_ids": 0}
        return {name: padded([row.columns[name] for row in rows], fill, length, len(rows)) for name, fill in fills.items()}


# Prediction. ---------------------------------------------------------------------------------------------------------------------


class Pieces:
    """All passages of questions, in as many pieces as each needs, as `bert4k.finetuning.outputs_of` takes them."""

    def __init__(self, questions: Sequence[Question], representation: Representation) -> None:
        self.representation = representation
        self.rows: list[Piece] = []
        self.of: list[tuple[int, int]] = []  # question and passage of each, by number
        known: dict[str, Text] = {}  # questions share passages, the harder the more
        for number, question in enumerate(questions):
            asked = representation.question(question.text)
            for at, passage in enumerate(question.passages):
                if passage.text not in known:
                    known[passage.text] = representation.text(passage.text)
                text = known[passage.text]
                for part in pieces(len(text.places), representation.longest):
                    self.rows.append(representation.piece(asked, text, part))
                    self.of.append((number, at))

    def lengths(self) -> list[int]:
        """Tokens that are told of each."""
        return [self.representation.size(row) for row in self.rows]

    def inputs(self, numbers: Sequence[int], length: int) -> dict[str, NDArray[Any]]:
        """Those with these numbers as a batch."""
        return self.representation.inputs([self.rows[number] for number in numbers], length)


# Training. -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """A question, one of its passages, and where among the passage's tokens the answer stands, (first, last + 1) each time: nowhere, where
    there is none."""

    question: Text
    passage: Text
    spans: tuple[tuple[int, int], ...]


class Lost(NamedTuple):
    """What could not be learnt as it was told."""

    absent: int  # passages that do not hold the answer that they are said to hold
    within: int  # places of answers that begin or end within a token
    cut: int  # questions that were cut


def lessons(questions: Sequence[Question], representation: Representation) -> tuple[list[list[Lesson]], Lost]:
    """The lessons of each question, one a passage, with all places of all its answers."""
    found: list[list[Lesson]] = []
    absent = within = cut = 0
    known: dict[str, Text] = {}
    for question in questions:
        asked = representation.question(question.text)
        cut += len(representation.text(question.text).places) > representation.longest_question
        own = []
        for passage in question.passages:
            if passage.text not in known:
                known[passage.text] = representation.text(passage.text)
            text = known[passage.text]
            places = {place for answer in passage.answers for place in occurrences(passage.text, answer)}
            absent += bool(passage.answers) and not places
            of = in_tokens([(int(start), int(end)) for start, end in text.places])
            spans = [of(*place) for place in sorted(places)]
            within += spans.count(None)
            own.append(Lesson(asked, text, tuple(span for span in spans if span)))
        found.append(own)
    return found, Lost(absent, within, cut)


class LessonBatches(LengthBatches):
    """Batches of `rows` questions, each with one of its passages, which is drawn anew for every epoch; of a long passage, in half of the
    cases a random part is read, of half of `longest` to all of it, else its beginning. Passages of similar length meet.

    holding: how often a question that has passages with the answer and others meets one with it; None: as often as chance has it.

    What is drawn follows from the seed and the epoch. x: what the network takes; y: `targets` [B, L, 2]; weights [B, L], 1 in passages."""

    def __init__(
        self,
        questions: Sequence[Sequence[Lesson]],
        representation: Representation,
        rows: int,
        seed: int,
        holding: float | None = None,
    ) -> None:
        self.questions, self.representation, self.count, self.holding = questions, representation, rows, holding
        lengths = [max(representation.size(self._piece(lesson, self._beginning(lesson))) for lesson in own) for own in questions]
        self.most = max(lengths, default=0)
        super().__init__(lengths, self._arrays, rows * self.most, most_rows=rows, seed=seed)

    def _plan(self) -> None:
        random = np.random.default_rng([self.seed, self.epoch])
        self.drawn = [self._draw(own, random) for own in self.questions]
        sizes = np.array([self.representation.size(piece) for piece, _ in self.drawn])
        # Of the same length, other ones meet in every epoch.
        order = np.lexsort((random.random(len(sizes)), np.array([length_bucket(int(size)) for size in sizes])))
        cuts = [order[begin : begin + self.count] for begin in range(0, len(order), self.count)]
        self.batches = [(min(length_bucket(int(sizes[members].max())), self.most), members) for members in cuts]
        self.rows = {length: self.count for length, _ in self.batches}
        self.batches = [self.batches[place] for place in random.permutation(len(self.batches))]
        self._unlike_first()

    def _draw(self, own: Sequence[Lesson], random: np.random.Generator) -> tuple[Piece, NDArray[np.float32]]:
        if self.holding is not None and 0 < sum(bool(lesson.spans) for lesson in own) < len(own):
            holds = random.random() < self.holding
            own = [lesson for lesson in own if bool(lesson.spans) is holds]
        lesson = own[int(random.integers(len(own)))]
        tokens, most = len(lesson.passage.places), self.representation.longest
        part = self._beginning(lesson)
        if tokens > most // 2 and random.random() < 0.5:
            size = min(tokens, int(random.integers(most // 2, most + 1)))
            begin = int(random.integers(tokens - size + 1))
            part = slice(begin, begin + size)
        inside = [(first - part.start, end - part.start) for first, end in lesson.spans if part.start <= first and end <= part.stop]
        return self._piece(lesson, part), targets(inside, part.stop - part.start)

    def _beginning(self, lesson: Lesson) -> slice:
        return slice(0, min(len(lesson.passage.places), self.representation.longest))

    def _piece(self, lesson: Lesson, part: slice) -> Piece:
        return self.representation.piece(lesson.question, lesson.passage, part)

    def _arrays(self, rows: Sequence[int], length: int) -> tuple[Any, ...]:
        drawn = [self.drawn[row] for row in rows]
        y, weights = np.zeros((len(rows), length, 2), np.float32), np.zeros((len(rows), length), np.float32)
        for at, (piece, told) in enumerate(drawn):
            y[at, piece.span], weights[at, piece.span] = told, 1
        return self.representation.inputs([piece for piece, _ in drawn], length), y, weights
