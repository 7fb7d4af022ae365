"""The index of a folder of text files: made once, brought up to date when files change, refused when another version made it."""

from __future__ import annotations

import gzip
import json
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError, DataError
from bert4k.progress import measured
from bert4k.retrieval.cutting import SIZE, cut
from bert4k.retrieval.engine import Engine, Piece, engine_module

FORMAT = 1
"""Raised when an index that was made before would be read wrongly: other fields, other words, other passages."""

KINDS = (".txt", ".md", ".gz")
LONGEST = 2**28  # bytes of a file, uncompressed
COMMIT_EVERY = 10_000_000  # characters, half a minute's work: so much is lost when it is killed
STATE = "files.json"

State = dict[str, dict[str, Any]]


def open_corpus(corpus: Path, folder: Path | None = None) -> Engine:
    """The index of a folder of .txt, .md and .gz files, in it and below (hidden ones apart), or of one file, as it is now.

    It is kept in `folder`: by default in .bert4k-index of the corpus. Files that are new, changed (size or time) or gone are read anew or
    forgotten, with a bar on standard error; whoever was killed at it goes on there. What is no UTF-8 text is left out, and told.

    Raises `DataError` when there is no text, when the index was made by another version of bert4k, Tantivy or jieba or belongs to another
    corpus (with what to remove), or is damaged, or another process is writing it; `ConfigError` when Tantivy is not installed.
    """
    engine_module()  # complains before the work
    files = dict(_files(corpus))
    if not files:
        raise DataError(f"{corpus} holds no file that ends with {', '.join(KINDS)}. Give a folder of texts, or one text.")
    folder = folder or (corpus if corpus.is_dir() else corpus.with_name(f".{corpus.name}")) / ".bert4k-index"
    about = {
        "format": FORMAT,
        "tantivy": version("tantivy"),
        "jieba": version("jieba"),
        "characters": SIZE,
        "corpus": _name(Path(os.path.relpath(corpus.resolve(), folder.resolve()))),
    }
    state = _state(folder, about)
    engine = Engine(folder / "passages")
    try:
        _update(engine, files, state, lambda: _keep(folder, about, state))
    finally:
        engine.close()
    if left_out := {name: row["left_out"] for name, row in state.items() if row["left_out"]}:
        told = "; ".join(f"{name} {why}" for name, why in list(left_out.items())[:5])
        more = f"; and {len(left_out) - 5:,} others" if len(left_out) > 5 else ""
        print(f"{len(left_out):,} of {len(state):,} files were left out: {told}{more}", file=sys.stderr)
    if not any(row["passages"] for row in state.values()):
        raise DataError(f"{corpus} holds no text: {len(files):,} files, and no word in them. Give a folder of UTF-8 texts.")
    return engine


class _File(NamedTuple):
    """A file as it is before it is read: what changes while it is read, is seen the next time."""

    path: Path
    bytes: int
    time: int  # of its last change, in nanoseconds


def _files(corpus: Path) -> Iterator[tuple[str, _File]]:
    """The files of a corpus by their names in it, in order."""
    paths = [corpus] if corpus.is_file() else _paths(corpus)
    for path in paths:
        try:
            about = path.stat()
        except OSError:  # a link to nothing, or it is gone already
            continue
        if stat.S_ISREG(about.st_mode):
            name = path.name if path == corpus else path.relative_to(corpus)
            yield _name(Path(name)), _File(path, about.st_size, about.st_mtime_ns)


def _paths(corpus: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(corpus):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith(".") and name.lower().endswith(KINDS))


def _name(path: Path) -> str:
    """A path as text that can be stored, whatever bytes it is of."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _update(engine: Engine, files: dict[str, _File], state: State, keep: Callable[[], None]) -> None:
    """Bring the index and what is known of its files up to date; `keep` is called after each commit, so that it never knows more."""
    gone = [name for name in state if name not in files]
    known = {name: (row["bytes"], row["time"]) for name, row in state.items()}
    fresh = {name: file for name, file in files.items() if known.get(name) != (file.bytes, file.time)}
    if not fresh and not gone:
        return
    # Whoever was killed between a commit and the note of it has left passages that nobody knows of.
    for name in {*gone, *engine.files()} - set(files):
        engine.replace(name, ())
        state.pop(name, None)
    since = 0
    with measured(sum(file.bytes for file in fresh.values()), "indexing", in_bytes=True) as advance:
        for name, file in fresh.items():
            text, left_out = _read(file.path)
            pieces = list(_pieces(text))
            engine.replace(name, _counted(pieces, file.bytes, advance))
            state[name] = {"bytes": file.bytes, "time": file.time, "passages": len(pieces), "left_out": left_out}
            since += len(text)
            if since >= COMMIT_EVERY:
                engine.commit()
                keep()
                since = 0
    engine.commit()
    keep()


def _counted(pieces: Sequence[Piece], size: int, advance: Callable[[int], object]) -> Iterator[Piece]:
    """The passages of a file of so many bytes, told to the bar as they are taken."""
    done = 0
    for number, piece in enumerate(pieces, 1):
        yield piece
        advance(size * number // len(pieces) - done)
        done = size * number // len(pieces)


def _pieces(text: str) -> Iterator[Piece]:
    """The passages of a text with their lines."""
    line, at = 1, 0
    for start, end in cut(text):
        line += text.count("\n", at, start) if start >= at else -text.count("\n", start, at)
        at = start
        yield Piece(text[start:end], start, line)


def _read(path: Path) -> tuple[str, str | None]:
    """The text of a file; "" and why, where it is none."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        return "", f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if len(data) > LONGEST:
        return "", f"is larger than {LONGEST >> 20} MB; split it"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", f"is not UTF-8 in line {line}; convert it, as with iconv"
    return ("", "is no text") if "\0" in text else (text, None)


# What is known of the index. -----------------------------------------------------------------------------------------------------


def _state(folder: Path, about: dict[str, Any]) -> State:
    """What the index in a folder knows of its files; nothing for a new one, which is begun."""
    path, remedy = folder / STATE, f"Remove the folder {folder}, and the index is made anew; or give another with --index."
    if not path.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} is to hold the index, but there are other things in it, and no {STATE}. Give another with --index.")
        _keep(folder, about, {})
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        before, files = stored["about"], stored["files"]
        changed = [f"{name} {before.get(name)}, now {now}" for name, now in about.items() if before.get(name) != now]
        whole = all({"bytes", "time", "passages", "left_out"} <= set(row) for row in files.values())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}). {remedy}") from error
    if changed:
        raise DataError(f"The index in {folder} was made by another version or for another corpus: {'; '.join(changed)}. {remedy}")
    if not whole:
        raise DataError(f"{path} is damaged. {remedy}")
    return dict(files)


def _keep(folder: Path, about: dict[str, Any], state: State) -> None:
    try:
        with replacing(folder / STATE) as (temporary,):
            temporary.write_text(json.dumps({"about": about, "files": state}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except CheckpointError as error:
        raise DataError(f"The index cannot be kept in {folder} ({error}) Give another folder with --index.") from error
