"""Packed rows hold whole texts apart from each other, weights make objectives count by their ratios, and no length is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4k.pretraining.objectives import NOTHING, Example
from bert4k.pretraining.packing import TOKEN_FIELDS, Batch, Shape, best_fit, deal, pack

RATIOS = {0: 0.5, 1: 0.3, 2: 0.2}


def example(size: int, told: Sequence[int], serial: int, swapped: int = NOTHING) -> Example:
    """A text whose every token is its own: no other has the same ids."""
    places = np.arange(size, dtype=np.int32)
    labels = np.full(size, NOTHING, np.int32)
    labels[list(told)] = 7 + np.array(told, np.int32) + 1000 * serial
    return Example(
        token_ids=1 + places + 1000 * serial,
        segment_ids=(places > size // 2).astype(np.int32),
        position_ids=places[::-1].copy(),
        order=(places * 3 % 7).astype(np.int32),
        labels=labels,
        real=places % 5 != 4,
        swapped=swapped,
    )


def some_texts(seed: int) -> list[tuple[int, Example]]:
    """Up to 25 texts of up to 14 tokens, of which up to 6 are told; those of objective 2 may have been exchanged."""
    random = np.random.default_rng(seed)
    made = []
    for serial in range(random.integers(26)):
        objective, size = int(random.integers(3)), int(random.integers(1, 15))
        told = np.flatnonzero(random.random(size) < random.random() * 6 / size)[:6]
        made.append((objective, example(size, told.tolist(), serial, int(random.integers(2)) if objective == 2 else NOTHING)))
    return made


examples = st.builds(some_texts, st.integers(0, 2**20))
shapes = st.builds(Shape, st.integers(1, 3), st.integers(1, 4), st.just(12), st.integers(1, 20))


def found(batches: list[Batch], texts: list[tuple[int, Example]]) -> dict[int, tuple[int, int, int, int]]:
    """Where each text is, by its number: batch, group, row and place."""
    first = {int(text.token_ids[0]): number for number, (_, text) in enumerate(texts)}
    places = {}
    for index, batch in enumerate(batches):
        for where in zip(*np.nonzero(batch.inputs["token_ids"]), strict=True):
            number = first.get(int(batch.inputs["token_ids"][where]))
            if number is not None:
                assert number not in places  # nothing twice
                places[number] = (index, *map(int, where))
    return places


@given(examples, shapes, st.integers(1, 3), st.integers(0, 5))
@settings(max_examples=150)
def test_every_text_is_there_whole_or_left_out(texts: list[tuple[int, Example]], shape: Shape, count: int, seed: int) -> None:
    batches = pack(texts, shape, RATIOS, count, np.random.default_rng(seed))
    assert len(batches) == count
    places = found(batches, texts)
    assert sum(batch.left_out for batch in batches) == len(texts) - len(places)
    free = [np.ones((shape.groups, shape.rows, shape.length), bool) for _ in batches]
    documents: dict[tuple[int, int, int], list[int]] = {}
    slots: Counter[tuple[Any, ...]] = Counter()
    for number, (batch, group, row, begin) in places.items():
        objective, text = texts[number]
        here = (group, row, slice(begin, begin + len(text.token_ids)))
        assert free[batch][here].all()
        free[batch][here] = False
        for name in TOKEN_FIELDS:
            assert (batches[batch].inputs[name][here] == getattr(text, name)).all()
        [document] = set(batches[batch].inputs["document_ids"][here].tolist())
        documents.setdefault((batch, group, row), []).append(document)
        for place in np.flatnonzero(text.labels != NOTHING):
            slots[batch, group, row * shape.length + begin + int(place), int(text.labels[place]), objective] += 1
    for batch, its_free in zip(batches, free, strict=True):
        assert (batch.inputs["document_ids"][its_free] == -1).all() and not batch.inputs["real"][its_free].any()
        assert not any(batch.inputs[name][its_free].any() for name in TOKEN_FIELDS)
    assert all(len(set(its)) == len(its) and min(its) >= 0 for its in documents.values())
    told = Counter(
        (index, int(group), *(int(batch_of[name][group, slot]) for batch_of, name in wanted))
        for index, batch in enumerate(batches)
        for group, slot in np.argwhere(batch.targets["objectives"] != NOTHING)
        for wanted in [[(batch.inputs, "positions"), (batch.targets, "labels"), (batch.targets, "objectives")]]
    )
    assert told == slots


@given(examples, shapes, st.integers(0, 5))
@settings(max_examples=100)
def test_objectives_count_by_their_ratios(texts: list[tuple[int, Example]], shape: Shape, seed: int) -> None:
    for batch in pack(texts, shape, RATIOS, 2, np.random.default_rng(seed)):
        objectives, weights = batch.targets["objectives"], batch.targets["weights"]
        assert weights.dtype == np.float32 and not weights[objectives == NOTHING].any()
        losses = np.random.default_rng(seed).random(objectives.shape)
        judged = batch.targets["swapped_weights"] > 0
        present = [number for number in RATIOS if (objectives == number).any() or (number == 2 and judged.any())]
        total = sum(RATIOS[number] for number in present)
        if present:
            shares = {number: RATIOS[number] / total for number in present}
            expected = sum(share * losses[objectives == number].mean() for number, share in shares.items() if (objectives == number).any())
            assert (losses * weights).mean() == pytest.approx(expected, rel=1e-5)
        if judged.any():  # the task of sentence order counts as much as the objective that asks for it
            questions = np.random.default_rng(seed).random(judged.shape)
            asked = (questions * batch.targets["swapped_weights"]).mean()
            assert asked == pytest.approx(RATIOS[2] / total * questions[judged].mean(), rel=1e-5)


@given(examples, shapes, st.integers(0, 5))
@settings(max_examples=100)
def test_the_task_of_sentence_order_reads_the_first_token_of_its_text(texts: list[tuple[int, Example]], shape: Shape, seed: int) -> None:
    batches = pack(texts, shape, RATIOS, 2, np.random.default_rng(seed))
    places = found(batches, texts)
    wanted: Counter[tuple[int, ...]] = Counter()
    for number, (batch, group, row, begin) in places.items():
        if texts[number][1].swapped != NOTHING:
            wanted[batch, group, row * shape.length + begin, texts[number][1].swapped] += 1
    asked = Counter(
        (index, int(group), int(batch.inputs["firsts"][group, slot]), int(batch.targets["swapped"][group, slot]))
        for index, batch in enumerate(batches)
        for group, slot in np.argwhere(batch.targets["swapped_weights"] > 0)
    )
    assert not asked - wanted and set(asked.values()) <= {1}
    for index in range(len(batches)):
        for group in range(shape.groups):  # as many as there is room for
            each, all_of_them = (sum(1 for key in counter if key[:2] == (index, group)) for counter in (asked, wanted))
            assert each == min(all_of_them, shape.rows)


def test_no_text() -> None:
    [batch] = pack([], Shape(2, 3, 8, 4), RATIOS)
    assert batch.left_out == 0
    assert not batch.targets["weights"].any() and not batch.targets["swapped_weights"].any() and not batch.inputs["real"].any()
    assert {name: values.shape for name, values in batch.inputs.items()} == {
        **dict.fromkeys((*TOKEN_FIELDS, "document_ids"), (2, 3, 8)),
        "positions": (2, 4),
        "firsts": (2, 3),
    }


def test_the_weights_know_the_whole_batch() -> None:
    """One token of objective 0 in the first group, three in the second: each has a quarter of its objective's weight."""
    texts = [(0, example(5, [1], 1)), (0, example(5, [1, 2, 3], 2)), (1, example(5, [0, 1], 3)), (1, example(5, [0, 4], 4))]
    [batch] = pack(texts, Shape(2, 1, 10, 8), {0: 0.75, 1: 0.25})
    objectives, weights = batch.targets["objectives"], batch.targets["weights"]
    assert set(weights[objectives == 0].tolist()) == {16 * 0.75 / 4} and set(weights[objectives == 1].tolist()) == {16 * 0.25 / 4}


# How full, and who is left out. --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 25), max_size=60))
def test_best_fit_loses_nothing_and_wastes_little(sizes: list[int]) -> None:
    rows = best_fit(sizes, 20)
    assert sorted(index for row in rows for index in row) == [index for index, size in enumerate(sizes) if size <= 20]
    assert all(sum(sizes[index] for index in row) <= 20 for row in rows)
    least = -(-sum(size for size in sizes if size <= 20) // 20)
    assert len(rows) <= 11 / 9 * least + 3 + sum(10 < size <= 20 for size in sizes)  # the bound for best fit decreasing, and rows of one


def naive_best_fit(sizes: list[int], length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    for text in sorted(range(len(sizes)), key=lambda text: -sizes[text]):
        used = [sum(sizes[each] for each in row) for row in rows]
        possible = [row for row in range(len(rows)) if used[row] + sizes[text] <= length]
        if possible:
            rows[max(possible, key=lambda row: used[row])].append(text)
        else:
            rows.append([text])
    return rows


@given(st.lists(st.integers(1, 20), max_size=40))
def test_best_fit_is_the_naive_one(sizes: list[int]) -> None:
    def fills(rows: list[list[int]]) -> list[int]:
        return sorted(sum(sizes[index] for index in row) for row in rows)

    assert fills(best_fit(sizes, 20)) == fills(naive_best_fit(sizes, 20))


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 4), st.integers(1, 5), st.integers(0, 40))
def test_deal(loads: list[int], groups: int, rows: int, limit: int) -> None:
    dealt = deal(loads, groups, rows, limit)
    assert len(dealt) == groups
    chosen = [row for group in dealt for row in group]
    assert len(set(chosen)) == len(chosen) and set(chosen) <= set(range(min(len(loads), groups * rows)))
    totals = [sum(loads[row] for row in group) for group in dealt]
    assert max(totals) <= limit and max(map(len, dealt)) <= rows
    if limit >= sum(loads):
        assert len(chosen) == min(len(loads), groups * rows)
    for row in set(range(min(len(loads), groups * rows))) - set(chosen):  # it really had no room
        assert all(total + loads[row] > limit or len(group) == rows for total, group in zip(totals, dealt, strict=True))


def corpus_sizes(random: np.random.Generator, tokens: int) -> list[int]:
    """Mostly texts that are cut to fill a row, and many short ones: a third of the tokens in pairs of 20 to 100."""
    sizes: list[int] = []
    while sum(sizes) < tokens:
        sizes += random.integers(200, 255, 2).tolist() if random.random() < 0.5 else random.integers(20, 100, 4).tolist()
    return sizes


def test_rows_are_full_and_groups_alike() -> None:
    random = np.random.default_rng(0)
    shape = Shape(4, 8, 256, 900)
    sizes = corpus_sizes(random, int(0.955 * shape.tokens * 16))
    texts = [(0, example(size, range(0, size, 10), serial)) for serial, size in enumerate(sizes)]
    batches = pack(texts, shape, {0: 1.0}, 16, random)
    fill = [(batch.inputs["document_ids"] >= 0).mean() for batch in batches]
    assert np.mean(fill) > 0.93 and min(fill) > 0.85
    assert batches[0].left_out < 0.02 * len(texts)
    told = np.array([(batch.targets["objectives"] >= 0).sum(axis=1) for batch in batches])
    assert told.max() < 1.05 * told.mean()  # so that few slots are empty


def test_chance_decides_who_is_left_out_and_not_length() -> None:
    """A tenth more texts than there is room for."""
    random = np.random.default_rng(1)
    shape = Shape(1, 32, 256, 8192)
    missing: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(40):
        sizes = corpus_sizes(random, int(1.1 * shape.tokens))
        texts = [(0, example(size, [0], serial)) for serial, size in enumerate(sizes)]
        [batch] = pack(texts, shape, {0: 1.0}, random=random)
        there = found([batch], texts).keys()
        for long in missing:
            missing[long] += [number not in there for number, size in enumerate(sizes) if (size >= 200) == long]
    assert 0.1 < np.mean(missing[True]) < 0.2 and 0.1 < np.mean(missing[False]) < 0.2
    assert np.mean(missing[True]) == pytest.approx(np.mean(missing[False]), rel=0.15)
