"""The decoding loop: a pure step with a fixed-size key-value cache, joined with a sampler, constraints and a stop.

    begin:    one pass over the sources fills their cache and scores the first token
    advance:  one token for every hypothesis: step -> language and rules -> sampler -> reorder the cache by beam parents

Everything is a function of arrays with fixed shapes: sources [B, S] padded on the right, T target slots common to all
rows. Positions run on from each row's own length, and the mask is evaluated for one row at a time, so a source in a
ragged batch gets the tokens that it gets alone.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from bert4k import masks
from bert4k.backend import compiled, loops_are_compiled, repeat_while
from bert4k.decoding import languages
from bert4k.decoding.languages import Language
from bert4k.decoding.rules import Rules
from bert4k.decoding.samplers import Book, Hypotheses, Sampler, pick
from bert4k.layers import Attention, KeysValues
from bert4k.model import Transformer
from bert4k.positions import Places


class Sources(NamedTuple):
    """What the sources leave behind: all that a step needs to know of them."""

    tokens: masks.Tokens  # [B, S + T], of the sources and of the target slots
    cache: tuple[KeysValues, ...]  # one for each attention layer, [B, N, S, D]


class State(NamedTuple):
    """What changes from token to token."""

    slot: Any  # int32 scalar: where the newest token stands
    book: Book
    cache: tuple[KeysValues, ...]  # one for each attention layer, [B, W, N, T, D]
    at: Any = ()  # int32 [B, W]: the state of each live hypothesis in the request's language


class Request(NamedTuple):
    """One batch to decode."""

    token_ids: Any  # int32 [B, S], 0 is padding
    segment_ids: Any  # int32 [B, S]
    real: Any  # bool [B, S]
    uniform: Any  # float32 [B, W, T], the random numbers of the run
    end: Any  # int32 scalar, the token that ends a text
    limit: Any  # int32 scalar, at most T
    language: Language | tuple[()] = ()  # which texts may come; () is any


@dataclass(frozen=True)
class Program:
    """Decoding as three pure functions. segment: the segment id of new tokens. slots: T."""

    model: Transformer
    sampler: Sampler
    rules: Rules
    slots: int
    segment: int

    def prefill(self, request: Request) -> tuple[Any, Sources]:
        """One pass over the sources: log-probabilities [B, V] of the first new token, and the sources' cache."""
        rows, length = request.token_ids.shape
        segments = ops.concatenate([request.segment_ids, ops.full((rows, self.slots), self.segment, "int32")], axis=1)
        real = ops.concatenate([request.real, ops.ones((rows, self.slots), "bool")], axis=1)
        tokens = self.model.mask.tokens(segments, real)
        sources = tokens.rows(0, length)
        allowed = self.model.mask(sources, sources)
        position_ids = ops.maximum(sources.index, 0)
        cache: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            cache.append(attention.keys_values(x, position_ids))
            return attention.attend(x, cache[-1], allowed, places=Places(position_ids, position_ids))

        x = self.model.run(request.token_ids, request.segment_ids, position_ids, attend)
        last = ops.max(ops.where(request.real, ops.arange(length, dtype="int32")[None], 0), axis=1)
        x = ops.take_along_axis(x, last[:, None, None], axis=1)  # [B, 1, H]
        return self.log_probs(x)[:, 0], Sources(tokens, tuple(cache))

    def step(self, sources: Sources, cache: tuple[KeysValues, ...], token: Any, slot: Any) -> tuple[Any, tuple[KeysValues, ...]]:
        """Log-probabilities [B, W, V] of the token after `token`, int32 [B, W], which stands at `slot`; the new cache."""
        length = sources.tokens.index.shape[1] - self.slots
        row = sources.tokens.rows(length + slot, 1)
        allowed = self.model.mask(row, sources.tokens)
        position = ops.broadcast_to(row.index, token.shape)
        places = Places(position, ops.maximum(sources.tokens.index, 0))
        written: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            place = len(written)
            x, target = attention.step(x, sources.cache[place], cache[place], slot, allowed, places)
            written.append(target)
            return x

        x = self.model.run(token, ops.full_like(token, self.segment), position, attend)
        return self.log_probs(x), tuple(written)

    def log_probs(self, x: Any) -> Any:
        """Log-probabilities over the vocabulary, float32 [B, L, V], from the last layer's x [B, L, H]."""
        return ops.log_softmax(ops.cast(self.model.head("mlm", x), "float32"), axis=-1)

    def begin(self, request: Request) -> tuple[Sources, State]:
        """The state after the first token."""
        log_probs, sources = self.prefill(request)
        rows, width = request.token_ids.shape[0], self.sampler.width
        log_probs = ops.repeat(log_probs[:, None], width, axis=1)
        cache = tuple(
            KeysValues(*(ops.zeros((rows, width, x.shape[1], self.slots, x.shape[3]), x.dtype) for x in layer)) for layer in sources.cache
        )
        at = languages.begin(request.language, width) if request.language else ()
        state = State(ops.zeros((), "int32"), self.sampler.start(rows, self.slots), cache, at)
        return sources, self.choose(request, state, log_probs)

    def choose(self, request: Request, state: State, log_probs: Any) -> State:
        """The state with one more token, for the slot that `state.slot` names."""
        language, at, allowed = request.language, state.at, None
        if language:
            allowed = languages.allowed(language, at, request.limit - state.slot, request.end, log_probs.shape[-1])
        log_probs = self.rules(log_probs, state.book.live.tokens, state.slot, request.end, allowed)
        uniform = ops.take(request.uniform, state.slot, axis=2)
        book, parent = self.sampler.choose(state.book, log_probs, state.slot, request.end, request.limit, uniform)
        cache, at = (state.cache, at) if parent is None else pick((state.cache, at), parent)
        if language:
            at = languages.advance(language, at, self.sampler.last_tokens(book, state.slot))
        return State(state.slot, book, cache, at)

    def advance(self, request: Request, sources: Sources, state: State) -> State:
        """One more token for every hypothesis."""
        token = self.sampler.last_tokens(state.book, state.slot)
        log_probs, cache = self.step(sources, state.cache, token, state.slot)
        return self.choose(request, state._replace(slot=state.slot + 1, cache=cache), log_probs)

    def unfinished(self, request: Request, state: State) -> Any:
        """Whether another token can change the result: a bool scalar."""
        settled = self.sampler.settled(state.book, state.slot, request.limit)
        return ops.logical_and(state.slot + 1 < request.limit, ops.logical_not(ops.all(settled)))

    def whole(self, request: Request) -> Hypotheses:
        """From the sources to the finished hypotheses, with the loop inside the graph."""
        sources, state = self.begin(request)
        state = repeat_while(lambda state: self.unfinished(request, state), lambda state: self.advance(request, sources, state), state)
        return self.sampler.result(state.book)


class Decoder:
    """A compiled Program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.begin = compiled(program.model, program.begin)
        self.advance = compiled(program.model, self._advance)
        self.whole = compiled(program.model, program.whole)

    def _advance(self, request: Request, sources: Sources, state: State) -> tuple[State, Any]:
        state = self.program.advance(request, sources, state)
        return state, self.program.unfinished(request, state)

    def steps(self, request: Request) -> Any:
        """The state after each token, one by one."""
        request = keras.tree.map_structure(ops.convert_to_tensor, request)
        sources, state = self.begin(request)
        yield state
        going = bool(self.program.unfinished(request, state))
        while going:
            state, more = self.advance(request, sources, state)
            going = bool(more)
            yield state

    def __call__(self, request: Request) -> Hypotheses:
        """The hypotheses of every row, best first."""
        if loops_are_compiled():
            return self.whole(request)
        state = deque(self.steps(request), maxlen=1).pop()
        return self.program.sampler.result(state.book)


def decoder(model: Transformer, sampler: Sampler, rules: Rules, slots: int, segment: int) -> Decoder:
    """The Decoder of this description, compiled once for a model."""
    key = (sampler, rules, slots, segment)
    if key not in model.programs:
        model.programs[key] = Decoder(Program(model, sampler, rules, slots, segment))
    return model.programs[key]
