"""A tiny checkpoint for recipes, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"的人书好喜欢坏讨厌王明小在北京"]


def checkpoint(folder: Path, outputs: tuple[str, ...] = ("sequence",)) -> Path:
    """A random model in Google's format, with the layers of these outputs."""
    from bert4k.config import Config
    from bert4k.hub import save
    from bert4k.model import Transformer
    from bert4k.tokenizers import Tokenizer

    config = Config(len(TOKENS), 16, 1, 2, 32, max_position_embeddings=64, initializer_range=0.2)
    return save(Transformer(config, outputs=outputs), Tokenizer(TOKENS), folder)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints: its results, or, with `code` 2, its error."""
    from bert4k.cli import main

    capsys.readouterr()
    assert main(list(arguments)) == code, capsys.readouterr().err
    shown = capsys.readouterr()
    return shown.err if code else shown.out
