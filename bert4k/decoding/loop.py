"""The decoding loop: a pure step with a fixed-size key-value cache, joined with a sampler, constraints and a stop.

    begin:    one pass over the sources fills their cache and scores the first token
    advance:  step -> language and rules -> sampler: one more token for every hypothesis, or several, where those proposed proved right

Everything is a function of arrays with fixed shapes: sources [B, S] padded on the right, T target slots common to all
rows. Positions run on from each row's own length, and the mask is evaluated for each new token, so a source in a
ragged batch gets the tokens that it gets alone.

All hypotheses of a row write into one memory of W x T places, each into its own. What a hypothesis has inherited from another
stays where it is: `State.writer` says whose places hold its tokens, and the mask lets it look there. So beams change places
without a copy of the cache.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import keras
from keras import ops

from bert4k import masks
from bert4k.backend import compiled, loops_are_compiled, repeat_while
from bert4k.beside import conditioned
from bert4k.decoding import languages
from bert4k.decoding.languages import Language
from bert4k.decoding.lookup import proposed
from bert4k.decoding.rules import Rules
from bert4k.decoding.samplers import Book, Hypotheses, Sampler, keep, last_tokens, pick
from bert4k.layers import Attention, KeysValues
from bert4k.memory import empty, written_over
from bert4k.model import Transformer
from bert4k.positions import Places


class Sources(NamedTuple):
    """What the sources leave behind: all that a step needs to know of them."""

    tokens: masks.Tokens  # [B, S + T], of the sources and of the target slots; of an encoder-decoder, S is what starts the target
    cache: tuple[KeysValues, ...]  # one for each attention layer, [B, N, S, D]
    memory: Any = ()  # what else the model computes of them (`Transformer.memory`)
    condition: Any = ()  # float32 [B, C], of a model whose norms take one


class State(NamedTuple):
    """What changes from token to token."""

    book: Book
    cache: tuple[KeysValues, ...]  # one for each attention layer, [B, N, W x T, D]
    writer: Any  # int32 [B, W, T]: the hypothesis whose place holds the token at each slot
    at: Any = ()  # int32 [B, W]: the state of each live hypothesis in the request's language


class Request(NamedTuple):
    """One batch to decode."""

    token_ids: Any  # int32 [B, S], 0 is padding
    segment_ids: Any  # int32 [B, S]
    real: Any  # bool [B, S]
    uniform: Any  # float32 [B, W, T], the random numbers of the run
    start: Any  # int32 [P], what stands before a text of its own
    end: Any  # int32 scalar, the token that ends a text
    mask: Any  # int32 scalar, [MASK]
    limit: Any  # int32 scalar, at most T
    language: Language | tuple[()] = ()  # which texts may come; () is any
    condition: Any = ()  # float32 [B, C], of a model whose norms take one


@dataclass(frozen=True)
class Program:
    """Decoding as pure functions.

    segment: the segment id of new tokens. length: the longest text. cloze: a token is told by a [MASK] in its own place, as UniLM is
    fine-tuned (Dong et al. 2019, arXiv:1905.03197, section 2.5), not by the token before it. proposals: how many tokens a step checks that
    were looked up in the source and in what has been written (`lookup`); what is written does not depend on it.
    """

    model: Transformer
    sampler: Sampler
    rules: Rules
    length: int
    segment: int
    cloze: bool = False
    proposals: int = 0

    @property
    def slots(self) -> int:
        """T: the places of the longest text, and of what a step may write behind it and take back."""
        return self.length + max(self.proposals, int(self.cloze))

    def position_ids(self, tokens: masks.Tokens) -> Any:
        """Where the tokens stand, int32 [B, L]. What is written only to be taken back may stand behind the model's last."""
        return ops.clip(tokens.index, 0, self.model.config.max_position_embeddings - 1)

    def prefill(self, request: Request) -> tuple[Any, Sources]:
        """One pass over the sources: log-probabilities [B, V] of the first new token, and the sources' cache."""
        memory = self.model.memory(request.token_ids, request.segment_ids, request.real)
        token_ids, segments, real = self.model.prompt(request.token_ids, request.segment_ids, request.real, request.start)
        rows, length = token_ids.shape
        last = ops.max(ops.where(real, ops.arange(length, dtype="int32")[None], 0), axis=1)
        segments = ops.concatenate([segments, ops.full((rows, self.slots), self.segment, "int32")], axis=1)
        real = ops.concatenate([real, ops.ones((rows, self.slots), "bool")], axis=1)
        tokens, seen = self.model.writing_mask.tokens(segments, real), length
        if self.cloze:  # the first new token is told by a [MASK] behind the sources, which none of them sees
            token_ids = ops.concatenate([token_ids, ops.broadcast_to(request.mask, (rows, 1))], axis=1)
            seen, last = length + 1, ops.full_like(last, length)
        looking = tokens.rows(0, seen)
        allowed, position_ids = self.model.writing_mask(looking, looking), self.position_ids(looking)
        cache: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            memory = attention.keys_values(x, position_ids)
            cache.append(KeysValues(*(part[:, :, :length] for part in memory)))
            return attention.attend(x, memory, allowed, places=Places(position_ids, position_ids))

        with conditioned(request.condition):
            x = self.model.write(token_ids, segments[:, :seen], position_ids, attend, memory)
            x = ops.take_along_axis(x, last[:, None, None], axis=1)  # [B, 1, H]
            return self.log_probs(x)[:, 0], Sources(tokens, tuple(cache), memory, request.condition)

    def step(
        self, sources: Sources, cache: tuple[KeysValues, ...], token: Any, slot: Any, writer: Any
    ) -> tuple[Any, tuple[KeysValues, ...]]:
        """Log-probabilities [B, W, Q, V] of what comes after each of the tokens int32 [B, W, Q], which stand at the slots [B, W, Q]; of
        what stands there, when they are [MASK]s. And the new cache."""
        rows, width, count = token.shape
        length, slots = sources.cache[0].keys.shape[2], writer.shape[2]
        flat = (rows, width * count)
        slot = ops.reshape(slot, flat)
        looking = sources.tokens.at(length + slot)
        allowed = self.model.writing_mask(looking, sources.tokens)  # [B, 1, W x Q, S + T]
        places = Places(self.position_ids(looking), self.position_ids(sources.tokens))
        if width > 1:
            hypothesis = ops.arange(width, dtype="int32")
            own = ops.equal(writer[:, :, None, None], hypothesis[:, None])  # [B, W, 1, W, T]
            among = ops.logical_and(ops.reshape(allowed[..., length:], (rows, width, count, 1, slots)), own)
            allowed = ops.concatenate([allowed[..., :length], ops.reshape(among, (rows, 1, width * count, width * slots))], axis=-1)
            slot = slot + ops.repeat(hypothesis * slots, count)
            places = places._replace(keys=ops.concatenate([places.keys[:, :length]] + [places.keys[:, length:]] * width, axis=1))
        new: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            layer = len(new)
            x, target = attention.step(x, sources.cache[layer], cache[layer], slot, allowed, places)
            new.append(target)
            return x

        segments = ops.full(flat, self.segment, "int32")
        with conditioned(sources.condition):
            x = self.model.write(ops.reshape(token, flat), segments, places.queries, attend, sources.memory)
            if self.cloze:  # only the [MASK]s are asked
                x, count = x[:, count - 1 :: count], 1
            log_probs = self.log_probs(x)
        return ops.reshape(log_probs, (rows, width, count, log_probs.shape[-1])), tuple(new)

    def log_probs(self, x: Any) -> Any:
        """Log-probabilities over the vocabulary, float32 [B, L, V], from the last layer's x [B, L, H]."""
        return ops.log_softmax(ops.cast(self.model.head(self.model.vocabulary_output, x), "float32"), axis=-1)

    def begin(self, request: Request) -> tuple[Sources, State]:
        """The state after the first token."""
        log_probs, sources = self.prefill(request)
        rows, width = request.token_ids.shape[0], self.sampler.width
        log_probs = ops.repeat(log_probs[:, None], width, axis=1)
        cache = tuple(
            KeysValues(*(empty((rows, x.shape[1], width * self.slots, x.shape[3]), x.dtype) for x in layer)) for layer in sources.cache
        )
        writer = ops.broadcast_to(ops.arange(width, dtype="int32")[:, None], (rows, width, self.slots))
        at = languages.begin(request.language, width) if request.language else ()
        state = State(self.sampler.start(rows, self.length), cache, writer, at)
        return sources, self.choose(request, state, log_probs)

    def choose(self, request: Request, state: State, log_probs: Any) -> State:
        """The state with one more token, of these log-probabilities [B, W, V], in every hypothesis that is not finished."""
        language, at, allowed = request.language, state.at, None
        live = state.book.live
        if language:
            allowed = languages.allowed(language, at, request.limit - live.length, request.end, log_probs.shape[-1])
        log_probs = self.rules(log_probs, live.tokens, live.length, request.end, allowed)
        uniform = ops.take_along_axis(request.uniform, ops.minimum(live.length, self.length - 1)[..., None], axis=2)[..., 0]
        book, parent = self.sampler.choose(state.book, log_probs, request.end, request.limit, uniform)
        writer = state.writer
        if parent is not None:
            writer, at = pick((writer, at), parent)
            hypothesis, slot = ops.arange(writer.shape[1], dtype="int32"), ops.arange(self.slots, dtype="int32")
            writer = ops.where(slot < book.live.length[..., None] - 1, writer, hypothesis[:, None])
        if language:
            at = languages.advance(language, at, last_tokens(book.live))
        return State(book, state.cache, writer, at)

    def advance(self, request: Request, sources: Sources, state: State) -> State:
        """At least one more token for every hypothesis that is not finished."""
        live = state.book.live
        token, slot = last_tokens(live)[..., None], ops.maximum(live.length - 1, 0)[..., None]
        if self.cloze:
            token = ops.concatenate([token, ops.broadcast_to(request.mask, token.shape)], axis=2)
        proposals = proposed(request.token_ids, request.real, live.tokens, live.length, self.proposals) if self.proposals else None
        if proposals is not None:
            token = ops.concatenate([token, proposals], axis=2)
        log_probs, cache = self.step(sources, state.cache, token, slot + ops.arange(token.shape[2], dtype="int32"), state.writer)
        state = self.choose(request, state._replace(cache=cache), log_probs[:, :, 0])
        if proposals is None:
            return state
        right = ops.ones_like(live.ended)
        for place in range(self.proposals):  # as long as what was chosen is what was proposed, the next distribution is right, too
            right = ops.logical_and(right, ops.equal(last_tokens(state.book.live), proposals[:, :, place]))
            further = self.choose(request, state, log_probs[:, :, place + 1])
            book, at = keep(right, (further.book, further.at), (state.book, state.at))
            state = state._replace(book=book, at=at)
        return state

    def unfinished(self, request: Request, state: State) -> Any:
        """Whether another token can change the result: a bool scalar."""
        return ops.logical_not(ops.all(self.sampler.settled(state.book, request.limit)))

    def whole(self, request: Request) -> Hypotheses:
        """From the sources to the finished hypotheses, with the loop inside the graph."""
        with written_over():
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


def decoder(program: Program) -> Decoder:
    """The program compiled, once for its model."""
    key = tuple(getattr(program, field.name) for field in fields(program) if field.name != "model")
    if key not in program.model.programs:
        program.model.programs[key] = Decoder(program)
    return program.model.programs[key]
