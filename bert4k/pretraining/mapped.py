"""`Shards`: a tokenised corpus on disk, mapped into memory, and the index of what can be read from it.

A folder that `prepare` has finished:

    manifest.json                   what it was made of, and the size and SHA-256 of every shard
    tokenizer/                      the vocabulary and the settings of the tokenizer
    text-00000.tokens.npy           uint16 [T] (uint32 where the vocabulary is too large): the ids of whole documents, nothing added
    text-00000.flags.npy            uint8 [T]: bit 0, the token starts a word; 1, a line; 2, a document
    pairs-00000.tokens.npy, ...     pairs, source and target one after the other; bit 2, the token starts a pair; 3, a target
    stretches-128-1a2b3c4d.npy ...  an index, made when it is first asked for

A token that is neither the first of a word nor of anything else has no bit set.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError, VocabularyError
from bert4k.pretraining.annotate import DOCUMENT, LINE, TARGET, WORD
from bert4k.tokenizers import Tokenizer

VERSION = 1
MANIFEST = "manifest.json"
PROGRESS = "progress.json"

# Shards that are mapped at once: each holds two file descriptors, of which a process often may have 1,024.
_MAPPED = 128


class Stretch(NamedTuple):
    """Consecutive tokens of one document, without [CLS] and [SEP].

    Attributes:
        ids: int32 [L].
        starts_word: bool [L]; False at first place when a line was cut inside a word.
        starts_line: bool [L].
        ends: whether the document ends with it.
    """

    ids: NDArray[np.int32]
    starts_word: NDArray[np.bool_]
    starts_line: NDArray[np.bool_]
    ends: bool


class Pair(NamedTuple):
    """A source, int32 [S], and its target, int32 [T], without [CLS] and [SEP]; each has at least one token."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]


class Shards:
    """A prepared corpus, read-only. Can be pickled, and used by several threads at once.

    Attributes:
        folder: where it lies.
        manifest: the contents of manifest.json.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._names = {kind: [row["name"] for row in manifest["shards"] if row["kind"] == kind] for kind in ("text", "pairs")}
        self._map = lru_cache(_MAPPED)(self._load)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], tokenizer: Tokenizer) -> "Shards":
        """What `prepare` left in a folder.

        Raises `DataError` when it is not finished, of another version, incomplete, or was made with other settings of the tokenizer,
        and `VocabularyError` when it was made with another vocabulary.
        """
        folder = Path(folder)
        manifest = read_manifest(folder / MANIFEST)
        check_tokenizer(folder, manifest, describe_tokenizer(tokenizer))
        check_sizes(folder, manifest)
        return cls(folder, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.folder, self.manifest)

    def __repr__(self) -> str:
        return f"<Shards {self.folder}: {', '.join(f'{count:,} {name}' for name, count in self.counts.items())}>"

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of documents, lines, pairs, tokens, characters, unknown (tokens that are [UNK]) and empty (documents without any
        token, and pairs without one on one side; they are in no shard)."""
        counts: dict[str, int] = self.manifest["counts"]
        return counts

    def verify(self) -> None:
        """Read every shard and raise `DataError` unless each has the checksum that the manifest gives it."""
        for row in self.manifest["shards"]:
            for name, about in row["files"].items():
                if digest(self.folder / name) != about["sha256"]:
                    raise DataError(
                        f"{self.folder / name} is damaged: its SHA-256 is not the one that {MANIFEST} gives. Remove the folder and prepare"
                        " it again, or fetch the file again."
                    )

    def stretches(self, limit: int) -> NDArray[np.int64]:
        """Everything there is of text, in stretches of at most `limit` tokens: int64 [n, 4], rows (shard, start, stop, ends).

        A stretch is as many whole lines of one document as fit; a longer line is cut at `limit`, and its rest begins the next. `ends` is 1
        when the document ends with it. Mapped from a file that is written when a limit is first asked for.
        """
        return self._index("stretches", limit, "text", pack_lines)

    def pair_index(self, limit: int) -> NDArray[np.int64]:
        """The pairs with at most `limit` tokens, source and target together: int64 [m, 4], rows (shard, start, middle, stop).

        `counts["pairs"] - len(rows)` are longer. Mapped from a file as `stretches` is.
        """
        return self._index("pairs", limit, "pairs", find_pairs)

    def tokens(self, kind: str) -> Iterator[NDArray[Any]]:
        """All tokens there are of a kind, "text" or "pairs", one shard after another, without what parts them."""
        for shard in range(len(self._names[kind])):
            yield self._load(kind, shard)[0]

    def read(self, row: Sequence[int] | NDArray[np.int64]) -> Stretch:
        """The tokens of a row of `stretches`."""
        shard, start, stop, ends = map(int, row)
        return stretch(*self._map("text", shard), start, stop, ends)

    def read_pair(self, row: Sequence[int] | NDArray[np.int64]) -> Pair:
        """The tokens of a row of `pair_index`."""
        shard, start, middle, stop = map(int, row)
        tokens, _ = self._map("pairs", shard)
        return Pair(tokens[start:middle].astype(np.int32), tokens[middle:stop].astype(np.int32))

    def _load(self, kind: str, shard: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        # As plain arrays: a slice of a `memmap` is another one, which takes longer to make than to read.
        tokens, flags = (np.asarray(_mapped(self.folder / name)) for name in file_names(self._names[kind][shard]))
        return tokens, flags

    def _index(self, name: str, limit: int, kind: str, rows_of: "RowsOf") -> NDArray[np.int64]:
        if limit < 1:
            raise DataError(f"The limit is {limit} tokens; expected at least 1. Give the room that a row of the batch has for text.")
        # Named after the shards too: an index of other shards that lay in the folder before is not this one.
        shards = hashlib.sha256(json.dumps(self.manifest["shards"], sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{name}-{limit}-{shards[:8]}.npy"
        if not path.exists():
            with replacing(path) as (temporary,):
                _write_rows(temporary, self._rows(kind, limit, rows_of))
        return _mapped(path)

    def _rows(self, kind: str, limit: int, rows_of: "RowsOf") -> Iterator[NDArray[np.int64]]:
        for shard in range(len(self._names[kind])):
            _, flags = self._load(kind, shard)
            yield np.insert(rows_of(flags, limit), 0, shard, axis=1)


RowsOf = Callable[[NDArray[np.uint8], int], NDArray[np.int64]]


def stretch(ids: NDArray[Any], flags: NDArray[np.uint8], start: int, stop: int, ends: int) -> Stretch:
    """A row of `pack_lines`, of the tokens [T] and flags [T] that it is of."""
    own = flags[start:stop]
    return Stretch(ids[start:stop].astype(np.int32), (own & WORD).astype(np.bool_), (own & LINE).astype(np.bool_), bool(ends))


def pack_lines(flags: NDArray[np.uint8], limit: int) -> NDArray[np.int64]:
    """The stretches of a shard, from its flags [T]: int64 [n, 3], rows (start, stop, ends). See `Shards.stretches`."""
    lines = np.flatnonzero(flags & LINE)
    lengths = np.diff(np.append(lines, len(flags)))
    pieces = -(-lengths // limit)
    within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(lines, pieces) + within * limit
    bounds = np.append(starts, len(flags))

    documents = np.flatnonzero(flags & DOCUMENT)
    document_ends = np.append(documents[1:], len(flags))[np.searchsorted(documents, starts, "right") - 1]
    # From every possible start, where a stretch would stop; following these from the first start gives the stretches.
    following = np.searchsorted(bounds, np.minimum(starts + limit, document_ends), "right") - 1
    links = following.tolist()
    taken = []
    at = 0
    while at < len(links):
        taken.append(at)
        at = links[at]
    chosen = np.array(taken, np.int64)
    stops = bounds[following[chosen]]
    return np.stack([starts[chosen], stops, stops == document_ends[chosen]], axis=1).astype(np.int64)


def find_pairs(flags: NDArray[np.uint8], limit: int) -> NDArray[np.int64]:
    """The pairs of a shard with at most `limit` tokens, from its flags [T]: int64 [m, 3], rows (start, middle, stop)."""
    starts = np.flatnonzero(flags & DOCUMENT)
    rows = np.stack([starts, np.flatnonzero(flags & TARGET), np.append(starts[1:], len(flags))], axis=1)
    return rows[rows[:, 2] - rows[:, 0] <= limit]


def _write_rows(path: Path, blocks: Iterator[NDArray[np.int64]]) -> None:
    """An .npy file of int64 [n, 4] whose n is known only at the end: NumPy leaves room for any in the header."""
    with path.open("wb") as file:

        def header(rows: int) -> None:
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {"descr": "<i8", "fortran_order": False, "shape": (rows, 4)})

        header(0)
        begin = file.tell()
        for block in blocks:
            file.write(block.astype("<i8").tobytes())
        rows = (file.tell() - begin) // 32
        header(rows)
        assert file.tell() == begin


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a .npy file, read-only. An empty one cannot be mapped."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False) if path.stat().st_size > 128 else np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path} ({error}). Expected a NumPy array; remove the folder and prepare it again.") from error
    return array


# What is written of a folder, and the questions that are asked of it before it is used.


def file_names(shard: str) -> tuple[str, str]:
    """The files of a shard: tokens, flags."""
    return f"{shard}.tokens.npy", f"{shard}.flags.npy"


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a manifest says of a tokenizer, and what another must equal to mean the same by its ids."""
    return {
        "size": len(tokenizer),
        "vocabulary_sha256": hashlib.sha256("\n".join(tokenizer.vocabulary).encode()).hexdigest(),
        "lowercase": tokenizer.lowercase,
        "special_tokens": list(tokenizer.special_tokens),
        "special_tokens_in_text": tokenizer.special_tokens_in_text,
        "words": tokenizer.words,
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest, or the record of progress that becomes one. Raises `DataError` when it is missing, damaged or of another version."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version, *_ = (manifest[name] for name in ("version", "tokenizer", "settings", "sources", "shards"))
    except FileNotFoundError as error:
        if (path.parent / PROGRESS).exists():
            raise DataError(f"{path.parent} is not finished. Start its preparation again: it goes on where it stopped.") from error
        raise DataError(f"There is no {path}. Expected a folder of shards that `prepare` has made; check the path.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Expected the manifest of a folder of shards; check the path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error!r}). Remove the folder and prepare it again.") from error
    if version != VERSION:
        raise DataError(f"{path} is of version {version}; this bert4k reads version {VERSION}. Remove the folder and prepare it again.")
    return manifest


def check_tokenizer(folder: Path, manifest: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise `VocabularyError` or `DataError` unless the folder was made with the same vocabulary, and the same settings."""
    made = manifest["tokenizer"]
    if made["vocabulary_sha256"] != given["vocabulary_sha256"]:
        raise VocabularyError(
            f"{folder} was tokenised with another vocabulary: {made['size']:,} tokens, SHA-256 {made['vocabulary_sha256']}; the one given"
            f" has {given['size']:,}, SHA-256 {given['vocabulary_sha256']}. Its ids would mean other tokens. Give the vocabulary in"
            f" {folder / 'tokenizer'}, or prepare another folder with the new one."
        )
    check_same(folder, "tokenizer", made, given)


def check_same(folder: Path, what: str, made: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise `DataError` for the first setting that is not the one the folder was made with."""
    for name in made | given:
        if made.get(name) != given.get(name):
            raise DataError(
                f"{folder} was prepared with {what} {name} = {made.get(name)!r}; now it is {given.get(name)!r}. Give what it was prepared"
                " with, or prepare another folder (or remove this one first)."
            )


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise `DataError` unless every shard is there in its full size."""
    for row in manifest["shards"]:
        for name, about in row["files"].items():
            path = folder / name
            found = path.stat().st_size if path.exists() else None
            if found != about["size"]:
                raise DataError(
                    f"{path} {'is missing' if found is None else f'has {found:,} bytes'}; the manifest says {about['size']:,} bytes. Remove"
                    " the folder and prepare it again, or fetch the file again."
                )
