"""What is trained on in which step: a pure function of the settings, the seed and the number of the step.

So a run that was killed goes on with the very batches that it would have had, and every process of several makes the same batch.
Each source is read in a new random order in every epoch, each text once, and each time with masks drawn anew. The texts of some hundred
rows are packed together, those of several steps if a batch has fewer: so rows are full, and hardly a text finds no room.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.errors import ConfigError, DataError
from bert4k.pretraining import objectives
from bert4k.pretraining.objectives import Example, Special
from bert4k.pretraining.packing import Batch, Shape, best_fit, pack
from bert4k.pretraining.shards import Shards
from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Mixture:
    """How much each objective counts in the loss and in the number of its texts; only the ratios matter.

    The default is UniLM's (arXiv:1905.03197, section 2.5): a third bidirectional with a sentence-order task, a third seq2seq, a sixth each
    left to right and right to left.
    """

    masked: float = 0.0  # masked tokens are told, seen from both sides
    sentence_order: float = 2.0  # the same on two parts of a text, which may be exchanged: the pooled output tells
    left_to_right: float = 1.0  # each token is told from those before it
    right_to_left: float = 1.0  # each token is told from those after it
    seq2seq: float = 1.0  # the second half of a text is told from the first, token by token
    seq2seq_cloze: float = 1.0  # the second half has holes, told from the first half and from what came before
    permuted: float = 0.0  # some tokens are told in a random order
    gap_sentences: float = 0.0  # the sentences that tell most about a text are told from the rest (PEGASUS)
    pairs: float = 0.0  # the target of a pair is told from its source, token by token
    pairs_cloze: float = 0.0  # the same with holes

    def __post_init__(self) -> None:
        for name, ratio in self.ratios().items():
            if not math.isfinite(ratio) or ratio < 0:
                raise ConfigError(f"The ratio of {name} is {ratio}; expected a number of at least 0.")
        if not sum(self.ratios().values()):
            raise ConfigError("Every ratio of the mixture is 0: there is nothing to train. Give at least one objective a ratio above 0.")

    def ratios(self) -> dict[str, float]:
        """The ratio of each objective, as given."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


OBJECTIVES = tuple(field.name for field in fields(Mixture))
ON_PAIRS = ("pairs", "pairs_cloze")
_NUMBER = {name: number for number, name in enumerate(OBJECTIVES)}


@dataclass(frozen=True)
class Shares:
    """How much of a text an objective asks for."""

    masked: float = 0.15  # of the tokens, in masked, sentence_order and permuted
    cloze: float = 0.7  # of the target's tokens, in seq2seq_cloze and pairs_cloze
    gaps: float = 0.3  # of the sentences, in gap_sentences


class Source(NamedTuple):
    """A prepared corpus under a name, and how often it is read beside the others: twice as often as its size warrants with weight 2."""

    name: str
    shards: Shards
    weight: float = 1.0


def make_example(
    objective: str, shards: Shards, row: NDArray[np.int64], special: Special, shares: Shares, random: np.random.Generator, length: int
) -> Example:
    """What `objective` asks of a row of the shards' index, in at most `length` tokens, of which the special ones take three.

    A text that is too long for what an objective adds to it, the queries of `permuted` or the marks of `gap_sentences`, loses its end. One
    of a single sentence has no gap sentence: it serves `seq2seq`."""
    if objective in ON_PAIRS:
        pair = shards.read_pair(row)
        if objective == "pairs":
            return objectives.seq2seq(pair, special)
        return objectives.seq2seq_cloze(pair, special, random, shares.cloze)
    text = shards.read(row)
    match objective:
        case "masked":
            return objectives.masked(text, special, random, shares.masked)
        case "sentence_order":
            return objectives.sentence_order(text, special, random, shares.masked)
        case "left_to_right":
            return objectives.left_to_right(text, special)
        case "right_to_left":
            return objectives.right_to_left(text, special)
        case "permuted":
            text = objectives.beginning(text, max(1, int((length - 6) / (1 + shares.masked))))  # the last span is a word, which may be long
            return objectives.permuted(text, special, random, shares.masked)
        case "seq2seq_cloze":
            return objectives.seq2seq_cloze(objectives.halves(text, random), special, random, shares.cloze, text.ends)
        case "gap_sentences":
            gaps = objectives.gap_sentences(text, special, random, shares.gaps, room=length - 3)
            if gaps is not None:
                return objectives.seq2seq(gaps, special)
    return objectives.seq2seq(objectives.halves(text, random), special, text.ends)


_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class _Channel:
    """A source with the objectives that read it, and how many of its texts a step takes on average."""

    number: int
    source: Source
    index: NDArray[np.int64]
    names: tuple[str, ...]
    bounds: tuple[float, ...]  # the sums of their ratios up to each, the last 1
    per_step: float

    def serials(self, start: int, stop: int) -> range:
        """The numbers of the texts, counted over all epochs, that the steps from `start` to `stop` take: as many as the average asks for by
        then, less those of earlier steps. The phase keeps channels from falling into step."""
        phase = self.number * _GOLDEN % 1
        return range(int(start * self.per_step + phase), int(stop * self.per_step + phase))

    def objective(self, serial: int, seed: int) -> str:
        """Its turn: by multiples of the golden ratio, so that each objective has its share of any few texts in a row. Which texts these are
        is up to chance."""
        turn = (serial * _GOLDEN + _mixed(self.number, seed) / 2**64) % 1
        return self.names[bisect_right(self.bounds, turn, hi=len(self.names) - 1)]

    def typical(self, count: int, random: np.random.Generator) -> list[int]:
        """So many places of the index, with texts of every length, each as often as it occurs."""
        places = random.integers(len(self.index), size=64 * count)
        stop = 3 if self.names[0] in ON_PAIRS else 2
        lengths = self.index[places, stop] - self.index[places, 1]
        return places[np.argsort(lengths, kind="stable")[32::64]].tolist()


class Stream:
    """The batches of a training, or of a measurement. `stream.batch(step)` depends on nothing but its arguments.

    A text has at most `length` - 3 tokens, so that every objective has room for its special tokens. Raises `ConfigError` for rows,
    weights or a seed that make no sense, and `DataError` when an objective of the mixture has no source to read.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tokenizer: Tokenizer,
        mixture: Mixture,
        shares: Shares,
        groups: int,
        rows: int,
        length: int,
        seed: int,
    ) -> None:
        self.special = Special.of(tokenizer)
        self.mixture, self.shares, self.seed = mixture, shares, seed
        self.groups, self.rows, self.length = groups, rows, length
        self._check(sources)
        ratios = {name: ratio for name, ratio in mixture.ratios().items() if ratio}
        total = sum(ratios.values())
        self.ratios = {name: ratio / total for name, ratio in ratios.items()}
        self._channels: list[_Channel] = []
        for on_pairs in (False, True):
            wanted = {name: ratio for name, ratio in self.ratios.items() if (name in ON_PAIRS) == on_pairs}
            if wanted:
                self._open(sources, on_pairs, wanted)
        self._scale_to_rows()
        self._packed: tuple[int, list[Batch]] = (-1, [])

    def _check(self, sources: Sequence[Source]) -> None:
        if self.groups < 1 or self.rows < 1 or self.length < 8:
            raise ConfigError(
                f"{self.groups} groups of {self.rows} rows of {self.length} tokens are no batch; expected at least 1 group, 1 row and 8"
                " tokens."
            )
        if self.seed < 0:
            raise ConfigError(f"The seed is {self.seed}; expected a whole number of at least 0.")
        for source in sources:
            if not math.isfinite(source.weight) or source.weight < 0:
                raise ConfigError(f"The weight of {source.name} is {source.weight}; expected a number of at least 0.")

    def _open(self, sources: Sequence[Source], on_pairs: bool, wanted: dict[str, float]) -> None:
        """Add a channel for each source of a kind; wanted: the objectives that read this kind, with their ratios."""
        limit = self.length - 3
        indices = [source.shards.pair_index(limit) if on_pairs else source.shards.stretches(limit) for source in sources]
        sizes = np.array([source.weight * len(index) for source, index in zip(sources, indices, strict=True)])
        if not sizes.sum():
            kind = f"pair of at most {limit} tokens" if on_pairs else "text"
            raise DataError(
                f"The mixture asks for {', '.join(wanted)}, and there is no {kind} to take it from. Give one, or set the ratio to 0."
            )
        share = sum(wanted.values())
        bounds = tuple((np.cumsum(list(wanted.values())) / share).tolist())
        for source, index, size in zip(sources, indices, sizes.tolist(), strict=True):
            if size:
                per_step = share * size / float(sizes.sum())
                self._channels.append(_Channel(len(self._channels), source, np.asarray(index), tuple(wanted), bounds, per_step))

    def _scale_to_rows(self) -> None:
        """Choose how many texts a step takes, so that its rows are just full, and how many predictions a group has room for.

        By trial: texts of every channel are looked at, and packed as `batch` packs them."""
        random = np.random.default_rng(0)
        looks: list[tuple[int, int]] = []  # how long a text is, and how much it asks
        chances: list[float] = []
        total = sum(channel.per_step for channel in self._channels)
        for channel in self._channels:
            for serial, place in enumerate(channel.typical(_LOOKS, random)):
                example = self._example(channel, serial, place, random)
                looks.append((len(example.token_ids), int(np.count_nonzero(example.labels != objectives.NOTHING))))
                chances.append(channel.per_step / total / _LOOKS)
        sizes, told = np.array(looks).T
        steps = math.ceil(_PACKED_ROWS / (self.groups * self.rows))
        while True:
            rows = steps * self.groups * self.rows
            texts = max(1, round(rows * self.length / (sizes @ chances)))
            per_row, asked = [], []
            for _ in range(math.ceil(_PACKED_ROWS * 4 / rows)):
                # Each look as often as its chance says: a trial by pure chance would err by some percent.
                trial = np.searchsorted(np.cumsum(chances), (np.arange(texts) + random.random()) / texts).clip(max=len(looks) - 1)
                per_row.append(texts / len(best_fit(sizes[trial].tolist(), self.length)))
                asked.append(told[random.choice(len(looks), texts, p=chances)].mean() * per_row[-1] * self.rows)
            scale = float(np.mean(per_row)) * self.groups * self.rows / total
            epoch = self._epoch_steps(scale)
            if steps <= max(1, epoch):
                break
            steps = max(1, int(epoch))  # so few texts: do not pack those of several epochs together
        self._steps = steps
        self._channels = [replace(channel, per_step=channel.per_step * scale) for channel in self._channels]
        room = max(self.length, 8 * math.ceil((1.02 * max(asked) + 8) / 8))
        self.shape = Shape(self.groups, self.rows, self.length, room)

    def _example(self, channel: _Channel, serial: int, place: int, random: np.random.Generator) -> Example:
        """What the text at `place` is asked when it is the turn of the objective of `serial`."""
        objective = channel.objective(serial, self.seed)
        return make_example(objective, channel.source.shards, channel.index[place], self.special, self.shares, random, self.length)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        block, place = divmod(step, self._steps)
        packed = self._packed  # a pair that other threads may replace, but not change
        if packed[0] != block:
            packed = self._packed = (block, self._pack(block))
        return packed[1][place]

    def _pack(self, block: int) -> list[Batch]:
        """The batches of the steps that are packed together."""
        examples = []
        for channel in self._channels:
            for serial in channel.serials(block * self._steps, (block + 1) * self._steps):
                epoch, place = divmod(serial, len(channel.index))
                random = np.random.default_rng((self.seed, channel.number, serial))
                place = shuffled(place, len(channel.index), hash_seed=(self.seed * 1_000_003 + channel.number) * 1_000_003 + epoch)
                example = self._example(channel, serial, place, random)
                examples.append((_NUMBER[channel.objective(serial, self.seed)], example))
        ratios = {_NUMBER[name]: ratio for name, ratio in self.ratios.items()}
        return pack(examples, self.shape, ratios, self._steps, np.random.default_rng((self.seed, len(self._channels), block)))

    @property
    def epoch_steps(self) -> float:
        """Steps in which every text of the running-text sources, weighted as they are, has been read once on average."""
        return self._epoch_steps(1.0)

    def _epoch_steps(self, scale: float) -> float:
        text = [channel for channel in self._channels if channel.names[0] not in ON_PAIRS] or self._channels
        return sum(len(channel.index) for channel in text) / sum(channel.per_step for channel in text) / scale


# Rows that are packed together: the more, the fuller; and the longer the wait for the first of them.
_PACKED_ROWS = 512

# Texts of a channel that are looked at to know how many fit.
_LOOKS = 64


def shuffled(place: int, size: int, hash_seed: int) -> int:
    """Where `place` of 0 .. size - 1 goes in a random permutation, without making the permutation.

    A Feistel network over the next even number of bits, walked until the result is in range (Black & Rogaway 2002, "Ciphers with arbitrary
    finite domains"). Of eight rounds: with four, some places of a small range are a tenth more likely than others."""
    half = max(1, (size - 1).bit_length() + 1) // 2 or 1
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for turn in range(8):
            left, right = right, left ^ (_mixed(right, hash_seed * 8 + turn) & mask)
        place = left << half | right
        if place < size:
            return place


def _mixed(value: int, seed: int) -> int:
    """64 well-mixed bits of two numbers (the finaliser of MurmurHash3)."""
    word = (value * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 33)) * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    word = ((word ^ (word >> 33)) * 0xC4CEB9FE1A85EC53) & 0xFFFFFFFFFFFFFFFF
    return word ^ (word >> 33)
