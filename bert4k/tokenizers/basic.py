"""From text to words, by the rules of `BasicTokenizer` in google-research/bert `tokenization.py`.

1. Clean: drop U+0000, U+FFFD and control characters (categories Cc and Cf, but not tab, newline and carriage
   return); turn those three and every space (Zs) into " ".
2. Put spaces around every CJK ideograph, then split at whitespace (by now " ", U+2028 and U+2029).
3. When lower-casing: `str.lower`, decompose (NFD), drop non-spacing marks (Mn).
4. Make every punctuation character a word of its own.

Almost all of this can be decided for one character at a time. So the rules are written once, for one character,
and a table remembers each answer: a text is then `str.translate` and `str.split`, which run in C. The table asks
the `unicodedata` of the running Python, as Google's code does, so the two agree in every version of Unicode. What does depend on
its neighbours (a final sigma, the canonical order of marks that are not dropped) is marked in the table, and a text that
has it takes a second, literal path.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby
from unicodedata import category, combining, normalize

# The blocks that Google calls Chinese: CJK ideographs up to Unicode 8. Kana and Hangul are not among them.
_CJK_BLOCKS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_CJK_FIRST = tuple(first for first, _ in _CJK_BLOCKS)

# Stands where the rules end a word and the text has no space. Cleaning removes U+001F, so no text can contain it, and
# `str.split` takes it for a space; without these marks, a folded text is what was written.
BOUNDARY = "\x1f"
# Stands for a character that cannot be treated alone. Cleaning removes U+0000, so no text can contain it.
_CONTEXT = "\0"


def is_cjk(char: str) -> bool:
    """Whether Google's tokenizer makes this character a word of its own as a Chinese one."""
    block = bisect_right(_CJK_FIRST, ord(char)) - 1
    return block >= 0 and ord(char) <= _CJK_BLOCKS[block][1]


def is_punctuation(char: str) -> bool:
    """Any of the Unicode categories P*, and everything printable in ASCII that is neither letter nor digit."""
    return ("!" <= char <= "~" and not char.isalnum()) or category(char).startswith("P")


def _clean(char: str) -> str:
    """Rules 1 and 2 for one character: nothing, a space, or the character, between boundaries if it is Chinese."""
    if char in "\t\n\r" or category(char) in ("Zs", "Zl", "Zp"):
        return " "
    if char == "\ufffd" or category(char) in ("Cc", "Cf"):
        return ""
    return f"{BOUNDARY}{char}{BOUNDARY}" if is_cjk(char) else char


def _space_out(char: str) -> str:
    """Rule 4 for one character."""
    return f"{BOUNDARY}{char}{BOUNDARY}" if is_punctuation(char) else char


class _Forms(dict[int, str]):
    """Code point -> what the rules make of that character: at most a few characters, and boundaries where words end."""

    def __init__(self, lowercase: bool) -> None:
        super().__init__()
        self.lowercase = lowercase

    def __missing__(self, code: int) -> str:
        form = self[code] = "".join(map(self._fold, _clean(chr(code))))
        if _CONTEXT in form:
            form = self[code] = _CONTEXT
        return form

    def _fold(self, char: str) -> str:
        """Rules 3 and 4 for one character."""
        if not self.lowercase:
            return _space_out(char)
        kept = [part for part in normalize("NFD", char.lower()) if category(part) != "Mn"]
        if char == "Σ" or any(map(combining, kept)):
            return _CONTEXT
        return "".join(map(_space_out, kept))


class BasicTokenizer:
    """Splits text into words; see the module's rules. `lowercase` is Google's `do_lower_case`.

    `split` makes the words of a folded text, with a BOUNDARY wherever Google's rules end one; it may move these, but
    keeps every other character, in order.

    Safe to share between threads: all that changes is a table that any thread would fill in the same way.
    """

    def __init__(self, lowercase: bool = True, split: Callable[[str], list[str]] = str.split) -> None:
        self._forms = _Forms(lowercase)
        self._split = split

    def words(self, text: str) -> list[str]:
        """The words of `text`, any `str` (unpaired surrogates included), in order."""
        folded = text.translate(self._forms)
        if _CONTEXT in folded:
            folded = "".join(char for char, _, _ in self._fold_in_context(text))
        return self._split(folded)

    def words_and_spans(self, text: str) -> tuple[list[str], list[int], list[int]]:
        """The words, and for every character of all words in turn where in `text` it begins and ends.

        A character's span covers the marks that were dropped after it ("e" from "e" + U+0301 has two), so that a
        slice of the text is what a reader would have marked. Both lists never decrease.
        """
        forms = [self._forms[code] for code in map(ord, text)]
        if _CONTEXT in forms:
            chars = self._fold_in_context(text)
            words = self._split("".join(char for char, _, _ in chars))
            starts = [start for char, start, _ in chars if char > " "]
            ends = [end for char, _, end in chars if char > " "]
        else:
            words = self._split("".join(forms))
            # Only spaces and boundaries come before "!"; cleaning leaves no other control character.
            starts = [at for at, form in enumerate(forms) for char in form if char > " "]
            ends = [at + 1 for at in starts]
        if "" in forms:
            reach = list(range(1, len(text) + 1))
            for at in reversed(range(len(text) - 1)):
                if not forms[at + 1] and category(text[at + 1]) == "Mn":
                    reach[at] = reach[at + 1]
            ends = [reach[end - 1] for end in ends]
        return words, starts, ends

    def _fold_in_context(self, text: str) -> list[tuple[str, int, int]]:
        """The rules over whole whitespace-delimited words, for lower-casing: (character, start, end), spaces and boundaries included."""
        cleaned = [(char, at) for at, raw in enumerate(text) for char in _clean(raw)]
        result: list[tuple[str, int, int]] = []
        for is_space, group in groupby(cleaned, key=lambda item: item[0] <= " "):
            word = list(group)
            if is_space:
                result += [(char, at, at + 1) for char, at in word]
            else:
                result += [(part, start, end) for char, start, end in _fold_word(word) for part in _space_out(char)]
        return result


def _fold_word(word: list[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Rule 3 for one word of (character, position): lower case, canonical decomposition and order, without marks."""
    # Only the word as a whole tells a final sigma; no other capital becomes either form, so they pair off in order.
    sigmas = iter(re.findall("[σς]", "".join(char for char, _ in word).lower()))
    lowered = ((next(sigmas) if char in "Σσς" else char.lower(), at) for char, at in word)
    decomposed = [(part, at) for char, at in lowered for part in normalize("NFD", char)]
    for is_mark, group in groupby(decomposed, key=lambda item: combining(item[0]) > 0):
        run = list(group)
        ordered = sorted(run, key=lambda item: combining(item[0])) if is_mark else run
        moved = ordered != run
        for char, at in ordered:
            if category(char) != "Mn":
                # Marks that changed places share one span: a token's span must not run backwards.
                yield (char, run[0][1], run[-1][1] + 1) if moved else (char, at, at + 1)
