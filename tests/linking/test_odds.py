"""What a dictionary alone says of where mentions are: counted right, added right, and where a fresh model begins."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint

from bert4k.linking.mentions import begin, build, detect, encode, in_pieces
from bert4k.linking.odds import SEEN, DictionaryOdds, count_ends, count_spans
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

ROWS = [np.array(row, np.int32) for row in ([[1, 1]], [[0, 0], [1, 0], [0, 1], [1, 1], [0, 0]], [[1, 0], [0, 0], [0, 1], [1, 0], [0, 1]])]
NAMES = [{(0, 1)}, {(1, 3), (3, 4)}, {(0, 3), (3, 5)}]
MENTIONS = [[(0, 1)], [(1, 3), (1, 4)], []]


def ends_of(number: int, first: int, end: int) -> int:
    """Of a span of a row, told from the names themselves."""
    if (first, end) in NAMES[number]:
        return 3
    return sum(first == name[0] for name in NAMES[number]) + sum(end == name[1] for name in NAMES[number])


def log_odds(shape: tuple[int, ...], cases: list[tuple[Any, bool]]) -> np.ndarray[Any, Any]:
    counts = np.full((*shape, 2), SEEN)
    for place, right in cases:
        counts[place][int(right)] += 1
    return np.log(counts[..., 1] / counts[..., 0])


def test_ends_are_counted() -> None:
    cases = [
        ((channel, int(row[at, channel])), at in {place[0] if channel == 0 else place[1] - 1 for place in places})
        for row, places in zip(ROWS, MENTIONS, strict=True)
        for at, channel in product(range(len(row)), (0, 1))
    ]
    np.testing.assert_allclose(count_ends(ROWS, MENTIONS), log_odds((2, 2), cases), rtol=1e-6)


def test_spans_are_counted() -> None:
    cases = [
        (ends_of(number, first, end), (first, end) in MENTIONS[number])
        for number, row in enumerate(ROWS)
        for first in range(len(row))
        for end in range(first + 1, len(row) + 1)
    ]
    np.testing.assert_allclose(count_spans(ROWS, MENTIONS), log_odds((4,), cases), rtol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("spans", [False, True])
def test_the_odds_of_its_channels_are_added_to_each_logit(spans: bool) -> None:
    random = np.random.default_rng(1)
    matches, odds = np.stack(ROWS[1:]), random.normal(size=(4,) if spans else (2, 2)).astype(np.float32)
    logits = random.normal(size=(2, 1, 5, 5) if spans else (2, 5, 1, 2)).astype(np.float32)
    layer = DictionaryOdds(spans)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(logits, matches)), logits)  # none, so far
    layer.set_weights([odds])
    told = keras.ops.convert_to_numpy(layer(logits, matches)) - logits
    for row, first in product(range(2), range(5)):
        if spans:
            expected = [odds[ends_of(row + 1, first, end)] for end in range(first + 1, 6)]
            np.testing.assert_allclose(told[row, 0, first, first:], expected, atol=1e-6)
        else:
            np.testing.assert_allclose(told[row, first, 0], [odds[0, matches[row, first, 0]], odds[1, matches[row, first, 1]]], atol=1e-6)


@pytest.mark.parametrize("head", ["half_pointer", "global_pointer"])
def test_a_fresh_model_knows_what_the_dictionary_knows(tmp_path: Path, head: Any) -> None:
    """What a hidden state says at first is noise; without it, all that a dictionary which is right has, and nothing else, is found."""
    texts, places = ["王明在北京", "北京的书", "王明的书"], [[(0, 2), (3, 5)], [(0, 2)], [(0, 2)]]
    tokenizer = Tokenizer(TOKENS)
    rows, pieces = encode(texts, tokenizer, 16, lambda text: places[texts.index(text)])
    model, _, _ = build(str(checkpoint(tmp_path)), Tuning(), head, "features")
    begin(model, rows, in_pieces(places, pieces), head)
    for weight in model.get_layer("mentions").trainable_variables:
        weight.assign(np.zeros(weight.shape))
    assert [[span[:2] for span in row] for row in detect(model, rows, pieces, len(texts), head)] == places
