"""The loop that fills blanks: which of them are asked at a step, what the model says, and which of the answers are written.

    begin     what does not change while a row is filled, and the state with all blanks open
    advance   one step for every row: ask -> choose a token for each blank asked -> write some, or take some back

A `Plan` says which blanks are asked and written. A `Program` says what stands in a blank that is open:

    InPlace   a [MASK], which everybody sees (mask "encoder"): each step is one pass over the rows
    Unseen    nothing: what was revealed earlier does not see it, and never changes again (mask "permuted"). Its keys and values are
              kept, so a step costs the newest token and a [MASK] query for each blank asked, which nobody sees

Everything is a function of arrays with fixed shapes: B rows, L tokens, P blanks of one token, Q of them asked (1 or P), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from bert4k import masks
from bert4k.backend import compiled, loops_are_compiled, repeat_while
from bert4k.decoding.samplers import IMPOSSIBLE, Sampler
from bert4k.layers import Attention, KeysValues
from bert4k.model import Transformer
from bert4k.positions import Places

OPEN = -1  # the step of a blank in which nothing stands
_FAR = 2**30


class Request(NamedTuple):
    """One batch of rows with blanks."""

    token_ids: Any  # int32 [B, L], a [MASK] in every blank
    segment_ids: Any  # int32 [B, L]
    real: Any  # bool [B, L], False for padding
    blank: Any  # int32 [B, L]: the number of the blank that stands here, -1 where none does
    at: Any  # int32 [B, P]: where each blank stands
    exists: Any  # bool [B, P]: rows have different numbers of blanks
    turn: Any  # int32 [B, P]: when each blank is to be filled, if that is given
    uniform: Any  # float32 [B, P]: the random number of each blank
    writable: Any  # bool [V]
    limit: Any  # int32 scalar: the number of steps


class State(NamedTuple):
    """What changes from step to step."""

    step: Any  # int32 scalar
    tokens: Any  # int32 [B, P]
    log_probs: Any  # float32 [B, P], of each token when it was written
    steps: Any  # int32 [B, P]: the step at which each token was written, or OPEN
    slots: tuple[KeysValues, ...]  # Unseen: of the filled blanks, for each attention layer, [B, N, P, D]

    def open(self, request: Request) -> Any:
        """The blanks that are to be filled, bool [B, P]."""
        return ops.logical_and(request.exists, ops.less(self.steps, 0))


# Plans. ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The most confident blank of each row at a step, the others given what is filled."""

    def asked(self, request: Request, state: State) -> Any:
        """The numbers of the blanks that the model is asked for, int32 [B, Q]."""
        return ops.broadcast_to(ops.arange(request.at.shape[1], dtype="int32")[None], request.at.shape)

    def written(self, request: Request, state: State, asked: Any, confidence: Any) -> Any:
        """The blanks whose answer is written, bool [B, P]; confidence: the largest log-probability for each blank asked, [B, Q]."""
        open_ = state.open(request)
        best = ops.argmax(ops.where(open_, confidence, 2 * IMPOSSIBLE), axis=1)
        return ops.logical_and(open_, _one(best, request.at.shape[1]))

    def taken_back(self, request: Request, state: State) -> State:
        """The state before the next step, some blanks open again."""
        return state


@dataclass(frozen=True)
class InTurn(Plan):
    """One blank of each row at a step, in the order of `Request.turn`; no other is asked."""

    def asked(self, request: Request, state: State) -> Any:
        first = ops.argmin(ops.where(state.open(request), request.turn, _FAR), axis=1)
        return ops.cast(first, "int32")[:, None]

    def written(self, request: Request, state: State, asked: Any, confidence: Any) -> Any:
        return ops.logical_and(state.open(request), _one(asked[:, 0], request.at.shape[1]))


@dataclass(frozen=True)
class MaskPredict(Plan):
    """All open blanks at once; then those with the least probable tokens are opened again (Ghazvininejad et al. 2019, arXiv:1904.09324).

    After t of T steps, T - t of T parts of the tokens, rounded down, but at least one."""

    def written(self, request: Request, state: State, asked: Any, confidence: Any) -> Any:
        return state.open(request)

    def taken_back(self, request: Request, state: State) -> State:
        tokens = ops.sum(ops.cast(request.exists, "int32"), axis=1, keepdims=True)
        again = ops.maximum(tokens * (request.limit - state.step) // request.limit, 1)
        again = ops.where(ops.less(state.step, request.limit), again, 0)
        values = ops.where(request.exists, state.log_probs, -IMPOSSIBLE)  # a blank that is none is the last to go
        number = ops.arange(values.shape[1], dtype="int32")
        less = ops.less(values[:, None, :], values[:, :, None])
        same = ops.logical_and(ops.equal(values[:, None, :], values[:, :, None]), ops.less(number[None, None, :], number[None, :, None]))
        rank = ops.sum(ops.cast(ops.logical_or(less, same), "int32"), axis=2)  # how many are less probable
        return state._replace(steps=ops.where(ops.less(rank, again), OPEN, state.steps))


def _one(index: Any, count: int) -> Any:
    """bool [B, count], True at `index` [B]."""
    return ops.equal(ops.arange(count, dtype="int32")[None], ops.cast(index, "int32")[:, None])


# Programs. ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """Filling as pure functions."""

    model: Transformer
    plan: Plan
    sampler: Sampler

    def context(self, request: Request) -> Any:
        """What is computed once for a batch."""
        raise NotImplementedError

    def slots(self, request: Request, context: Any) -> tuple[KeysValues, ...]:
        """`State.slots` with nothing in it."""
        return ()

    def look(self, request: Request, context: Any, state: State, asked: Any) -> tuple[Any, tuple[KeysValues, ...]]:
        """The last layer at the blanks asked, [B, Q, H], and the new slots."""
        raise NotImplementedError

    def begin(self, request: Request) -> tuple[Any, State]:
        """What is computed once, and the state with every blank open."""
        context = self.context(request)
        tokens = ops.zeros_like(request.at)
        log_probs = ops.zeros(request.at.shape, "float32")
        return context, State(ops.zeros((), "int32"), tokens, log_probs, ops.full_like(tokens, OPEN), self.slots(request, context))

    def advance(self, request: Request, context: Any, state: State) -> State:
        """The state after one more step. A row that has no open blank stays as it is."""
        asked = self.plan.asked(request, state)
        x, slots = self.look(request, context, state, asked)
        log_probs = ops.log_softmax(ops.cast(self.model.head("mlm", x), "float32"), axis=-1)  # [B, Q, V]
        log_probs = ops.where(request.writable, log_probs, IMPOSSIBLE)
        token = ops.cast(self.sampler.token(log_probs, ops.take_along_axis(request.uniform, asked, axis=1)), "int32")
        chosen = ops.take_along_axis(log_probs, token[..., None], axis=-1)[..., 0]
        written = self.plan.written(request, state, asked, ops.max(log_probs, axis=-1))
        state = State(
            state.step + 1,
            ops.where(written, token, state.tokens),  # of one blank asked, the answer broadcasts to where it is written
            ops.where(written, chosen, state.log_probs),
            ops.where(written, state.step, state.steps),
            slots,
        )
        return self.plan.taken_back(request, state)

    def whole(self, request: Request) -> State:
        """All steps, with the loop inside the graph."""
        context, state = self.begin(request)
        return repeat_while(lambda state: ops.less(state.step, request.limit), lambda state: self.advance(request, context, state), state)


@dataclass(frozen=True)
class InPlace(Program):
    """An open blank is a [MASK] among the other tokens."""

    def context(self, request: Request) -> Any:
        tokens = self.model.mask.tokens(request.segment_ids, request.real)
        return ops.maximum(tokens.index, 0), self.model.mask(tokens, tokens)

    def look(self, request: Request, context: Any, state: State, asked: Any) -> tuple[Any, tuple[KeysValues, ...]]:
        position_ids, allowed = context
        number = ops.maximum(request.blank, 0)
        filled = ops.logical_and(request.blank >= 0, ops.take_along_axis(state.steps, number, axis=1) >= 0)
        token_ids = ops.where(filled, ops.take_along_axis(state.tokens, number, axis=1), request.token_ids)
        x = self.model.run(token_ids, request.segment_ids, position_ids, lambda attention, x: attention(x, allowed, position_ids))
        return ops.take_along_axis(x, ops.take_along_axis(request.at, asked, axis=1)[..., None], axis=1), ()


@dataclass(frozen=True)
class Unseen(Program):
    """An open blank is seen by nobody, and asked through a query, as a permuted language model is trained (`pretraining.objectives`).

    The given tokens are revealed at the time 0, and the token written at step s at the time s + 1; the queries of step s see all that
    came before."""

    def context(self, request: Request) -> Any:
        given = ops.logical_and(request.real, ops.less(request.blank, 0))
        tokens = self.model.mask.tokens(request.segment_ids, given, order=ops.zeros_like(request.token_ids))
        allowed = self.model.mask(tokens, tokens)
        position_ids = _positions(request)
        memory: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            memory.append(attention.keys_values(x, position_ids))
            return attention.attend(x, memory[-1], allowed, places=Places(position_ids, position_ids))

        self.model.run(request.token_ids, request.segment_ids, position_ids, attend)
        return given, tuple(memory)

    def slots(self, request: Request, context: Any) -> tuple[KeysValues, ...]:
        def empty(x: Any) -> Any:
            return ops.zeros((x.shape[0], x.shape[1], request.at.shape[1], x.shape[3]), x.dtype)

        return tuple(KeysValues(*map(empty, layer)) for layer in context[1])

    def look(self, request: Request, context: Any, state: State, asked: Any) -> tuple[Any, tuple[KeysValues, ...]]:
        given, memory = context
        # The token written last joins the others. Before the first one this is blank 0, as yet open, which nobody sees.
        newest = ops.cast(ops.argmax(state.steps, axis=1), "int32")[:, None]
        here = _one(newest[:, 0], request.at.shape[1])[:, None, :, None]
        who = ops.concatenate([newest, asked], axis=1)  # [B, 1 + Q]
        position_ids = ops.take_along_axis(request.at, who, axis=1)
        segment_ids = ops.take_along_axis(request.segment_ids, position_ids, axis=1)
        queries = ops.take_along_axis(request.token_ids, position_ids[:, 1:], axis=1)
        token_ids = ops.concatenate([ops.take_along_axis(state.tokens, newest, axis=1), queries], axis=1)
        times = [ops.take_along_axis(state.steps, newest, axis=1) + 1, ops.broadcast_to(state.step, asked.shape)]
        looking = self.model.mask.tokens(segment_ids, ops.ones_like(who, "bool"), order=ops.concatenate(times, axis=1))
        allowed = self.model.mask(looking, self._keys(request, given, state))
        places = Places(position_ids, ops.concatenate([_positions(request), request.at], axis=1))
        slots: list[KeysValues] = []

        def attend(attention: Attention, x: Any) -> Any:
            layer = len(slots)
            new = attention.keys_values(x[:, :1], position_ids[:, :1])
            slots.append(KeysValues(*(ops.where(here, *pair) for pair in zip(new, state.slots[layer], strict=True))))
            both = KeysValues(*(ops.concatenate(pair, axis=2) for pair in zip(memory[layer], slots[-1], strict=True)))
            return attention.attend(x, both, allowed, places=places)

        return self.model.run(token_ids, segment_ids, position_ids, attend)[:, 1:], tuple(slots)

    def _keys(self, request: Request, given: Any, state: State) -> masks.Tokens:
        """The given tokens and then the filled blanks: [B, L + P]."""
        segment_ids = ops.concatenate([request.segment_ids, ops.take_along_axis(request.segment_ids, request.at, axis=1)], axis=1)
        real = ops.concatenate([given, state.steps >= 0], axis=1)
        order = ops.concatenate([ops.zeros_like(request.token_ids), state.steps + 1], axis=1)
        return self.model.mask.tokens(segment_ids, real, order=order)


def _positions(request: Request) -> Any:
    """The position ids of all tokens, int32 [B, L]: blanks have theirs, too."""
    return ops.maximum(ops.cumsum(ops.cast(request.real, "int32"), axis=1) - 1, 0)


class Filler:
    """A compiled Program."""

    def __init__(self, program: Program) -> None:
        self.begin = compiled(program.model, program.begin)
        self.advance = compiled(program.model, program.advance)
        self.whole = compiled(program.model, program.whole)

    def __call__(self, request: Request) -> State:
        """The state in which all blanks are filled."""
        if loops_are_compiled():
            return self.whole(request)
        steps = int(request.limit)
        request = keras.tree.map_structure(ops.convert_to_tensor, request)
        context, state = self.begin(request)
        for _ in range(steps):
            state = self.advance(request, context, state)
        return state


def filler(program: Program) -> Filler:
    """The program compiled, once for its model."""
    key = (type(program), program.plan, program.sampler)
    if key not in program.model.programs:
        program.model.programs[key] = Filler(program)
    return program.model.programs[key]
