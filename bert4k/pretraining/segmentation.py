"""Where Chinese words begin, by jieba's dictionary alone.

Without jieba's hidden Markov model, which joins characters into words that no dictionary has: a whole word that is masked should be one.
The dictionary is the one that jieba comes with, whatever the program has added to its own.
"""

from functools import cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from bert4k.tokenizers.words import Dictionary


@cache
def _dictionary() -> Dictionary:
    return Dictionary(frozenset())


def segmenter() -> str:
    """What decides where words begin: another version may know other words."""
    return f"jieba {version('jieba')}"


def words(text: str) -> list[str]:
    """The Chinese words of two characters or more, in order."""
    return [text[start:end] for start, end in _dictionary().spans(text)]


def word_starts(text: str) -> NDArray[np.bool_]:
    """For each character, whether it is not the second or a later one of a Chinese word: bool [len(text)]."""
    starts = np.ones(len(text), np.bool_)
    for start, end in _dictionary().spans(text):
        starts[start + 1 : end] = False
    return starts
