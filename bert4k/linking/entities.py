"""Entities, and the files in which they come.

JSON lines as in CCKS2019, whose summary (摘要) becomes the description and whose other data the facts:

    {"subject_id": "42", "subject": "苹果", "alias": ["apple"], "type": ["Organization"], "data": [{"predicate": "摘要", "object": "..."}]}

simple JSON lines, of which all but the first two may be left out:

    {"id": "42", "name": "苹果", "aliases": ["apple"], "description": "...", "type": "Organization", "facts": [["创始人", "..."]]}

or a table (.csv with commas, .tsv with tabs) whose first line names the columns id, name, aliases, description and type; several aliases or
types stand in one cell, separated by |. Any of them may be gzipped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4k.errors import DataError
from bert4k.linking.problems import Problems
from bert4k.pretraining.text import Advance, check_files, lines

SUMMARY = "摘要"
COLUMNS = ("id", "name", "aliases", "description", "type")


@dataclass(frozen=True)
class Entity:
    """An entry of a knowledge base. `aliases`: what else it is called; `facts`: (predicate, object), in the order of the source."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    description: str = ""
    types: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.id.strip() or not self.name.strip():
            raise DataError(f"An entity has the id {self.id!r} and the name {self.name!r}. Expected both to be more than white space.")


def read_entities(path: Path, problems: Problems | None = None, advance: Advance = lambda read: None) -> Iterator[tuple[int, Entity]]:
    """Every entity of a file with its line, streamed; `advance` is told how many bytes were read.

    A line at fault is one of the `problems`, which stop by default: raises `DataError` with the line.
    """
    check_files([path])
    kind = (path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix).lower()
    problems = problems or Problems()
    if kind in (".csv", ".tsv"):
        return _table(path, "\t" if kind == ".tsv" else ",", problems, advance)
    return _json_lines(path, problems, advance)


def _json_lines(path: Path, problems: Problems, advance: Advance) -> Iterator[tuple[int, Entity]]:
    for number, line in lines(path, advance):
        if not line.strip():
            continue
        try:
            entity = entity_of(json.loads(line))
        except (ValueError, RecursionError) as error:  # a DataError is a ValueError
            what = str(error) if isinstance(error, DataError) else f"it is not JSON ({error})."
            problems.found("broken entities", f"{path}, line {number:,}: {_short(line)}: {what} Correct or remove the line.")
            continue
        yield number, entity


def _table(path: Path, delimiter: str, problems: Problems, advance: Advance) -> Iterator[tuple[int, Entity]]:
    reader = csv.reader((line + "\n" for _, line in lines(path, advance)), delimiter=delimiter, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}. Expected the names of columns.") from error
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or not {"id", "name"} <= set(header) or len(set(header)) < len(header):
        raise DataError(
            f"{path}: the first line names {header}. Expected the columns {', '.join(COLUMNS)}, each once, of which id and name must be"
            " there."
        )
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:  # the next line is read afresh
            to = f" to {reader.line_num:,}" if reader.line_num > begins else ""
            expected = "Expected quotation marks around a cell with a comma, and none that stays open"
            problems.found("broken entities", f"{path}, line {begins:,}{to}: {error}. {expected}.")
            continue
        if cells is None:
            return
        if not any(map(str.strip, cells)):
            continue
        values: dict[str, Any] = dict(zip(header, cells, strict=False))
        try:
            if len(cells) != len(header):
                raise DataError(f"it has {len(cells)} columns; expected {len(header)}: {', '.join(header)}.")
            entity = entity_of(values | {name: values.get(name, "").split("|") for name in ("aliases", "type")})
        except DataError as error:
            problems.found("broken entities", f"{path}, line {begins:,}: {_short(cells)}: {error} Correct or remove the line.")
            continue
        yield begins, entity


def entity_of(values: Any) -> Entity:
    """The entity that an object of either form says. Raises `DataError` with what it lacks."""
    if not isinstance(values, Mapping):
        raise DataError("it is no JSON object.")
    competition = "subject_id" in values
    names = ("subject_id", "subject", "alias") if competition else ("id", "name", "aliases")
    identifier, name, aliases = (values.get(each) for each in names)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not (isinstance(identifier, str) and isinstance(name, str) and identifier.strip() and name.strip()):
        raise DataError(f"{names[0]} is {identifier!r} and {names[1]} is {name!r}; expected texts that are not empty.")
    facts = _facts(values.get("data" if competition else "facts"))
    description = values.get("description") or ""
    if competition:
        description = "\n".join(what for predicate, what in facts if predicate == SUMMARY)
        facts = [fact for fact in facts if fact[0] != SUMMARY]
    if not isinstance(description, str):
        raise DataError(f"description is {description!r}; expected a text.")
    return Entity(
        identifier.strip(),
        name,
        tuple(_texts(aliases, names[2], name)),
        description,
        tuple(_texts(values.get("type"), "type")),
        tuple(facts),
    )


def _texts(told: Any, where: str, besides: str = "") -> Iterable[str]:
    """Texts that are not empty, each once: empty aliases, and the name among them, are common and do no harm."""
    texts = [told] if isinstance(told, str) else [] if told is None else told
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise DataError(f"{where} is {_short(told)}; expected a list of texts.")
    return dict.fromkeys(each for each in texts if each.strip() and each != besides)


def _facts(told: Any) -> list[tuple[str, str]]:
    found = []
    if not isinstance(told or [], list):
        raise DataError(f"the facts are {_short(told)}; expected a list.")
    for each in told or []:
        pair = (each.get("predicate"), each.get("object")) if isinstance(each, Mapping) else each
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise DataError(f"a fact is {_short(each)}; expected a predicate and an object.")
        found.append((pair[0], pair[1]))
    return found


def _short(content: Any) -> str:
    text = content if isinstance(content, str) else repr(content)
    return text if len(text) <= 100 else f"{text[:80]} ..."
