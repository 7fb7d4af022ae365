"""What the tokens of a passage have in common with the question, as numbers: the features by which Su's first DGCNN (2018, kexue.fm archive
5409) compares the two, made without a network.

    asked, given = codes("白云山海拔多少米", places), codes("主峰海拔382米", others)     # where their tokens stand
    overlap(asked, given, slice(0, 9))                                  # float16 [9, 4], from 0 to 1

Of each token: is it in the question; is it, with a neighbour, a pair of the question (海拔: most words have two characters, so no segmenter
is needed); and how alike the question and the 33 tokens around it are, as sets of tokens and as sets of pairs (Jaccard).

Of Su's features, the share of other passages that have a word is left out: it says more of how passages were found than of the answer. A
passage that is cut in pieces has the features of the whole one. Punctuation and blanks have nothing in common with anything.
"""

from __future__ import annotations

from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bert4k.scores import plain

FEATURES = 4
REACH = 16  # tokens to either side that are compared with the question

Codes = NDArray[np.uint64]  # numbers that are equal where texts are; 0 for punctuation


@lru_cache(maxsize=1 << 16)
def _code(token: str) -> int:
    """Width and case make no difference."""
    text = plain(token)
    return crc32(text.encode("utf-8", "surrogatepass")) or 1 if text else 0


def codes(text: str, places: NDArray[np.int32]) -> Codes:
    """The numbers of the tokens of a text, which stand at `places` [n, 2] in it: uint64 [n], below 2 ** 32."""
    return np.fromiter((_code(text[start:end]) for start, end in places.tolist()), np.uint64, len(places))


def overlap(question: Codes, passage: Codes, part: slice) -> NDArray[np.float16]:
    """The features of a part of a passage, [tokens of the part, FEATURES]."""
    begin = max(part.start - REACH, 0)
    tokens = passage[begin : part.stop + REACH]  # on which the features of the part depend
    pairs, asked_pairs = _pairs(tokens), _pairs(question)
    paired = _known(pairs, asked_pairs)
    paired |= np.roll(paired, 1)  # a pair has two tokens; none begins with the last one, so nothing comes round
    features = (
        _known(tokens, question),
        paired,
        _alike(tokens, question, REACH, REACH),
        _alike(pairs, asked_pairs, REACH, REACH - 1),  # the last pair around a token begins one before the last token
    )
    return np.stack(features, axis=1).astype(np.float16)[part.start - begin : part.stop - begin]


def _pairs(tokens: Codes) -> Codes:
    """The codes of each token with the next one, [n]; 0 where one of the two is punctuation, and of the last."""
    following = np.roll(tokens, -1)
    following[-1:] = 0
    return np.where((tokens > 0) & (following > 0), (tokens << np.uint64(32)) | following, np.uint64(0))


def _known(items: Codes, wanted: Codes) -> NDArray[np.bool_]:
    """Which items are among the wanted ones."""
    return np.isin(items, wanted) & (items > 0)


def _alike(items: Codes, wanted: Codes, before: int, after: int) -> NDArray[np.float64]:
    """Jaccard's index of the different wanted items and the different ones from `before` places before each place to `after` after it."""
    at = np.arange(len(items))
    first, end = np.maximum(at - before, 0), np.minimum(at + after + 1, len(items))
    wanted = np.unique(wanted[wanted > 0])
    # How often each wanted item stands before a place; both are there where that differs between the ends of a window.
    seen = np.zeros((len(items) + 1, len(wanted)), np.int32)
    np.cumsum(items[:, None] == wanted, axis=0, out=seen[1:])
    shared = (seen[end] > seen[first]).sum(axis=1)
    # An item is a new one of a window where the same was last met before the window.
    order = np.argsort(items, kind="stable")
    last = np.full(len(items), -1)
    same = items[order[1:]] == items[order[:-1]]
    last[order[1:][same]] = order[:-1][same]
    last[items == 0] = len(items)  # never new
    around = np.concatenate([np.full(before, len(items)), last, np.full(after, len(items))])
    different = (np.lib.stride_tricks.sliding_window_view(around, before + after + 1) < first[:, None]).sum(axis=1)
    return shared / np.maximum(different + len(wanted) - shared, 1)
