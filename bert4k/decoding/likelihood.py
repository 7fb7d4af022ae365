"""`fill`, `score`, `embed` and `predict`: what a model knows of given texts.

Texts share rows where that costs less (`batches.layouts`): each sees itself alone, so it gets the numbers that it has in a row of its own.
The output layer over the vocabulary runs only on the positions that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import masks
from bert4k.backend import compiled
from bert4k.decoding.batches import Layout, bucket, layouts, padded
from bert4k.decoding.generation import check_generates
from bert4k.decoding.orders import PERMUTED, Order, score_permuted
from bert4k.decoding.targets import score_targets
from bert4k.errors import ConfigError, DataError, did_you_mean
from bert4k.model import Transformer
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer


class Candidate(NamedTuple):
    """A token for a blank, and its probability."""

    token: str
    probability: float


POOLINGS = ("mean", "max", "first", "pooled")


def fill(model: Transformer, tokenizer: Tokenizer, text: str, top_k: int = 5) -> list[list[Candidate]]:
    """The `top_k` most probable tokens for each [MASK] of `text`, left to right, the best first.

    Each blank is filled by itself, given the text with all its blanks. Needs the mask "encoder" and an "mlm" output.
    """
    _check_encoder(model, "fill()")
    texts = _Texts(model, tokenizer, [text])
    at = np.flatnonzero(texts.token_ids[0] == tokenizer.mask_id)
    if not at.size:
        raise DataError(f"There is no [MASK] in {text!r}. Write [MASK] where a token is to be filled in.")
    if not 1 <= top_k <= model.config.vocab_size:
        raise ConfigError(f"top_k={top_k}: expected between 1 and the {model.config.vocab_size} tokens of the vocabulary.")
    [layout] = layouts([len(texts.token_ids[0])], 1)
    places = padded([at.tolist()], 0, bucket(len(at)), 1)[0]
    found = _program(model, "log_probs", _log_probs)(texts.rows(layout, layout.texts), places)
    log_probs = ops.convert_to_numpy(found)[: len(at)]
    order = np.argsort(-log_probs, axis=-1, kind="stable")[:, :top_k]
    return [
        [Candidate(tokenizer.id_to_token(int(token)), float(np.exp(values[token]))) for token in best]
        for values, best in zip(log_probs, order, strict=True)
    ]


def score(
    model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], batch_size: int = 32, *, order: Order | None = None, seed: int = 0
) -> np.ndarray:
    """The log-probability (natural) of each text under the model, float32 [N].

    Under a mask that does not look ahead, the sum over the text's tokens and its final [SEP], each given those before it; under one with
    a `source` part (seq2seq), and of an encoder-decoder, texts are pairs (source, target), and the sum is over the target. Under
    "encoder", the pseudo-log-likelihood: each token in turn is masked and predicted from all others (Salazar et al. 2020,
    arXiv:1910.14659). Under "permuted", the sum over the text's tokens as they are revealed in an `order`: see `orders.score_permuted`.

    batch_size: the most rows that are computed together; a row holds one text, or several short ones. order, seed: of the mask "permuted"
    only; "left_to_right" (the default), "right_to_left", "random", or the numbers of the tokens.
    """
    if model.config.num_decoder_layers and order is None:
        return score_targets(model, tokenizer, texts, batch_size)
    if model.mask in PERMUTED:
        return score_permuted(model, tokenizer, texts, "left_to_right" if order is None else order, seed, batch_size)
    if order is not None:
        raise ConfigError(
            f"order={order!r}: under the mask {masks.title(model.mask)} tokens have one order. Use model.with_mask('permuted')."
        )
    given = _Texts(model, tokenizer, texts)
    in_turn = model.mask == masks.encoder
    if in_turn:
        _check_encoder(model, "score()")
    else:
        check_generates(model)
    jobs = [job for text in range(len(given)) for job in (given.each_token(text) if in_turn else [given.shifted(text)])]
    totals = np.zeros(len(given), np.float64)
    program = _program(model, "target_log_probs", _target_log_probs)
    batches = layouts([given.lengths[job.text] for job in jobs], batch_size, _may_share(model)) if jobs else []
    for layout in track(batches, len(batches), "scoring"):
        there = [jobs[number] for number in layout.texts]
        at = np.concatenate([start + job.at for start, job in zip(layout.starts, there, strict=True)])
        rows = given.rows(layout, [job.text for job in there])
        if in_turn:
            rows.token_ids.reshape(-1)[at] = tokenizer.mask_id
        # How many tokens are asked for is part of the shape, too: of short texts no number of its own.
        asked = min(max(bucket(len(at)), rows.token_ids.size // 16), rows.token_ids.size)
        targets = np.concatenate([job.targets for job in there])
        found = program(rows, *(np.pad(each, (0, asked - len(at))).astype(np.int32) for each in (at, targets)))
        texts_asked = np.repeat([job.text for job in there], [len(job.at) for job in there])
        totals += np.bincount(texts_asked, ops.convert_to_numpy(found)[: len(at)], len(totals))
    return totals.astype(np.float32)


def embed(model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], pooling: str = "mean", batch_size: int = 32) -> np.ndarray:
    """One vector a text (or pair), float32 [N, H].

    pooling: "mean" or "max" over all its tokens, [CLS] and [SEP] included; "first", the vector of [CLS]; "pooled", the model's
    output of that name. batch_size: the most rows that are computed together; a row holds one text, or several short ones."""
    if pooling not in POOLINGS:
        raise ConfigError(f"There is no pooling {pooling!r}.{did_you_mean(pooling, POOLINGS)} Poolings are {', '.join(POOLINGS)}.")
    if pooling == "pooled" and "pooled/dense" not in model.parts:
        raise ConfigError("pooling='pooled' needs the model's pooler. Load it with outputs=('pooled',), or use pooling='mean'.")
    given = _Texts(model, tokenizer, texts)
    vectors = np.zeros((len(given), model.config.hidden_size), np.float32)
    program = _program(model, f"embed/{pooling}", _pooled, pooling)
    for layout in _tracked(model, given, batch_size, "embedding"):
        found = program(given.rows(layout, layout.texts), _firsts(layout))
        vectors[layout.texts] = ops.convert_to_numpy(found)[: len(layout.texts)]
    return vectors


def predict(model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any], batch_size: int = 32) -> list[Any]:
    """What the model gives for each text (or pair), without padding: "sequence" [L, H] and "mlm" [L, V] for the L tokens of the text,
    "pooled" [H] and "nsp" [2]. An array each, or a dict where the model has several outputs.

    `model.predict(batch)` gives the same numbers as one rectangle, and computes all of it. batch_size: the most rows that are computed
    together; a row holds one text, or several short ones."""
    if model.config.num_decoder_layers and model.output_kinds != ("sequence",):
        raise ConfigError(
            "predict() takes texts, and a decoder also needs targets. Use model.with_outputs('sequence'), or model.predict(batch)."
        )
    given = _Texts(model, tokenizer, texts)
    results: list[Any] = [None] * len(given)
    program = _program(model, "outputs", _outputs)
    for layout in _tracked(model, given, batch_size, "predicting"):
        outputs = program(given.rows(layout, layout.texts), _firsts(layout))
        found = {name: ops.convert_to_numpy(outputs[name]) for name in model.output_kinds}  # in their order, which JAX forgets
        for place, (text, start, size) in enumerate(zip(layout.texts, layout.starts, layout.sizes, strict=True)):
            # Copies, since a view would keep the arrays of the whole batch.
            own = {name: y[place if name in ("pooled", "nsp") else slice(start, start + size)].copy() for name, y in found.items()}
            results[text] = own if len(own) > 1 else next(iter(own.values()))
    return results


class Rows(NamedTuple):
    """A batch of rows that hold texts, all int32 [B, L]."""

    token_ids: Any
    segment_ids: Any
    position_ids: Any  # the place in the text
    document_ids: Any  # which text of the batch, from 0; -1 is padding


class _Job(NamedTuple):
    """Predict the tokens `targets` at the places `at`, both int [P], of the text of that number."""

    text: int
    at: NDArray[np.int64]
    targets: NDArray[np.int32]


class _Texts:
    """Texts as token and segment ids, two lists of N arrays int32 [L], checked against the model."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, texts: Sequence[Any]) -> None:
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise DataError(f"Expected a list of texts, got {type(texts).__name__}. Put a single text in a list.")
        if not texts:
            raise DataError("There are no texts: the list is empty. Give at least one.")
        tokenizer.check_rows(model.config.vocab_size)
        self.mask, self.pad_id, self.frame = model.mask, tokenizer.pad_id, tokenizer.frame
        self.token_ids, self.segment_ids = tokenizer.unpadded(texts)
        self.lengths = list(map(len, self.token_ids))
        limit = model.config.max_position_embeddings
        if max(self.lengths) > limit:
            place, length = next((place, length) for place, length in enumerate(self.lengths) if length > limit)
            raise DataError(f"Text {place} has {length} tokens; the model has {limit} positions. Split or shorten it.")

    def __len__(self) -> int:
        return len(self.token_ids)

    def rows(self, layout: Layout, texts: Sequence[int]) -> Rows:
        """These texts where they stand in the batch."""
        token_ids, segment_ids = (np.concatenate([ids[text] for text in texts]) for ids in (self.token_ids, self.segment_ids))
        return Rows(layout.spread(token_ids, self.pad_id), layout.spread(segment_ids, 0), layout.position_ids, layout.document_ids)

    def each_token(self, text: int) -> Iterator[_Job]:
        """One job for each token of the text, or of both of a pair, but the added ones."""
        ids, segments = self.token_ids[text], self.segment_ids[text]
        second = np.flatnonzero(np.diff(segments))  # the [SEP] between the two of a pair
        between = second[:, None] - np.arange(len(self.frame.between))
        for place in np.setdiff1d(np.arange(len(self.frame.before), len(ids) - len(self.frame.after)), between):
            yield _Job(text, np.array([place]), ids[place : place + 1])

    def shifted(self, text: int) -> _Job:
        """Every token but the first, or every token of the target, predicted where the token before it stands."""
        wanted = np.arange(1, len(self.token_ids[text]))
        if self.mask.uses("source"):
            wanted = wanted[self.segment_ids[text][1:] == 1]
        if not wanted.size:
            raise DataError(f"Text {text} has no target to score. Under the mask {masks.title(self.mask)} give pairs: (source, target).")
        return _Job(text, wanted - 1, self.token_ids[text][wanted])


def _tracked(model: Transformer, texts: _Texts, batch_size: int, description: str) -> Iterator[Layout]:
    batches = layouts(texts.lengths, batch_size, _may_share(model))
    return track(batches, len(batches), description)


def _may_share(model: Transformer) -> bool:
    """Whether a text under the model's mask sees the same of itself wherever it stands in a row: all rules but the time at which a token
    is revealed ask how two tokens stand to each other."""
    return not model.mask.uses("permuted")


def _firsts(layout: Layout) -> NDArray[np.int32]:
    """Where the first token of each text stands, as row x L + place, int32 [P]. A text has two tokens at least, and there is a place for as
    many texts as there may be, so that their number is no part of the shape."""
    rows, length = layout.shape
    return np.pad(layout.starts, (0, rows * length // 2 - len(layout.starts))).astype(np.int32)


def _check_encoder(model: Transformer, what: str) -> None:
    if model.config.num_decoder_layers:
        raise ConfigError(f"{what} needs a masked language model, and an encoder-decoder writes its answers: use bert4k.generate().")
    if "mlm" not in model.parts:
        raise ConfigError(f"{what} needs the model's output layer over the vocabulary. Load it with outputs=('mlm',).")
    if model.mask != masks.encoder:
        raise ConfigError(
            f"{what} fills blanks from both sides, and the mask is {masks.title(model.mask)}. Use model.with_mask('encoder')."
        )


def _program(model: Transformer, name: str, function: Any, *settings: Any) -> Any:
    """`function(model, *settings, ...)` compiled, once for a model."""
    if name not in model.programs:
        model.programs[name] = compiled(model, partial(function, model, *settings))
    return model.programs[name]


def _hidden(model: Transformer, rows: Rows) -> Any:
    """The last layer of all B x L tokens, [B x L, H], when each text sees itself alone."""
    tokens = model.mask.tokens(rows.segment_ids, rows.document_ids >= 0, rows.document_ids)
    allowed = (model.mask & masks.same_document)(tokens, tokens)
    x = model.run(rows.token_ids, rows.segment_ids, rows.position_ids, lambda attention, x: attention(x, allowed, rows.position_ids))
    return ops.reshape(x, (-1, x.shape[-1]))


def _log_probs(model: Transformer, rows: Rows, at: Any) -> Any:
    """Log-probabilities over the vocabulary at the positions `at` [P] of the B x L: float32 [P, V]."""
    x = ops.take(_hidden(model, rows), at, axis=0)
    return ops.log_softmax(ops.cast(model.head("mlm", x[None]), "float32"), axis=-1)[0]


def _target_log_probs(model: Transformer, rows: Rows, at: Any, targets: Any) -> Any:
    """Log-probabilities of the tokens `targets` at the positions `at`, both [P]: float32 [P]."""
    log_probs = _log_probs(model, rows, at)
    return ops.take_along_axis(log_probs, targets[:, None], axis=-1)[:, 0]


def _pooled(model: Transformer, pooling: str, rows: Rows, firsts: Any) -> Any:
    """One vector for each of the P texts that there may be, float32 [P, H]; `firsts` [P] tells where they begin."""
    x = _hidden(model, rows)
    if pooling == "pooled":
        return ops.cast(_of_firsts(model, "pooled", x, firsts), "float32")
    x = ops.cast(x, "float32")
    if pooling == "first":
        return ops.take(x, firsts, axis=0)
    count = firsts.shape[0]
    text = ops.reshape(ops.where(rows.document_ids >= 0, rows.document_ids, count), (-1,))  # padding is one text more
    if pooling == "max":
        return ops.segment_max(x, text, count + 1)[:count]
    sizes = ops.segment_sum(ops.ones_like(x[:, :1]), text, count + 1)
    return (ops.segment_sum(x, text, count + 1) / ops.maximum(sizes, 1.0))[:count]


def _outputs(model: Transformer, rows: Rows, firsts: Any) -> dict[str, Any]:
    """The model's outputs by name: of all B x L tokens, or of the P texts that there may be."""
    x = _hidden(model, rows)
    return {
        name: _of_firsts(model, name, x, firsts) if name in ("pooled", "nsp") else model.head(name, x[None])[0]
        for name in model.output_kinds
    }


def _of_firsts(model: Transformer, name: str, x: Any, firsts: Any) -> Any:
    """A head that reads the first token of each text: [P, ...] of x [B x L, H] and where the texts begin, [P]."""
    return model.head(name, ops.take(x, firsts, axis=0)[:, None])
