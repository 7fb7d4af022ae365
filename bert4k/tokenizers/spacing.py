"""From words back to text: where people put a space and where they do not.

Tokenizing loses the spaces, so this is a convention, not an inverse: none beside Chinese and Japanese characters or
full-width signs, one between other words, and English habits for punctuation.
"""

from collections.abc import Iterable
from unicodedata import category, east_asian_width

_NO_SPACE_BEFORE = frozenset(",.;:!?%…")
_NO_SPACE_AROUND = frozenset("'\u2019-\u2013\u2014/_@~")
_NO_SPACE_AFTER = frozenset("#$£€")
_INSIDE_NUMBERS = frozenset(".,:")


def join_words(words: Iterable[str]) -> str:
    """One text of the words, e.g. `["3", ".", "5", "km", "很", "远"]` -> `"3.5 km很远"`."""
    text = ""
    quoted = False
    for word in words:
        opens = word == '"' and not quoted
        closes = word == '"' and quoted
        after_opening = text.endswith('"') and quoted
        if text and not closes and not after_opening and _spaced(text, word, opens):
            text += " "
        text += word
        quoted ^= word == '"'
    return text


def _spaced(text: str, word: str, opens: bool) -> bool:
    """Whether a space belongs between what is written so far and the next word."""
    last, first = text[-1], word[0]
    if _is_wide(last) or _is_wide(first):
        return False
    if opens:
        return category(last) not in ("Ps", "Pi")
    if first in _NO_SPACE_BEFORE or category(first) in ("Pe", "Pf"):
        return False
    if last in _NO_SPACE_AROUND or first in _NO_SPACE_AROUND:
        return False
    if last in _INSIDE_NUMBERS and first.isdecimal() and text[-2:-1].isdecimal():
        return False
    return last not in _NO_SPACE_AFTER and category(last) not in ("Ps", "Pi")


def _is_wide(char: str) -> bool:
    """Chinese, Japanese and full-width characters and emoji; not Hangul, which writes spaces between words."""
    return east_asian_width(char) in ("W", "F") and not ("\u1100" <= char <= "\u11ff" or "\uac00" <= char <= "\ud7a3")
