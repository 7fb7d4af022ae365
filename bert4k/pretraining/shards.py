"""`prepare`: tokenise a corpus once, in parallel, into a folder of shards (see `mapped`) that training maps into memory.

Killed at any moment and started again it goes on after the last finished shard, and what it leaves in the end is the same, byte for byte,
as if nothing had happened, whatever the number of processes. That rests on three things: a document's tokens do not depend on its
neighbours, where a shard ends depends on the documents alone, and files appear under their names only when they are complete.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError
from bert4k.pretraining import segmentation, text
from bert4k.pretraining.annotate import LINE, Annotated, annotator
from bert4k.pretraining.mapped import (
    MANIFEST,
    PROGRESS,
    VERSION,
    Pair,
    Shards,
    Stretch,
    check_same,
    check_sizes,
    check_tokenizer,
    describe_tokenizer,
    digest,
    file_names,
    read_manifest,
)
from bert4k.pretraining.workers import ordered, processors
from bert4k.progress import measured
from bert4k.tokenizers import Tokenizer

__all__ = ["Pair", "Shards", "Stretch", "prepare"]

_LOCK = ".lock"


def prepare(
    folder: str | os.PathLike[str],
    tokenizer: Tokenizer,
    texts: Sequence[Path] = (),
    pairs: Sequence[Path] = (),
    *,
    whole_words: bool = True,
    workers: int | None = None,
    shard_tokens: int = 2**24,
) -> Shards:
    """Tokenise text files (documents, see `text.documents`) and files of pairs (`text.pairs`) into `folder`, or open what lies there.

    Args:
        folder: new, or one of an earlier call with the same arguments, finished or not.
        tokenizer: gives the ids. Nothing is added to a text; special tokens that are written in it are honoured if the tokenizer does so.
        whole_words: whether words are those of jieba's dictionary. If not, each token that is no "##" piece starts a word.
        workers: processes that tokenise; 0 uses this one, None as many as there are processors. Does not change the result.
        shard_tokens: the most tokens of a shard, but for a document that is longer: it is a shard of its own.

    Raises `VocabularyError` when the folder was prepared with another vocabulary, and `DataError` when with other texts or settings, when
    another process is preparing it, when it holds something else, and for texts that cannot be read. `CheckpointError` when the
    folder cannot be written to.
    """
    folder = Path(folder)
    texts, pairs = list(map(Path, texts)), list(map(Path, pairs))
    if shard_tokens < 1 or (workers is not None and workers < 0):
        raise DataError(f"shard_tokens is {shard_tokens} and workers {workers}; expected at least 1 token and 0 processes. Correct them.")
    text.check_files([*texts, *pairs])
    plan = {
        "version": VERSION,
        "tokenizer": describe_tokenizer(tokenizer),
        "settings": {"whole_words": segmentation.segmenter() if whole_words else False, "shard_tokens": shard_tokens},
        "sources": {"texts": _describe_files(texts), "pairs": _describe_files(pairs)},
    }
    if not (folder / MANIFEST).exists():
        with _locked(folder):
            if not (folder / MANIFEST).exists():
                _prepare(folder, tokenizer, {"text": texts, "pairs": pairs}, plan, processors() if workers is None else workers)
    _check_plan(folder, read_manifest(folder / MANIFEST), plan)
    return Shards.open(folder, tokenizer)


def _prepare(folder: Path, tokenizer: Tokenizer, sources: dict[str, list[Path]], plan: dict[str, Any], workers: int) -> None:
    done = _resume(folder, plan)
    tokenizer.save(folder / "tokenizer")
    settings = {"tokenizer": str((folder / "tokenizer").absolute()), "whole_words": bool(plan["settings"]["whole_words"])}
    limit, dtype = plan["settings"]["shard_tokens"], np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    total = sum(path.stat().st_size for paths in sources.values() for path in paths)
    with measured(total, "tokenising", in_bytes=True) as advance:
        for kind, paths in sources.items():
            if not paths:
                continue
            finished = [row for row in done["shards"] if row["kind"] == kind]
            read: Iterable[Sequence[str]] = text.pairs(paths, advance) if kind == "pairs" else text.documents(paths, advance)
            requests = text.batches(islice(read, sum(row["read"] for row in finished), None))
            replies = ordered(annotator, json.dumps(settings | {"pairs": kind == "pairs"}), requests, workers)
            with closing(replies):
                for number, shard in enumerate(_cut(map(Annotated.from_bytes, replies), limit), len(finished)):
                    done["shards"].append(_write(folder, kind, number, shard, dtype, tokenizer.unk_id))
                    _write_json(folder / PROGRESS, done)
            if all(row["kind"] != kind for row in done["shards"]):
                raise DataError(f"There is no text in {', '.join(map(str, paths))}. Expected UTF-8 text; check the files.")
    counts: Counter[str] = Counter()
    for row in done["shards"]:
        counts.update(row["counts"])
    _write_json(folder / PROGRESS, done | {"counts": dict(counts)})
    (folder / PROGRESS).rename(folder / MANIFEST)


def _resume(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """What is finished: the plan and the rows of shards. Clears away what an earlier call left half-done."""
    done = plan | {"shards": []}
    if (folder / PROGRESS).exists():
        if (before := read_manifest(folder / PROGRESS))["shards"]:  # if not, nothing is lost by another plan
            done = before
    elif others := [path.name for path in folder.iterdir() if path.name != _LOCK and path.suffix != ".tmp"]:
        raise DataError(f"{folder} holds something else ({others[0]}, for one). Expected a new or empty folder for the shards; choose one.")
    _check_plan(folder, done, plan)
    check_sizes(folder, done)
    recorded = {name for row in done["shards"] for name in row["files"]}
    for path in (*folder.rglob("*.tmp"), *folder.glob("*.npy")):
        if path.name not in recorded:
            path.unlink()
    _write_json(folder / PROGRESS, done)
    return done


def _check_plan(folder: Path, made: dict[str, Any], plan: dict[str, Any]) -> None:
    check_tokenizer(folder, made, plan["tokenizer"])
    check_same(folder, "the setting", made["settings"], plan["settings"])
    for kind, files in plan["sources"].items():
        before = made["sources"][kind]
        if files != before:
            changed = next((new for new, old in zip(files, before, strict=False) if new != old), None)
            what = f"{changed['name']} is new or has changed" if changed else f"there were {len(before)}, now there are {len(files)}"
            raise DataError(
                f"{folder} was prepared from other files than the {kind} given: {what}. Give the same files in the same order, or"
                " prepare another folder (or remove this one first)."
            )


def _describe_files(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [{"name": path.name, "size": path.stat().st_size, "sha256": digest(path)} for path in paths]


def _cut(batches: Iterable[Annotated], limit: int) -> Iterator[Annotated]:
    """The same documents in pieces of at most `limit` tokens (or one document), each as long as can be, wherever the batches end.

    Nothing where no document has a token.
    """
    parts: list[Annotated] = []
    room = limit
    for batch in batches:
        ends = np.cumsum(batch.lengths)
        first = begin = 0
        while first < len(ends):
            last = int(np.searchsorted(ends, begin + max(room, 0), "right"))
            if last <= first and room < limit:  # it is not the first of its shard, and does not fit
                yield _joined(parts)
                parts, room = [], limit
                continue
            last = max(last, first + 1)
            end = int(ends[last - 1])
            parts.append(Annotated(batch.ids[begin:end], batch.flags[begin:end], batch.lengths[first:last], batch.characters[first:last]))
            room -= end - begin
            first, begin = last, end
    if room < limit:
        yield _joined(parts)


def _joined(parts: Sequence[Annotated]) -> Annotated:
    return Annotated(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _write(folder: Path, kind: str, number: int, shard: Annotated, dtype: type[np.unsignedinteger[Any]], unknown: int) -> dict[str, Any]:
    """Write a shard; returns its row of the manifest."""
    name = f"{kind}-{number:05}"
    paths = [folder / file for file in file_names(name)]
    with replacing(*paths) as temporary:
        for path, array in zip(temporary, (shard.ids.astype(dtype), shard.flags), strict=True):
            with path.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        files = {path.name: {"size": new.stat().st_size, "sha256": digest(new)} for path, new in zip(paths, temporary, strict=True)}
    filled = shard.lengths > 0
    counts = {
        "documents": int(filled.sum()) if kind == "text" else 0,
        "lines": int(np.count_nonzero(shard.flags & LINE)) if kind == "text" else 0,
        "pairs": int(filled.sum()) if kind == "pairs" else 0,
        "tokens": len(shard.ids),
        "characters": int(shard.characters[filled].sum()),
        "unknown": int(np.count_nonzero(shard.ids == unknown)),
        "empty": int((~filled).sum()),
    }
    return {"name": name, "kind": kind, "read": len(shard.lengths), "counts": counts, "files": files}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else prepares this folder meanwhile, or `DataError`.

    The system takes the lock from a process that ends, however it ends: a number of a process in a file would outlive it, and may
    be another's after a restart.
    """
    import fcntl

    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(file, 20).decode() or "unknown"
                os.close(file)
                raise DataError(
                    f"{folder} is being prepared by another process (id {holder}). Wait for it, or end it and start again: what it has"
                    " finished is kept."
                ) from None
            # The holder before may have removed the file between these two calls; then this is a lock on nothing.
            if path.exists() and os.fstat(file).st_ino == path.stat().st_ino:
                break
            os.close(file)
    except OSError as error:
        raise DataError(f"Cannot write to {folder} ({error.strerror}). Choose a folder with space and write permission.") from error
    try:
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
