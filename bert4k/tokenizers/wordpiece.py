"""`Tokenizer`: texts to padded batches of token ids, with the span of every token in the raw text, and back.

Equal, id for id, to `FullTokenizer` of google-research/bert `tokenization.py`. The words come from `basic`; the
greedy longest-match WordPiece of the `tokenizers` engine cuts each distinct word once, and a table remembers the pieces.
"""

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers.models import WordPiece

from bert4k.checkpoints.stored import replacing
from bert4k.errors import ConfigError, DataError, VocabularyError, did_you_mean
from bert4k.tokenizers.basic import BasicTokenizer, is_cjk
from bert4k.tokenizers.frame import Frame
from bert4k.tokenizers.spacing import join_words
from bert4k.tokenizers.vocabulary import MASK, REQUIRED, check_vocabulary, read_settings, read_vocabulary, settings_to_json
from bert4k.tokenizers.words import JiebaWords

# A longer word is [UNK]: Google's limit (Hugging Face's fast tokenizer gives up at 100).
_LONGEST_WORD = 200
# Distinct words whose pieces are remembered: a few tens of megabytes at most, and far more than Chinese text needs.
_REMEMBERED_WORDS = 100_000

Text = str | tuple[str, str]
Item = TypeVar("Item")


class TruncationWarning(UserWarning):
    """Tokens of a batch were cut off to fit `max_length`. `cut` maps the row of each shortened text to their number."""

    def __init__(self, message: str, cut: dict[int, int]) -> None:
        super().__init__(message)
        self.cut = cut


@dataclass(frozen=True, eq=False)
class Encoding:
    """One text or pair as tokens (L of them, the added [CLS] and [SEP] included), and where each came from.

    Attributes:
        ids: int32 [L].
        tokens: the token of each id.
        segment_ids: int32 [L]; 1 for the second text and its [SEP], else 0.
        offsets: (start, end) of each token in its raw string; (0, 0) for an added [CLS] or [SEP], never for any other.
        text_index: 0 for a token of the text, 1 of the pair, None for an added one.
        cut: number of tokens that did not fit `max_length`.
    """

    ids: NDArray[np.int32]
    tokens: list[str]
    segment_ids: NDArray[np.int32]
    offsets: list[tuple[int, int]]
    text_index: list[int | None]
    cut: int

    def __len__(self) -> int:
        return len(self.tokens)


class _Pieces(dict[str, tuple[int, ...]]):
    """Word -> the ids of its pieces, cut by the engine when the word is first met."""

    def __init__(self, token_ids: dict[str, int], unknown: str) -> None:
        super().__init__()
        self._engine = WordPiece(token_ids, unk_token=unknown, max_input_chars_per_word=_LONGEST_WORD)
        self._unknown = (token_ids[unknown],)

    def __missing__(self, word: str) -> tuple[int, ...]:
        try:
            pieces = tuple(token.id for token in self._engine.tokenize(word))
        except UnicodeEncodeError:
            # An unpaired surrogate is in no vocabulary, so no cut of this word can be complete.
            pieces = self._unknown
        if len(self) < _REMEMBERED_WORDS and len(word) <= _LONGEST_WORD:
            self[word] = pieces
        return pieces


class Tokenizer:
    """Google's BERT tokenizer over a vocabulary.

    A bracketed token of the vocabulary ("[MASK]", "[SEP]", "[unused1]") that is written in a text, exactly so, becomes that token:
    plain WordPiece could never yield it, because brackets are split off as punctuation. `special_tokens` names others to be
    honoured, such as "<T>"; `special_tokens_in_text=False` honours none, which is Google's own behaviour and right
    for texts of strangers.

    `words="jieba"` is the granularity of WoBERT (Su Jianlin 2020, github.com/ZhuiyiTechnology/WoBERT): of the words into which jieba
    (HMM=False) cuts the lower-cased text, those with a Chinese character that are tokens of the vocabulary stay whole; all
    else is tokenised as before. jieba is imported, and its dictionary read, when the first text comes (under a second).

    Args:
        vocabulary: the tokens in the order of their ids, or the path of a vocab.txt.
        lowercase: Google's `do_lower_case`: lower-case and strip accents.
        special_tokens: tokens besides the bracketed ones that are special.
        special_tokens_in_text: whether special tokens written in a text are honoured.
        words: "jieba" keeps the Chinese words of the vocabulary whole, None keeps none.
        added_tokens: whether [CLS] and [SEP] are put around texts; a few language models were trained on texts without them.

    Raises `VocabularyError` for a vocabulary that is damaged (see `vocabulary.check_vocabulary`) or lacks a special token,
    `ConfigError` for any other value of an argument.
    Can be pickled, and used by several threads at once.
    """

    def __init__(
        self,
        vocabulary: Sequence[str] | str | os.PathLike[str],
        lowercase: bool = True,
        *,
        special_tokens: Iterable[str] = (),
        special_tokens_in_text: bool = True,
        words: Literal["jieba"] | None = None,
        added_tokens: bool = True,
    ) -> None:
        if isinstance(vocabulary, str | os.PathLike):
            self.vocabulary = read_vocabulary(vocabulary)
        else:
            self.vocabulary = list(vocabulary)
            check_vocabulary(self.vocabulary, "The vocabulary")
        if not isinstance(lowercase, bool):
            raise ConfigError(f"lowercase is {lowercase!r}; expected True or False. Correct the argument, or do_lower_case in the file.")
        if isinstance(special_tokens, str):
            raise ConfigError(f"special_tokens is the string {special_tokens!r}; expected a list of tokens. Put it in a list.")
        if words not in (None, "jieba"):
            raise ConfigError(f"words is {words!r}; expected 'jieba' or None. Correct the argument, or words in the file.")
        self.lowercase = lowercase
        self.special_tokens = tuple(special_tokens)
        self.special_tokens_in_text = special_tokens_in_text
        self.words = words
        self.added_tokens = added_tokens

        self._ids = {token: index for index, token in enumerate(self.vocabulary)}
        bracketed = [token for token in self.vocabulary if len(token) > 2 and token[0] == "[" and token[-1] == "]"]
        special = list(dict.fromkeys((*bracketed, *self.special_tokens)))
        self.special_ids = frozenset(map(self.token_to_id, special))
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (self._ids[token] for token in REQUIRED)
        self.frame = Frame((self.cls_id,), (self.sep_id,), (self.sep_id,)) if added_tokens else Frame()

        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if special_tokens_in_text else None
        whole = {token for token in self.vocabulary if _is_chinese_word(token)}.difference(special) if words else ()
        self._basic = BasicTokenizer(lowercase, JiebaWords(whole).split if whole else str.split)
        self._pieces = _Pieces(self._ids, "[UNK]")

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **settings: Any) -> "Tokenizer":
        """The tokenizer of a checkpoint folder: `vocab.txt` (or `tokenizer.json`), and `tokenizer_config.json` if present.

        `settings` are keyword arguments of `Tokenizer` that go before what the folder says; a folder that says nothing, as
        Google's do, is lower-cased. Raises `VocabularyError`, and `ConfigError` for rules that are not Google's.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise VocabularyError(f"There is no folder {folder} to read a vocabulary from. Expected a checkpoint folder with a vocab.txt.")
        path = folder / "vocab.txt"
        if not path.exists() and (folder / "tokenizer.json").exists():
            path = folder / "tokenizer.json"
        return cls(path, **read_settings(folder / "tokenizer_config.json") | settings)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `vocab.txt` and `tokenizer_config.json`, which `from_folder` and Hugging Face's `BertTokenizer` read back.
        (Hugging Face's knows nothing of `words`, and tokenises them by character.)

        Creates the folder; replaces these two files, both or neither. Raises `CheckpointError` when it cannot be written to.
        """
        folder = Path(folder)
        with replacing(folder / "vocab.txt", folder / "tokenizer_config.json") as (vocabulary, config):
            vocabulary.write_bytes("".join(f"{token}\n" for token in self.vocabulary).encode())
            settings = settings_to_json(self.lowercase, self.special_tokens, self.special_tokens_in_text, self.words, self.added_tokens)
            config.write_bytes(settings.encode())

    # Tokens and ids

    @property
    def vocab_size(self) -> int:
        """Number of tokens (V)."""
        return len(self.vocabulary)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def with_rows(self, rows: int) -> "Tokenizer":
        """The same tokenizer, for an embedding of so many rows. A vocab.txt has as many tokens as there are rows; others may have fewer."""
        return self

    def check_rows(self, rows: int, origin: str = "") -> None:
        """Raise `VocabularyError` unless a model's embedding of so many rows has one for each token, and no more."""
        if len(self) != rows:
            raise VocabularyError(
                f"The vocabulary has {len(self):,} tokens and the model's embedding {rows:,} rows{origin}, so the ids of one mean nothing"
                " to the other. Keep together what was loaded together, and use the vocab.txt and the config of one release."
            )

    @property
    def mask_id(self) -> int:
        """The id of [MASK]; `VocabularyError` when the vocabulary has none."""
        return self.token_to_id(MASK)

    def token_to_id(self, token: str) -> int:
        """The id of a token of the vocabulary; `VocabularyError` when it is not one."""
        try:
            return self._ids[token]
        except KeyError:
            raise VocabularyError(
                f"There is no token {token!r} among the {len(self)} of the vocabulary.{did_you_mean(token, self.vocabulary)}"
                " Use a token of the vocabulary, or add it there (and a row to the embedding)."
            ) from None

    def id_to_token(self, token_id: int) -> str:
        """The token of an id; `VocabularyError` when it is outside the vocabulary."""
        if not 0 <= token_id < len(self):
            raise VocabularyError(f"There is no token with id {token_id}; the ids of this vocabulary go from 0 to {len(self) - 1}.")
        return self.vocabulary[token_id]

    # Text to ids

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without [CLS] and [SEP]: what `FullTokenizer.tokenize` gives."""
        return [self.vocabulary[token_id] for token_id in self._text_ids(_checked(text, "text"))]

    def __call__(self, texts: Iterable[Text], max_length: int | None = None) -> dict[str, NDArray[np.int32]]:
        """A batch for the model: `[CLS] text [SEP]` or, for a pair, `[CLS] text [SEP] pair [SEP]`, padded to the longest.

        Args:
            texts: B strings, or pairs (tuples, or lists of two) of strings.
            max_length: the most tokens of a row, added ones included. What is longer is cut at its end, a pair at the
                end of whichever text is the longer (Google's `_truncate_seq_pair`), with one `TruncationWarning` a call.

        Returns `{"token_ids": int32 [B, L], "segment_ids": int32 [B, L]}`; padding is [PAD] and segment 0.
        Raises `DataError` for an empty batch and for anything that is not a string or pair of strings.
        """
        rows, begins = self._rows(texts, max_length)
        token_ids, real = _padded(rows, self.pad_id)
        in_second = np.arange(real.shape[1]) >= np.array(begins)[:, None]
        return {"token_ids": token_ids, "segment_ids": (real & in_second).astype(np.int32)}

    def unpadded(self, texts: Iterable[Text], max_length: int | None = None) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]]:
        """The rows of `tokenizer(texts, max_length)` without their padding: token ids and segment ids, each B arrays int32 [L]."""
        rows, begins = self._rows(texts, max_length)
        token_ids = [np.array(row, np.int32) for row in rows]
        return token_ids, [(np.arange(len(row)) >= begin).astype(np.int32) for row, begin in zip(rows, begins, strict=True)]

    def _rows(self, texts: Iterable[Text], max_length: int | None) -> tuple[list[list[int]], list[int]]:
        """The token ids of each text or pair, [CLS] and [SEP] added, and where a second text begins in each row, or would. To be called
        by a public method: the warning of cuts points at who called that."""
        rows: list[list[int]] = []
        begins: list[int] = []
        cuts: dict[int, int] = {}
        for row, (text, pair) in enumerate(_checked_batch(texts)):
            parts = [self._text_ids(text)] if pair is None else [self._text_ids(text), self._text_ids(pair)]
            kept, cut = _truncate(parts, max_length, self.frame)
            if cut:
                cuts[row] = cut
            rows.append(self.frame.around(kept))
            begins.append(len(rows[-1]) if pair is None else len(self.frame.before) + len(kept[0]) + len(self.frame.between))
        if cuts:
            _warn_of_cuts(cuts, len(rows), max_length)
        return rows, begins

    def encode(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoding:
        """One text or pair with its tokens and their spans; the ids are those of `tokenizer([text], max_length)`.

        Raises `DataError` for anything that is not a string. Truncation is told in the result's `cut`.
        """
        texts = [_checked(text, "text")] if pair is None else [_checked(text, "text"), _checked(pair, "pair")]
        ids, starts, ends = zip(*map(self.spans, texts), strict=True)
        kept, cut = _truncate(ids, max_length, self.frame)
        row, last, added = self.frame.around(kept), len(kept) - 1, self.frame.of(0)
        return Encoding(
            ids=np.array(row, np.int32),
            tokens=[self.vocabulary[token_id] for token_id in row],
            segment_ids=np.array(added._replace(after=(last,) * len(added.after)).around(_numbered(kept)), np.int32),
            offsets=list(zip(*(added.around(_truncate(places, max_length, self.frame)[0]) for places in (starts, ends)), strict=True)),
            text_index=self.frame.of(None).around(_numbered(kept)),
            cut=cut,
        )

    def offsets(self, texts: Iterable[Text], max_length: int | None = None) -> NDArray[np.int32]:
        """For every token of `tokenizer(texts, max_length)` its [start, end) in the raw string: int32 [B, L, 2].

        0, 0 for padding and for an added [CLS] or [SEP], never for any other token. In a pair, segment_ids tell which of the two
        strings is meant. A span covers the whole of what was written, dropped accents included; two pieces of one character, as
        of a decomposed Hangul syllable, share its span. Does not warn of truncation: the call that made the batch does.
        """
        rows: tuple[list[list[int]], list[list[int]]] = [], []
        for pair in _checked_batch(texts):
            _, *places = zip(*(self.spans(text) for text in pair if text is not None), strict=True)
            for lists, place in zip(rows, places, strict=True):
                lists.append(self.frame.of(0).around(_truncate(place, max_length, self.frame)[0]))
        return np.stack([_padded(lists, 0)[0] for lists in rows], axis=-1)

    def _text_ids(self, text: str) -> list[int]:
        """The ids of a text, nothing added."""
        if self._special is None:
            return self._plain_ids(text)
        ids: list[int] = []
        for index, part in enumerate(self._special.split(text)):
            # Splitting at a group gives text, special token, text, special token, ..., text.
            ids += [self._ids[part]] if index % 2 else self._plain_ids(part)
        return ids

    def _plain_ids(self, text: str) -> list[int]:
        return list(chain.from_iterable(map(self._pieces.__getitem__, self._basic.words(text))))

    def spans(self, text: str) -> tuple[list[int], list[int], list[int]]:
        """The ids of a text, nothing added, and for each token where it starts and where it ends in `text`; starts never decrease.

        What `encode` builds on, without its arrays: for whoever needs the places of very many tokens.
        """
        if self._special is None:
            return self._plain_spans(text, 0)
        ids, starts, ends = [], [], []  # type: list[int], list[int], list[int]
        at = 0
        for index, part in enumerate(self._special.split(text)):
            found = ([self._ids[part]], [at], [at + len(part)]) if index % 2 else self._plain_spans(part, at)
            ids += found[0]
            starts += found[1]
            ends += found[2]
            at += len(part)
        return ids, starts, ends

    def _plain_spans(self, text: str, at: int) -> tuple[list[int], list[int], list[int]]:
        words, char_starts, char_ends = self._basic.words_and_spans(text)
        ids, starts, ends = [], [], []  # type: list[int], list[int], list[int]
        begin = 0
        for word in words:
            pieces = self._pieces[word]
            ids += pieces
            for piece in pieces:
                # One piece is the whole word, [UNK] too; of several, all but the first begin with "##".
                size = len(word) if len(pieces) == 1 else len(self.vocabulary[piece].removeprefix("##"))
                starts.append(at + char_starts[begin])
                begin += size
                ends.append(at + char_ends[begin - 1])
        return ids, starts, ends

    # Ids to text

    def decode(self, ids: ArrayLike, *, keep_special: bool = False) -> str:
        """A readable text of one row of token ids: pieces joined, spaces by the habits of `spacing`.

        Special tokens ([UNK] among them) are left out unless `keep_special`. Raises `VocabularyError` for an id outside the
        vocabulary, `DataError` for anything but one row.
        """
        row = np.asarray(ids)
        if row.ndim != 1:
            raise DataError(f"Found ids of shape {list(row.shape)}; decode() takes one row of them, [L]. Decode a batch row by row.")
        words: list[str] = []
        for token_id in row.tolist():
            token = self.id_to_token(token_id)
            if token_id in self.special_ids:
                if keep_special:
                    words.append(token)
            elif token.startswith("##") and len(token) > 2:
                if words:
                    words[-1] += token[2:]
                else:
                    words.append(token[2:])
            else:
                words.append(token)
        return join_words(words)

    def __reduce__(self) -> tuple[Any, ...]:
        settings: dict[str, Any] = {"special_tokens": self.special_tokens, "special_tokens_in_text": self.special_tokens_in_text}
        return partial(type(self), **settings, words=self.words, added_tokens=self.added_tokens), (self.vocabulary, self.lowercase)

    def __repr__(self) -> str:
        words = f", words={self.words!r}" if self.words else ""
        return f"Tokenizer({len(self)} tokens, lowercase={self.lowercase}{words})"


def _is_chinese_word(token: str) -> bool:
    """Whether a token is one that only `words` can give: Chinese, of several characters, and not for the inside of a word."""
    return 1 < len(token) <= _LONGEST_WORD and not token.startswith("##") and any(map(is_cjk, token))


def _numbered(parts: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """For each token the number of its part."""
    return [[index] * len(part) for index, part in enumerate(parts)]


def _truncate(parts: Sequence[list[Item]], max_length: int | None, frame: Frame) -> tuple[Sequence[list[Item]], int]:
    """One or two token lists cut to fit `max_length` with what is added to them, and how many tokens that cost."""
    total, added = sum(map(len, parts)), frame.size(len(parts))
    if max_length is None or total + added <= max_length:
        return parts, 0
    room = max_length - added
    if room < 0:
        raise DataError(
            f"max_length is {max_length}, but [CLS] and [SEP] alone need {added}. Give a larger max_length, or None to cut nothing."
        )
    if len(parts) == 1:
        return [parts[0][:room]], total - room
    # What popping from the longer one, from the second when they are equal, leaves in the end.
    text, pair = parts
    second = min(len(pair), max(room // 2, room - len(text)))
    return [text[: room - second], pair[:second]], total - room


def _padded(rows: Sequence[list[int]], fill: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Rows of different lengths as one int32 [B, L], and bool [B, L]: what is not filling."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    real = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(real.shape, fill, np.int32)
    padded[real] = np.fromiter(chain.from_iterable(rows), np.int32, lengths.sum())
    return padded, real


def _warn_of_cuts(cuts: dict[int, int], batch: int, max_length: int | None) -> None:
    row = max(cuts, key=cuts.__getitem__)
    message = (
        f"{len(cuts)} of {batch} texts did not fit max_length {max_length}: {sum(cuts.values())} tokens were cut,"
        f" {cuts[row]} of them from row {row}. Raise max_length, split the texts, or read `cut` of this warning and of encode()."
    )
    warnings.warn(TruncationWarning(message, cuts), stacklevel=4)


def _checked_batch(texts: Iterable[Text]) -> list[tuple[str, str | None]]:
    if isinstance(texts, str):
        raise DataError(f"Found one string, {texts[:20]!r}, where a batch of texts was expected. Put it in a list: [text].")
    if not isinstance(texts, Iterable):
        raise DataError(f"Found {type(texts).__name__} where a batch of texts was expected. Give a list of strings or of pairs of strings.")
    batch: list[tuple[str, str | None]] = []
    for row, item in enumerate(texts):
        if isinstance(item, tuple | list) and len(item) == 2:
            batch.append((_checked(item[0], f"the first text of row {row}"), _checked(item[1], f"the second text of row {row}")))
        else:
            batch.append((_checked(item, f"row {row}"), None))
    if not batch:
        raise DataError("The batch of texts is empty. Give at least one text; an empty string is one.")
    return batch


def _checked(text: Any, place: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"Found {type(text).__name__} as {place}; expected a string, or a pair (two strings) as a row of a batch.")
    return text
