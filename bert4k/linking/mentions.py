"""Where a text names an entity: heads that point at the first and last token of mentions, which may be told what a dictionary knows.

    model, network, tokenizer = build("wenbai", Tuning(), "half_pointer", "features")
    rows, pieces = encode(texts, tokenizer, 128, lambda text: [(m.start, m.end) for m in knowledge_base.matches(text)])
    found = detect(model, rows, pieces, len(texts))                     # [[Span(start, end, probability), ...], ...]

The half pointer and its dictionary are those of Su's system of the CCKS2019 competition (kexue.fm/archives/6919): two channels say at which
tokens an alias begins or ends, beside what the network makes of them (`features`), and may forbid all other places (`boundaries`).
GlobalPointer scores whole spans, so mentions may overlap and nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.finetuning import body, in_tokens, outputs_of, within_text
from bert4k.layers import FORBIDDEN
from bert4k.linking.calibration import sigmoid
from bert4k.linking.odds import DictionaryOdds, count_ends, count_spans
from bert4k.linking.rows import TOKENS, Piece, Rows, cut
from bert4k.model import Transformer
from bert4k.scores import overlap
from bert4k.structured import EfficientGlobalPointer, GlobalPointerLoss, HalfPointer, pair_pointers, spans_above
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

Head = Literal["half_pointer", "global_pointer"]
Dictionary = Literal["none", "features", "boundaries"]
Place = tuple[int, int]  # text[start:end]
Matches = Callable[[str], Iterable[Place]]


class Span(NamedTuple):
    """A place in the raw text that names something, and how probably it does."""

    start: int
    end: int
    probability: float


def encode(texts: Sequence[str], tokenizer: Tokenizer, longest: int, matches: Matches | None = None) -> tuple[Rows, list[Piece]]:
    """Each text as `[CLS] text [SEP]`, a longer one in several rows of `longest` tokens that overlap by half; nothing is lost.

    matches: the places of aliases in a text; they give the input "matches", int32 [L, 2] a row: whether one begins at a token, and whether
    one ends there."""
    frame = tokenizer.frame
    found = list(cut(texts, tokenizer, longest - frame.size(1)))
    ids = [np.array(frame.around([piece.ids]), np.int32) for piece in found]
    before = len(frame.before)
    pieces = [
        piece._replace(places=[(0, 0)] * before + piece.places + [(0, 0)] * (len(row) - before - len(piece.places)))
        for piece, row in zip(found, ids, strict=True)
    ]
    channels = {} if matches is None else {"matches": _channels(texts, pieces, matches)}
    return Rows(ids, [np.zeros_like(row) for row in ids], tokenizer.pad_id, channels), pieces


def _channels(texts: Sequence[str], pieces: Sequence[Piece], matches: Matches) -> list[NDArray[np.int32]]:
    channels, known, of = [], [], -1  # type: list[NDArray[np.int32]], list[Place], int
    for piece in pieces:
        if piece.text != of:  # pieces of one text follow one another
            known, of = list(matches(texts[piece.text])), piece.text
        begins, ends = {start for start, _ in known}, {end for _, end in known}
        channels.append(np.array([(end > start) * np.array([start in begins, end in ends]) for start, end in piece.places], np.int32))
    return channels


def build(source: str, tuning: Tuning, head: Head, dictionary: Dictionary = "none") -> tuple[keras.Model, Transformer, Tokenizer]:
    """A checkpoint with a head of mentions; the network itself; its tokenizer.

    half_pointer gives logits [B, L, 1, 2], whether a mention begins and whether one ends at a token; global_pointer scores [B, 1, L, L] of
    spans from a first to a last token. Where `boundaries` says that there is no such place, they are FORBIDDEN."""
    network, tokenizer, inputs, x, real = body(source, tuning)
    real, matches = within_text(inputs, real, tokenizer), None
    x = keras.layers.Dropout(tuning.dropout)(x)
    if dictionary != "none":
        inputs["matches"] = matches = keras.Input((None, 2), dtype="int32", name="matches")
        x = ops.concatenate([x, ops.cast(matches, x.dtype)], axis=-1)
    if head == "global_pointer":
        scores = EfficientGlobalPointer(1, name="mentions")(x, real)
    else:
        scores = HalfPointer(1, prior=0.01 if matches is None else 0.5, name="mentions")(x)
    if dictionary != "none":
        scores = DictionaryOdds(head == "global_pointer", dtype="float32", name="dictionary")(scores, matches)
    return keras.Model(inputs, bounded(scores, matches, head) if dictionary == "boundaries" else scores), network, tokenizer


def bounded(scores: Any, matches: Any, head: Head) -> Any:
    """`scores` of a head, FORBIDDEN where a mention would not begin, or would not end, where an alias does: as if probabilities were
    multiplied by `matches` [B, L, 2]."""
    begins, ends = ops.greater(matches[..., 0], 0), ops.greater(matches[..., 1], 0)
    if head == "global_pointer":
        allowed = ops.logical_and(begins[:, None, :, None], ends[:, None, None, :])
    else:
        allowed = ops.stack([begins, ends], axis=-1)[:, :, None]
    return ops.where(allowed, scores, FORBIDDEN)


def begin(model: keras.Model, rows: Rows, targets: Sequence[Sequence[Place]], head: Head) -> None:
    """Let a fresh model begin with what the dictionary alone says, counted on the rows that it will learn from."""
    count = count_spans if head == "global_pointer" else count_ends
    model.get_layer("dictionary").set_weights([count(rows.of_tokens["matches"], targets)])


def loss(head: Head) -> keras.losses.Loss:
    """What `lessons` are compared by."""
    return GlobalPointerLoss() if head == "global_pointer" else keras.losses.BinaryCrossentropy(from_logits=True)


def in_pieces(mentions: Sequence[Sequence[Place]], pieces: Sequence[Piece]) -> list[list[Place]]:
    """The (first token, last token + 1) of the mentions of each text, in every piece that has them whole."""
    found = []
    for piece in pieces:
        of = in_tokens(piece.places)
        found.append([place for start, end in mentions[piece.text] if (place := of(start, end))])
    return found


def lessons(rows: Rows, targets: Sequence[Sequence[Place]], head: Head, dictionary: Dictionary) -> Callable[[list[int], int], Any]:
    """The `collate` of `LengthBatches`: inputs, labels, and for the half pointer the weights of tokens, 0 for padding. `targets`: as
    `in_pieces` gives them. Where `boundaries` rules a mention out, it is not asked for."""

    def collate(chosen: list[int], length: int) -> tuple[Any, ...]:
        inputs = rows.inputs(chosen, length)
        spans = np.zeros((len(chosen), 1, length, length), np.float32)
        ends = np.zeros((len(chosen), length, 1, 2), np.float32)
        for at, row in enumerate(chosen):
            for first, end in targets[row]:
                spans[at, 0, first, end - 1] = ends[at, first, 0, 0] = ends[at, end - 1, 0, 1] = 1
        if dictionary == "boundaries":
            allowed = inputs["matches"] > 0
            ends *= allowed[:, :, None]
            spans *= allowed[:, None, :, None, 0] & allowed[:, None, None, :, 1]
        if head == "global_pointer":
            return inputs, spans
        real = np.arange(length) < np.array([len(rows.token_ids[row]) for row in chosen])[:, None]
        return inputs, ends, real[:, :, None, None].astype(np.float32)

    return collate


# What a threshold is chosen from: half units of a logit, the middle one first, so that it stays where others are no better.
THRESHOLDS = tuple(float(sigmoid(np.float64(logit))) for logit in sorted(np.arange(-2, 2.5, 0.5), key=abs))


def spans_of(scores: NDArray[np.float32], head: Head, threshold: float = 0.5) -> list[Span]:
    """(first token, last token + 1, probability) of the mentions in one row of what a model gives, [L, 1, 2] or [1, L, L]; that of a half
    pointer's is the product of those of its two ends."""
    if head == "global_pointer":
        above = float(np.log(threshold / (1 - threshold)))
        return [Span(first, end, float(sigmoid(score))) for first, end, _, score in spans_above(scores, above)]
    probabilities = sigmoid(scores)
    return [
        Span(first, end, float(probabilities[first, 0, 0] * probabilities[end - 1, 0, 1]))
        for first, end, _ in pair_pointers(probabilities, threshold)
    ]


def detect(
    model: keras.Model, rows: Rows, pieces: Sequence[Piece], texts: int, head: Head, threshold: float = 0.5, overlaps: bool = False
) -> list[list[Span]]:
    """The mentions of each of so many texts, in their order, at their places in the raw text. overlaps: whether mentions may share
    characters; if not, of those that do the most probable stays."""
    return detect_at(model, rows, pieces, texts, head, [threshold], overlaps)[0]


def detect_at(
    model: keras.Model, rows: Rows, pieces: Sequence[Piece], texts: int, head: Head, thresholds: Sequence[float], overlaps: bool = False
) -> list[list[list[Span]]]:
    """As `detect`, with each of several thresholds; the model reads the texts once."""
    # A GlobalPointer's spans are chosen one by one: those above a threshold, kept apart or not, are among those above a lower one.
    decoded = [min(thresholds)] if head == "global_pointer" else thresholds
    told = outputs_of(model, rows, TOKENS, read=lambda batch: [[spans_of(scores, head, each) for each in decoded] for scores in batch])
    found = [_placed([row[at] for row in told], pieces, texts, overlaps) for at in range(len(decoded))]
    if head == "global_pointer":
        return [[[span for span in row if span.probability > each] for row in found[0]] for each in thresholds]
    return found


def best_threshold(
    found: Sequence[Sequence[Sequence[Span]]], gold: Sequence[Sequence[Place]], thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, float]:
    """The threshold at which mentions, `found` with each of them as by `detect_at`, have the highest F1, with precision, recall and F1; of
    equal ones, the first."""
    scored = [overlap([[(each.start, each.end) for each in row] for row in every], gold) for every in found]
    best = max(range(len(scored)), key=lambda at: scored[at].f1)
    return {**dict(zip(("precision", "recall", "f1"), scored[best][:3], strict=True)), "threshold": thresholds[best]}


def _placed(told: Sequence[Sequence[Span]], pieces: Sequence[Piece], texts: int, overlaps: bool) -> list[list[Span]]:
    """What was found in the tokens of pieces, at its places in the raw texts."""
    found: list[list[Span]] = [[] for _ in range(texts)]
    for piece, spans in zip(pieces, told, strict=True):
        for first, end, probability in spans:
            # No end: an added token, or padding.
            if end > len(piece.places) or not all(stop > start for start, stop in (piece.places[first], piece.places[end - 1])):
                continue
            place = piece.places[first][0], piece.places[end - 1][1]
            if piece.own[0] <= place[0] < piece.own[1]:
                found[piece.text].append(Span(*place, probability))
    return [sorted(row if overlaps else apart(row)) for row in found]


def apart(spans: Iterable[Span]) -> list[Span]:
    """Those that share no character with a more probable one of them (of equal ones, the longer stays)."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (-each.probability, each.start - each.end, each.start)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return kept
