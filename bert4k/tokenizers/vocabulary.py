"""Vocabularies: the list of tokens in the order of their ids, and the files that hold it.

`vocab.txt` has one token a line and the line number is the id. A line ends with a line feed and nothing else: U+2028 and
other "line separators" are tokens of the published Chinese vocabulary, and whoever splits there shifts every later id.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert4k.errors import ConfigError, VocabularyError

REQUIRED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MASK = "[MASK]"


def read_vocabulary(path: str | os.PathLike[str]) -> list[str]:
    """The tokens of a `vocab.txt`, or of a `tokenizer.json` as Hugging Face writes it for BERT, in the order of their ids.

    Raises `VocabularyError` when the file is missing, not UTF-8, or damaged; see `check_vocabulary`.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors put a byte-order mark first, which is no part of [PAD]
    except OSError as error:
        raise VocabularyError(f"Cannot read the vocabulary {path}: {error.strerror}. Expected vocab.txt, one token a line.") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path} is not UTF-8 ({error}). Expected one UTF-8 token a line; convert or fetch it again.") from error
    if path.suffix == ".json":
        tokens = _from_tokenizer_json(text, path)
    else:
        tokens = text.split("\n")
        if tokens[-1] == "":
            tokens.pop()
        tokens = [token.removesuffix("\r") for token in tokens]
    check_vocabulary(tokens, str(path))
    return tokens


def _from_tokenizer_json(text: str, path: Path) -> list[str]:
    try:
        values = json.loads(text)
        if values["model"].get("type", "WordPiece") != "WordPiece":
            raise VocabularyError(f"{path} holds a {values['model']['type']} tokenizer; expected BERT's WordPiece. Load a BERT checkpoint.")
        ids: dict[str, int] = values["model"]["vocab"] | {added["content"]: added["id"] for added in values.get("added_tokens", ())}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyError(f"{path} is no tokenizer.json ({error!r}). Expected the file that Hugging Face writes for BERT.") from error
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise VocabularyError(f"{path} does not number its {len(tokens)} tokens from 0 to {len(tokens) - 1} without gaps. Fetch it again.")
    # Hugging Face strips what it reads, so U+2028 and its "##" form, both in the published Chinese vocabulary, arrive without it.
    return [token + "\u2028" if token in ("", "##") else token for token in tokens]


def check_vocabulary(tokens: Sequence[str], origin: str) -> None:
    """Raise `VocabularyError` for anything that would give a token no id, two ids, or no place in a file."""
    if empty := [line for line, token in enumerate(tokens, 1) if not token]:
        raise VocabularyError(
            f"{origin} has an empty token in line {_listing(empty)} of {len(tokens)}. Every line must hold one token, because its"
            " number is the id; fetch the file again rather than delete the line."
        )
    if len(set(tokens)) < len(tokens):
        lines: dict[str, list[int]] = {}
        for line, token in enumerate(tokens, 1):
            lines.setdefault(token, []).append(line)
        token, where = next((token, where) for token, where in lines.items() if len(where) > 1)
        raise VocabularyError(
            f"{origin} has the token {token!r} more than once, in lines {_listing(where)}; of its {len(tokens)} lines"
            f" {len(tokens) - len(lines)} repeat an earlier one. Every token must have one id; fetch the file again, or rename those lines."
        )
    if missing := [token for token in REQUIRED if token not in tokens]:
        raise VocabularyError(
            f"{origin} has {len(tokens)} tokens but not {', '.join(missing)}. BERT needs {', '.join(REQUIRED)};"
            " check that this is the vocabulary that came with the checkpoint."
        )
    # Line ends would split a line of vocab.txt, an unpaired surrogate cannot be written in it.
    if unwritable := [(line, token) for line, token in enumerate(tokens, 1) if re.search("[\n\r\ud800-\udfff]", token)]:
        line, token = unwritable[0]
        raise VocabularyError(f"{origin} has the token {token!r} in line {line}, which no UTF-8 vocab.txt can hold. Remove or rename it.")


def _listing(lines: list[int]) -> str:
    return ", ".join(map(str, lines[:5])) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")


def read_settings(path: Path) -> dict[str, Any]:
    """What a `tokenizer_config.json` says, as arguments of `Tokenizer`; a missing file says nothing.

    Raises `ConfigError` when it asks for rules that are not Google's.
    """
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}. Expected Hugging Face's file, or none.") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}). Expected Hugging Face's file; fetch it again or remove it.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a JSON {type(values).__name__}; expected an object with keys such as do_lower_case.")
    lowercase = values.get("do_lower_case", True)
    # Google ties accents to case, and always splits Chinese; a file that says otherwise describes another tokenizer.
    for key, only in (("strip_accents", lowercase), ("tokenize_chinese_chars", True), ("do_basic_tokenize", True)):
        if values.get(key) not in (None, only):
            raise ConfigError(f"{path} has {key} = {values[key]!r}; only {only!r} is implemented with do_lower_case = {lowercase!r}.")
    settings: dict[str, Any] = {"lowercase": lowercase, "special_tokens_in_text": not values.get("split_special_tokens", False)}
    special = [token for key in ("additional_special_tokens", "extra_special_tokens") for token in _names(values.get(key))]
    own = {"words": values.get("words"), "added_tokens": values.get("added_tokens", True)}
    return settings | {"special_tokens": tuple(dict.fromkeys(special))} | own


def _names(special: Any) -> list[str]:
    """Hugging Face writes a list or an object, of strings or of objects with `content`."""
    entries = list(special.values() if isinstance(special, dict) else special or ())
    return [entry["content"] if isinstance(entry, dict) else entry for entry in entries]


def settings_to_json(
    lowercase: bool, special_tokens: Sequence[str], special_tokens_in_text: bool, words: str | None, added_tokens: bool = True
) -> str:
    """The `tokenizer_config.json` that `read_settings` and Hugging Face's `BertTokenizer` read; `words` and `added_tokens` are keys of
    ours."""
    values: dict[str, Any] = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "additional_special_tokens": list(special_tokens),
        "split_special_tokens": not special_tokens_in_text,
    }
    if words is not None:
        values["words"] = words
    if not added_tokens:
        values["added_tokens"] = False
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"
