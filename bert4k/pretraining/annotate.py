"""Texts to token ids and, for every token, what starts there. Runs in the worker processes of `prepare`, so it loads no framework.

A batch of documents is one text, see `text.batches`. Nothing here looks beyond a line, so a document's tokens do not depend on its batch.
A pair is a document of two lines.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.pretraining.segmentation import word_starts
from bert4k.tokenizers import Tokenizer

# The bits of a token's flags: what starts with it.
WORD, LINE, DOCUMENT, TARGET = 1, 2, 4, 8

# Characters that are tokenised at once: enough to make the work of a call small, and few enough to make its memory so.
_BLOCK = 2**16


class Annotated(NamedTuple):
    """The tokens of D documents (or pairs), T in all, one after another.

    Attributes:
        ids: uint32 [T].
        flags: uint8 [T]; bits WORD, LINE, DOCUMENT and, in pairs, TARGET.
        lengths: int64 [D], tokens; 0 for a document without any, and for a pair that has none on one side, which has no tokens here.
        characters: int64 [D], without line ends.
    """

    ids: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    characters: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        sizes = np.array([len(self.lengths), len(self.ids)], np.int64)
        return b"".join(array.tobytes() for array in (sizes, self.lengths, self.characters, self.ids, self.flags))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Annotated":
        """The arrays of `to_bytes`, read-only."""
        documents, tokens = np.frombuffer(data, np.int64, 2)
        at = 16 + 16 * documents
        return cls(
            np.frombuffer(data, np.uint32, tokens, at),
            np.frombuffer(data, np.uint8, tokens, at + 4 * tokens),
            np.frombuffer(data, np.int64, documents, 16),
            np.frombuffer(data, np.int64, documents, 16 + 8 * documents),
        )


def annotator(settings: str) -> Callable[[bytes], bytes]:
    """A function from a batch of `text.batches` to `Annotated.to_bytes()`.

    `settings` is JSON: `tokenizer`, the folder of one; `whole_words`; and `pairs`, whether the documents are pairs.
    """
    values = json.loads(settings)
    tokenizer = Tokenizer.from_folder(values["tokenizer"])
    return lambda request: annotate(request.decode(), tokenizer, values["whole_words"], values["pairs"]).to_bytes()


def annotate(text: str, tokenizer: Tokenizer, whole_words: bool, pairs: bool) -> Annotated:
    """The tokens of a batch of documents, or of pairs; see the module."""
    ids, starts, flags = _tokens(text, tokenizer, whole_words)
    line_starts = np.append(0, np.flatnonzero(np.frombuffer(text.encode("utf-32-le"), np.uint32) == ord("\n")) + 1)
    bounds = np.append(line_starts, len(text) + 1)
    empty = np.diff(bounds) == 1
    document_starts = np.append(0, line_starts[empty] + 1)

    # The first token at or behind each place; where that is the next place's too, there is no token between them.
    first_of_lines = np.searchsorted(starts, line_starts)
    has_tokens = np.diff(np.append(first_of_lines, len(ids))) > 0
    flags[first_of_lines[has_tokens]] |= LINE
    first = np.append(np.searchsorted(starts, document_starts), len(ids))
    lengths = np.diff(first)
    flags[first[:-1][lengths > 0]] |= DOCUMENT

    # Of the lines between two documents one is empty; each line ends with one line feed.
    lines = np.diff(np.append(np.searchsorted(line_starts, document_starts), len(line_starts) + 1)) - 1
    characters = np.diff(np.append(document_starts, len(text) + 2)) - 1 - lines
    if not pairs:
        return Annotated(ids, flags, lengths, characters)

    sides = np.add.reduceat(has_tokens[~empty].astype(np.int64), np.cumsum(lines) - lines)
    kept = np.repeat(sides == 2, lengths)
    flags[(flags & (LINE | DOCUMENT)) == LINE] |= TARGET
    return Annotated(ids[kept], flags[kept], np.where(sides == 2, lengths, 0), characters)


def _tokens(text: str, tokenizer: Tokenizer, whole_words: bool) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint8]]:
    """Of every token its id, the place in the text where it starts, and whether a word starts with it (WORD or 0)."""
    vocabulary = tokenizer.vocabulary
    inside = np.fromiter((token.startswith("##") and len(token) > 2 for token in vocabulary), np.bool_, len(vocabulary))
    special = np.isin(np.arange(len(vocabulary)), list(tokenizer.special_ids))
    parts: list[tuple[NDArray[Any], ...]] = []
    at = 0
    while at < len(text):
        end = text.find("\n", at + _BLOCK) + 1 or len(text)
        block = text[at:end]
        ids, starts, _ = (np.array(values, np.int64) for values in tokenizer.spans(block))
        first = word_starts(block)[starts] | special[ids] if whole_words else True
        parts.append((ids, starts + at, first & ~inside[ids]))
        at = end
    ids, starts, words = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return ids.astype(np.uint32), starts, words.astype(np.uint8)
