"""GPLinker: subject-predicate-object triples from GlobalPointers (Su 2022, kexue.fm/archives/8888).

    scores = GPLinker(predicates=5)(x, real)                            # [B, 2 + 2P, L, L]
    model.compile("adam", GlobalPointerLoss())                          # link_targets(links, 5, L) of each text
    links = link(model.predict(batch)[0])                               # [Link(subject, predicate, object), ...]

A triple is found when five decisions agree: its subject and its object are spans, and its predicate joins their first tokens and their
last tokens. So entities may nest and overlap, and share subjects, objects and predicates in any way.

Shapes: B batch, L tokens, H hidden, P predicates. Of the 2 + 2P kinds of scores, 0 is of spans (first, last) that are subjects and 1 of
objects; 2 + p joins the first token of a subject (row) to that of an object (column) by predicate p, and 2 + P + p their last tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.structured.global_pointer import GlobalPointer


class Link(NamedTuple):
    """A triple in tokens: subject and object as (first, last + 1)."""

    subject: tuple[int, int]
    predicate: int
    object: tuple[int, int]


@keras.saving.register_keras_serializable("bert4k")
class GPLinker(keras.layers.Layer):
    """`linker(x, real)`: x [B, L, H] and real bool [B, L] (default: every token) give scores float32 [B, 2 + 2P, L, L]: what is above 0 is
    true, and where nothing can be they are FORBIDDEN.

    Two GlobalPointers of `head_size`: of entities, and of tokens that a predicate joins, whose order and distance mean nothing."""

    def __init__(self, predicates: int, head_size: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.predicates, self.head_size = predicates, head_size
        self.entities = GlobalPointer(2, head_size, dtype=self.dtype_policy, name="entities")
        self.joined = GlobalPointer(2 * predicates, head_size, rotary=False, ordered=False, dtype=self.dtype_policy, name="joined")

    def build(self, x_shape: tuple[int | None, ...], real_shape: Any = None) -> None:
        self.entities.build(x_shape)
        self.joined.build(x_shape)

    def call(self, x: Any, real: Any = None) -> Any:
        return ops.concatenate([self.entities(x, real), self.joined(x, real)], axis=1)

    def compute_output_spec(self, x: Any, real: Any = None) -> Any:
        batch, length = x.shape[:2]
        return keras.KerasTensor((batch, 2 + 2 * self.predicates, length, length), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"predicates": self.predicates, "head_size": self.head_size}


def link(scores: Any, threshold: float = 0.0, most: int = 50) -> list[Link]:
    """The triples of one text; scores: an array [2 + 2P, L, L].

    most: how many subjects, and objects, are considered, those with the highest scores. Only a model that has learnt nothing finds more,
    and the pairs of all that it finds would be millions."""
    scores = np.asarray(ops.convert_to_numpy(scores))
    true = scores > threshold
    predicates = (len(true) - 2) // 2
    firsts, lasts = true[2 : 2 + predicates], true[2 + predicates :]
    subjects, objects = (_highest(scores[kind], threshold, most) for kind in (0, 1))
    joined = firsts[:, subjects[:, :1], objects[None, :, 0]] & lasts[:, subjects[:, 1:], objects[None, :, 1]]  # [P, S, O]
    spans = [[(int(first), int(last) + 1) for first, last in each] for each in (subjects, objects)]
    return sorted(Link(spans[0][subject], int(predicate), spans[1][object]) for predicate, subject, object in np.argwhere(joined))


def _highest(scores: NDArray[Any], threshold: float, most: int) -> NDArray[np.int64]:
    """(first, last) of at most so many spans that score above `threshold`, [S, 2]."""
    found = np.argwhere(scores > threshold)
    return found[np.argsort(-scores[tuple(found.T)], kind="stable")[:most]]


def link_targets(links: Iterable[Link], predicates: int, length: int) -> NDArray[np.float32]:
    """What `GPLinker` shall say of a text of `length` tokens that holds `links`: 0 or 1, float32 [2 + 2P, L, L]."""
    found = np.zeros((2 + 2 * predicates, length, length), np.float32)
    for (first, end), predicate, (object_first, object_end) in links:
        found[0, first, end - 1] = found[1, object_first, object_end - 1] = 1
        found[2 + predicate, first, object_first] = found[2 + predicates + predicate, end - 1, object_end - 1] = 1
    return found
