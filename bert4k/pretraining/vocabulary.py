"""A vocabulary from a corpus: its characters, pieces of its words of letters and digits, and, if asked for, its Chinese words.

Everything is ranked by what the corpus gains: a character by the words that would be [UNK] without it, a piece by the tokens that it
saves. The pieces are those of byte-pair encoding, written as WordPiece writes them. The trainers of the `tokenizers` package do
the same, but give another vocabulary every time, and do not tell the counts.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path
from string import ascii_letters, ascii_lowercase, digits, punctuation
from typing import NamedTuple

from bert4k.errors import ConfigError, DataError
from bert4k.pretraining import segmentation, text
from bert4k.pretraining.workers import ordered, processors
from bert4k.progress import measured
from bert4k.tokenizers import Tokenizer
from bert4k.tokenizers.basic import BasicTokenizer, is_cjk
from bert4k.tokenizers.vocabulary import MASK, REQUIRED, check_vocabulary

# Of more different words than this, those met once are forgotten: what keeps memory flat on a corpus of any size.
_REMEMBERED = 2**21
# How many pieces' occurrences one of a character is worth: without the piece a word is a token longer, without the character it is lost.
_WORTH = 8
# A longer word teaches nothing about others.
_LONGEST_WORD = 100


class Counts(NamedTuple):
    """How often each word of a corpus occurs.

    Attributes:
        words: words of the basic tokenizer, of which every Chinese character and every punctuation mark is one.
        chinese: words of jieba of at least two characters, all Chinese; empty unless asked for.
        lowercase: whether the words are lower-cased.
    """

    words: Counter[str]
    chinese: Counter[str]
    lowercase: bool


def build_vocabulary(
    texts: Sequence[Path],
    pairs: Sequence[Path] = (),
    *,
    size: int = 8000,
    minimum_count: int = 5,
    latin: int | None = None,
    special_tokens: Sequence[str] = (),
    words: int = 0,
    lowercase: bool = True,
    workers: int | None = None,
) -> list[str]:
    """The vocabulary of a corpus; `count_words`, then `choose_tokens`, which tell what the arguments mean and what is raised."""
    counts = count_words(texts, pairs, special_tokens=special_tokens, chinese=words > 0, lowercase=lowercase, workers=workers)
    return choose_tokens(counts, size=size, minimum_count=minimum_count, latin=latin, special_tokens=special_tokens, words=words)


def count_words(
    texts: Sequence[Path],
    pairs: Sequence[Path] = (),
    *,
    special_tokens: Sequence[str] = (),
    chinese: bool = False,
    lowercase: bool = True,
    workers: int | None = None,
) -> Counts:
    """Count the words of text files (documents) and of files of pairs, streamed, with the rules of `Tokenizer`.

    Special tokens that are written in them are not counted. `chinese` counts jieba's words too, which takes longer.
    Raises `DataError` for texts that cannot be read, and when there is no word in them.
    """
    texts, pairs = list(map(Path, texts)), list(map(Path, pairs))
    text.check_files([*texts, *pairs])
    settings = json.dumps({"special": [*REQUIRED, MASK, *special_tokens], "chinese": chinese, "lowercase": lowercase})
    counts = Counts(Counter(), Counter(), lowercase)
    with measured(sum(path.stat().st_size for path in (*texts, *pairs)), "counting words", in_bytes=True) as advance:
        read: list[Iterable[Sequence[str]]] = []
        if texts:
            read.append(text.documents(texts, advance))
        if pairs:
            read.append(text.pairs(pairs, advance))
        for reply in ordered(counter, settings, text.batches(chain(*read)), processors() if workers is None else workers):
            for counted, more in zip((counts.words, counts.chinese), json.loads(reply), strict=True):
                counted.update(more)
                if len(counted) > _REMEMBERED:
                    for word in [word for word, count in counted.items() if count == 1]:
                        del counted[word]
    if not counts.words:
        raise DataError(f"There is no word in {', '.join(map(str, (*texts, *pairs)))}. Expected UTF-8 text; check the files.")
    return counts


def counter(settings: str) -> Callable[[bytes], bytes]:
    """A function from a batch of text to the counts of its words and of its Chinese words, as JSON. See `count_words`."""
    values = json.loads(settings)
    special = re.compile("|".join(map(re.escape, values["special"])))
    basic = BasicTokenizer(values["lowercase"])

    def count(request: bytes) -> bytes:
        batch = special.sub(" ", request.decode())
        chinese = Counter(segmentation.words(batch) if values["chinese"] else ())
        return json.dumps(
            [Counter(basic.words(batch)), {word: count for word, count in chinese.items() if all(map(is_cjk, word))}]
        ).encode()

    return count


def choose_tokens(
    counts: Counts,
    *,
    size: int = 8000,
    minimum_count: int = 5,
    latin: int | None = None,
    special_tokens: Sequence[str] = (),
    words: int = 0,
) -> list[str]:
    """At most `size` tokens: [PAD] [UNK] [CLS] [SEP] [MASK], special tokens, characters, pieces, Chinese words; each by falling count.

    Every printable ASCII character is among them, letters and digits also in their "##" form, so that no ASCII word is [UNK].

    Args:
        minimum_count: what occurs more rarely is left out.
        latin: how many pieces of two or more characters, if there are as many; None lets characters and pieces compete by count,
            one of a character being worth eight of a piece.
        special_tokens: such as "[TRANSLATE]"; in brackets, `Tokenizer` takes them for what they are.
        words: how many of the most frequent Chinese words.

    Ties are broken by code point. Raises `ConfigError` for numbers that cannot be.
    """
    letters = digits + (ascii_lowercase if counts.lowercase else ascii_letters)
    first = list(dict.fromkeys((*REQUIRED, MASK, *special_tokens)))
    always = dict.fromkeys((*letters, *punctuation, *(f"##{letter}" for letter in letters)))
    chinese = [word for word, count in _ranked(counts.chinese) if count >= minimum_count][:words]
    room = size - len(first) - len(always) - len(chinese)
    if room < 0 or minimum_count < 1 or words < 0 or (latin is not None and latin < 0):
        raise ConfigError(
            f"A vocabulary of {size} tokens, minimum_count={minimum_count}, words={words}, latin={latin}: expected a size of at least"
            f" {size - room} (special tokens, ASCII, {len(chinese)} words), a count of at least 1, and no negative number. Correct them."
        )
    characters = _characters(counts.words)
    ranked = [(token, count) for token, count in _ranked(characters) if count >= minimum_count and token not in always]
    pieces: dict[str, None] = {}
    chosen = 0  # of `ranked`
    for piece, count in _merges(counts.words, minimum_count):
        if latin is None:
            while chosen < len(ranked) and ranked[chosen][1] * _WORTH >= count:
                chosen += 1
        if len(pieces) >= room - chosen or len(pieces) == latin:
            break
        pieces[piece] = None
    single = [*always, *(token for token, _ in ranked[: room - len(pieces)])]
    single.sort(key=lambda token: (token.startswith("##") and len(token) > 2, -characters[token], token))
    tokens = list(dict.fromkeys((*first, *single, *pieces, *chinese)))
    check_vocabulary(tokens, "The vocabulary of these texts")
    return tokens


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _characters(words: Counter[str]) -> Counter[str]:
    """How often each character begins a word, and, with "##", how often it goes on with one."""
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for token in _symbols(word):
            characters[token] += count
    return characters


def _symbols(word: str) -> list[str]:
    return [word[0], *(f"##{char}" for char in word[1:])]


def _merges(words: Counter[str], minimum_count: int) -> Iterator[tuple[str, int]]:
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): the most frequent pair of neighbours becomes one piece, and so on.

    Gives each piece with its count at that time, which never rises; a piece may come twice, made of other parts.
    """
    rows = [(_symbols(word), count) for word, count in words.items() if 1 < len(word) <= _LONGEST_WORD]
    pairs: Counter[tuple[str, str]] = Counter()
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for index, (symbols, count) in enumerate(rows):
        for pair in pairwise(symbols):
            pairs[pair] += count
            where[pair].add(index)
    queue = [(-count, pair) for pair, count in pairs.items()]
    heapify(queue)
    while queue:
        known, pair = heappop(queue)
        count = pairs[pair]
        if count < minimum_count:
            continue
        if count != -known:  # it has fallen since it was queued
            heappush(queue, (-count, pair))
            continue
        piece = pair[0] + pair[1].removeprefix("##")
        yield piece, count
        changed: Counter[tuple[str, str]] = Counter()
        for index in where.pop(pair):
            symbols, times = rows[index]
            for old in pairwise(symbols):
                changed[old] -= times
            _join(symbols, pair, piece)
            for new in pairwise(symbols):
                changed[new] += times
                where[new].add(index)
        for other, difference in changed.items():
            if difference:
                pairs[other] += difference
                if difference > 0:
                    heappush(queue, (-pairs[other], other))


def _join(symbols: list[str], pair: tuple[str, str], piece: str) -> None:
    """Put `piece` wherever the two stand side by side, from left to right."""
    at = 0
    while at < len(symbols) - 1:
        if (symbols[at], symbols[at + 1]) == pair:
            symbols[at : at + 2] = [piece]
        at += 1


class Coverage(NamedTuple):
    """How much of a corpus a vocabulary can write.

    Attributes:
        characters: of all words.
        covered: of the words that are not [UNK].
        left_out: different characters that are words (Chinese characters, signs) and [UNK].
    """

    characters: int
    covered: int
    left_out: int


def coverage(vocabulary: Sequence[str], counts: Counts) -> Coverage:
    """What of the counted words the vocabulary has."""
    tokenizer = Tokenizer(vocabulary, counts.lowercase, special_tokens_in_text=False)
    unknown = {word: count for word, count in counts.words.items() if "[UNK]" in tokenizer.tokenize(word)}
    total = sum(len(word) * count for word, count in counts.words.items())
    missing = sum(len(word) * count for word, count in unknown.items())
    return Coverage(total, total - missing, sum(len(word) == 1 for word in unknown))
