"""Rows of tokens for models that know more of a token than its id, and pieces of texts that are longer than a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.answering import pieces
from bert4k.finetuning import Encoded
from bert4k.linking.prompts import Row
from bert4k.tokenizers import Tokenizer

TOKENS = 2048  # of a batch that is only read: what becomes of them in a small network has room in a processor's cache


@dataclass(frozen=True)
class Rows(Encoded):
    """`Encoded`, and further inputs of a model by name: `of_tokens`, a number or several of each token of a row ([L] or [L, n]; 0 for
    padding), and `of_rows`, numbers of each row ([n], float32)."""

    of_tokens: Mapping[str, Sequence[NDArray[np.int32]]] = field(default_factory=dict)
    of_rows: Mapping[str, Sequence[NDArray[np.float32]]] = field(default_factory=dict)

    def inputs(self, rows: Sequence[int | None], length: int) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = dict(super().inputs(rows, length))
        for name, column in self.of_tokens.items():
            found[name] = np.zeros((len(rows), length, *column[0].shape[1:]), np.int32)
            for at, row in enumerate(rows):
                if row is not None:
                    found[name][at, : len(column[row])] = column[row]
        for name, numbers in self.of_rows.items():
            found[name] = np.array([np.zeros_like(numbers[0]) if row is None else numbers[row] for row in rows], np.float32)
        return found


def rows_of(rows: Sequence[Row], pad_id: int, features: Sequence[NDArray[np.float32]] | None = None) -> Rows:
    """What `prompts.Writer` writes, with the inputs "named" and, where they are given, "features", numbers of each row."""
    named = {"named": [each.named for each in rows]}
    more = {} if features is None else {"features": features}
    return Rows([each.token_ids for each in rows], [each.segment_ids for each in rows], pad_id, named, more)


class Piece(NamedTuple):
    """A part of the text with the number `text`, of `ids`; `places` is where each of its tokens stands in that text. What begins at a
    character of `own`, half open, is asked of this piece and of no other one."""

    text: int
    ids: list[int]
    places: list[tuple[int, int]]
    own: tuple[int, int]


def cut(texts: Sequence[str], tokenizer: Tokenizer, room: int) -> Iterator[Piece]:
    """Texts in pieces of at most `room` tokens, each of which begins in the middle of the one before, so that whatever is asked of a piece
    has a quarter of it on both sides, unless the text ends there. A text without tokens is one empty piece."""
    for number, text in enumerate(texts):
        ids, starts, ends = tokenizer.spans(text)
        parts = list(pieces(len(ids), room))
        # Where the next piece takes over: in the middle of what the two have in common.
        borders = [starts[(one.stop + other.start) // 2] for one, other in pairwise(parts)]
        for part, begin, end in zip(parts, [0, *borders], [*borders, len(text) + 1], strict=True):
            yield Piece(number, ids[part], list(zip(starts[part], ends[part], strict=True)), (begin, end))
