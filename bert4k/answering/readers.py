"""Files of questions: JSON lines, tables, and the data sets that are in use, each known by what it holds.

    {"question": "...", "passages": ["...", "..."], "answers": ["...", "..."]}                                      any of these is right
    {"question": "...", "passages": [{"passage": "...", "answer": "..."}, {"passage": "...", "answer": ""}]}        an answer for each
    [{"id": "...", "question": "...", "passages": [{"passage": "...", "answer": "..."}]}, ...]                      SogouQA, as for DGCNN
    {"ID": {"question": "...", "evidences": {"ID#00": {"evidence": "...", "answer": ["..."]}}}, ...}                WebQA; ["no_answer"]
    {"data": [{"paragraphs": [{"context": "...", "qas": [{"id": ..., "question": ..., "answers": [...]}]}]}]}       SQuAD, CMRC, DRCD, XQuAD

The first two are one a line, or `question<TAB>passage<TAB>answer` (.tsv, .csv); "id" may be told, too. Nothing here knows a model.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert4k.answering.matching import occurrences
from bert4k.answering.questions import Question, question_of
from bert4k.chinese import simplified as simplified_text
from bert4k.errors import DataError
from bert4k.reading import read_rows, read_text, renamed

Counts = Counter[str]
Told = Iterable[tuple[str, Mapping[str, Any]]]
"""Where each question stands, and its values as in JSON lines."""

ELSEWHERE = "answers do not stand where the file says, and were found at another place"
NOWHERE = "answers of a passage do not stand in it"
SECRET = "FAKE_ANSWER"  # what stands in the place of the answers of CMRC's test
UNHELD = "questions have answers that stand in none of their passages"
EMPTY = "empty passages were left out"
UNASKED = "questions without a text or without a passage were left out"


def read_questions(path: Path, answered: bool = True, simplified: bool = False) -> list[Question]:
    """The questions of a file; says on standard error what `read_counted` counts."""
    questions, counts = read_counted(path, answered, simplified)
    for what, count in sorted(counts.items()):
        print(f"{path}: {count:,} {what}", file=sys.stderr)
    return questions


def read_counted(path: Path, answered: bool = True, simplified: bool = False) -> tuple[list[Question], Counts]:
    """The questions of a file, and how much of it is not as it should be, by what it is.

    answered: each must say its answers, if only that there is none (an empty list, or ""). simplified: make simplified characters of
    traditional ones. Answers are kept as they are told; `occurrences` finds where they stand, whatever offsets the file has.

    Raises `DataError`, with the line or the question, for what is not as expected, and for an id that stands twice."""
    counts, questions, places = Counts(), [], dict[str, str]()
    for where, values in _told(path, counts):
        question = question_of(_simplified(values) if simplified else values, where)
        if answered and "answers" not in values and not _answers_inside(values["passages"]):
            raise DataError(f"{where}: the question {question.text!r} has no answers. Give them, or [] where there is none.")
        if question.id in places:
            raise DataError(f"{where}: the id {question.id!r} was there before: {places[question.id]}. Give each question its own.")
        if question.id:
            places[question.id] = where
        counts[NOWHERE] += sum(not occurrences(passage.text, answer) for passage in question.passages for answer in passage.answers)
        counts[UNHELD] += bool(question.answers) and not any(passage.answers for passage in question.passages)
        questions.append(question)
    if not questions:
        raise DataError(f"{path} holds no question that has a text and a passage.")
    return questions, +counts


def _told(path: Path, counts: Counts) -> Told:
    """What a file says, whatever its kind."""
    if not path.name.lower().removesuffix(".gz").endswith((".json", ".jsonl")):
        return _rows(path)
    text = read_text(path)
    document = _document(path, text)
    if document is None:
        return _rows(path)
    for kind in (_squad, _webqa, _listed):
        if (told := kind(path, document, counts)) is not None:
            return told
    if "\n" not in text.strip():
        return _rows(path)
    raise DataError(
        f"{path} is one JSON value, {_short(document)}, of no kind that is known. Expected JSON lines, each with question and passages; a"
        " list of such; WebQA, an object of questions with evidences; or SQuAD's, with data, paragraphs, context and qas."
    )


def _document(path: Path, text: str) -> Any:
    """The one value that a JSON file holds; None when it is JSON lines, broken or not: those are read with the number of each.

    Raises `DataError` with line and column for what is not JSON, and for a key that stands twice in an object."""
    first, _, others = text.lstrip().partition("\n")
    try:
        value = json.loads(first)
        if others.strip() or (isinstance(value, dict) and {"question", "passages"} <= set(renamed(value, ("question", "passages")))):
            return None
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
    except (json.JSONDecodeError, RecursionError) as error:
        if not first.startswith("[") and first.strip() != "{":
            return None
        raise DataError(f"{path} is not JSON ({error}). It may be cut off; fetch or write it anew.") from error


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """A JSON object, of which json would silently keep the last of several values of a key."""
    if len(pairs) != len(found := dict(pairs)):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise DataError(f"{path}: {key!r} stands twice in one JSON object, so one of the two would be lost. Give each a name of its own.")
    return found


# The kinds. ----------------------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Told:
    """JSON lines and tables."""
    return ((f"{path}, line {row.line}", row.values) for row in read_rows(path, ("question", "passages"), optional=("answers",)))


def _listed(path: Path, document: Any, counts: Counts) -> Told | None:
    """A list of questions (SogouQA)."""
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        return None

    def told() -> Told:
        for number, each in enumerate(document, 1):
            where, values = f"{path}, question {number}", renamed(each, ("question", "passages", "answers"))
            if missing := {"question", "passages"} - set(values):
                raise DataError(f"{where}: {_short(each)} lacks {' and '.join(sorted(missing))}.")
            if kept := _whole(values, counts):
                yield where, kept

    return told()


def _webqa(path: Path, document: Any, counts: Counts) -> Told | None:
    """An object of questions by id, each with evidences (WebQA)."""
    if not isinstance(document, dict) or not all(isinstance(each, dict) and "evidences" in each for each in document.values()):
        return None

    def told() -> Told:
        for name, each in document.items():
            where = f"{path}, question {name}"
            evidences = _part(each, "evidences", dict, where)
            passages = []
            for key, evidence in evidences.items():
                text = _part(evidence, "evidence", str, f"{where}, evidence {key}")
                own = {"answer": _answers(evidence["answer"])} if isinstance(evidence, dict) and "answer" in evidence else {}
                passages.append({"passage": text, **own})
            if kept := _whole({"id": name, "question": _part(each, "question", str, where), "passages": passages}, counts):
                yield where, kept

    return told()


def _answers(told: Any) -> Any:
    """Of an evidence of WebQA: "no_answer" says that there is none."""
    several = [told] if isinstance(told, str) else told
    return [each for each in several if each != "no_answer"] if isinstance(several, list) else told


def _squad(path: Path, document: Any, counts: Counts) -> Told | None:
    """SQuAD's JSON, of version 1 or 2."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return None

    def told() -> Told:
        for article_number, article in enumerate(document["data"], 1):
            for number, paragraph in enumerate(_part(article, "paragraphs", list, f"{path}, article {article_number}"), 1):
                where = f"{path}, article {article_number}, paragraph {number}"
                context = _part(paragraph, "context", str, where)
                for asked in _part(paragraph, "qas", list, where):
                    question = _part(asked, "question", str, where)
                    here = f"{where}, question {asked.get('id', question)!r}"
                    values = {"question": question, "passages": [_held(context, asked, here, counts)]}
                    if kept := _whole(values | {name: asked[name] for name in ("id",) if name in asked}, counts):
                        yield here, kept

    return told()


def _held(context: str, asked: Mapping[str, Any], where: str, counts: Counts) -> dict[str, Any]:
    """The passage of a question, with the answers that are told."""
    if asked.get("is_impossible"):
        return {"passage": context, "answer": []}
    if "answers" not in asked:
        return {"passage": context}
    found = []
    for answer in _part(asked, "answers", list, where):
        text, start = _part(answer, "text", str, where), answer.get("answer_start")
        if text.startswith(SECRET):
            return {"passage": context}
        found.append(text)
        right = isinstance(start, int) and context[start : start + len(text)] == text
        counts[ELSEWHERE] += start is not None and not right and bool(occurrences(context, text))
    return {"passage": context, "answer": found}


def _whole(values: Mapping[str, Any], counts: Counts) -> Mapping[str, Any] | None:
    """A question of a data set without its empty passages; None when it is no question. What else is wrong is the reader's error."""
    passages = values["passages"] if isinstance(values["passages"], list) else [values["passages"]]
    texts = [each.get("passage") if isinstance(each, Mapping) else each for each in passages]
    kept = [each for each, text in zip(passages, texts, strict=True) if not isinstance(text, str) or text.strip()]
    counts[EMPTY] += len(passages) - len(kept)
    if not kept or values["question"] in ("", None) or (isinstance(values["question"], str) and not values["question"].strip()):
        counts[UNASKED] += 1
        return None
    return {**values, "passages": kept}


def _part(value: Any, name: str, kind: type, where: str) -> Any:
    """A value of a JSON object that has to be there, and of that kind."""
    found = value.get(name) if isinstance(value, Mapping) else None
    if not isinstance(found, kind):
        expected = {"str": "a text", "list": "a list", "dict": "an object"}[kind.__name__]
        raise DataError(f"{where}: found {_short(value)}; expected an object in which {name!r} is {expected}.")
    return found


# Simplified characters. ----------------------------------------------------------------------------------------------------------


def _simplified(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values in simplified characters.

    What 乾 becomes depends on the word that it is in, so an answer is made of what its passage became, where it stands in it."""
    passages = values["passages"] if isinstance(values["passages"], list) else [values["passages"]]
    texts = [each.get("passage") if isinstance(each, Mapping) else each for each in passages]
    both = [(text, simplified_text(text)) for text in texts if isinstance(text, str)]

    def answer_of(answer: Any, where: Sequence[tuple[str, str]]) -> Any:
        if isinstance(answer, list):
            return [answer_of(each, where) for each in answer]
        if not isinstance(answer, str):
            return answer
        made = simplified_text(answer)
        for text, new in where:
            if len(text) == len(new) and not occurrences(new, made) and (at := text.find(answer)) >= 0:
                return new[at : at + len(answer)]
        return made

    def passage_of(each: Any) -> Any:
        if isinstance(each, str):
            return simplified_text(each)
        if not isinstance(each, Mapping) or not isinstance(each.get("passage"), str):
            return each
        text = simplified_text(each["passage"])
        return {**each, "passage": text} | ({"answer": answer_of(each["answer"], [(each["passage"], text)])} if "answer" in each else {})

    question = values["question"]
    found = {**values, "passages": [passage_of(each) for each in passages]}
    found["question"] = simplified_text(question) if isinstance(question, str) else question
    return found | ({"answers": answer_of(values["answers"], both)} if "answers" in values else {})


def _answers_inside(passages: Any) -> bool:
    return isinstance(passages, list) and bool(passages) and all(isinstance(each, dict) and "answer" in each for each in passages)


def _short(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False) if not isinstance(content, list) or len(content) < 20 else f"a list of {len(content):,}"
    return text if len(text) <= 100 else f"{text[:80]} ..."
