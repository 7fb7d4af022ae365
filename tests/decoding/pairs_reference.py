"""Encoder-decoders in NumPy, float64, one text at a time and without a cache: T5 with its buckets as arXiv:1910.10683 and Mesh TensorFlow
have them, BART as a post-norm Transformer, and T5-PEGASUS with what bert4keras adds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from decoding.reference import ACTIVATIONS, Next


def bucket(distance: int, buckets: int, farthest: int, both: bool) -> int:
    """The bucket of a key `distance` tokens after the query."""
    start = 0
    if both:
        buckets //= 2
        start = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return start + distance
    # A quotient of logarithms that should be whole is, in T5's float32.
    far = exact + int(math.log(distance / exact) / math.log(farthest / exact) * (buckets - exact) + 1e-6)
    return start + min(far, buckets - 1)


class Pairs:
    """The weights of an EncoderDecoder, and what they compute of one source and one target."""

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self.weights = {name: value.astype("float64") for name, value in model.weight_values().items()}

    def dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}/kernel"] + self.weights.get(f"{name}/bias", 0.0)

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        if f"{name}/gamma" not in self.weights:
            return x
        if f"{name}/beta" not in self.weights:
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.config.layer_norm_eps) * self.weights[f"{name}/gamma"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + self.config.layer_norm_eps)
        return x * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def attention(self, name: str, x: np.ndarray, y: np.ndarray, causal: bool, table: np.ndarray | None, both: bool) -> np.ndarray:
        """x looks at y. table: a number for each bucket and head."""
        config = self.config
        query, key, value = self.dense(f"{name}/query", x), self.dense(f"{name}/key", y), self.dense(f"{name}/value", y)
        looked = np.zeros((len(x), query.shape[1]))
        for head in range(config.num_attention_heads):
            of_head = slice(head * config.head_size, (head + 1) * config.head_size)
            for i in range(len(x)):
                scores = key[:, of_head] @ query[i, of_head]
                if config.attention_scale:
                    scores = scores / math.sqrt(config.head_size)
                if table is not None:
                    sizes = (config.position_buckets, config.max_relative_position, both)
                    scores = scores + np.array([table[bucket(j - i, *sizes), head] for j in range(len(y))])
                if causal:
                    scores[i + 1 :] = -np.inf
                weights = np.exp(scores - scores.max())
                looked[i, of_head] = weights / weights.sum() @ value[:, of_head]
        return self.dense(f"{name}/output", looked)

    def stack(self, scope: str, layers: int, ids: Sequence[int], seen: np.ndarray | None) -> np.ndarray:
        """The encoder ("") or the decoder ("decoder/"), which sees the encoder's x."""
        config, weights, causal = self.config, self.weights, seen is not None
        x = weights["embeddings/token/embeddings"][list(ids)]
        if (rows := weights.get(f"{scope}embeddings/position/embeddings")) is not None:
            x = x + rows[config.position_offset : config.position_offset + len(ids)]
        x = self.norm(f"{scope}embeddings/norm", x)
        table = weights.get(f"{scope}positions/embeddings")
        before = config.block == "pre_norm"
        for index in range(layers):
            block = f"{scope}block_{index}"
            for name in ("attention", "cross_attention", "feed_forward"):
                if name == "cross_attention" and seen is None:
                    continue
                given = self.norm(f"{block}/{name}_norm", x) if before else x
                match name:
                    case "attention":
                        y = self.attention(f"{block}/{name}", given, given, causal, table, not causal)
                    case "cross_attention":
                        there = table if config.cross_position == "bucketed" else None
                        y = self.attention(f"{block}/{name}", given, seen, False, there, False)
                    case _:
                        inner = ACTIVATIONS[config.hidden_act](self.dense(f"{block}/{name}/inner", given))
                        if config.feed_forward == "gated":
                            inner = inner * self.dense(f"{block}/{name}/gate", given)
                        y = self.dense(f"{block}/{name}/outer", inner)
                x = x + y if before else self.norm(f"{block}/{name}_norm", x + y)
        return self.norm(f"{scope}final_norm", x) if before else x

    def outputs(self, source: Sequence[int], target: Sequence[int]) -> dict[str, np.ndarray]:
        x = self.stack("", self.config.num_hidden_layers, source, None)
        y = self.stack("decoder/", self.config.num_decoder_layers, target, x)
        head = y / math.sqrt(self.config.hidden_size) if self.config.logits_scaled else y
        table = self.weights["logits/kernel"] if self.config.logits == "untied" else self.weights["embeddings/token/embeddings"].T
        return {"sequence": x, "decoder": y, "logits": head @ table + self.weights.get("logits/bias", 0.0)}

    def log_probs(self, source: Sequence[int], target: Sequence[int]) -> np.ndarray:
        """Of what comes after each token of the target, [T, V]."""
        logits = self.outputs(source, target)["logits"]
        logits = logits - logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    def after(self, source: Sequence[int], start: Sequence[int]) -> Next:
        """What comes next in a target that starts so, as a function of what has been written."""

        @cache
        def next_token(written: tuple[int, ...]) -> np.ndarray:
            return self.log_probs(source, [*start, *written])[-1]

        return next_token
