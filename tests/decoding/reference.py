"""Decoding written out the slow way: a model in NumPy without a cache, and greedy, sampling and beam search in plain Python.

Nothing here uses the library's layers, masks or samplers. A hypothesis is computed anew, whole, for every token that is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import reference_masks as rules

# By the expressions that the library prints.
MASKS: dict[str, rules.Rule] = {
    "real": rules.real,
    "causal & real": rules.causal,
    "(causal | source) & real": rules.seq2seq,
    "(causal & window(4) | source) & real": lambda row, i, j: (
        rules.causal(row, i, j) and rules.window(4)(row, i, j) or rules.source(row, i, j)
    ),
}

Next = Callable[[tuple[int, ...]], np.ndarray]  # tokens written so far -> log-probabilities [V] of the next


class Found(NamedTuple):
    """A hypothesis: its tokens, the end token included, their log-probabilities, and what it is ranked by."""

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float


class Bert:
    """The model in float64, from the weights of a Transformer, under the mask of that expression, given the condition of its norms."""

    def __init__(self, model: Any, mask: str = "real", condition: np.ndarray | None = None) -> None:
        self.config, self.rule, self.condition = model.config, MASKS[mask], condition
        self.weights = {name: value.astype("float64") for name, value in model.weight_values().items()}

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}/kernel"] + self.weights.get(f"{name}/bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        if self.config.norm == "unit":
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config.layer_norm_eps)
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + self.config.layer_norm_eps)
        gamma, beta = self.weights[f"{name}/gamma"], self.weights.get(f"{name}/beta", 0.0)
        if self.condition is not None:
            gamma = gamma + self.condition @ self.weights[f"{name}/gamma_kernel"]
            beta = beta + self.condition @ self.weights[f"{name}/beta_kernel"]
        return x * gamma + beta

    def sequence(
        self, ids: Sequence[int], segments: Sequence[int], places: Sequence[int] | None = None, allowed: np.ndarray | None = None
    ) -> np.ndarray:
        """The last layer, [L, H]. places: position ids if they are not 0, 1, 2 ...; allowed: bool [L, L], if not what the mask says."""
        config, weights = self.config, self.weights
        places = list(range(len(ids)) if places is None else places)
        self.scores: list[Any] = [0.0] * config.num_attention_heads  # of all layers so far, where attention is residual
        allowed = rules.matrix(self.rule, [(segment, True) for segment in segments]) if allowed is None else allowed
        table = {kind: weights.get(f"embeddings/{kind}/embeddings") for kind in ("token", "segment", "position", "task")}
        x = table["token"][list(ids)]
        if config.embedding_projection == "tokens":
            x = x @ weights["embeddings/projection/kernel"]
        if table["segment"] is not None:  # a single row is every token's
            x = x + table["segment"][[segment if len(table["segment"]) > 1 else 0 for segment in segments]]
        if table["position"] is not None:
            x = x + table["position"][[place + config.position_offset for place in places]]
        if table["task"] is not None:
            x = x + table["task"][0]
        if config.embedding_norm:
            x = self.norm("embeddings/norm", x)
        if "embeddings/projection/bias" in weights:
            x = self.dense("embeddings/projection", x)
        different = len({name.partition("/")[0] for name in weights if name.startswith("block_")})
        for block in (f"block_{index // (config.num_hidden_layers // different)}" for index in range(config.num_hidden_layers)):
            if config.block == "gated":
                x = self.norm(f"{block}/attention_norm", x + self.gated(f"{block}/attention", x, allowed, places))
                continue
            if config.block == "pre_norm_but_first":
                normed = x if block == "block_0" else self.norm(f"{block}/attention_norm", x)
                x = x + self.looked(block, normed, allowed, places)
                x = x + self.fed(block, self.norm(f"{block}/feed_forward_norm", x))
                continue
            if config.block == "pre_norm":
                x = x + self.looked(block, self.norm(f"{block}/attention_norm", x), allowed, places)
                x = x + self.fed(block, self.norm(f"{block}/feed_forward_norm", x))
                continue
            before = x
            x = x + self.looked(block, x, allowed, places)
            x = fed = self.norm(f"{block}/attention_norm", x) if config.block in ("post_norm", "convolved") else x
            if config.block == "feed_forward_norms":
                fed = self.norm(f"{block}/feed_forward_norm_before", x)
            x = self.norm(f"{block}/feed_forward_norm", x + self.fed(block, fed))
            if f"{block}/convolution/kernel" in weights:
                convolved = ACTIVATIONS[config.conv_act](self.convolved(f"{block}/convolution", before, allowed, places))
                x = self.norm(f"{block}/convolution_norm", x + convolved)
        return self.norm("final_norm", x) if config.block.startswith("pre_norm") else x

    def looked(self, block: str, x: np.ndarray, allowed: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """What attention makes of x [L, H]."""
        config = self.config
        query, key, value = (self.dense(f"{block}/attention/{name}", x) for name in ("query", "key", "value"))
        heads = np.split(np.arange(config.hidden_size), config.num_attention_heads)
        if config.position == "disentangled":
            vectors = self.norm("positions_norm", self.weights["positions/embeddings"])
            far_query, far_key = (self.dense(f"{block}/attention/{name}", vectors) for name in ("query", "key"))
            found = [
                disentangled(query[:, h], key[:, h], value[:, h], far_query[:, h], far_key[:, h], allowed, places, config) for h in heads
            ]
        elif config.position == "rotary_halves":
            near = int(block.removeprefix("block_")) % config.global_attn_every_n_layers
            theta = config.local_rope_theta if near else config.global_rope_theta
            window = abs(np.subtract.outer(places, places)) <= config.local_attention // 2
            seen = allowed & window if near else allowed
            found = [rules.attention(*(turned_halves(x[:, h], places, theta) for x in (query, key)), value[:, h], seen) for h in heads]
        elif config.residual_attention:
            found = [self.residual(number, query[:, h], key[:, h], value[:, h], allowed) for number, h in enumerate(heads)]
        else:
            found = [self.head(query[:, h], key[:, h], value[:, h], allowed, places) for h in heads]
        return self.dense(f"{block}/attention/output", np.concatenate(found, axis=1))

    def fed(self, block: str, x: np.ndarray) -> np.ndarray:
        """What the feed-forward layer makes of x [L, H]."""
        inner = ACTIVATIONS[self.config.hidden_act](self.dense(f"{block}/feed_forward/inner", x))
        if self.config.feed_forward == "gated":
            inner = inner * self.dense(f"{block}/feed_forward/gate", x)
        return self.dense(f"{block}/feed_forward/outer", inner)

    def convolved(self, name: str, x: np.ndarray, allowed: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """DeBERTa-v2's convolution, token by token, over neighbours that may be looked at."""
        matrices = np.split(self.weights[f"{name}/kernel"], self.config.conv_kernel_size, axis=1)
        out = np.tile(self.weights[f"{name}/bias"], (len(x), 1))
        for i, here in enumerate(places):
            for j, there in enumerate(places):
                at = there - here + self.config.conv_kernel_size // 2
                if allowed[i, j] and 0 <= at < len(matrices):
                    out[i] += x[j] @ matrices[at]
        return out

    def gated(self, unit: str, x: np.ndarray, allowed: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """GAU-alpha's unit, token by token."""
        width, size = self.config.intermediate_size, self.config.head_size
        inside = ACTIVATIONS[self.config.hidden_act](self.dense(f"{unit}/inner", x))
        gate, value, shared = inside[:, :width], inside[:, width : 2 * width], inside[:, 2 * width :]
        query, key = (turned(shared * self.weights[f"{unit}/{name}/gamma"], places) for name in ("query", "key"))
        looked = np.zeros(value.shape)
        for i, row in enumerate(allowed):
            if seen := list(np.flatnonzero(row)):
                scale = math.log(max(len(seen), 16)) / math.log(512)
                weights = np.exp(key[seen] @ query[i] / math.sqrt(size) * scale)
                looked[i] = weights @ value[seen] / weights.sum()
        return self.dense(f"{unit}/output", gate * looked)

    def residual(self, number: int, query: np.ndarray, key: np.ndarray, value: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """RealFormer's head of that number, [L, D]: softmax(Q K / sqrt(D) + Prev) V, of which the product is the next layer's Prev."""
        self.scores[number] = self.scores[number] + query @ key.T / math.sqrt(query.shape[1])
        weights = np.where(allowed, np.exp(self.scores[number]), 0.0)
        return weights / weights.sum(1, keepdims=True) @ value

    def head(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, allowed: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """One head of attention, [L, D], with the positions of its kind."""
        size = query.shape[1]
        if self.config.position == "rotary":  # a pair of numbers is a complex one, and a position turns it
            query, key = (turned(x, places) for x in (query, key))
        if self.config.position != "relative":
            return rules.attention(query, key, value, allowed)
        farthest, out = self.config.max_relative_position, np.zeros(query.shape)
        for i, here in enumerate(places):
            wave = np.zeros(key.shape)  # NEZHA's a_ij: sine and cosine of the clipped distance, counted from the farthest on the left
            for j, there in enumerate(places):
                distance = max(-farthest, min(farthest, there - here)) + farthest
                for k in range(size // 2):
                    angle = distance / 10000 ** (2 * k / size)
                    wave[j, 2 * k], wave[j, 2 * k + 1] = math.sin(angle), math.cos(angle)
            out[i] = rules.attention(query[i : i + 1], key + wave, value + wave, allowed[i : i + 1])[0]
        return out

    def log_probs(self, ids: Sequence[int], segments: Sequence[int]) -> np.ndarray:
        """Log-probabilities over the vocabulary, [L, V]."""
        return self.told(self.sequence(ids, segments))

    def told(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities over the vocabulary of the last layer x [..., H]: [..., V]."""
        if "mlm/bias" not in self.weights:
            logits = x @ self.weights["embeddings/token/embeddings"].T
            return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        x = self.norm("mlm/norm", ACTIVATIONS[self.config.hidden_act](self.dense("mlm/dense", x)))
        if self.config.embedding_projection == "tokens":
            x = x @ self.weights["embeddings/projection/kernel"].T
        logits = x @ self.weights["embeddings/token/embeddings"].T + self.weights["mlm/bias"]
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def after(self, source: Sequence[int], segment: int) -> Next:
        """What comes after a source, as a function of what has been written."""

        @cache
        def next_token(written: tuple[int, ...]) -> np.ndarray:
            return self.log_probs([*source, *written], [0] * len(source) + [segment] * len(written))[-1]

        return next_token


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": lambda x: np.maximum(x, 0), "silu": lambda x: x / (1 + np.exp(-x))}


def turned(x: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """RoFormer's rotation of x [L, D], by complex numbers."""
    pairs = x[:, 0::2] + 1j * x[:, 1::2]
    angles = np.outer(places, [10000.0 ** (-2 * k / x.shape[1]) for k in range(pairs.shape[1])])
    pairs = pairs * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)


def turned_halves(x: np.ndarray, places: Sequence[int], theta: float) -> np.ndarray:
    """Rotation of x [L, D] whose complex numbers have their real parts in the first half of D."""
    half = x.shape[1] // 2
    angles = np.outer(places, [theta ** (-k / half) for k in range(half)])
    found = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angles)
    return np.concatenate([found.real, found.imag], axis=1)


def disentangled(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    far_query: np.ndarray,
    far_key: np.ndarray,
    allowed: np.ndarray,
    places: Sequence[int],
    config: Any,
) -> np.ndarray:
    """One head of DeBERTa-v2's attention, [L, D], pair by pair; queries and keys of the buckets of distances are [2 S, D]."""
    buckets, scores = config.position_buckets, np.zeros((len(query), len(key)))
    for i, here in enumerate(places):
        for j, there in enumerate(places):
            row = min(max(log_bucket(here - there, buckets, config.max_relative_position) + buckets, 0), 2 * buckets - 1)
            scores[i, j] = query[i] @ key[j] + query[i] @ far_key[row] + key[j] @ far_query[row]
    weights = np.where(allowed, np.exp(scores / math.sqrt(3 * query.shape[1])), 0.0)
    return weights @ value / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


def log_bucket(distance: int, buckets: int, farthest: int) -> int:
    """The bucket of a distance: itself up to half of their number, and then by its logarithm."""
    half = buckets // 2
    if abs(distance) <= half:
        return distance
    share = math.log(abs(distance) / half) / math.log((farthest - 1) / half)
    return int(math.copysign(math.ceil(share * (half - 1) - 1e-9) + half, distance))


def constrained(
    next_token: Next,
    end: int,
    forbidden: Sequence[int] = (),
    min_tokens: int = 0,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
) -> Next:
    """`next_token` under the `Rules` of decoding, with -inf for what may not come."""

    @cache
    def after_rules(written: tuple[int, ...]) -> np.ndarray:
        log_probs = next_token(written).copy()
        for token in set(written):
            log_probs[token] *= repetition_penalty
        log_probs[list(forbidden)] = -math.inf
        if no_repeat_ngram:
            seen = {written[at : at + no_repeat_ngram] for at in range(len(written) - no_repeat_ngram + 1)}
            begun = written[len(written) - no_repeat_ngram + 1 :]
            for token in range(len(log_probs)):
                if (*begun, token) in seen:
                    log_probs[token] = -math.inf
        if len(written) < min_tokens and np.isfinite(np.delete(log_probs, end)).any():
            log_probs[end] = -math.inf
        return log_probs

    return after_rules


def one_by_one(next_token: Next, end: int, limit: int, choose: Callable[[np.ndarray, int], int]) -> Found:
    """One token after the other, each as `choose(log_probs, slot)` says."""
    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    while len(tokens) < limit and end not in tokens:
        values = next_token(tokens)
        token = choose(values, len(tokens))
        tokens, log_probs = (*tokens, token), (*log_probs, float(values[token]))
    return Found(tokens, log_probs, sum(log_probs))


def greedy(next_token: Next, end: int, limit: int) -> Found:
    return one_by_one(next_token, end, limit, lambda values, _: int(np.argmax(values)))


def sample(
    next_token: Next,
    end: int,
    limit: int,
    uniform: Sequence[float],
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Found:
    """Ordered by probability when it is cut, by token id when not; the first whose running sum passes the number drawn."""

    def choose(values: np.ndarray, slot: int) -> int:
        weights = np.exp(values / temperature)
        order = np.arange(len(values)) if top_k is None and top_p is None else np.argsort(-values, kind="stable")[:top_k]
        kept = weights[order] / weights[order].sum()
        if top_p is not None:
            kept = np.where(np.cumsum(kept) - kept < top_p, kept, 0.0)
        return int(order[np.argmax(np.cumsum(kept) > uniform[slot] * kept.sum())])

    return one_by_one(next_token, end, limit, choose)


def beam(next_token: Next, end: int, limit: int, width: int, penalty: float, n_best: int = 1, settles: bool = True) -> list[Found]:
    """The documented rules: of all continuations the 2 x width best are candidates; those that end go to a pool of the `width`
    best by normalised score; the `width` best others live on. It stops when nothing that lives can enter the `n_best`."""

    def normalised(tokens: Sequence[int], log_probs: Sequence[float], length: int | None = None) -> float:
        return sum(log_probs) / (length or len(tokens)) ** penalty

    live: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((), ())]
    pool: list[Found] = []
    for slot in range(limit):
        grown = []
        for tokens, log_probs in live:
            values = next_token(tokens)
            grown += [((*tokens, token), (*log_probs, float(values[token]))) for token in np.flatnonzero(np.isfinite(values)).tolist()]
        grown = sorted(grown, key=lambda one: -sum(one[1]))[: 2 * width]
        pool += [Found(*one, normalised(*one)) for one in grown if one[0][-1] == end]
        pool = sorted(pool, key=lambda one: -one.score)[:width]
        live = [one for one in grown if one[0][-1] != end][:width]
        if not live:
            break
        best = max(normalised(*live[0], length) for length in range(slot + 1, limit + 1))
        if settles and len(pool) >= n_best and pool[n_best - 1].score >= best:
            break
    unfinished = [Found(*one, normalised(*one)) for one in live]
    return sorted(pool + unfinished, key=lambda one: -one.score)[:n_best]


def diverse_beam(
    next_token: Next, end: int, limit: int, width: int, penalty: float, groups: int, diversity: float, n_best: int = 1
) -> list[Found]:
    """Beam searches that go step by step in turn: what a group compares is lowered by what the groups before it have just taken."""

    def normalised(one: tuple[tuple[int, ...], tuple[float, ...]]) -> Found:
        return Found(*one, sum(one[1]) / len(one[0]) ** penalty)

    size = width // groups
    live: list[list[tuple[tuple[int, ...], tuple[float, ...]]]] = [[((), ())] for _ in range(groups)]
    pools: list[list[Found]] = [[] for _ in range(groups)]
    for _ in range(limit):
        taken: list[int] = []
        for group in range(groups):
            grown = []
            for tokens, log_probs in live[group]:
                values = next_token(tokens)
                for token in np.flatnonzero(np.isfinite(values)).tolist():
                    rank = sum(log_probs) + float(values[token]) - diversity * taken.count(token)
                    grown.append((rank, ((*tokens, token), (*log_probs, float(values[token])))))
            best = [one for _, one in sorted(grown, key=lambda pair: -pair[0])[: 2 * size]]
            pools[group] = sorted(pools[group] + [normalised(one) for one in best if one[0][-1] == end], key=lambda one: -one.score)[:size]
            live[group] = [one for one in best if one[0][-1] != end][:size]
            taken += [tokens[-1] for tokens, _ in live[group]]
    found = [one for pool in pools for one in pool] + [normalised(one) for group in live for one in group]
    return sorted(found, key=lambda one: -one.score)[:n_best]


def exhaustive(next_token: Next, end: int, limit: int, penalty: float) -> list[Found]:
    """Every text there is, ended or as long as the limit, best first."""
    found, live = [], [Found((), (), 0.0)]
    while live:
        one = live.pop()
        values = next_token(one.tokens)
        for token in np.flatnonzero(np.isfinite(values)).tolist():
            log_probs = (*one.log_probs, float(values[token]))
            longer = Found((*one.tokens, token), log_probs, sum(log_probs) / len(log_probs) ** penalty)
            (found if token == end or len(log_probs) == limit else live).append(longer)
    return sorted(found, key=lambda one: -one.score)
