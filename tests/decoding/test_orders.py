"""The log-probability of a text under any order, against one token at a time in NumPy, `model.predict`, and all texts there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from decoding import reference
from decoding.conftest import SPECIAL

import bert4k
from bert4k import ConfigError, DataError
from bert4k.model import Transformer

# PyTorch's compiler, once it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")

BLANK = SPECIAL.index("[MASK]")
TEXTS: list[Any] = ["一", "二三", "东西南北", "", ("上下", "左右中"), "一二三四五六七八九十上下左右"]


@pytest.fixture
def permuted(under: Callable[[str], Any]) -> Any:
    return under("permuted")


def row_of(tokenizer: Any, text: Any) -> tuple[list[int], list[int], list[int]]:
    """Token ids, segment ids, and the places that are told."""
    batch = tokenizer([text])
    ids, segments = batch["token_ids"][0].tolist(), batch["segment_ids"][0].tolist()
    return ids, segments, [place for place, token in enumerate(ids) if token not in (tokenizer.cls_id, tokenizer.sep_id)]


def one_by_one(model: Any, tokenizer: Any, text: Any, order: list[int]) -> float:
    """Each token from a row of its own, which holds what was revealed before it, and one query."""
    bert, total = reference.Bert(model), 0.0
    ids, segments, at = row_of(tokenizer, text)
    known = [(place, 0) for place in range(len(ids)) if place not in at]
    for time, number in enumerate(order):
        place = at[number]
        places, times = (list(column) for column in zip(*known, (place, time), strict=True))
        allowed = np.array([[times[key] <= times[query] for key in range(len(times))] for query in range(len(times))])
        allowed[:, -1] = False
        tokens = [ids[each] for each in places[:-1]] + [BLANK]
        x = bert.sequence(tokens, [segments[each] for each in places], places, allowed)
        total += bert.told(x)[-1, ids[place]]
        known.append((place, time + 1))
    return total


@pytest.mark.backends
@pytest.mark.parametrize("order", ("left_to_right", "right_to_left"))
def test_scores_by_the_chain_rule(permuted: Any, tokenizer: Any, order: str) -> None:
    expected = []
    for text in TEXTS:
        numbers = list(range(len(row_of(tokenizer, text)[2])))
        expected.append(one_by_one(permuted, tokenizer, text, numbers if order == "left_to_right" else numbers[::-1]))
    found = bert4k.score(permuted, tokenizer, TEXTS, order=order)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-4)
    np.testing.assert_allclose(bert4k.score(permuted, tokenizer, TEXTS, 2, order=order), found, atol=1e-4)


def test_any_permutation(permuted: Any, tokenizer: Any) -> None:
    text = "东西南北"
    orders = [list(order) for order in permutations(range(4))]
    found = bert4k.score(permuted, tokenizer, [text] * len(orders), order=orders)
    np.testing.assert_allclose(found, [one_by_one(permuted, tokenizer, text, order) for order in orders], atol=3e-4)
    assert len(set(found.round(3).tolist())) == len(orders), "with random weights, every order has a probability of its own"
    assert bert4k.score(permuted, tokenizer, [text], order=(2, 0, 3, 1))[0] == pytest.approx(found[orders.index([2, 0, 3, 1])], abs=1e-4)


@pytest.mark.backends
def test_as_the_model_is_trained(permuted: Any, tokenizer: Any) -> None:
    """One row of content and query copies, as `pretraining.objectives.permuted` lays it out, through `model.predict`."""
    ids, segments, at = row_of(tokenizer, "十九八七六五")
    time = np.random.default_rng(1).permutation(len(at))
    order = np.zeros(len(ids), int)
    order[at] = 1 + time
    row = {
        "token_ids": [*ids, *[BLANK] * len(at)],
        "segment_ids": [*segments, *[0] * len(at)],
        "position_ids": [*range(len(ids)), *at],
        "order": [*order, *time],
        "real": [True] * len(ids) + [False] * len(at),
    }
    logits = permuted.predict({name: np.array([values]) for name, values in row.items()}, verbose=0)["mlm"][0, len(ids) :].astype("float64")
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = sum(log_probs[query, ids[place]] for query, place in enumerate(at))
    found = bert4k.score(permuted, tokenizer, ["十九八七六五"], order=np.argsort(time))
    assert found[0] == pytest.approx(expected, abs=3e-4)


@pytest.mark.backends
@pytest.mark.parametrize("order", ("left_to_right", (1, 0)))
def test_all_texts_of_a_length_sum_to_one(permuted: Any, tokenizer: Any, order: Any) -> None:
    texts = ["".join(tokens) for tokens in product(tokenizer.vocabulary, repeat=2)]
    assert len(texts) == 576
    scores = bert4k.score(permuted, tokenizer, texts, 1024, order=order)
    assert np.exp(scores.astype("float64")).sum() == pytest.approx(1.0, abs=1e-4)


def test_random_orders_follow_from_seed_and_text(permuted: Any, tokenizer: Any) -> None:
    texts = ["东西南北", "上下左右中", "十九八七六五"]
    found = bert4k.score(permuted, tokenizer, texts, order="random", seed=1)
    np.testing.assert_allclose(bert4k.score(permuted, tokenizer, texts[::-1], order="random", seed=1)[::-1], found, atol=1e-4)
    assert bert4k.score(permuted, tokenizer, texts[1:2], order="random", seed=1)[0] == pytest.approx(found[1], abs=1e-4)
    several = [bert4k.score(permuted, tokenizer, texts[:1], order="random", seed=seed)[0] for seed in range(12)]
    every = bert4k.score(permuted, tokenizer, texts[:1] * 24, order=[list(order) for order in permutations(range(4))])
    assert len({round(float(value), 3) for value in several}) > 4
    assert np.abs(np.array(several)[:, None] - every[None]).min(axis=1).max() < 1e-3


def test_a_text_without_tokens_is_certain(permuted: Any, tokenizer: Any) -> None:
    assert bert4k.score(permuted, tokenizer, [""]).tolist() == [0.0]


def test_what_cannot_be_scored(model: Any, permuted: Any, tokenizer: Any) -> None:
    for texts, words in (("一二", "list"), ([], "list"), (["一", "二" * 60], "Text 1 has 62 tokens")):
        with pytest.raises(DataError, match=words):
            bert4k.score(permuted, tokenizer, texts)
    for order, words in (
        ("left_to_rigth", "Did you mean 'left_to_right'"),
        ("confidence", "There is no order 'confidence'"),
        ((0, 1), "no order of the 1 tokens of text 0"),
        ((0, 1, 2), "each number from 0 to 0 once"),
        ([[0], [1, 0], [0]], "3 sequences and there are 2 texts"),
        (7, "expected one of left_to_right"),
    ):
        with pytest.raises(ConfigError, match=words):
            bert4k.score(permuted, tokenizer, ["一", "二三"], order=order)
    for mask in ("encoder", "lm", "permuted(seed=1)", "permuted(strict=True)"):
        with pytest.raises(ConfigError, match="with_mask\\('permuted'\\)"):
            bert4k.score(model.with_mask(mask), tokenizer, ["一"], order="random")
    with pytest.raises(ConfigError, match="mlm"):
        bert4k.score(Transformer(model.config, "permuted", ("sequence",)), tokenizer, ["一"])
