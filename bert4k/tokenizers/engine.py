"""Vocabularies that the `tokenizers` package reads: a tokenizer.json of any kind, and the byte-level BPE of GPT-2 (Radford et al. 2019,
section 2.2) as vocab.json and merges.txt. No text is unknown to the latter, since its pieces are made of bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Engine
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from bert4k.checkpoints.stored import replacing
from bert4k.errors import VocabularyError
from bert4k.tokenizers.frame import Frame
from bert4k.tokenizers.subwords import Roles, Spans, SubwordTokenizer, named_roles, read_values

_END = "<|endoftext|>"


class EngineTokenizer(SubwordTokenizer):
    """A tokenizer of the `tokenizers` package, in the interface of `Tokenizer`.

    What is added around texts is what the engine's own post-processor adds; where it adds nothing, as GPT-2's, a text is followed by the
    token that ends it, as in training.

    Args:
        engine: the tokenizer, or what its `to_str()` gives.
        named: tokens by Hugging Face's keys ("eos_token", ...), where they are known.
        rows: of the model's embedding, if they are more than the tokens.

    Raises `VocabularyError` when no token can end a text.
    """

    def __init__(self, engine: Any, named: dict[str, str] | None = None, *, rows: int | None = None) -> None:
        self._engine = Engine.from_str(engine) if isinstance(engine, str) else engine
        self._engine.no_padding()
        self._engine.no_truncation()
        self.named = dict(named or {})
        ids = self._engine.get_vocab(with_added_tokens=True)
        vocabulary = [f"<unused_at_{index}>" for index in range(max(ids.values()) + 1)]
        for token, index in ids.items():
            vocabulary[index] = token
        frame = _frame_of(self._engine)
        roles = _roles_of(ids, self.named, [vocabulary[index] for index in (*frame.before[:1], *frame.after[:1])], bool(frame.before))
        special = [added.content for added in self._engine.get_added_tokens_decoder().values() if added.special]
        special += [token for token in vocabulary if token not in ids]
        super().__init__(vocabulary, roles, frame if frame != Frame() else Frame(after=(ids[roles.end],)), special, rows, True)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **settings: Any) -> EngineTokenizer:
        """The tokenizer of a checkpoint folder: tokenizer.json, or else vocab.json and merges.txt."""
        folder = Path(folder)
        named, path = named_roles(folder), folder / "tokenizer.json"
        try:
            engine = Engine.from_file(str(path)) if path.exists() else _byte_level(folder, named)
        except VocabularyError:
            raise
        except Exception as error:  # the package raises plain exceptions
            raise VocabularyError(f"The vocabulary in {folder} cannot be read ({error}). Fetch it again.") from error
        return cls(engine, named, **settings)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, which `from_folder` and Hugging Face's tokenizers read back."""
        values = {"tokenizer_class": "PreTrainedTokenizerFast", **self.named}
        with replacing(Path(folder) / "tokenizer.json", Path(folder) / "tokenizer_config.json") as (engine, config):
            engine.write_text(self._engine.to_str(pretty=True) + "\n", encoding="utf-8")
            config.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

    def with_rows(self, rows: int) -> EngineTokenizer:
        return self if rows == len(self) else type(self)(self._engine.to_str(), self.named, rows=rows)

    def pieces(self, text: str) -> Spans:
        found = self._engine.encode(text, add_special_tokens=False)
        return found.ids, [start for start, _ in found.offsets], [end for _, end in found.offsets]

    def text_of(self, ids: Sequence[int]) -> str:
        return self._engine.decode(list(ids), skip_special_tokens=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self._engine.to_str(), self.named, len(self))


def _restored(engine: str, named: dict[str, str], rows: int) -> EngineTokenizer:
    return EngineTokenizer(engine, named, rows=rows)


def _frame_of(engine: Any) -> Frame:
    """What the engine adds, seen from what it makes of a text and of a pair."""
    plain = engine.encode("a", add_special_tokens=False).ids
    one, two = engine.encode("a").ids, engine.encode("a", "a").ids
    size = len(plain)
    first = next((at for at in range(len(one) - size + 1) if one[at : at + size] == plain), 0)
    before, after = tuple(one[:first]), tuple(one[first + size :])
    return Frame(before, tuple(two[first + size : len(two) - size - len(after)]), after)


def _roles_of(ids: dict[str, int], named: dict[str, str], framed: list[str], begins: bool) -> Roles:
    """Roles from what is named, what stands around texts, and the usual names, in this order."""

    def role(*candidates: str | None) -> str | None:
        return next((token for token in candidates if token in ids), None)

    end = role(named.get("eos_token"), named.get("sep_token"), framed[-1] if framed else None, "</s>", _END, "[SEP]")
    if end is None:
        raise VocabularyError(
            "The vocabulary has no token that ends a text: expected eos_token or sep_token in tokenizer_config.json, or one of"
            f" </s>, {_END} and [SEP]. Add the release's tokenizer_config.json."
        )
    start = role(framed[0] if begins else None, named.get("bos_token"), named.get("cls_token"))
    pad = role(named.get("pad_token"), "<pad>", "[PAD]")
    unknown = role(named.get("unk_token"), "<unk>", "[UNK]")
    return Roles(pad or end, unknown or end, start or end, end, role(named.get("mask_token"), "<mask>", "[MASK]"))


def _byte_level(folder: Path, named: dict[str, str]) -> Any:
    """GPT-2's tokenizer from vocab.json and merges.txt, as transformers makes it (`models/gpt2/tokenization_gpt2.py`)."""
    tokens = read_values(folder / "vocab.json")
    if any(token.endswith("</w>") for token in tokens):
        raise VocabularyError(
            f"{folder / 'vocab.json'} has pieces that end with </w>: it is the BPE of OpenAI's GPT of 2018, not GPT-2's of bytes, and"
            " not implemented. Put the release's tokenizer.json beside it."
        )
    engine = Engine(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    engine.pre_tokenizer, engine.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    special = [token for token in dict.fromkeys((*named.values(), _END)) if token in tokens]
    engine.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return engine
