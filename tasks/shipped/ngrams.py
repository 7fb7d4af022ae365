"""What a model without any network makes of the same text: a character trigram with interpolated modified Kneser-Ney smoothing.

    python -m bert4k.tasks.shipped.ngrams --corpus runs/corpus --out trigram.json --model trigram.npz

Learns corpus/train/*.txt, all files together as the shipped checkpoint does, and is judged on each of corpus/held_out/*.txt. Nothing is
pruned. Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling" (Harvard TR-10-98), section 3: the counts of
the lower orders are numbers of distinct left neighbours, those after the beginning of a document (which has no left neighbour)
plain counts, as in KenLM. Below the single characters there is a uniform distribution over all characters of Unicode.

Both this model and the network are judged on text *as the tokenizer reads it*: folded (lower case, no accents), documents without line
ends, and with a space only where two words would run into one without it. That text and its tokens say the same, so that what a token
model gives to the tokens it gives to the characters. A document ends with a symbol of its own, which is told and counted as a character.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.checkpoints.stored import replacing
from bert4k.errors import DataError
from bert4k.pretraining.text import documents
from bert4k.progress import measured
from bert4k.tasks.shipped.results import provenance, rounded
from bert4k.tokenizers.basic import BasicTokenizer, is_cjk, is_punctuation

Codes = NDArray[np.uint32]
Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

UNICODE = 149_813  # characters that Unicode 15.1 assigns; a constant, so that numbers do not depend on the Python that runs
END = 0  # the symbol at a document's end, and what stands before its first character; cleaning removes U+0000 from texts

# Three code points of 21 bits are one key, the earliest in the highest bits. So keys of one context lie together when sorted.
_BITS = np.uint64(21)
_ONE, _TWO = np.uint64(2**21 - 1), np.uint64(2**42 - 1)
_NO_KEY = np.uint64(2**64 - 1)


# Text as the tokenizer reads it. ------------------------------------------------------------------------------------


class Read(NamedTuple):
    """A document as the tokenizer reads it: its characters [C], and where in them each of its lines begins."""

    codes: Codes
    line_starts: NDArray[np.int64]

    @property
    def text(self) -> str:
        """The characters as a string."""
        return self.codes.tobytes().decode("utf-32-le")


def as_read(lines: Sequence[str], tokenizer: BasicTokenizer) -> Read:
    """The lines of a document as one text with a space between words that would else be one, and nowhere else."""
    spaced = [line for line in (" ".join(tokenizer.words(line)) for line in lines) if line]
    if not spaced:
        return Read(np.zeros(0, np.uint32), np.zeros(0, np.int64))
    codes = np.frombuffer(" ".join(spaced).encode("utf-32-le"), np.uint32)
    inner = _runs_on()[codes]
    needless = np.zeros(len(codes), bool)
    needless[1:-1] = (codes[1:-1] == ord(" ")) & ~(inner[:-2] & inner[2:])
    places = np.cumsum(~needless) - 1
    starts = np.cumsum([0, *(len(line) + 1 for line in spaced[:-1])])
    return Read(codes[~needless], places[starts])


@cache
def _runs_on() -> NDArray[np.bool_]:
    """For every code point, whether it would be one word with another such beside it."""
    return np.array([not (is_cjk(char) or is_punctuation(char)) for char in map(chr, range(0x110000))])


# The model. ---------------------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """The n-grams of one order: what they take from the order below, and what they leave to it.

    keys [n], sorted, and their counts [n]; contexts [m], sorted: the keys' first symbols; totals [m], the sum of a context's counts;
    left [m], the share of a context's probability that is left to the order below; discounts of counts 1, 2 and 3 or more.
    """

    keys: Keys
    counts: NDArray[np.uint32]
    contexts: Keys
    totals: NDArray[np.int64]
    left: Floats
    discounts: Floats

    @classmethod
    def of(cls, keys: Keys, counts: NDArray[np.integer[Any]], discounts: Sequence[float] | None = None) -> Level:
        """From distinct sorted keys and their counts; `discounts` are estimated from these unless given."""
        by_count = np.array([0.0, *(estimate_discounts(counts) if discounts is None else discounts)])
        of_keys = keys >> _BITS
        begins = np.flatnonzero(np.append(True, of_keys[1:] != of_keys[:-1]))
        totals = np.add.reduceat(counts.astype(np.int64), begins)
        left = np.add.reduceat(by_count[np.minimum(counts, 3)], begins) / totals
        return cls(keys, counts.astype(np.uint32), of_keys[begins], totals, left, by_count[1:])

    def probabilities(self, keys: Keys, below: Floats | float) -> Floats:
        """Of the last symbol of every key given its others. A context never seen leaves all to `below`, those of the order below."""
        counts = _found(self.keys, keys, self.counts, 0)
        discounts = np.append(0.0, self.discounts)[np.minimum(counts, 3)]
        totals = _found(self.contexts, keys >> _BITS, self.totals, 0)
        left = _found(self.contexts, keys >> _BITS, self.left, 1.0)
        return (counts - discounts) / np.maximum(totals, 1) * (totals > 0) + left * below


def _found(sorted_keys: Keys, wanted: Keys, values: NDArray[Any], otherwise: float) -> NDArray[Any]:
    places = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[places] == wanted, values[places], otherwise).astype(np.result_type(values, type(otherwise)))


def estimate_discounts(counts: NDArray[np.integer[Any]]) -> tuple[float, float, float]:
    """What is taken off counts of 1, 2 and 3 or more (Chen & Goodman, equation 26), from how many keys have the counts 1 to 4.

    Very small texts, which lack one of these, get KenLM's fallback of 0.5, 1 and 1.5."""
    n1, n2, n3, n4 = map(int, np.bincount(np.minimum(counts, 5), minlength=6)[1:5])
    if min(n1, n2, n3) > 0:
        share = n1 / (n1 + 2 * n2)
        found = (1 - 2 * share * n2 / n1, 2 - 3 * share * n3 / n2, 3 - 4 * share * n4 / n3)
        if all(0 <= discount <= count for count, discount in enumerate(found, 1)):
            return found
    return 0.5, 1.0, 1.5


class Trigram:
    """P(character | the two before it), learnt from documents. `levels` are those of single characters, pairs and triples."""

    def __init__(self, levels: Sequence[Level], characters: int = UNICODE) -> None:
        self.levels, self.characters = tuple(levels), characters

    @classmethod
    def learn(cls, texts: Iterable[Codes], discounts: Sequence[Sequence[float]] | None = None, characters: int = UNICODE) -> Trigram:
        """From documents as code points. Takes some 16 bytes a character, and sorts.

        `discounts` for singles, pairs and triples; `characters`, how many there are besides the end."""
        stream = _joined(texts)
        if len(stream) < 3:
            raise DataError("There is no text to learn from. Give files with at least one character.")
        given = discounts or (None, None, None)
        triples, triple_counts = _counted(_triples(stream))
        firsts, first_counts = np.unique(stream[1:][stream[:-1] == END].astype(np.uint64), return_counts=True)
        pairs, pair_counts = _counted(triples & _TWO)
        # A pair that begins a document has no left neighbours to be counted. Its key has zeros for the boundary, so it sorts first.
        pairs, pair_counts = np.append(firsts, pairs), np.append(first_counts, pair_counts)
        singles, single_counts = _counted(pairs & _ONE)
        counted = ((singles, single_counts), (pairs, pair_counts), (triples, triple_counts))
        return cls([Level.of(*each, how) for each, how in zip(counted, given, strict=True)], characters)

    def log_probs(self, codes: Codes) -> Floats:
        """The log-probability (natural) of every character of a document and of its end, float64 [C + 1]."""
        symbols = np.concatenate([[END], codes, [END]]).astype(np.uint64)
        singles, pairs, triples = self.levels
        told = symbols[1:]
        result = singles.probabilities(told, 1 / (self.characters + 1))
        result = pairs.probabilities(symbols[:-1] << _BITS | told, result)
        # The first character has one symbol before it, not two.
        result[1:] = triples.probabilities((symbols[:-2] << _BITS | symbols[1:-1]) << _BITS | told[1:], result[1:])
        return np.log(result)

    def save(self, path: Path) -> None:
        """Write all counts; hundreds of megabytes for a large text."""
        arrays = {f"{name}{order}": value for order, level in enumerate(self.levels) for name, value in level._asdict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as (temporary,), temporary.open("wb") as file:
            np.savez(file, characters=self.characters, **arrays)

    @classmethod
    def load(cls, path: Path) -> Trigram:
        """What `save` wrote. Raises `DataError` when it is something else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                levels = [Level(*(stored[f"{name}{order}"] for name in Level._fields)) for order in range(3)]
                return cls(levels, int(stored["characters"]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"Cannot read {path} ({error}). Expected a trigram that ngrams.py saved; remove the file to learn it anew."
            ) from error


def _joined(texts: Iterable[Codes]) -> Codes:
    """END, document, END, document, END ... as one array."""
    end = np.array([END], np.uint32)
    parts, whole, waiting = [end], [], 0
    for codes in texts:
        if len(codes):
            parts += codes, end
            waiting += len(codes)
        if waiting > 2**22:  # a million small arrays would take more room than their characters
            whole.append(np.concatenate(parts))
            parts, waiting = [], 0
    return np.concatenate(whole + parts)


def _triples(stream: Codes) -> Keys:
    """The key of every three symbols in a row that do not span two documents. One array, changed in place: it is the largest there is."""
    keys = stream[:-2].astype(np.uint64)
    for following in (stream[1:-1], stream[2:]):
        keys <<= _BITS
        keys |= following
    keys[stream[1:-1] == END] = _NO_KEY
    keys.sort()
    return keys[: np.searchsorted(keys, _NO_KEY)]


def _counted(keys: Keys) -> tuple[Keys, NDArray[np.int64]]:
    """The distinct keys, sorted, and how often each occurs: `np.unique` with fewer copies."""
    if np.any(keys[1:] < keys[:-1]):
        keys = np.sort(keys)
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[begins], np.diff(np.append(begins, len(keys)))


# Files. -------------------------------------------------------------------------------------------------------------


def text_files(folder: Path) -> list[Path]:
    """The .txt files of a folder, by name. Raises `DataError` when there are none."""
    found = sorted(folder.glob("*.txt"))
    if not found:
        raise DataError(f"There are no .txt files in {folder}. Give with --corpus the folder that tasks.shipped.corpus wrote.")
    return found


def read_documents(paths: Sequence[Path], lowercase: bool = True, description: str = "reading") -> Iterator[Read]:
    """The documents of text files as the tokenizer reads them, streamed."""
    tokenizer = BasicTokenizer(lowercase)
    with measured(sum(path.stat().st_size for path in paths), description, in_bytes=True) as advance:
        for lines in documents(paths, advance):
            yield as_read(lines, tokenizer)


def learnt(corpus: Path, path: Path | None = None, lowercase: bool = True) -> Trigram:
    """The trigram of corpus/train/*.txt; kept at `path`, if one is given, and taken from there when it lies there already."""
    if path is not None and path.exists():
        return Trigram.load(path)
    texts = read_documents(text_files(corpus / "train"), lowercase, "learning the trigram")
    trigram = Trigram.learn(read.codes for read in texts)
    if path is not None:
        trigram.save(path)
    return trigram


def perplexity(log_probs: Floats | float, count: int) -> float | None:
    """exp of minus the mean; None of nothing."""
    return math.exp(-float(np.sum(log_probs)) / count) if count else None


def judge(trigram: Trigram, reads: Iterable[Read]) -> dict[str, Any]:
    """Perplexity per character, ends of documents included, of texts; and how many of their characters were never seen."""
    total, count, ends, unseen = 0.0, 0, 0, 0
    for codes, _ in reads:
        total += float(trigram.log_probs(codes).sum())
        count += len(codes)
        ends += 1
        unseen += int(np.count_nonzero(~np.isin(codes, trigram.levels[0].keys.astype(np.uint32))))
    return {"characters": count, "documents": ends, "unseen_characters": unseen, "perplexity": perplexity(total, count + ends)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Learn, judge each held-out file and all together, write and print the numbers."""
    parser = argparse.ArgumentParser(prog="python -m bert4k.tasks.shipped.ngrams", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder that tasks.shipped.corpus wrote, with train/ and held_out/")
    parser.add_argument("--out", type=Path, help="file for the numbers (JSON)")
    parser.add_argument("--model", type=Path, help="file to keep the learnt trigram in, or to take it from (.npz)")
    parser.add_argument("--cased", action="store_true", help="for a checkpoint whose tokenizer does not lower-case")
    flags = parser.parse_args(arguments)
    began = time.perf_counter()
    trigram = learnt(flags.corpus, flags.model, not flags.cased)
    learning = time.perf_counter() - began
    domains = {path.stem: judge(trigram, read_documents([path], not flags.cased)) for path in text_files(flags.corpus / "held_out")}
    results = {
        "what": "character trigram, interpolated modified Kneser-Ney, nothing pruned; perplexity per character and end of document",
        "training_files": [path.name for path in text_files(flags.corpus / "train")],
        "n_grams": [len(level.keys) for level in trigram.levels],
        "discounts": [level.discounts.tolist() for level in trigram.levels],
        "characters_of_the_uniform_distribution": trigram.characters,
        "domains": domains,
        "seconds_to_learn_or_load": learning,
        "seconds": time.perf_counter() - began,
        "peak_memory_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "made": provenance(),
    }
    text = json.dumps(rounded(results), ensure_ascii=False, indent=2) + "\n"
    if flags.out:
        flags.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(flags.out) as (temporary,):
            temporary.write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
