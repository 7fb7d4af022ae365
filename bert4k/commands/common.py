"""What commands have in common: the arguments of those that read texts with a model, texts, and how results are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bert4k
from bert4k.commands.declared import Argument, Namespace, argument
from bert4k.errors import DataError

TEXTS = argument("texts", nargs="+", metavar="TEXT", help="text; - reads lines from standard input")
JSON_LINES = argument("--json", action="store_true", help="one JSON object a line")
RUN = argument("model", type=Path, metavar="RUN", help="folder of the run")


def model_and_texts(mask: str, texts: str = "text") -> tuple[Argument, ...]:
    """A model under `mask`, unless another one is asked for, and texts: what one of them is."""
    usual = mask if mask == "lm" else f"{mask}, and lm for GPT and its like"
    how = f"attention mask: a name or an expression such as 'causal & window(64) | source' (default: {usual})"
    return (
        argument("model", help="folder of a checkpoint, .keras file, or a name that `bert4k list` shows"),
        argument("texts", nargs="+", metavar="TEXT", help=f"{texts}; - reads lines from standard input"),
        argument("--mask", help=how),
        JSON_LINES,
    )


def load(options: Namespace, mask: str, outputs: tuple[str, ...]) -> tuple[Any, Any]:
    """The model that the command asks for, without --mask under `mask`, unless its family is one machine only. An encoder-decoder calls its
    output layer "logits"."""
    from bert4k.hub import machine

    kind = machine(options.model)
    outputs = tuple(kind.vocabulary_output if name == "mlm" else name for name in outputs)
    if kind.vocabulary_output == "logits":
        return bert4k.load(options.model, options.mask, outputs)
    model, tokenizer = bert4k.load(options.model, options.mask or mask, outputs)
    if options.mask is None and model.config.mask != "encoder":
        model = model.with_mask(model.config.mask)
    return model, tokenizer


def texts_of(texts: Sequence[str]) -> list[str]:
    """The texts of the command line, `-` replaced by the lines of standard input."""
    found: list[str] = []
    for text in texts:
        try:
            found += _standard_input() if text == "-" else [text]
        except UnicodeDecodeError as error:
            raise DataError(
                f"Standard input is not {error.encoding.upper()} ({error}). Convert it first, for example with iconv."
            ) from error
    if not found:
        raise DataError("Standard input holds no line. Give one text a line.")
    return found


def _standard_input() -> list[str]:
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    return [line.removeprefix("\ufeff") for line in lines[:1]] + lines[1:]  # a byte order mark, as files may have


def lines_of(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not blank."""
    try:
        return [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}. Expected a UTF-8 file with one text a line.") from error


def pairs(texts: Sequence[str]) -> list[Any]:
    """A text with a tab as a pair."""
    return [tuple(text.split("\t", 1)) if "\t" in text else text for text in texts]


def print_json(value: Any) -> None:
    """As one line."""
    line = json.dumps(value, ensure_ascii=False)
    print(line if printable(line) == line else json.dumps(value))


def printable(text: str) -> str:
    """A text with a question mark for each half of a surrogate pair, which is no UTF-8. JSON has an escape for it."""
    return text.encode(errors="replace").decode()


def order_of(text: str) -> str | tuple[int, ...]:
    """The name of an order, or its numbers."""
    numbers = text.replace(",", " ").split()
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else text
