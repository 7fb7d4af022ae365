"""Texts and what is mentioned in them, in JSON lines. As in CCKS2019, where ids and offsets are strings and NIL is written out:

    {"text_id": "7", "text": "苹果发布会", "mention_data": [{"kb_id": "42", "mention": "苹果", "offset": "0"}]}

or simply, `end` being the place after the last character and null the id of what is in no knowledge base:

    {"id": "7", "text": "苹果发布会", "mentions": [{"start": 0, "end": 2, "id": "42"}, {"start": 2, "end": 5, "id": null}]}

The id NIL_Person, as in CCKS2020, is NIL of that type; in the simple form a mention says "type": "Person". Places count characters of the
raw text as Python does: an emoji is one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError
from bert4k.linking.problems import Problems
from bert4k.pretraining.text import check_files, lines

NIL = "NIL"
TYPED_NIL = NIL + "_"


@dataclass(frozen=True, order=True)
class Mention:
    """A place of a text, `text[start:end] == surface`, and the id of the entity that it means; None (NIL) for one that has no entry, of
    which a `type` may be known all the same."""

    start: int
    end: int
    surface: str
    id: str | None = None
    type: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class LinkedText:
    """A raw text with what is mentioned in it, by place; mentions may overlap and nest."""

    id: str
    text: str
    mentions: tuple[Mention, ...] = ()


def read_texts(
    path: Path, known: Container[str] | None = None, problems: Problems | None = None, annotated: bool = True
) -> list[LinkedText]:
    """The texts of a file of either form, .gz too.

    known: the ids that there are (a `KnowledgeBase`), where they are to be checked. annotated: every text must say its mentions, if only
    that there are none.

    What is wrong is one of the `problems`, which stop by default: raises `DataError` with the line. When they are skipped, a broken line
    and an empty text are left out, a mention that does not stand where it should is dropped from its text, and one with an unknown id
    becomes NIL, which is what it is to that knowledge base.
    """
    check_files([path])
    problems = problems or Problems()
    is_known = (lambda identifier: True) if known is None else cache(known.__contains__)
    found = []
    for number, line in lines(path):
        if not line.strip():
            continue
        where = f"{path}, line {number:,}"
        try:
            identifier, text, mentions = _parts(json.loads(line), str(number), annotated)
        except (ValueError, RecursionError) as error:  # a DataError is a ValueError
            what = str(error) if isinstance(error, DataError) else f"it is not JSON ({error})."
            problems.found("broken lines", f"{where}: {_short(line)}: {what} Correct or remove the line.")
            continue
        if not text.strip():
            problems.found("empty texts", f"{where}: the text {text!r} is empty. Expected one with a character. Remove the line.")
            continue
        kept = []
        for mention in mentions:
            if not (0 <= mention.start < mention.end and text[mention.start : mention.end] == mention.surface):
                problems.found("misplaced mentions", f"{where}: {_misplaced(text, mention)}")
                continue
            if mention.id is not None and not is_known(mention.id):
                known_as = f"{where}: {mention.surface!r} means {mention.id!r}, which the knowledge base does not have."
                problems.found("unknown ids", f"{known_as} Add the entity, use the knowledge base of these texts, or write NIL.")
                mention = replace(mention, id=None)
            kept.append(mention)
        found.append(LinkedText(identifier, text, tuple(sorted(kept, key=lambda each: (each.start, each.end)))))
    if not found:
        raise DataError(f'{path} holds no text. Expected lines such as {{"text_id": "1", "text": "...", "mention_data": []}}.')
    return found


def _parts(values: Any, number: str, annotated: bool) -> tuple[str, str, list[Mention]]:
    """Id, text and mentions of a line, of which nothing is checked but the form."""
    if not isinstance(values, Mapping):
        raise DataError("it is no JSON object.")
    text, told = values.get("text"), values.get("mention_data", values.get("mentions"))
    identifier = values.get("text_id", values.get("id", number))
    if not isinstance(text, str):
        raise DataError(f"text is {text!r}; expected a text.")
    if told is None and annotated:
        raise DataError("it has neither mention_data nor mentions. Expected one of them, [] where nothing is mentioned.")
    if not isinstance(told or [], list):
        raise DataError(f"the mentions are {_short(str(told))}; expected a list.")
    return str(identifier), text, [_mention(each, text) for each in told or []]


def _mention(values: Any, text: str) -> Mention:
    try:
        target = values.get("kb_id", values.get("id"))
        if "offset" in values:
            start, surface = int(values["offset"]), values["mention"]
            end = start + len(surface)
        else:
            start, end = int(values["start"]), int(values["end"])
            there = text[start:end] if 0 <= start < end <= len(text) else ""
            surface = values.get("mention", values.get("surface", there))  # "mention" is what `bert4k link --json` says
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:  # overflow: JSON's Infinity
        expected = 'expected {"mention": "...", "offset": "0", "kb_id": "..."} or {"start": 0, "end": 2, "id": "..."}'
        raise DataError(f"a mention is {_short(str(values))}; {expected}.") from error
    if target is None or str(target) == NIL:
        type = values.get("type")
        return Mention(start, end, str(surface), None, type if isinstance(type, str) else None)
    if str(target).startswith(TYPED_NIL):
        return Mention(start, end, str(surface), None, str(target).removeprefix(TYPED_NIL))
    return Mention(start, end, str(surface), str(target))


def _misplaced(text: str, mention: Mention) -> str:
    """What is wrong with a place, and where the mention stands instead."""
    there = text[max(mention.start, 0) : max(mention.end, 0)]
    places = [at for at in range(len(text)) if mention.surface and text.startswith(mention.surface, at)]
    hint = f"it stands at {min(places, key=lambda at: abs(at - mention.start))}" if places else "it is not in the text"
    return f"{mention.surface!r} should stand at {mention.start} of {_short(text)!r}, where {there!r} is; {hint}. Correct the offset."


def competition_line(text: LinkedText, nil: bool = False) -> str:
    """A text as a line of CCKS2019, ids and offsets as strings. `nil`: with the mentions of NIL, which predictions do without."""
    mentions = [
        {"kb_id": each.id or (TYPED_NIL + each.type if each.type else NIL), "mention": each.surface, "offset": str(each.start)}
        for each in text.mentions
        if nil or each.id is not None
    ]
    values = {"text_id": text.id, "text": text.text, "mention_data": mentions}
    line = json.dumps(values, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no UTF-8; JSON has an escape for it
        return json.dumps(values)
    return line


def write_texts(path: Path, texts: Iterable[LinkedText], nil: bool = True) -> None:
    """A file of texts in the form of CCKS2019, which appears complete or not at all."""
    with replacing(path) as (temporary,), temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(competition_line(text, nil) + "\n" for text in texts)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:50]} ..."
