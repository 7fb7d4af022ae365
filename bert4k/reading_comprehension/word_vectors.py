"""Word vectors in the two formats of word2vec, and texts in which every character has the vector of its word (Su's 字词混合, kexue.fm
archive 6906): words are the better units, characters the exact ones.

    vectors = read_word_vectors(Path("words.bin"))                      # or words.txt, .txt.gz
    numbers = vectors.of_characters("白云山海拔多少米")                    # int32 [8]; 0 where the word has no vector
    vectors.table[numbers]                                              # float32 [8, W], zeros there

The words are those that jieba finds without its hidden Markov model, with the words of the vectors added to its dictionary.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bert4k.checkpoints.stored import replacing
from bert4k.errors import ConfigError, DataError
from bert4k.tokenizers.words import Dictionary

_ALONE = re.compile(r"[A-Za-z0-9]+|.", re.DOTALL)  # what jieba makes of what is no word: letters and digits in a row stay together
_FRACTION = re.compile(rb" -?\d+\.\d+(e-?\d+)?$")  # at the end of a word there is none: the vector is wider
_MOST_WIDE = 1 << 16  # numbers of a vector; a header that says more is none
_LONGEST_WORD = 4096  # bytes


class WordVectors:
    """Words and their vectors, float32 [N, W]. Safe to share between threads."""

    def __init__(self, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
        if len(words) != len(vectors) or vectors.ndim != 2:
            raise DataError(f"Found {len(words):,} words and vectors of the shape {vectors.shape}; expected [words, width].")
        self.words = list(words)
        # Row 0 is that of words without a vector.
        self.table = np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors.astype(np.float32)])
        self._numbers: dict[str, int] = {}
        for number, word in enumerate(self.words, 1):
            self._numbers.setdefault(word, number)
        self._lock = Lock()

    @property
    def width(self) -> int:
        """Numbers of a vector (W)."""
        return int(self.table.shape[1])

    @cached_property
    def _dictionary(self) -> Dictionary:
        return Dictionary(frozenset(word for word in self._numbers if len(word) > 1))

    def of_characters(self, text: str) -> NDArray[np.int32]:
        """For every character of a text, the row of `table` that the word has in which it stands: int32 [characters]."""
        with self._lock:
            dictionary = self._dictionary
        found = np.zeros(len(text), np.int32)
        for start, end in words_of(text, dictionary):
            found[start:end] = self._numbers.get(text[start:end], 0)
        return found

    def save(self, path: Path) -> Path:
        """Write word2vec's binary format, whole or not at all; without words that hold a blank, which it cannot have and jieba does not
        find."""
        kept = [(word, row) for word, row in zip(self.words, self.table[1:], strict=True) if " " not in word]
        with replacing(path) as (temporary,), temporary.open("wb") as file:
            file.write(f"{len(kept)} {self.width}\n".encode())
            for word, row in kept:
                file.write(word.encode("utf-8", "surrogatepass") + b" " + row.astype("<f4").tobytes() + b"\n")
        return path


def words_of(text: str, dictionary: Dictionary) -> Iterator[tuple[int, int]]:
    """(start, end) of the words of a text, in order, as `jieba.cut(text, HMM=False)` cuts it."""
    done = 0
    for start, end in (*dictionary.spans(text), (len(text), len(text))):
        yield from ((done + each.start(), done + each.end()) for each in _ALONE.finditer(text[done:start]))
        if end > start:
            yield start, end
        done = end


# The formats. --------------------------------------------------------------------------------------------------------------------


def read_word_vectors(path: Path, most: int | None = None) -> WordVectors:
    """The first `most` words of a file, which usually has the most frequent ones first: word2vec's binary format where its name ends with
    .bin, else its text format; .gz too. Of a word that comes twice the first vector counts.

    Raises `DataError` where the file is not as its header says, with the line (of text) or the word at which it departs."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        with opener(path, "rb") as file:
            header = file.readline(256)
            try:
                count, width = map(int, header.split())
                if count < 1 or not 1 <= width <= _MOST_WIDE:
                    raise ValueError
            except ValueError:
                raise DataError(
                    f"{path} begins with {header[:40]!r}; expected a line with how many words there are and how wide their vectors are, as"
                    " word2vec writes it. Add such a line, or convert the file."
                ) from None
            wanted = count if most is None else min(count, most)
            return (_read_binary if binary else _read_text)(path, file, count, wanted, width)
    except (OSError, EOFError) as error:
        raise DataError(
            f"Cannot read {path} ({getattr(error, 'strerror', None) or error}). Give a file that exists and is whole."
        ) from error


def _read_text(path: Path, file: IO[bytes], count: int, wanted: int, width: int) -> WordVectors:
    words: list[str] = []
    rows = np.zeros((wanted, width), np.float32)
    for number, line in enumerate(file, 2):
        if not line.strip():
            continue
        # From the right: there are words with blanks, the blank itself among them.
        cells = line.rstrip().rsplit(b" ", width)
        try:
            if len(cells) != width + 1 or _FRACTION.search(cells[0]):
                raise ValueError
            rows[len(words)] = [float(each) for each in cells[1:]]
        except ValueError:
            found, shown = len(line.split()) - 1, line.rstrip()[:40].decode("utf-8", "replace")
            raise DataError(
                f"{path}, line {number}: {shown!r} ... is not a word and {width} numbers, as its first line"
                f" says, but {found} more parts. The file is damaged, or of another width; fetch or make it anew."
            ) from None
        words.append(cells[0].decode("utf-8", "replace"))
        if len(words) == wanted:
            return WordVectors(words, rows)
    raise _truncated(path, len(words), count)


def _read_binary(path: Path, file: IO[bytes], count: int, wanted: int, width: int) -> WordVectors:
    words: list[str] = []
    rows = np.zeros((wanted, width), np.float32)
    for at in range(wanted):
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte:
                raise _truncated(path, at, count)
            if byte != b"\n" or word:  # some writers end every vector with a line end, others do not
                word += byte
            if len(word) > _LONGEST_WORD:
                raise DataError(
                    f"{path}: after {at:,} words there are {_LONGEST_WORD:,} bytes without a blank, so vectors have not {width} numbers of"
                    " 4 bytes, as its first line says, or it is text in a file named .bin. Correct the name, or fetch the file anew."
                )
        data = file.read(4 * width)
        if len(data) < 4 * width:
            raise _truncated(path, at, count)
        rows[at] = np.frombuffer(data, "<f4")
        words.append(word.decode("utf-8", "replace"))
        # Bytes of other numbers, read as these, are nothing that was ever learnt.
        if not np.isfinite(rows[at]).all() or np.abs(rows[at]).max() > 1e6:
            raise DataError(
                f"{path}: the vector of word {at + 1:,}, {words[at][:20]!r}, has numbers that are none or too large. The file is"
                f" damaged, or its vectors have not {width} numbers of 4 bytes, as its first line says; fetch or make it anew."
            )
    return WordVectors(words, rows)


def _truncated(path: Path, found: int, count: int) -> DataError:
    return DataError(f"{path} ends after {found:,} words; its first line says {count:,}. It was cut off; fetch or make it anew.")


# Learning them. ------------------------------------------------------------------------------------------------------------------


def train_word_vectors(texts: Sequence[str], width: int = 128, least: int = 4, epochs: int = 8, seed: int = 1) -> WordVectors:
    """word2vec (Mikolov et al. 2013, arXiv:1301.3781; CBOW with negative samples) of texts, by gensim: of the words that come `least`
    times, the most frequent first. The same texts and seed give the same vectors. Raises `ConfigError` without gensim, `DataError` where
    no word comes so often."""
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise ConfigError(
            "Word vectors are learnt by gensim, which is not installed. Run: pip install 'bert4k[words]', or give a file of vectors."
        ) from error
    dictionary = Dictionary(frozenset())
    sentences = [[text[start:end] for start, end in words_of(text, dictionary) if text[start:end].strip()] for text in texts]
    try:
        model = Word2Vec(sentences, vector_size=width, min_count=least, window=5, epochs=epochs, seed=seed, workers=1)
    except RuntimeError as error:  # an empty vocabulary
        raise DataError(f"No word comes {least} times in {len(texts):,} texts, so there are no word vectors to learn from them.") from error
    return WordVectors(model.wv.index_to_key, np.asarray(model.wv.vectors, np.float32))
