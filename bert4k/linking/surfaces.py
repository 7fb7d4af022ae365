"""The form in which names are compared: half-width, lower case, simplified characters, without the 《》 around a title.

Every rule but the last turns one character into one and looks at no other, so that what is found in a folded text has the same place in the
raw one, and a piece of a folded text is the folded piece.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from functools import cache

from bert4k.errors import ConfigError

# Dots in foreign names (列侬·约翰): keyboards and web sites have many, readers see one.
DOTS = dict.fromkeys("•‧∙・･⋅", "·")
# What the digest is taken of: the characters on which versions of Unicode and OpenCC may disagree.
_CHINESE = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x2A6E0))


class _Forms(dict[int, str]):
    """What stands for a code point; filled as characters occur. Any thread would fill in the same."""

    def __missing__(self, code: int) -> str:
        form = self[code] = _form(chr(code))
        return form


def _form(char: str) -> str:
    if 0xD800 <= ord(char) <= 0xDFFF:  # half of a pair: neither UTF-8 nor a database takes it
        return "\ufffd"
    if char.isspace():
        return " "
    wide = unicodedata.normalize("NFKC", char)
    char = wide if len(wide) == 1 else char
    lower = char.lower()
    char = lower if len(lower) == 1 else char
    return DOTS.get(char) or (_simplified(char) if char > "\u2e7f" else char)


def _simplified(char: str) -> str:
    """A character in its simplified form; itself where OpenCC would write several. Raises `ConfigError` without OpenCC."""
    form = _converter()(char)
    return form if len(form) == 1 else char


@cache
def _converter() -> Callable[[str], str]:
    try:
        from opencc import OpenCC
    except ImportError as error:
        raise ConfigError(
            "Names are compared in simplified characters, for which opencc is needed. Run: pip install 'bert4k[linking]'"
        ) from error
    return OpenCC("t2s").convert


_FORMS = _Forms()


def folded(text: str) -> str:
    """A text, any `str`, with every character in the form that is compared; as long as the text."""
    return text.translate(_FORMS)


def normalised(surface: str) -> str:
    """A name or alias in the form that is compared: `folded`, without white space at its ends and one pair of 《》 around it.

    Empty for what holds nothing else."""
    form = folded(surface).strip()
    return form[1:-1].strip() if len(form) > 1 and form[0] == "《" and form[-1] == "》" and "》" not in form[1:-1] else form


@cache
def digest() -> str:
    """A hash of the rules as they are here: names folded by others would not be found."""
    text = "".join(map(chr, (code for begin, end in _CHINESE for code in range(begin, end))))
    return hashlib.sha256("".join(map(folded, text)).encode()).hexdigest()[:16]
