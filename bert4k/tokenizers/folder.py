"""Which tokenizer a checkpoint folder has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bert4k.tokenizers.engine import EngineTokenizer
from bert4k.tokenizers.sentencepiece import MODEL_FILES, SentencePieceTokenizer
from bert4k.tokenizers.wordpiece import Tokenizer


def read_tokenizer(folder: str | os.PathLike[str], **settings: Any) -> Tokenizer:
    """The tokenizer of a checkpoint folder: BERT's for vocab.txt and for a tokenizer.json that holds one (`settings` are keyword arguments
    of `Tokenizer`); else that of tokenizer.json, of vocab.json and merges.txt, or of a SentencePiece model.

    Raises `VocabularyError` when there is none, or it cannot be read."""
    folder = Path(folder)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "vocab.txt" not in there:
        if "tokenizer.json" in there and not _is_wordpiece(folder / "tokenizer.json"):
            return EngineTokenizer.from_folder(folder)
        if "tokenizer.json" not in there and there & set(MODEL_FILES):
            return SentencePieceTokenizer.from_folder(folder)
        if "tokenizer.json" not in there and {"vocab.json", "merges.txt"} <= there:
            return EngineTokenizer.from_folder(folder)
    return Tokenizer.from_folder(folder, **settings)


def _is_wordpiece(path: Path) -> bool:
    """Whether a tokenizer.json is BERT's, or is so damaged that its reader should say so."""
    try:
        model = json.loads(path.read_bytes())["model"]
        return model.get("type", "WordPiece") == "WordPiece"
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
