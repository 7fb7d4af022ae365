"""Word granularity as in WoBERT: jieba's words that are tokens of the vocabulary stay whole.

The dictionary is jieba's, with the tokens that it lacks added by its own `add_word`; a word that it has keeps its
frequency, so that a vocabulary taken from it, as WoBERT's is, is cut as `jieba.cut(text, HMM=False)` cuts. The search for the
most probable path is jieba's too (`get_DAG` and `calc`), written over logarithms taken once, in less than half the time.
jieba's `initialize` is not called: it writes to stderr, and it trusts a file that anybody may have put into /tmp.
"""

import re
import warnings
from collections.abc import Iterable, Iterator
from math import inf, log
from threading import Lock
from typing import Any

from bert4k.tokenizers.basic import BOUNDARY, is_cjk, is_punctuation

# What jieba looks for words in (`re_han_default`); any other character stands alone.
_IN_WORDS = r"\u4e00-\u9fd5a-zA-Z0-9+#&._%\-"


class _Boundaries(dict[int, str]):
    """Code point of a folded text -> the character, between boundaries where Google's rules put them."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        form = self[code] = f"{BOUNDARY}{char}{BOUNDARY}" if is_cjk(char) or is_punctuation(char) else char
        return form


def dictionary() -> Any:
    """A `jieba.Tokenizer` of its own with jieba's dictionary (0.7 s, 100 MB)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jieba's regular expressions, and of pkg_resources where there is one
        import jieba
    own = jieba.Tokenizer()
    own.FREQ, own.total = own.gen_pfdict(own.get_dict_file())
    own.initialized = True
    return own


class Dictionary:
    """jieba's dictionary and `words`; cuts as jieba does."""

    def __init__(self, words: frozenset[str]) -> None:
        own = dictionary()
        for word in sorted(words):  # a frequency depends on what was added before
            if not own.FREQ.get(word):
                own.add_word(word)
        total = log(own.total)
        # An entry of frequency 0 is the beginning of a longer word.
        self._scores: dict[str, float] = {word: log(frequency) - total if frequency else -inf for word, frequency in own.FREQ.items()}
        self._alone = -total
        rare = "".join(map(re.escape, sorted(set("".join(words)))))
        self._block = re.compile(f"[{_IN_WORDS}{rare}]{{2,}}")

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """(start, end) of the words of several characters, in order."""
        for block in self._block.finditer(text):
            if not block[0].isascii():
                at = block.start()
                yield from ((at + start, at + end) for start, end in self._path(block[0]))

    def _path(self, block: str) -> Iterator[tuple[int, int]]:
        """The words of several characters on the most probable path; of equal paths, as in jieba, that with the longer first word."""
        score_of, size = self._scores.get, len(block)
        totals, ends = [0.0] * (size + 1), [0] * size
        for start in range(size - 1, -1, -1):
            best, end = -inf, start
            while end < size:
                end += 1
                score = score_of(block[start:end])
                if score is None:
                    break
                score += totals[end]
                if score >= best:
                    best, ends[start] = score, end
            if best == -inf:  # no word begins here
                best, ends[start] = self._alone + totals[start + 1], start + 1
            totals[start] = best
        start = 0
        while start < size:
            end = ends[start]
            if end - start > 1:
                yield start, end
            start = end


class JiebaWords:
    """Splits a folded text of `BasicTokenizer`: `words`, where jieba sees one, else as Google does.

    Safe to share between threads. Reads the dictionary (0.7 s, 100 MB) when the first text comes.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words)
        self._boundaries = _Boundaries()
        self._dictionary: Dictionary | None = None
        self._lock = Lock()

    def split(self, folded: str) -> list[str]:
        """The words of a folded text, which has a BOUNDARY wherever Google's rules end one."""
        if self._dictionary is None:
            with self._lock:
                self._dictionary = self._dictionary or Dictionary(self._words)
        text = folded.replace(BOUNDARY, "")
        parts: list[str] = []
        done = 0
        for start, end in self._dictionary.spans(text):
            if (word := text[start:end]) in self._words:
                parts += text[done:start].translate(self._boundaries), word
                done = end
        parts.append(text[done:].translate(self._boundaries))
        return BOUNDARY.join(parts).split()
