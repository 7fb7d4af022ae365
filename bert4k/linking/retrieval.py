"""Entities whose vectors are nearest to that of a mention: a bi-encoder, and a file of the vectors of all entities.

    model, network, tokenizer = build("wenbai", Tuning())
    vectors = EntityVectors.make(path, model, Writer(tokenizer, 128), knowledge_base, made_by)
    ids = vectors.nearest(vectors_of(model, [writer.mention(asked)]), 10)

One network reads mentions in their texts and entities with what is known of them (Wu et al. 2020, arXiv:1911.03814, with one network
instead of two), so that the vectors of entities can be made once. They are kept as 16-bit numbers and mapped from their file: a mention
that has candidates reads those of its candidates only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.checkpoints.stored import replacing
from bert4k.errors import CheckpointError
from bert4k.finetuning import body, outputs_of
from bert4k.linking.knowledge_base import KnowledgeBase
from bert4k.linking.prompts import Row, Writer
from bert4k.linking.rows import TOKENS, rows_of
from bert4k.model import Transformer
from bert4k.nearest import nearest, unit
from bert4k.progress import measured
from bert4k.structured import Pooling
from bert4k.tokenizers import Tokenizer
from bert4k.training import LengthBatches
from bert4k.tuning import Tuning

TOGETHER = 4096  # entities that are written and read at a time
ASKED = 256  # queries that are compared with all entities at a time, for which a third of a GB is enough


def build(source: str, tuning: Tuning, pooling: str = "mean") -> tuple[keras.Model, Transformer, Tokenizer]:
    """A checkpoint that gives a vector, float32 [B, H], for rows of `Writer.mention` and `Writer.entity`: what it makes of the whole row,
    and of the mention, or of the entity's name, added up; the network itself; its tokenizer."""
    network, tokenizer, inputs, x, real = body(source, tuning)
    inputs["named"] = keras.Input((None,), dtype="int32", name="named")
    x = keras.layers.Dropout(tuning.dropout)(x)
    named = ops.logical_and(real, ops.greater(inputs["named"], 0))
    return keras.Model(inputs, Pooling(pooling)(x, real) + Pooling("mean")(x, named)), network, tokenizer


def batches(
    asked: Sequence[Row], entities: Sequence[Row], subjects: Sequence[int], pad_id: int, tokens: int, seed: int = 0
) -> LengthBatches:
    """For `Grouped(model)` and `losses.SimCSE`: mentions and what they mean, inputs [B, 2, L] and y [B], the number of the entity, so that
    two mentions of one are not held against each other."""
    rows, count = rows_of([*asked, *entities], pad_id), len(asked)
    lengths = [max(len(one.token_ids), len(other.token_ids)) for one, other in zip(asked, entities, strict=True)]
    numbers = np.array(subjects, np.float32)

    def collate(chosen: list[int], length: int) -> tuple[Any, ...]:
        flat = rows.inputs([number for row in chosen for number in (row, count + row)], length)
        repeated = np.diff(chosen, prepend=-1) == 0  # they only fill the batch, and no row is to be compared with them
        return {name: each.reshape(-1, 2, length) for name, each in flat.items()}, np.where(repeated, np.nan, numbers[chosen])

    return LengthBatches(lengths, collate, max(tokens // 2, *lengths), seed=seed)


def vectors_of(model: keras.Model, rows: Sequence[Row], pad_id: int) -> NDArray[np.float32]:
    """The vectors of rows, float32 [N, H], of length 1."""
    found = outputs_of(model, rows_of(rows, pad_id), TOKENS) if rows else []
    return unit(np.array(found, np.float32).reshape(len(rows), model.output.shape[-1]))


class EntityVectors:
    """The vectors of all entities of a knowledge base in `path`, float16 [N, H], and whose they are in `path`.json.

    Raises `CheckpointError` when they were made by another model, or for another knowledge base: `made_by` says both."""

    def __init__(self, path: Path, made_by: str) -> None:
        try:
            told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            self.vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}). Remove it; it will be made anew.") from error
        self.ids: list[str] = told["ids"]
        if told["made_by"] != made_by or len(self.ids) != len(self.vectors):
            raise CheckpointError(
                f"The vectors in {path} were made by another model, or of other entities, than those here. Remove the file; it will be made"
                " anew."
            )
        self.number = {id: place for place, id in enumerate(self.ids)}

    @classmethod
    def kept(cls, path: Path, made_by: str, make: Callable[[], EntityVectors]) -> EntityVectors:
        """Those in `path` if they are what is wanted, or else what `make` gives."""
        try:
            return cls(path, made_by)
        except CheckpointError:
            return make()

    @classmethod
    def make(cls, path: Path, model: keras.Model, writer: Writer, knowledge_base: KnowledgeBase, made_by: str) -> EntityVectors:
        """Read all entities, a few thousand at a time, and keep their vectors; the file is there whole or not at all. What is added
        meanwhile has none, and that of what is deleted is 0."""
        ids, size = list(knowledge_base.ids()), int(model.output.shape[-1])
        with (
            replacing(path, path.with_suffix(".json")) as (vectors, told),
            measured(len(ids), "reading entities") as advance,
        ):
            array = np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float16, shape=(len(ids), size))
            for begin in range(0, len(ids), TOGETHER):
                some = ids[begin : begin + TOGETHER]
                known = knowledge_base.known(some)
                rows = {begin + place: writer.entity(known[id]) for place, id in enumerate(some) if id in known}
                array[list(rows)] = vectors_of(model, list(rows.values()), writer.tokenizer.pad_id)
                advance(len(some))
            array.flush()
            del array
            told.write_text(json.dumps({"made_by": made_by, "ids": ids}, ensure_ascii=False), encoding="utf-8")
        return cls(path, made_by)

    def of(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of these entities, float32 [len(ids), H]. What has none, such as an entity that was added since, has 0."""
        found = np.zeros((len(ids), self.vectors.shape[1]), np.float32)
        known = [place for place, id in enumerate(ids) if id in self.number]
        found[known] = self.vectors[[self.number[ids[place]] for place in known]]
        return found

    def nearest(self, queries: NDArray[np.float32], count: int) -> list[list[str]]:
        """The ids of the entities that are nearest to each of the queries [Q, H], the nearest first."""
        if not self.ids:
            return [[] for _ in queries]
        parts = (nearest(queries[begin : begin + ASKED], self.vectors, count) for begin in range(0, len(queries), ASKED))
        return [[self.ids[number] for number in row] for numbers, _ in parts for row in numbers]
