"""Examples from files of users: TSV, CSV and JSON lines, with the line of everything that is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert4k.errors import DataError

# Under which names a column is known in the data sets that are in use.
NAMES: dict[str, tuple[str, ...]] = {
    "label": ("label", "labels", "label_desc", "class", "target", "score", "similarity", "标签", "类别"),
    "text": ("text", "text_a", "text1", "sentence", "sentence1", "content", "review", "query", "title", "文本", "内容"),
    "pair": ("pair", "text_b", "text2", "sentence2", "answer"),
    "source": ("source", "src", "input", "text", "content", "article", "abstract", "原文", "上联"),
    "target": ("target", "tgt", "output", "title", "summary", "headline", "译文", "标题", "摘要", "下联"),
    "question": ("question", "query", "问题"),
    "passages": ("passages", "passage", "context", "evidence", "段落", "材料"),
    "answers": ("answers", "answer", "答案"),
    "context": ("context", "passage", "article"),
    "choices": ("choices", "choice", "options"),
    "triples": ("triples", "spo_list"),
}


@dataclass(frozen=True)
class Row:
    """One example: its values by column, and the line of the file on which it begins."""

    line: int
    values: Mapping[str, Any]


def read_rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The examples of a .tsv, .csv, .txt (tabs) or .jsonl file, .gz too, in UTF-8, with or without a byte-order mark.

    columns: what each needs, of `NAMES`, in the order of a table without a header; `optional` ones may follow. A first line that names
    columns is a header. Blank lines are left out. Raises `DataError` with the line and its content.
    """
    kind = (path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix).lower()
    if kind not in (".tsv", ".csv", ".txt", ".jsonl", ".json"):
        raise DataError(f"{path} ends with {kind!r}; expected .tsv, .csv, .jsonl, or one of these with .gz. Give the file such a name.")
    text = read_text(path)
    read = _json_rows if kind in (".jsonl", ".json") else _table_rows
    rows = list(read(path, text, columns, optional, kind))
    if not rows:
        raise DataError(f"{path} holds no example. Expected one a line, of {', '.join(columns)}.")
    return rows


def read_text(path: Path) -> str:
    """A UTF-8 file, .gz too, with line ends as \\n. Raises `DataError` with the line that is not UTF-8."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise DataError(
            f"Cannot read {path} ({getattr(error, 'strerror', None) or error}). Give a file that exists and is whole."
        ) from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: {data[error.start : error.start + 8]!r} is not UTF-8. Convert the file, as with iconv."
        ) from error


def _table_rows(path: Path, text: str, columns: Sequence[str], optional: Sequence[str], kind: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text), strict=True)
    table: Iterable[tuple[int, list[str]]]
    if kind == ".csv":
        table = zip(_first_lines(reader), reader, strict=False)
    else:  # a tab is nowhere quoted, and a quotation mark is a character of the text
        table = ((number, line.split("\t")) for number, line in enumerate(text.split("\n"), 1))
    names: list[str | None] = [*columns, *optional]
    least, header = len(columns), None
    try:
        for number, cells in table:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, (*columns, *optional))
                if header:
                    if missing := [name for name in columns if name not in header]:
                        told = "; ".join(f"{name} may be called {', '.join(_names(name))}" for name in missing)
                        raise DataError(f"{path}, line {number}: the header {cells} lacks {', '.join(missing)} ({told}). Rename a column.")
                    names, least = header, len(header)
                    continue
                header = []
            if not least <= len(cells) <= len(names):
                expected = " and ".join(str(name or "?") for name in names[:least])
                raise DataError(f"{path}, line {number}: found {len(cells)} columns in {_short(cells)}; expected {least}: {expected}.")
            yield Row(number, {name: cell for name, cell in zip(names, cells, strict=False) if name})
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: {error}. Expected commas, and quotation marks around a text with a comma."
        ) from error


def _first_lines(reader: Any) -> Iterator[int]:
    """The line on which each row of a csv.reader begins: asked before it is read."""
    while True:
        yield reader.line_num + 1


def _names(column: str) -> tuple[str, ...]:
    """What a column may be called."""
    return NAMES.get(column, (column,))


def _header(cells: Sequence[str], columns: Sequence[str]) -> list[str | None]:
    """Which of the `columns` a first line names, cell by cell; empty when it names none. Of several names of one column, the one that
    `NAMES` has first counts."""
    told = [cell.strip().lower() for cell in cells]
    known = {alias for aliases in NAMES.values() for alias in aliases}
    if len(known & set(told)) < min(2, len(cells)):
        return []
    found: list[str | None] = [None] * len(cells)
    for column in columns:
        if name := next((name for name in _names(column) if name in told), None):
            found[told.index(name)] = column
    return found


def _json_rows(path: Path, text: str, columns: Sequence[str], optional: Sequence[str], kind: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {_short(line)} is not JSON ({error}). Expected one object a line.") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: found {_short(line)}; expected an object with {', '.join(columns)}.")
        values = renamed(values, (*columns, *optional))
        if missing := [name for name in columns if name not in values]:
            raise DataError(f"{path}, line {number}: {_short(line)} lacks {', '.join(missing)}. Expected {', '.join(columns)}.")
        yield Row(number, values)


def renamed(values: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The values of a JSON object, those of the `columns` by their own names, however `NAMES` lets them be called."""
    known = {name: column for column in columns for name in _names(column)}
    return {known.get(name, name) if known.get(name, name) not in values else name: value for name, value in values.items()}


def _short(content: Any) -> str:
    text = repr(content)
    return text if len(text) <= 100 else f"{text[:80]} ..."
