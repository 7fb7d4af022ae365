"""Vocabularies other than BERT's, behind the interface of `Tokenizer`: what SentencePiece and the `tokenizers` engine have in common.

What is asked of a vocabulary is which of its tokens play the parts of [PAD], [UNK], [CLS], [SEP] and [MASK] (`Roles`), which stand around
texts (`Frame`), and where in a text each piece comes from. "[MASK]" written in a text is the mask token under any name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bert4k.errors import DataError, VocabularyError
from bert4k.tokenizers.frame import Frame
from bert4k.tokenizers.vocabulary import MASK
from bert4k.tokenizers.wordpiece import Tokenizer

Spans = tuple[list[int], list[int], list[int]]


class Roles(NamedTuple):
    """Which tokens play the parts of BERT's. start: stands first, or begins what is generated from nothing. end: ends a text."""

    pad: str
    unknown: str
    start: str
    end: str
    mask: str | None = None


class SubwordTokenizer(Tokenizer):
    """A vocabulary whose pieces another engine cuts; subclasses say how, and how pieces become text again.

    `vocabulary` has a name for each of `rows` rows of the model's embedding: releases round their number up, and the rows without a token
    are called "<unused_0>" and so on, and never written.

    Raises `VocabularyError` when a role has no token.
    """

    def __init__(
        self, vocabulary: Sequence[str], roles: Roles, frame: Frame, special: Iterable[str], rows: int | None, special_tokens_in_text: bool
    ) -> None:
        unused = [f"<unused_{number}>" for number in range((rows or 0) - len(vocabulary))]
        self.vocabulary = [*vocabulary, *unused]
        self.lowercase, self.words, self.added_tokens = False, None, True
        self.special_tokens_in_text = special_tokens_in_text
        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = map(self.token_to_id, roles[:4])
        self.roles, self.frame = roles, frame
        self.special_tokens = tuple(dict.fromkeys([*filter(None, roles), *special]))
        self.special_ids = frozenset(map(self.token_to_id, [*self.special_tokens, *unused]))
        self._written = {token: self.token_to_id(token) for token in self.special_tokens} if special_tokens_in_text else {}
        if special_tokens_in_text and roles.mask:
            self._written[MASK] = self.token_to_id(roles.mask)
        longest_first = sorted(self._written, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if self._written else None

    def with_rows(self, rows: int) -> SubwordTokenizer:
        """The same tokenizer with a name for each of so many rows of an embedding."""
        raise NotImplementedError

    def pieces(self, text: str) -> Spans:
        """Ids of a text without special tokens, and where each begins and ends in it."""
        raise NotImplementedError

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids that are no special tokens."""
        raise NotImplementedError

    @property
    def mask_id(self) -> int:
        """The id of the mask token; `VocabularyError` when the vocabulary has none."""
        if self.roles.mask is None:
            raise VocabularyError("This vocabulary has no mask token: its model was trained to continue texts, not to fill blanks.")
        return self.token_to_id(self.roles.mask)

    def _text_ids(self, text: str) -> list[int]:
        return self.spans(text)[0]

    def spans(self, text: str) -> Spans:
        """The ids of a text, nothing added, and for each token where it starts and where it ends in `text`. A piece that stands for
        nothing in it, as a space before the first word, has an empty span."""
        # No engine takes an unpaired surrogate; what Unicode puts in its place is as long.
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        found: Spans = ([], [], [])
        at = 0
        for index, part in enumerate(self._special.split(text) if self._special else [text]):
            ids, starts, ends = ([self._written[part]], [0], [len(part)]) if index % 2 else self.pieces(part)
            found[0].extend(ids)
            found[1].extend(at + start for start in starts)
            found[2].extend(at + end for end in ends)
            at += len(part)
        return found

    def decode(self, ids: ArrayLike, *, keep_special: bool = False) -> str:
        """The text of one row of token ids, as the engine joins it.

        Special tokens are left out unless `keep_special`. Raises `VocabularyError` for an id outside the vocabulary, `DataError` for
        anything but one row.
        """
        row = np.asarray(ids)
        if row.ndim != 1:
            raise DataError(f"Found ids of shape {list(row.shape)}; decode() takes one row of them, [L]. Decode a batch row by row.")
        runs: list[list[int]] = [[]]
        texts: list[str] = []
        for token_id in row.tolist():
            token = self.id_to_token(token_id)
            if token_id not in self.special_ids:
                runs[-1].append(token_id)
            elif keep_special:
                texts += self.text_of(runs[-1]), token
                runs.append([])
        return "".join([*texts, self.text_of(runs[-1])])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens)"


def named_roles(folder: Path) -> dict[str, str]:
    """Which tokens a folder of Hugging Face's names, by the file's keys such as "eos_token"."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        values = read_values(folder / name)
        for key, value in values.items():
            if key.endswith("_token") and value:
                token = value.get("content") if isinstance(value, dict) else value
                if isinstance(token, str):
                    found[key] = token
    return found


def read_values(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file. Raises `VocabularyError` for anything else."""
    path = Path(path)
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise VocabularyError(f"{path} cannot be read ({error}). Expected a JSON object; fetch it again or remove it.") from error
    if not isinstance(values, dict):
        raise VocabularyError(f"{path} holds a JSON {type(values).__name__}; expected an object. Fetch it again or remove it.")
    return values
