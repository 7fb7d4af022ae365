"""SentencePiece vocabularies (Kudo & Richardson 2018, arXiv:1808.06226), through the package `sentencepiece`: pip install
"bert4k[sentencepiece]".

Equal, id for id, to what these models were trained with: T5 and mT5 (transformers, `T5Tokenizer`), XLM-RoBERTa, whose ids are those of
fairseq (transformers, `XLMRobertaTokenizer`), and CPM (github.com/TsinghuaAI/CPM-1-Generate, `data_utils/tokenization_gpt2.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from bert4k.checkpoints.stored import replacing
from bert4k.errors import ConfigError, VocabularyError, did_you_mean
from bert4k.tokenizers.frame import Frame
from bert4k.tokenizers.subwords import Roles, Spans, SubwordTokenizer, read_values
from bert4k.tokenizers.words import dictionary

# By which names the model's file is released; the second is XLM-RoBERTa's, the third CPM's.
MODEL_FILES = ("spiece.model", "sentencepiece.bpe.model", "chinese_vocab.model")
KINDS = ("t5", "xlm_roberta", "cpm")

# CPM writes a space and a line end as signs of its own. The second is no piece of its vocabulary: its tokenizer gives it the id of <cls>,
# which is therefore the line end (github.com/bojone/bert4keras, examples/basic_language_model_cpm_lm.py).
_SPACE, _LINE_END = "\u2582", "\u2583"
_SIGNS = str.maketrans(" \n", _SPACE + _LINE_END)


class SentencePieceTokenizer(SubwordTokenizer):
    """A SentencePiece model, in the interface of `Tokenizer`.

    Args:
        model: the model, as the bytes of its file or as its path.
        kind: whose ids and added tokens: "t5" (`text </s>`; with <extra_id_99> to <extra_id_0> behind the pieces, if the model does not
            have them itself), "xlm_roberta" (`<s> text </s>`, pairs `<s> text </s></s> pair </s>`; ids of fairseq) or "cpm"
            (`text <eod>`; texts are cut by jieba first).
        extra_ids: how many of <extra_id_...> there are, for "t5".
        rows: of the model's embedding, if they are more than the tokens.
        special_tokens_in_text: whether special tokens written in a text are honoured.

    Raises `VocabularyError` for a damaged file, a model without a needed token, and where the package is missing.
    """

    def __init__(
        self,
        model: bytes | str | os.PathLike[str],
        kind: str = "t5",
        *,
        extra_ids: int = 100,
        rows: int | None = None,
        special_tokens_in_text: bool = True,
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(
                f"There is no kind {kind!r} of SentencePiece vocabulary.{did_you_mean(kind, KINDS)} Kinds: {', '.join(KINDS)}."
            )
        self.kind, self.extra_ids = kind, extra_ids
        self.model, self._processor = _opened(model)
        pieces = [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]
        special = [piece for index, piece in enumerate(pieces) if self._processor.is_control(index)]
        match kind:
            case "t5":
                extra = [] if any("<extra_id_0>" in piece for piece in pieces) else [f"<extra_id_{i}>" for i in reversed(range(extra_ids))]
                vocabulary, special = [*pieces, *extra], [*special, *extra]
                roles = Roles("<pad>", "<unk>", "<pad>", "</s>")  # a decoder begins with padding
            case "xlm_roberta":  # of the model's <unk> <s> </s>, fairseq makes <s> <pad> </s> <unk>
                vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:], "<mask>"]
                roles = Roles("<pad>", "<unk>", "<s>", "</s>", "<mask>")
            case "cpm":
                vocabulary, special = pieces, [piece for piece in pieces[:8] if piece not in ("<cls>", "\u2581")]
                roles = Roles("<pad>", "<unk>", "<eod>", "<eod>", "<mask>" if "<mask>" in pieces else None)
        end = vocabulary.index(roles.end) if roles.end in vocabulary else 0
        frame = {
            "t5": Frame((), (end,), (end,)),
            "xlm_roberta": Frame((0,), (end, end), (end,)),
            "cpm": Frame((), (), (end,)),
        }[kind]
        super().__init__(vocabulary, roles, frame, special, rows, special_tokens_in_text)
        self._own = [self._ids[piece] for piece in pieces]  # the model's ids -> ours
        self._lock = Lock()
        self._words: Any = None

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **settings: Any) -> SentencePieceTokenizer:
        """The tokenizer of a checkpoint folder. Whose it is is told by its tokenizer_config.json, by the name of the model's file, or by
        its pieces. `settings` are keyword arguments that go before what the folder says."""
        folder = Path(folder)
        path = next((folder / name for name in MODEL_FILES if (folder / name).exists()), folder / MODEL_FILES[0])
        values = read_values(folder / "tokenizer_config.json")
        named = str(values.get("tokenizer_class", "")).lower()
        model, processor = _opened(path)
        if processor.piece_to_id("<eod>") != processor.unk_id():
            kind = "cpm"
        else:
            kind = "xlm_roberta" if "xlmroberta" in named or path.name == MODEL_FILES[1] else "t5"
        told = {"kind": values.get("kind", kind), "special_tokens_in_text": not values.get("split_special_tokens", False)}
        if isinstance(values.get("extra_ids"), int):
            told["extra_ids"] = values["extra_ids"]
        return cls(model, **told | settings)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model and `tokenizer_config.json`, which `from_folder` and Hugging Face's tokenizers read back."""
        name = MODEL_FILES[self.kind == "xlm_roberta"]
        classes = {"t5": "T5Tokenizer", "xlm_roberta": "XLMRobertaTokenizer", "cpm": "CpmTokenizer"}
        values = {"tokenizer_class": classes[self.kind], "kind": self.kind, "split_special_tokens": not self.special_tokens_in_text}
        if self.kind == "t5":
            values["extra_ids"] = self.extra_ids
        with replacing(Path(folder) / name, Path(folder) / "tokenizer_config.json") as (model, config):
            model.write_bytes(self.model)
            config.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def with_rows(self, rows: int) -> SentencePieceTokenizer:
        return self if rows == len(self) else self._again(rows)

    def _again(self, rows: int) -> SentencePieceTokenizer:
        in_text = self.special_tokens_in_text
        return type(self)(self.model, self.kind, extra_ids=self.extra_ids, rows=rows, special_tokens_in_text=in_text)

    def pieces(self, text: str) -> Spans:
        if self.kind != "cpm":
            return self._encoded(text)
        joined, begins, ends = self._cut(text)
        ids, starts, stops = self._encoded(joined)
        places = [
            (begins[start], ends[stop - 1]) if start < stop else (begins[start],) * 2 if start < len(begins) else (len(text),) * 2
            for start, stop in zip(starts, stops, strict=True)
        ]
        return ids, [start for start, _ in places], [stop for _, stop in places]

    def _encoded(self, text: str) -> Spans:
        """What the model itself makes of a text."""
        found = self._processor.encode(text, return_type="offset_mapping")
        ids, starts, ends = [], [], []  # type: list[int], list[int], list[int]
        for number, piece, (start, end) in zip(found["ids"], found["pieces"], found["offsets"], strict=True):
            ids.append(self._ids["<cls>"] if self.kind == "cpm" and piece == _LINE_END else self._own[number])
            starts.append(start)
            ends.append(end)
        for index in reversed(range(len(ids) - 1)):
            # Of the pieces of one character (㈱), the model gives the place to the last. A space before the first word has none.
            if starts[index] == ends[index] == starts[index + 1] and found["pieces"][index] != "\u2581":
                ends[index] = ends[index + 1]
        return ids, starts, ends

    def _cut(self, text: str) -> tuple[str, list[int], list[int]]:
        """The words that jieba sees, joined by spaces, and where each character of that begins and ends in the text."""
        if self._words is None:
            with self._lock:
                self._words = self._words or dictionary()
        words = [word.translate(_SIGNS) for word in self._words.cut(text, cut_all=False)]
        begins, ends, at = [], [], 0  # type: list[int], list[int], int
        for word in words:
            if at:
                begins.append(at)
                ends.append(at)
            begins += range(at, at + len(word))
            ends += range(at + 1, at + len(word) + 1)
            at += len(word)
        return " ".join(words), begins, ends

    def text_of(self, ids: Sequence[int]) -> str:
        names = [self.vocabulary[token_id] for token_id in ids]
        if self.kind != "cpm":
            return self._processor.decode_pieces(names)
        text = self._processor.decode_pieces([_LINE_END if name == "<cls>" else name for name in names])
        return text.replace(" ", "").replace(_SPACE, " ").replace(_LINE_END, "\n")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.model, self.kind, self.extra_ids, len(self), self.special_tokens_in_text)


def _restored(model: bytes, kind: str, extra_ids: int, rows: int, in_text: bool) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(model, kind, extra_ids=extra_ids, rows=rows, special_tokens_in_text=in_text)


def _opened(model: bytes | str | os.PathLike[str]) -> tuple[bytes, Any]:
    """The bytes of a model and its processor."""
    origin = "The vocabulary" if isinstance(model, bytes) else os.fspath(model)
    try:
        import sentencepiece
    except ImportError as error:
        raise VocabularyError(
            f"{origin} is a SentencePiece model, and the package that reads it is missing."
            ' Install it with: pip install "bert4k[sentencepiece]", or put the release\'s tokenizer.json beside it.'
        ) from error
    try:
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
    except OSError as error:
        raise VocabularyError(f"Cannot read the vocabulary {origin}: {error.strerror}. Expected a SentencePiece model.") from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(content)
    except (RuntimeError, ValueError, TypeError) as error:
        raise VocabularyError(f"{origin} is no SentencePiece model ({error}). Fetch it again.") from error
    if not processor.get_piece_size():
        raise VocabularyError(f"{origin} is an empty SentencePiece model. Fetch it again.")
    return content, processor
