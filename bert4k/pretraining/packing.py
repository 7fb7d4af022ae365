"""Several texts in one row of tokens: no padding to pay for, and `same_document` keeps them apart.

A batch has G groups of R rows of L tokens. A group is what one device takes; its predictions, of which every objective asks another
number, share P slots, so that the vocabulary's product is computed for what is told and little more. The texts of many batches are packed
together: the more there are, the better they fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bert4k.decoding.batches import best_fit
from bert4k.pretraining.objectives import NOTHING, Example

# What the model takes of each token.
TOKEN_FIELDS = ("token_ids", "segment_ids", "position_ids", "order", "real")


@dataclass(frozen=True)
class Shape:
    """The static shape of a batch: groups (G), rows of a group (R), tokens of a row (L), predictions of a group (P)."""

    groups: int
    rows: int
    length: int
    predictions: int

    @property
    def tokens(self) -> int:
        """Tokens of a batch, padding included."""
        return self.groups * self.rows * self.length


@dataclass
class Batch:
    """Inputs [G, R, L] by name with `positions` [G, P] (row x L + place) and `firsts` [G, R] (a [CLS]); targets `labels`, `weights`,
    `objectives` [G, P] and `swapped`, `swapped_weights` [G, R]. `left_out`: examples that found no room when this batch was packed, alone
    or as the first of several."""

    inputs: dict[str, NDArray]
    targets: dict[str, NDArray]
    left_out: int


def pack(
    examples: Sequence[tuple[int, Example]],
    shape: Shape,
    ratios: Mapping[int, float],
    batches: int = 1,
    random: np.random.Generator | None = None,
) -> list[Batch]:
    """Pack examples, each with the number of its objective, into so many batches.

    They are packed to rows, and the rows, those with the most predictions first, dealt to the groups that have the fewest. When there are
    more rows than the batches have, chance decides which are left out, so that no length of text is at a disadvantage.

    Weights make every objective count as much as its ratio, however many tokens it asks for: the mean over all slots of weight x loss is
    the ratio-weighted mean over objectives of their mean losses. They know the whole batch, so that a batch on several devices has the loss
    and gradients of one device. The sentence-order task counts as much as the objective that asks for it."""
    random = np.random.default_rng(0) if random is None else random
    rows = best_fit([len(example.token_ids) for _, example in examples], shape.length)
    random.shuffle(rows)
    told = [int(np.count_nonzero(example.labels != NOTHING)) for _, example in examples]
    groups = deal([sum(told[index] for index in row) for row in rows], batches * shape.groups, shape.rows, shape.predictions)
    random.shuffle(groups)
    packed = []
    for start in range(0, len(groups), shape.groups):
        members = [[[examples[index] for index in rows[row]] for row in group] for group in groups[start : start + shape.groups]]
        packed.append(_batch(members, shape, ratios))
    packed[0].left_out = len(examples) - sum(len(rows[row]) for group in groups for row in group)
    return packed


def deal(loads: Sequence[int], groups: int, rows: int, limit: int) -> list[list[int]]:
    """Up to `rows` rows for each group, as their numbers. Rows beyond `groups` x `rows` are left out; the others go, the heaviest load
    first, to the group with the least, if it stays within `limit`."""
    dealt: list[list[int]] = [[] for _ in range(groups)]
    heap = [(0, group) for group in range(groups)]
    for row in sorted(range(len(loads))[: groups * rows], key=lambda row: -loads[row]):
        load, group = heap[0]
        if load + loads[row] > limit:
            continue
        dealt[group].append(row)
        if len(dealt[group]) < rows:
            heapq.heapreplace(heap, (load + loads[row], group))
        else:
            heapq.heappop(heap)
    return dealt


def _batch(members: Sequence[Sequence[Sequence[tuple[int, Example]]]], shape: Shape, ratios: Mapping[int, float]) -> Batch:
    """The arrays of a batch; members: the examples of each row of each group."""
    groups, rows, length, predictions = shape.groups, shape.rows, shape.length, shape.predictions
    inputs: dict[str, NDArray] = {name: np.zeros((groups, rows, length), bool if name == "real" else np.int32) for name in TOKEN_FIELDS}
    inputs["document_ids"] = np.full((groups, rows, length), -1, np.int32)
    inputs["positions"] = np.zeros((groups, predictions), np.int32)
    inputs["firsts"] = np.zeros((groups, rows), np.int32)
    labels, swapped = np.zeros((groups, predictions), np.int32), np.zeros((groups, rows), np.int32)
    objectives, judged = np.full((groups, predictions), NOTHING, np.int32), np.full((groups, rows), NOTHING, np.int32)
    for group, its_rows in enumerate(members):
        told = questions = 0
        for row, texts in enumerate(its_rows):
            begin = 0
            for document, (objective, example) in enumerate(texts):
                here = slice(begin, begin + len(example.token_ids))
                for name in TOKEN_FIELDS:
                    inputs[name][group, row, here] = getattr(example, name)
                inputs["document_ids"][group, row, here] = document
                places = np.flatnonzero(example.labels != NOTHING)
                slots = slice(told, told + len(places))
                inputs["positions"][group, slots] = row * length + begin + places
                labels[group, slots] = example.labels[places]
                objectives[group, slots] = objective
                if example.swapped != NOTHING and questions < rows:
                    inputs["firsts"][group, questions] = row * length + begin
                    swapped[group, questions], judged[group, questions] = example.swapped, objective
                    questions += 1
                begin, told = here.stop, slots.stop
    present = sum(ratio for number, ratio in ratios.items() if (objectives == number).any() or (judged == number).any())
    targets = {
        "labels": labels,
        "objectives": objectives,
        "weights": _weights(objectives, ratios, present),
        "swapped": swapped,
        "swapped_weights": _weights(judged, ratios, present),
    }
    return Batch(inputs, targets, 0)


def join(batches: Sequence[Batch], shape: Shape) -> Batch:
    """Batches of together at most `shape.groups` groups as one of that shape, with empty groups and slots where nothing is."""
    rest = _batch([], replace(shape, groups=shape.groups - sum(len(batch.targets["labels"]) for batch in batches)), {})
    parts = [*batches, rest]

    def joined(name: str, arrays: Sequence[NDArray]) -> NDArray:
        if name in ("positions", "labels", "weights", "objectives"):
            nothing = NOTHING if name == "objectives" else 0
            arrays = [np.pad(each, ((0, 0), (0, shape.predictions - each.shape[1])), constant_values=nothing) for each in arrays]
        return np.concatenate(arrays)

    inputs = {name: joined(name, [part.inputs[name] for part in parts]) for name in rest.inputs}
    targets = {name: joined(name, [part.targets[name] for part in parts]) for name in rest.targets}
    return Batch(inputs, targets, sum(batch.left_out for batch in batches))


def _weights(objectives: NDArray[np.int32], ratios: Mapping[int, float], present: float) -> NDArray[np.float32]:
    """Float32 of the same shape, 0 in empty slots; present: the ratios of all objectives in the batch together."""
    weights = np.zeros(objectives.shape, np.float32)
    for number, ratio in ratios.items():
        these = objectives == number
        if count := np.count_nonzero(these):
            weights[these] = objectives.size * ratio / present / count
    return weights
