"""The words by which passages are found."""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

from bert4k.scores import plain
from bert4k.tokenizers.words import dictionary

# Words that make a question of a sentence, and so are in no answer of it, rare as some of them are in articles.
QUESTION_WORDS = frozenset(
    "谁 什么 哪 哪个 哪些 哪里 哪儿 哪位 哪种 哪一 哪年 几 多少 多 怎么 怎样 如何 为何 为什么 何 何时 是否 吗 呢 么 请问 叫 叫做"
    " 的 了 是 在 有 和 与".split()
)
_LONGEST = 64  # characters of a word; what is longer is no word of a language


def terms(text: str) -> list[str]:
    """The words of a text, in half width and lower case, without punctuation: jieba's, and the shorter ones inside them. What is no word
    that it knows is its characters. The dictionary takes 0.7 s, once."""
    folded = unicodedata.normalize("NFKC", text).lower()  # jieba takes words of full width apart
    return [word[:_LONGEST] for word in map(_plain, _words().cut_for_search(folded, HMM=False)) if word]


def asked_terms(question: str) -> list[str]:
    """The words of a question that a passage with its answer may have, each once; all of them where there is no such word."""
    found = list(dict.fromkeys(terms(question)))
    return [word for word in found if word not in QUESTION_WORDS] or found


_words = cache(dictionary)
_plain = lru_cache(maxsize=1 << 18)(plain)
