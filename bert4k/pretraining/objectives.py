"""What a pretraining objective asks of a text. Each objective is nothing but who may see whom, and which tokens are to be told.

Who may see whom is written in `order`, the time at which a token is revealed: under the mask `permuted & same_document`
a token looks at those of its own text that are revealed no later than itself. So one graph serves all objectives:

    masked           0 0 0 0 ...      everybody sees everybody: BERT's masked language model (arXiv:1810.04805)
    left_to_right    0 1 2 3 ...      a language model
    right_to_left    3 2 1 0 ...      a language model that reads backwards
    seq2seq          0 0 0 1 2 ...    the source sees itself, the target sees the source and its own past (UniLM, arXiv:1905.03197)
    permuted         0 2 0 1 ...      context first, then the targets in a random order (XLNet, arXiv:1906.08237)

A token is told in one of two ways. *Shifted*: at the token before it (in the order of time), as a language model does. *Cloze*: in its own
place, where a [MASK] stands instead. A permuted language model cannot shift, since it would not know which place comes next: each
target gets a second token, a [MASK] in its place which looks at everything revealed earlier and which nobody sees (`real` is False:
XLNet's query stream, by mask and with one set of weights).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bert4k.pretraining.shards import Pair, Stretch
from bert4k.tokenizers import Tokenizer

Ints = NDArray[np.int32]
Bools = NDArray[np.bool_]

NOTHING = -1  # the label where nothing is to be told


class Example(NamedTuple):
    """One text as the model takes it; arrays [L] unless said otherwise."""

    token_ids: Ints
    segment_ids: Ints
    position_ids: Ints
    order: Ints
    labels: Ints  # what the output must say here, or NOTHING
    real: Bools  # may be looked at
    swapped: int = NOTHING  # sentence order: 0 as in the document, 1 exchanged


@dataclass(frozen=True)
class Special:
    """The ids that objectives write, and the range of ordinary tokens."""

    cls: int
    sep: int
    mask: int
    ordinary: Ints  # every id that may replace another at random

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Special:
        """Of a tokenizer; raises `VocabularyError` when it has no [MASK]."""
        ordinary = np.setdiff1d(np.arange(len(tokenizer), dtype=np.int32), np.asarray(sorted(tokenizer.special_ids), np.int32))
        return cls(tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, ordinary)


# Shapes of texts. ---------------------------------------------------------------------------------------------------


def single(ids: Ints, special: Special) -> Example:
    """`[CLS] text [SEP]`, everybody sees everybody, nothing to tell."""
    return _example(np.concatenate([[special.cls], ids, [special.sep]]), len(ids) + 2)


def double(first: Ints, second: Ints, special: Special) -> Example:
    """`[CLS] first [SEP] second [SEP]`; segments 0 and 1."""
    token_ids = np.concatenate([[special.cls], first, [special.sep], second, [special.sep]])
    return _example(token_ids, len(first) + 2)


def _example(token_ids: NDArray[np.integer], first: int) -> Example:
    size = len(token_ids)
    places = np.arange(size, dtype=np.int32)
    return Example(
        token_ids=token_ids.astype(np.int32),
        segment_ids=(places >= first).astype(np.int32),
        position_ids=places,
        order=np.zeros(size, np.int32),
        labels=np.full(size, NOTHING, np.int32),
        real=np.ones(size, bool),
    )


# Objectives: cloze. -------------------------------------------------------------------------------------------------


def masked(text: Stretch, special: Special, random: np.random.Generator, share: float = 0.15) -> Example:
    """BERT's cloze over whole words: `share` of the tokens is to be told."""
    example = single(text.ids, special)
    return hide(example, 1 + spans(text.starts_word, share, random), special, random)


def sentence_order(text: Stretch, special: Special, random: np.random.Generator, share: float = 0.15) -> Example:
    """`masked` on two neighbouring parts of a document, half of the time exchanged: which, the pooled output is to tell
    (ALBERT, arXiv:1909.11942, section 3.1). A text of one line is not cut: it is `masked`."""
    cut = split(text, random)
    if cut is None:
        return masked(text, special, random, share)
    swapped = int(random.integers(2))
    first, second = (slice(cut, None), slice(cut)) if swapped else (slice(cut), slice(cut, None))
    example = double(text.ids[first], text.ids[second], special)
    chosen = spans(np.concatenate([text.starts_word[first], text.starts_word[second]]), share, random)
    chosen = chosen + 1 + (chosen >= len(text.ids[first]))  # behind [CLS], and behind the first [SEP]
    return hide(example, chosen, special, random)._replace(swapped=swapped)


def seq2seq_cloze(pair: Pair, special: Special, random: np.random.Generator, share: float = 0.7, ends: bool = True) -> Example:
    """UniLM's fine-tuning: `share` of the target's tokens, its [SEP] among them if it `ends` there, is hidden and told in its own place."""
    example = _revealed_in_turn(double(pair.source, pair.target, special))
    target = np.flatnonzero(example.segment_ids)[: None if ends else -1]
    chosen = target[random.random(len(target)) < share]
    return hide(example, chosen if len(chosen) else target[-1:], special, random)


def hide(example: Example, chosen: NDArray[np.integer], special: Special, random: np.random.Generator) -> Example:
    """The tokens at `chosen` are to be told; 80 % become [MASK], 10 % another token, 10 % stay."""
    labels, token_ids = example.labels.copy(), example.token_ids.copy()
    labels[chosen] = token_ids[chosen]
    luck = random.random(len(chosen))
    other = special.ordinary[random.integers(len(special.ordinary), size=len(chosen))]
    token_ids[chosen] = np.where(luck < 0.8, special.mask, np.where(luck < 0.9, other, token_ids[chosen]))
    return example._replace(token_ids=token_ids, labels=labels)


def spans(starts_word: Bools, share: float, random: np.random.Generator) -> NDArray[np.integer]:
    """Places of `share` of the tokens, as whole words; one time of five two or three words together (UniLM, section 2.5).

    The last word is taken whole or not at all, by chance, so that the share is met on average and long words are not at a disadvantage
    (as they are where those that do not fit are passed over). One word at least is taken."""
    starts = np.flatnonzero(starts_word)
    if not len(starts) or starts[0] != 0:
        starts = np.concatenate([[0], starts])
    lengths = np.diff(starts, append=len(starts_word))
    words, sizes = len(starts), lengths.tolist()
    together = np.where(random.random(words) < 0.8, 1, random.integers(2, 4, words)).tolist()
    taken = [False] * words
    wanted = left = max(1, round(share * len(starts_word)))
    firsts = random.permutation(words).tolist()
    for word in (word for first in firsts for word in range(first, min(first + together[first], words))):
        if taken[word]:
            continue
        if left < wanted and sizes[word] * random.random() >= left:
            break
        taken[word] = True
        left -= sizes[word]
    return np.flatnonzero(np.repeat(taken, lengths))


# Objectives: shifted. -----------------------------------------------------------------------------------------------


def left_to_right(text: Stretch, special: Special) -> Example:
    """The next token at every place; [SEP] only where the document ends, for elsewhere the row is merely full."""
    example = single(text.ids, special)
    labels = _next(example.token_ids)
    if not text.ends:
        labels[-2] = NOTHING
    return example._replace(order=example.position_ids, labels=labels)


def right_to_left(text: Stretch, special: Special) -> Example:
    """The token before, at every place from the final [SEP] to the second of the text."""
    example = single(text.ids, special)
    labels = np.full_like(example.labels, NOTHING)
    labels[2:] = example.token_ids[1:-1]
    return example._replace(order=example.position_ids[::-1].copy(), labels=labels)


def seq2seq(pair: Pair, special: Special, ends: bool = True) -> Example:
    """`[CLS] source [SEP] target [SEP]`: the next token, from the source's [SEP] on; the last [SEP] when the target `ends` there."""
    example = _revealed_in_turn(double(pair.source, pair.target, special))
    labels = _next(example.token_ids)
    labels[: len(pair.source) + 1] = NOTHING
    if not ends:
        labels[-2] = NOTHING
    return example._replace(labels=labels)


def _next(token_ids: Ints) -> Ints:
    return np.append(token_ids[1:], np.int32(NOTHING))


def _revealed_in_turn(example: Example) -> Example:
    """The source at once, the target token by token."""
    return example._replace(order=np.cumsum(example.segment_ids, dtype=np.int32))


# Objectives: permuted. ----------------------------------------------------------------------------------------------


def permuted(text: Stretch, special: Special, random: np.random.Generator, share: float = 0.15) -> Example:
    """`share` of the tokens are revealed after all others, one by one in a random order, and told from what came before.

    Partial prediction as in XLNet (section 2.3). The query of a target, its place with [MASK], is an extra token at the end."""
    content = single(text.ids, special)
    targets = 1 + spans(text.starts_word, share, random)
    time = random.permutation(len(targets)).astype(np.int32)
    order = content.order.copy()
    order[targets] = 1 + time

    def with_queries(values: NDArray, queries: NDArray | int | bool) -> NDArray:
        return np.concatenate([values, np.broadcast_to(queries, len(targets))]).astype(values.dtype)

    return Example(
        token_ids=with_queries(content.token_ids, special.mask),
        segment_ids=with_queries(content.segment_ids, 0),
        position_ids=with_queries(content.position_ids, targets),
        order=with_queries(order, time),  # one earlier than its target: it looks at what came strictly before
        labels=with_queries(content.labels, content.token_ids[targets]),
        real=with_queries(content.real, False),
    )


# Pieces and pairs of running text. ----------------------------------------------------------------------------------------


def beginning(text: Stretch, limit: int) -> Stretch:
    """The first `limit` tokens of a text, less those of a word that would be cut."""
    if len(text.ids) <= limit:
        return text
    words = np.flatnonzero(text.starts_word[: limit + 1])
    cut = int(words[-1]) if len(words) and words[-1] else limit
    return Stretch(text.ids[:cut], text.starts_word[:cut], text.starts_line[:cut], False)


def split(text: Stretch, random: np.random.Generator) -> int | None:
    """Where to cut the text in two: at the start of a line in its middle half, else at any line; None for a single line."""
    lines = np.flatnonzero(text.starts_line)
    lines = lines[lines > 0]
    if not len(lines):
        return None
    middle = lines[(lines >= len(text.ids) / 4) & (lines <= 3 * len(text.ids) / 4)]
    return int(random.choice(middle if len(middle) else lines))


def halves(text: Stretch, random: np.random.Generator) -> Pair:
    """The beginning of a text and how it goes on; a single line is cut at a word."""
    cut = split(text, random)
    if cut is None:
        words = np.flatnonzero(text.starts_word)
        words = words[words > 0]
        cut = int(random.choice(words)) if len(words) else len(text.ids) // 2
    return Pair(text.ids[:cut], text.ids[cut:])


def gap_sentences(
    text: Stretch, special: Special, random: np.random.Generator, share: float = 0.3, noise: float = 0.0, room: int | None = None
) -> Pair | None:
    """PEGASUS (arXiv:1912.08777, section 3.1): the sentences that tell most about the others are taken out; each leaves a [MASK] in
    the source, and together they are the target.

    A sentence's worth is the ROUGE-1 F1 of its tokens against the rest of the text, times a random factor in [1 - noise, 1 + noise].
    `share` of the sentences, at least one and never all, is taken. Source and target have at most `room` tokens; sentences at the end for
    which there is none are left away. None for a text of one sentence. Sentences are lines."""
    bounds = np.flatnonzero(text.starts_line)
    sentences = [sentence for sentence in np.split(text.ids, bounds) if len(sentence)]
    while room is not None and sum(map(len, sentences)) + _gaps(len(sentences), share) > room:
        sentences.pop()
    if len(sentences) < 2:
        return None
    worth = rouge_1_against_rest(sentences) * (1 + noise * random.uniform(-1, 1, len(sentences)))
    gone = set(np.argsort(-worth, kind="stable")[: _gaps(len(sentences), share)].tolist())
    source = [[special.mask] if index in gone else sentence for index, sentence in enumerate(sentences)]
    target = [sentence for index, sentence in enumerate(sentences) if index in gone]
    return Pair(np.concatenate(source).astype(np.int32), np.concatenate(target).astype(np.int32))


def _gaps(sentences: int, share: float) -> int:
    """How many of so many sentences are taken out."""
    return min(sentences - 1, max(1, int(share * sentences + 1e-9)))


def rouge_1_against_rest(sentences: Sequence[Ints]) -> NDArray[np.float64]:
    """For each sentence, the F1 of its tokens (as a multiset) against those of all the others."""
    counts = [Counter(sentence.tolist()) for sentence in sentences]
    total = Counter(np.concatenate(sentences).tolist())
    size = total.total()
    overlap = [sum(min(count, total[token] - count) for token, count in own.items()) for own in counts]
    return np.array([2 * common / size for common in overlap])  # F1 = 2 overlap / (its size + the rest's size)
