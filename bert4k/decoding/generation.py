"""`generate` and `stream`: texts in, texts out, under any mask that does not look ahead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k import masks
from bert4k.decoding.automata import Table
from bert4k.decoding.batches import bucket, by_length, length_bucket, padded
from bert4k.decoding.constraints import Constraint, tables
from bert4k.decoding.languages import language
from bert4k.decoding.loop import Decoder, Program, Request, decoder
from bert4k.decoding.rules import Rules
from bert4k.decoding.samplers import LOST, Beam, Greedy, Hypotheses, Sampler
from bert4k.errors import ConfigError, DataError
from bert4k.model import Transformer, check_condition
from bert4k.progress import track
from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Generation:
    """One generated text.

    `score` is the sum of `log_probs` (natural logarithm), under a beam with a length penalty divided by length ** penalty.
    `log_probs` has one number a token, and one more for the end token when the text `ended` before the limit.
    """

    text: str
    token_ids: tuple[int, ...]
    score: float
    log_probs: tuple[float, ...]
    ended: bool
    alternatives: tuple[Generation, ...] = ()

    def __str__(self) -> str:
        return self.text


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    sampler: Sampler | None = None,
    *,
    constraints: Constraint | Sequence[Constraint] | None = None,
    max_tokens: int = 64,
    min_tokens: int = 0,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
    cloze: bool = False,
    prompt_lookup: int = 0,
    condition: NDArray[np.float32] | None = None,
    batch_size: int = 32,
) -> list[Generation]:
    """What the model writes after each source, one Generation a source, in their order.

    Under a mask with a `source` part (seq2seq), the source is `[CLS] source [SEP]`, and the new tokens are its target, with
    segment 1. Under others (lm), the text `[CLS] source` is continued in its own segment. An encoder-decoder reads `[CLS] source [SEP]`
    and its decoder writes behind its start tokens. A text ends with [SEP] (or the decoder's own end) or after `max_tokens`; special tokens
    are never written. Vocabularies other than BERT's have tokens of their own in these places, or none.

    sampler: `bert4k.greedy()` (the default), `bert4k.sample(...)` or `bert4k.beam(...)`. constraints: which texts may come, made with
    `bert4k.constraints`, one for all sources or a list with one for each. `min_tokens`, `no_repeat_ngram` and
    `repetition_penalty`: see `decoding.rules`. Sources are decoded in batches by length; a source gets the same
    text alone and in a batch.

    cloze: the checkpoint was fine-tuned to tell a token by a [MASK] in its own place (the objective `seq2seq_cloze`, as UniLM's own code
    has it), not by the token before it. prompt_lookup: how many tokens to propose at a step from what followed the same words in the
    source (`decoding.lookup`); the texts stay the same, and come sooner where they copy much. Not for beams, nor with cloze. condition:
    what the norms of a model with a `condition_size` C depend on, float [sources, C].

    Raises `ConfigError` when the mask looks ahead or the model has no "mlm" output ("logits", if an encoder-decoder), and
    `DataError` for a source that does not fit the model's positions, or for which the constraints admit no text.
    """
    rows = _encode(model, tokenizer, sources, max_tokens)
    check_condition(model.config, condition, len(rows))
    sampler = sampler or Greedy()
    rules = _rules(model, tokenizer, min_tokens, no_repeat_ngram, repetition_penalty)
    program = _program(model, sampler, rules, max_tokens, cloze, prompt_lookup)
    sets = [] if constraints is None else tables(constraints, tokenizer, sources, max_tokens)
    random = random_numbers(rows, sampler, program.length)
    batches = list(by_length([len(row) for row in rows], batch_size))
    results: list[Generation | None] = [None] * len(rows)
    for batch in track(batches, len(batches), "generating"):
        own = [sets[index] for index in batch] if sets else []
        request = _request(model, tokenizer, [rows[index] for index in batch], own, max_tokens, random[batch], cloze)
        if condition is not None:
            request = request._replace(condition=_rows(np.asarray(condition, np.float32)[batch], len(request.token_ids)))
        hypotheses = Hypotheses(*(ops.convert_to_numpy(field) for field in decoder(program)(request)))
        for place, index in enumerate(batch):
            best, *others = _generations(tokenizer, hypotheses, place)
            results[index] = Generation(best.text, best.token_ids, best.score, best.log_probs, best.ended, tuple(others))
    return [result for result in results if result is not None]


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    source: str,
    sampler: Sampler | None = None,
    *,
    constraints: Constraint | None = None,
    max_tokens: int = 64,
    min_tokens: int = 0,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
    cloze: bool = False,
    prompt_lookup: int = 0,
    condition: NDArray[np.float32] | None = None,
) -> Iterator[str]:
    """The text that `generate` gives for one source, in pieces, each as soon as its token is chosen; with prompt_lookup several at once.
    condition: float [1, C].

    Stop iterating to cancel. A beam decides only at its end and cannot stream (`ConfigError`)."""
    sampler = sampler or Greedy()
    if sampler.width != 1 or isinstance(sampler, Beam):
        raise ConfigError("stream() follows one text as it is written; a beam, or several samples, are known at their end. Use generate().")
    rows = _encode(model, tokenizer, [source], max_tokens)
    check_condition(model.config, condition, 1)
    rules = _rules(model, tokenizer, min_tokens, no_repeat_ngram, repetition_penalty)
    program = _program(model, sampler, rules, max_tokens, cloze, prompt_lookup)
    sets = [] if constraints is None else tables(constraints, tokenizer, [source], max_tokens)
    random = random_numbers(rows, sampler, program.length)
    request = _request(model, tokenizer, rows, sets, max_tokens, random, cloze)
    if condition is not None:
        request = request._replace(condition=_rows(np.asarray(condition, np.float32), len(request.token_ids)))
    return _pieces(tokenizer, decoder(program), request)


def _pieces(tokenizer: Tokenizer, run: Decoder, request: Request) -> Iterator[str]:
    told = ""
    for state in run.steps(request):
        live = Hypotheses(*(ops.convert_to_numpy(field) for field in state.book.live))
        text = _generations(tokenizer, live, 0)[0].text
        # Of a character in several tokens, as bytes make it, nothing is told before the last.
        if text.startswith(told) and len(text) > len(told) and not text.endswith("\ufffd"):
            yield text[len(told) :]
            told = text


def _encode(model: Transformer, tokenizer: Tokenizer, sources: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each source, checked against the model."""
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise DataError(f"generate() takes a list of sources, got {type(sources).__name__}. Put a single text in a list.")
    if not sources:
        raise DataError("There are no sources: the list is empty. Give at least one text.")
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens!r}: expected a whole number, at least 1.")
    check_generates(model)
    tokenizer.check_rows(model.config.vocab_size)
    limit = model.config.max_position_embeddings
    apart = model.config.num_decoder_layers > 0  # sources and texts have positions of their own
    if apart and (longest := len(start_tokens(model, tokenizer)) + max_tokens) > limit:
        raise DataError(f"max_tokens={max_tokens} makes texts of {longest} tokens, and the decoder has {limit} positions. Ask for fewer.")
    rows = []
    for place, source in enumerate(sources):
        row = tokenizer.encode(source).ids.tolist()
        if not model.answers:
            row = row[: len(row) - len(tokenizer.frame.after)]
        row = row or [tokenizer.cls_id]  # a vocabulary that puts nothing before a text
        if len(row) + (0 if apart else max_tokens) > limit:
            total = "" if apart else f" with max_tokens={max_tokens} that makes {len(row) + max_tokens}, and"
            raise DataError(
                f"Source {place} has {len(row)} tokens;{total} the model has {limit} positions. Shorten the source or ask for fewer tokens."
            )
        rows.append(row)
    return rows


def start_tokens(model: Transformer, tokenizer: Tokenizer) -> tuple[int, ...]:
    """What a decoder is given before a text: what its config says, else [CLS]."""
    return model.config.decoder_start or (tokenizer.cls_id,)


def end_token(model: Transformer, tokenizer: Tokenizer) -> int:
    """What ends a text: what the config says of the decoder, else [SEP]."""
    return tokenizer.sep_id if model.config.decoder_end is None else model.config.decoder_end


def check_generates(model: Transformer) -> None:
    """Raise `ConfigError` unless the model can write text from left to right."""
    if model.vocabulary_output not in model.parts:
        raise ConfigError(
            f"Generating needs the model's output layer over the vocabulary. Load it with outputs=({model.vocabulary_output!r},)."
        )
    if model.mask.uses("permuted"):
        raise ConfigError(
            f"Under the mask {masks.title(model.mask)} tokens have no left-to-right order to be written in. Use model.with_mask('lm')."
        )
    if _looks_ahead(model.writing_mask, model.config.max_position_embeddings):
        raise ConfigError(
            f"Under the mask {masks.title(model.mask)} tokens look at those after them, so the text cannot be written one by one."
            " Use model.with_mask('lm') to continue texts, or model.with_mask('seq2seq') to answer them."
        )


@lru_cache
def _looks_ahead(mask: masks.Mask, positions: int) -> bool:
    """Whether a new token, or one of the source, may look at new tokens after it. Asked of texts as long as any may be: a mask may
    look no further than a window, or not within one. Remembered, since it is asked before every text."""
    segments = np.zeros((1, max(positions, 4)), "int32")
    segments[:, 3:] = int(mask.uses("source"))
    tokens = mask.tokens(segments, np.ones_like(segments, bool))
    return bool(np.triu(ops.convert_to_numpy(mask(tokens, tokens))[0, 0], 1)[:, 3:].any())


def _rules(model: Transformer, tokenizer: Tokenizer, min_tokens: int, no_repeat_ngram: int, repetition_penalty: float) -> Rules:
    never = tuple(sorted(set(tokenizer.special_ids) - {end_token(model, tokenizer)}))
    return Rules(never, min_tokens, no_repeat_ngram, repetition_penalty)


def random_numbers(rows: list[list[int]], sampler: Sampler, slots: int) -> np.ndarray:
    """Uniform numbers float32 [rows, W, slots]. They depend on the seed, on the source, and on how often the same source came
    before: not on the batch, and not on the backend."""
    if not sampler.draws:
        return np.zeros((len(rows), sampler.width, slots), np.float32)
    seed = getattr(sampler, "seed", None)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**63))
    seen: dict[int, int] = Counter()
    drawn = np.empty((len(rows), sampler.width, slots))
    for index, row in enumerate(rows):
        key = crc32(np.asarray(row, np.int32).tobytes())
        for sample in range(sampler.width):
            drawn[index, sample] = np.random.default_rng([seed, key, seen[key], sample]).random(slots)
        seen[key] += 1
    return np.minimum(drawn, 1 - 1e-6).astype(np.float32)  # a 1.0 would point behind the last token


def _program(model: Transformer, sampler: Sampler, rules: Rules, max_tokens: int, cloze: bool, prompt_lookup: int) -> Program:
    """What is to be done, checked. The length is rounded up to its bucket."""
    if not isinstance(prompt_lookup, int) or isinstance(prompt_lookup, bool) or prompt_lookup < 0:
        raise ConfigError(f"prompt_lookup={prompt_lookup!r}: expected how many tokens to propose at a step, 0 for none.")
    if prompt_lookup and (cloze or isinstance(sampler, Beam)):
        what = (
            "a beam follows several texts, which a proposal would have to fit all"
            if isinstance(sampler, Beam)
            else ("with cloze=True each token is told by a [MASK] of its own")
        )
        raise ConfigError(
            f"prompt_lookup={prompt_lookup}: {what}. Use bert4k.greedy() or bert4k.sample() without cloze, or prompt_lookup=0."
        )
    if cloze and model.config.num_decoder_layers:
        raise ConfigError(
            "cloze=True is for BERT fine-tuned as UniLM is; the decoder of an encoder-decoder tells each token by the one before."
        )
    segment = int(model.mask.uses("source"))
    return Program(model, sampler, rules, bucket(max_tokens), segment, bool(cloze), prompt_lookup)


def _request(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: list[list[int]],
    sets: list[Table],
    max_tokens: int,
    random: np.ndarray,
    cloze: bool = False,
) -> Request:
    """The batch of these rows. Their number and lengths are rounded up to their buckets.

    sets: the texts that each row may have; empty when they may have any."""
    count, length = bucket(len(rows)), length_bucket(max(map(len, rows)))
    lengths = padded([[len(row)] for row in rows], 0, 1, count)
    return Request(
        token_ids=padded(rows, tokenizer.pad_id, length, count),
        segment_ids=np.zeros((count, length), np.int32),
        real=np.arange(length)[None] < lengths,
        uniform=_rows(random, count),
        start=np.asarray(start_tokens(model, tokenizer), np.int32),
        end=np.int32(end_token(model, tokenizer)),
        mask=np.int32(tokenizer.mask_id if cloze else 0),  # a vocabulary may have none
        limit=np.int32(max_tokens),
        language=language([*sets, *sets[-1:] * (count - len(rows))]) if sets else (),
    )


def _rows(array: np.ndarray, count: int) -> np.ndarray:
    """`array` with its last row repeated, so that it has `count`."""
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)])


def _generations(tokenizer: Tokenizer, hypotheses: Any, row: int) -> list[Generation]:
    """The hypotheses of one row as texts, without those that could not come: a beam may be wider than what is possible."""
    texts = []
    for tokens, log_probs, score, length, ended in zip(*(field[row] for field in hypotheses), strict=True):
        ids = tuple(int(token) for token in tokens[: length - int(ended)])
        if score > LOST:
            each = tuple(float(value) for value in log_probs[:length])
            texts.append(Generation(tokenizer.decode(ids), ids, float(score), each, bool(ended)))
    return texts
