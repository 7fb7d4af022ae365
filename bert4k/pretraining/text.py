"""Plain text as documents, and pairs of texts: streamed, so that memory does not grow with the corpus.

A text file is UTF-8, gzipped or not. Lines end with a line feed and nothing else (U+2028 is text); a carriage return before it
and a byte-order mark at the start of a file are no part of the text. A line without anything but white space is blank.
"""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from bert4k.errors import DataError

# A document is held in memory while it is tokenised. Whatever is longer is a file in another format.
LONGEST_LINE = 2**23  # bytes
LONGEST_DOCUMENT = 2**24  # characters
# Characters in a batch for a worker process: some 200 KB of Chinese text, a quarter of a second's work.
BATCH = 2**16

_GZIP = b"\x1f\x8b"

Advance = Callable[[int], object]
"""Told how many bytes of the files, as they lie on the disk, were read since the last call."""


def _nobody(read: int) -> None:
    """Hears how far reading is, and does nothing about it."""


def documents(paths: Sequence[Path], advance: Advance = _nobody) -> Iterator[list[str]]:
    """Every document of text files, as its lines that are not blank: one or more of them.

    Blank lines separate documents, and so does the end of a file.

    Raises `DataError` at once for an empty `paths` and for what is no readable file; while reading for what is not UTF-8, a
    damaged gzip file, a line of more than 8 MiB and a document of more than
    16 million characters.
    """
    check_files(paths)
    return (lines for path in paths for lines in _documents(path, advance))


def pairs(paths: Sequence[Path], advance: Advance = _nobody) -> Iterator[tuple[str, str]]:
    """Every (source, target) of files with one `source<TAB>target` a line; empty lines are passed over.

    Raises `DataError` as `documents` does, and for a line without exactly one tab or with nothing on one side of it.
    """
    check_files(paths)
    return (pair for path in paths for pair in _pairs(path, advance))


def batches(documents: Iterable[Sequence[str]]) -> Iterator[bytes]:
    """Documents (or pairs) in batches for worker processes: lines joined by a line feed, documents by two, as UTF-8."""
    batch: list[Sequence[str]] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += sum(map(len, document))
        if size >= BATCH:
            yield _joined(batch)
            batch, size = [], 0
    if batch:
        yield _joined(batch)


def _joined(batch: list[Sequence[str]]) -> bytes:
    return "\n\n".join(map("\n".join, batch)).encode()


def check_files(paths: Sequence[Path]) -> None:
    """Raise `DataError` unless there are paths and each of them is a file that can be opened."""
    if not paths:
        raise DataError("There are no text files to read. Give the path of at least one.")
    for path in paths:
        if path.is_dir():
            raise DataError(f"{path} is a folder; expected a text file. Name the files in it, for example {path}/*.txt.")
        try:
            path.open("rb").close()
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}. Expected a UTF-8 text file, gzipped or not; check the path.") from error


def _documents(path: Path, advance: Advance) -> Iterator[list[str]]:
    found: list[str] = []
    size = 0
    for number, line in lines(path, advance):
        if line and not line.isspace():
            found.append(line)
            size += len(line)
            if size > LONGEST_DOCUMENT:
                raise DataError(
                    f"{path} has a document of more than {LONGEST_DOCUMENT:,} characters, which goes on in line {number:,}. Expected blank"
                    " lines between documents; put one after each (where every line is a document of its own: sed G FILE)."
                )
        elif found:
            yield found
            found, size = [], 0
    if found:
        yield found


def _pairs(path: Path, advance: Advance) -> Iterator[tuple[str, str]]:
    for number, line in lines(path, advance):
        if not line:
            continue
        sides = line.split("\t")
        if len(sides) != 2:
            raise DataError(
                f"{path}, line {number:,}: found {_tabs(len(sides) - 1)} in {_shown(line)}; expected source<TAB>target, one pair a line."
                " Correct the line, or give files of plain text as texts."
            )
        source, target = sides
        if not (source.strip() and target.strip()):
            side = "target" if source.strip() else "source"
            raise DataError(f"{path}, line {number:,}: the {side} is empty in {_shown(line)}; expected source<TAB>target. Remove the line.")
        yield source, target


def _tabs(count: int) -> str:
    return "no tab" if count == 0 else f"{count} tabs"


def _shown(line: str) -> str:
    return repr(line if len(line) <= 40 else line[:40] + "…")


def lines(path: Path, advance: Advance = _nobody) -> Iterator[tuple[int, str]]:
    """Every line of a file with its number, which counts from 1. Raises `DataError` as `documents` does."""
    with path.open("rb") as raw:
        zipped = path.suffix == ".gz" or raw.peek(2)[:2] == _GZIP
        file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw
        told = number = 0
        try:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    raise DataError(
                        f"{path}, line {number:,} is longer than {LONGEST_LINE >> 20} MiB; expected lines of text. Break it into"
                        " lines (or is this a file in another format?)."
                    )
                # "utf-8-sig" would drop the mark too, but takes another and slower way for every line.
                text = line.decode().removesuffix("\n").removesuffix("\r")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
                if number % 256 == 0:
                    told += _tell(raw.tell() - told, advance)
            _tell(raw.tell() - told, advance)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise DataError(
                f"{path}, line {number:,}: byte {error.start + 1} (0x{byte:02x}) is not UTF-8. Convert the file first, for example with"
                " iconv -f gb18030 -t utf-8."
            ) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path} is damaged after line {number:,}: {error}. Expected a whole gzip file; fetch or write it again."
            ) from error
        except OSError as error:
            raise DataError(
                f"Cannot read {path} after line {number:,}: {error.strerror}. Check the disk, or fetch the file again."
            ) from error


def _tell(read: int, advance: Advance) -> int:
    if read:
        advance(read)
    return read
