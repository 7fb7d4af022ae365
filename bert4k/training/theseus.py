"""BERT-of-Theseus (Xu et al. 2020, arXiv:2002.02925): a small model grows up in a large one, whose blocks it replaces one by one.

    small = Theseus(large, layers=3, rate=0.5)                          # large: a Transformer of 12 layers, fine-tuned and now frozen
    ... put the head of the large model on it, and fit ...
    small = small.successor()                                           # 3 layers; fine-tune it on its own, then save it

In training, each of the small model's blocks stands in, with the probability `rate`, for its share of the large one's blocks, of which it
begins as a copy of the first; otherwise those run. Without training, only the small model's blocks run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4k.errors import ConfigError
from bert4k.model import Attend, Transformer


class Theseus(Transformer):
    """A Transformer of `layers` blocks that learns inside `predecessor`, with which it shares everything but blocks, and which is frozen.

    `set_rate` changes the probability, as between two calls of `fit`; at 1, the predecessor's blocks take no part. Save the `successor()`,
    not this.
    """

    def __init__(self, predecessor: Transformer, layers: int, rate: float = 0.5, **kwargs: Any) -> None:
        depth = predecessor.config.num_hidden_layers
        if not 1 <= layers <= depth or depth % layers:
            raise ConfigError(f"{layers} blocks cannot replace {depth} in equal shares. Give a divisor of {depth}.")
        self.share = depth // layers
        what = (predecessor.config.override(num_hidden_layers=layers), predecessor.mask, predecessor.output_kinds)
        dtype = predecessor.parts["embeddings/norm"].dtype_policy
        blocks = dict(Transformer(*what, values=_first_of_each(predecessor.weight_values(), layers, self.share), dtype=dtype).parts)
        for name, part in predecessor.parts.items():
            part.trainable = False
            if not name.startswith("block_"):
                blocks[name] = part
        self.gates = [
            _Gate(predecessor, range(index * self.share, (index + 1) * self.share), rate, name=f"gate_{index}", dtype=dtype)
            for index in range(layers)
        ]
        super().__init__(*what, parts=blocks, **kwargs)

    def block(self, index: int, x: Any, attend: Attend) -> Any:
        allowed, position_ids = attend(_told, x)  # type: ignore[arg-type]  # which the blocks within a gate need, too
        return self.gates[index](super().block(index, x, attend), x, allowed, position_ids)

    def set_rate(self, rate: float) -> None:
        """The probability, from 0 to 1, that a block is replaced."""
        for gate in self.gates:
            gate.rate.assign(rate)

    def successor(self) -> Transformer:
        """The small model alone, with the same weights, all of which will be trained."""
        for part in self.parts.values():
            part.trainable = True
        return Transformer(self.config, self.mask, self.output_kinds, parts=self.parts)


def _told(x: Any, allowed: Any, position_ids: Any) -> tuple[Any, Any]:
    """In the place of an attention layer: the mask and the positions that it would be given."""
    return allowed, position_ids


def _first_of_each(values: Mapping[str, np.ndarray], layers: int, share: int) -> dict[str, np.ndarray]:
    """The values of the blocks 0, share, 2 share ... under the names of the blocks 0, 1, 2 ..."""
    names = {f"block_{index * share}": f"block_{index}" for index in range(layers)}
    found = {}
    for path, value in values.items():
        block, _, rest = path.partition("/")
        if block in names:
            found[f"{names[block]}/{rest}"] = value
    return found


class _Gate(keras.layers.Layer):
    """`gate(new, x, allowed, position_ids)`: what a block of the successor made of x [B, L, H]; or, in training, with the probability
    1 - `rate` and for the whole batch, what the blocks `indices` of the predecessor make of it under the mask `allowed` [B, 1, L, L]."""

    def __init__(self, predecessor: Transformer, indices: range, rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator()
        self.rate = self.add_weight(shape=(), initializer=keras.initializers.Constant(rate), trainable=False, dtype="float32", name="rate")
        self.block, self.indices = predecessor.block, list(indices)
        names = tuple(f"block_{index}/" for index in indices)
        self.parts = [part for name, part in predecessor.parts.items() if name.startswith(names)]  # so that Keras knows their weights

    def call(self, new: Any, x: Any, allowed: Any, position_ids: Any, training: bool | None = None) -> Any:
        if not training:
            return new
        for index in self.indices:
            x = self.block(index, x, lambda attention, x: attention(x, allowed, position_ids))
        return ops.where(ops.less(keras.random.uniform((), seed=self.seeds), ops.convert_to_tensor(self.rate)), new, x)

    def compute_output_shape(
        self, new_shape: tuple[int | None, ...], x_shape: Any = None, allowed_shape: Any = None, position_ids_shape: Any = None
    ) -> Any:
        return new_shape
