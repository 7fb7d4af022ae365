"""What recipes share that answer questions from passages: files of questions, the pieces of long passages, the vote of several, scores.

    {"question": "...", "passages": ["...", "..."], "answers": ["...", "..."]}                                      any of these is right
    {"question": "...", "passages": [{"passage": "...", "answer": "..."}, {"passage": "...", "answer": ""}]}        an answer for each

one a line, or `question<TAB>passage<TAB>answer` (.tsv, .csv). Nothing here knows a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bert4k.errors import DataError
from bert4k.reading import read_rows
from bert4k.scores import character_f1, exact


@dataclass(frozen=True)
class Passage:
    """A text in which an answer may stand; `answers`: those of the question that do, in lower or upper case."""

    text: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question with its passages, and all answers that are right: none, where there is none or it is not known."""

    text: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...] = ()


def read_questions(path: Path, answered: bool = True) -> list[Question]:
    """The questions of a file; `answered`: each must say its answers, if only that there is none (an empty list, or "").

    Raises `DataError`, with the line, for what is not as expected."""
    found = []
    for row in read_rows(path, ("question", "passages"), optional=("answers",)):
        question = question_of(row.values, f"{path}, line {row.line}")
        if answered and "answers" not in row.values and not _answers_inside(row.values["passages"]):
            raise DataError(
                f"{path}, line {row.line}: the question {question.text!r} has no answers. Give them, or [] where there is none."
            )
        found.append(question)
    return found


def question_of(values: Mapping[str, Any], where: str) -> Question:
    """A question of the values of a line; `where` it stands is told in errors."""
    text, told = values["question"], values.get("answers", [])
    answers = [told] if isinstance(told, str) else told
    passages = values["passages"] if isinstance(values["passages"], list) else [values["passages"]]
    rows = [each if isinstance(each, Mapping) else {"passage": each} for each in passages]
    for name, value in (("question", text), *(("passage", row.get("passage")) for row in rows)):
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where}: a {name} is {value!r}; expected a text that is not empty. Correct or remove it.")
    if not rows:
        raise DataError(f"{where}: there is no passage. Expected one or more.")
    own = [row.get("answer", []) for row in rows]
    parts = [[each] if isinstance(each, str) else each for each in own]
    for each in (answers, *parts):
        if not isinstance(each, list) or not all(isinstance(answer, str) for answer in each):
            raise DataError(f"{where}: answers are {each!r}; expected a list of texts.")
    right = _distinct((*answers, *(answer for part in parts for answer in part)))
    # What a passage says of itself counts; where it says nothing, what stands in it.
    held = [
        _distinct(part) if "answer" in row else tuple(answer for answer in right if answer.lower() in row["passage"].lower())
        for row, part in zip(rows, parts, strict=True)
    ]
    return Question(text, tuple(Passage(row["passage"], found) for row, found in zip(rows, held, strict=True)), right)


def question_of_line(line: str, number: int) -> Question:
    """A question as it is asked on the command line: question<TAB>passage, with further passages after further tabs, or a JSON object."""
    where = f"question {number}"
    if line.lstrip().startswith("{"):
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: {line[:80]!r} is not JSON ({error}).") from error
        if "passage" in values:
            values = {"passages": values["passage"]} | values
        if missing := [name for name in ("question", "passages") if name not in values]:
            raise DataError(f"{where}: {line[:80]!r} lacks {', '.join(missing)}.")
        return question_of(values, where)
    question, *passages = line.split("\t")
    if not passages:
        raise DataError(
            f"{where}: found no tab in {line[:80]!r}; expected question<TAB>passage, or a JSON object of question and passages."
        )
    return question_of({"question": question, "passages": passages}, where)


def _answers_inside(passages: Any) -> bool:
    return isinstance(passages, list) and bool(passages) and all(isinstance(each, dict) and "answer" in each for each in passages)


def _distinct(answers: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(answer for answer in answers if answer.strip()))


# Long passages. ------------------------------------------------------------------------------------------------------------------


def pieces(tokens: int, room: int) -> Iterator[slice]:
    """A text of so many tokens in pieces of at most `room`, each of which begins in the middle of the one before: so what is shorter than
    half a piece stands whole in one of them."""
    begin = 0
    while begin == 0 or begin + room - max(room // 2, 1) < tokens:
        yield slice(begin, min(begin + room, tokens))
        begin += max(room // 2, 1)


# Several passages. ---------------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An answer, "" for none, and how sure of it, from 0 to 1."""

    text: str
    confidence: float


def vote(answers: Iterable[Answer]) -> Answer:
    """The answer that several passages together give: each one's confidences s, wherever it was found, count as Σs² / (1 + Σs), so that
    neither many doubtful nor a single sure one decides alone. None counts for nothing: it wins only where nothing was found."""
    found: dict[str, list[float]] = {}
    for text, confidence in answers:
        if text:
            found.setdefault(text, []).append(confidence)
    if not found:
        return Answer("", 0.0)
    worth = {text: sum(each**2 for each in own) / (1 + sum(own)) for text, own in found.items()}
    best = max(worth, key=worth.__getitem__)
    return Answer(best, max(found[best]))


# Scores. -------------------------------------------------------------------------------------------------------------------------


def answer_scores(answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
    """Exact match and F1 of characters, means over all questions, from 0 to 1; "mean" is that of both, by which SogouQA ranks."""
    pairs = list(zip(answers, questions, strict=True))
    right = sum(exact(answer, question.answers) for answer, question in pairs) / len(pairs)
    shared = sum(character_f1(answer, question.answers) for answer, question in pairs) / len(pairs)
    return {"exact": right, "f1": shared, "mean": (right + shared) / 2}
