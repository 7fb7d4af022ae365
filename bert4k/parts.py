"""How the layers of a model are made: by name, with the dtype and the first values that its config asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from bert4k.config import Config
from bert4k.disentangled import DisentangledAttention, Distances
from bert4k.gated_attention import GatedAttention
from bert4k.layers import ACTIVATIONS, Attention, ConditionalNormalization, Dense, RootMeanSquareNormalization, UnitNormalization
from bert4k.positions import Bucketed, in_attention

NORMS: dict[str, Callable[..., keras.layers.Layer]] = {
    "layer": keras.layers.LayerNormalization,
    "layer_without_bias": partial(keras.layers.LayerNormalization, center=False),
    "unit": UnitNormalization,
    "rms": RootMeanSquareNormalization,
}


class Maker:
    """Makes layers and keeps them under their names in `parts`. dtype: their Keras dtype policy. stack: what stands before the names of
    what all its layers share, "decoder/" or nothing; a decoder never looks at what comes after.

    shared: the part "positions", where attention has weights for them, which all its layers share."""

    def __init__(self, config: Config, dtype: Any, stack: str = "") -> None:
        self.config, self.dtype = config, dtype
        self.parts: dict[str, keras.layers.Layer] = {}
        self.kinds: dict[Any, Any] = {}  # what attention does with positions, by its description: most layers do the same
        if config.position == "bucketed":
            sizes = (config.num_attention_heads, config.position_buckets, config.max_relative_position, not stack)
            self.add(Bucketed, f"{stack}positions", *sizes, embeddings_initializer=self.random())
        if config.position == "disentangled":
            self.norm("positions_norm")
            distances = (config.position_buckets, config.max_relative_position, config.max_position_embeddings, config.hidden_size)
            norm = self.parts["positions_norm"]
            self.add(Distances, "positions", *distances, norm=norm, embeddings_initializer=self.random())
        self.shared: Any = self.parts.get(f"{stack}positions")

    def add(self, kind: Callable[..., keras.layers.Layer], name: str, *args: Any, **kwargs: Any) -> None:
        """A layer of any kind, with the arguments of its constructor."""
        self.parts[name] = kind(*args, name=name.replace("/", "_"), dtype=self.dtype, **kwargs)

    def random(self) -> keras.initializers.Initializer:
        """First values of a matrix: a new initializer each time, since one that is used twice gives the same values twice."""
        return keras.initializers.TruncatedNormal(stddev=self.config.initializer_range)

    def dense(self, name: str, units: int, activation: Any = None, use_bias: bool = True) -> None:
        self.add(Dense, name, units, activation=activation, use_bias=use_bias, kernel_initializer=self.random())

    def norm(self, name: str) -> None:
        if self.config.condition_size:
            self.add(ConditionalNormalization, name, self.config.condition_size, epsilon=self.config.layer_norm_eps)
        else:
            self.add(NORMS[self.config.norm], name, epsilon=self.config.layer_norm_eps)

    def embedding(self, name: str, rows: int, width: int) -> None:
        """A table of vectors; none when it has no rows."""
        if rows:
            self.add(keras.layers.Embedding, name, rows, width, embeddings_initializer=self.random())

    def attention(self, name: str, positions: Any = None) -> None:
        """positions: what it does with them; by default what all layers do."""
        config = self.config
        kind: type[Attention] = Attention
        sizes: dict[str, Any] = {"num_heads": config.num_attention_heads, "head_size": config.head_size}
        if config.position == "disentangled":
            kind, sizes["distance_dropout"] = DisentangledAttention, config.hidden_dropout_prob
        self.add(kind, name, **sizes, **self._attending(name, positions))

    def gated_attention(self, name: str) -> None:
        config = self.config
        sizes = {"value_size": config.intermediate_size, "head_size": config.head_size}
        self.add(GatedAttention, name, **sizes, activation=config.hidden_act, **self._attending(name))

    def positions(self, name: str) -> Any:
        """What the attention layer called `name` ("block_3/attention") does with positions."""
        if self.shared is not None:
            return self.shared
        number = re.match(r"block_(\d+)/", name)
        layer = int(number[1]) if number else 0
        kind = in_attention(self.config, layer)
        return self.kinds.setdefault(kind, kind)

    def _attending(self, name: str, positions: Any = None) -> dict[str, Any]:
        """What every kind of attention is told."""
        config = self.config
        return {
            "dropout": config.attention_probs_dropout_prob,
            "initializer": self.random(),
            "positions": positions or self.positions(name),
            "use_bias": config.use_bias,
            "scaled": config.attention_scale,
            "width": config.hidden_size,
            "residual": config.residual_attention,
        }

    def feed_forward(self, name: str) -> None:
        """The two dense layers `name`/inner and `name`/outer, and `name`/gate where there is one."""
        config = self.config
        self.dense(f"{name}/inner", config.intermediate_size, ACTIVATIONS[config.hidden_act], config.use_bias)
        if config.feed_forward == "gated":
            self.dense(f"{name}/gate", config.intermediate_size, use_bias=config.use_bias)
        self.dense(f"{name}/outer", config.hidden_size, use_bias=config.use_bias)
