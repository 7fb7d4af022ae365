"""A question with its passages and answers, of the values of a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bert4k.answering.matching import occurrences
from bert4k.errors import DataError


@dataclass(frozen=True)
class Passage:
    """A text in which an answer may stand; `answers`: those of the question that do (`occurrences` tells where)."""

    text: str
    answers: tuple[str, ...] = ()

    def answer_of(self, part: str) -> str:
        """The answer that is to be told of a part of the text, "" for none: one that stands in it, or one that the whole text gives only in
        other words."""
        return next((each for each in self.answers if occurrences(part, each) or not occurrences(self.text, each)), "")


@dataclass(frozen=True)
class Question:
    """A question with its passages, and all answers that are right: none, where there is none or it is not known. id: "" without one."""

    text: str
    passages: tuple[Passage, ...]
    answers: tuple[str, ...] = ()
    id: str = ""


def question_of(values: Mapping[str, Any], where: str) -> Question:
    """A question of the values of a line: "question", "passages", "answers" and "id"; `where` it stands is told in errors."""
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
    name = values.get("id", "")
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise DataError(f"{where}: the id is {name!r}; expected a text or a whole number.")
    right = _distinct((*answers, *(answer for part in parts for answer in part)))
    # What a passage says of itself counts; where it says nothing, what stands in it.
    held = [
        _distinct(part) if "answer" in row else tuple(answer for answer in right if occurrences(row["passage"], answer))
        for row, part in zip(rows, parts, strict=True)
    ]
    return Question(text, tuple(Passage(row["passage"], found) for row, found in zip(rows, held, strict=True)), right, str(name))


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


def _distinct(answers: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(answer for answer in answers if answer.strip()))
