"""Triples against a loop over every span, predicate and span."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.layers import FORBIDDEN
from bert4k.structured import GlobalPointerLoss, GPLinker, Link, link, link_targets

PREDICATES, LENGTH, HIDDEN = 3, 6, 4
REAL = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]], bool)


def by_hand(scores: np.ndarray, predicates: int) -> list[Link]:
    """The definition: subject and object are spans, and predicate p joins first tokens and last tokens."""
    found = []
    places = range(scores.shape[-1])
    for first, last, p, object_first, object_last in product(places, places, range(predicates), places, places):
        told = scores[0, first, last], scores[1, object_first, object_last]
        told += scores[2 + p, first, object_first], scores[2 + predicates + p, last, object_last]
        if min(told) > 0:
            found.append(Link((first, last + 1), p, (object_first, object_last + 1)))
    return sorted(found)


@pytest.mark.parametrize("seed", range(5))
def test_every_triple_is_found(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(-0.3, 1, (2 + 2 * PREDICATES, LENGTH, LENGTH))
    expected = by_hand(scores, PREDICATES)
    assert expected and link(scores) == expected
    assert link(np.full_like(scores, -1.0)) == []


def test_the_most_likely_entities_are_kept_where_there_are_too_many() -> None:
    scores = np.ones((4, LENGTH, LENGTH))
    scores[0, 1, 2] = scores[1, 3, 3] = 2
    assert len(link(scores)) == 36 * 36
    assert link(scores, most=1) == [Link((1, 3), 0, (3, 4))]


def test_what_is_learnt_is_what_is_found() -> None:
    """Entities that nest, share a first token, or are subject and object at once."""
    links = [Link((1, 3), 0, (1, 5)), Link((1, 3), 2, (4, 5)), Link((4, 5), 1, (1, 3))]
    assert link(link_targets(links, PREDICATES, LENGTH)) == sorted(links)
    assert not link_targets([], PREDICATES, LENGTH).any()


@pytest.mark.backends
def test_the_layer(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(2, LENGTH, HIDDEN)).astype("float32")
    inputs, real = keras.Input((None, HIDDEN)), keras.Input((None,), dtype="bool")
    model = keras.Model([inputs, real], GPLinker(PREDICATES, 4)(inputs, real))
    scores = ops.convert_to_numpy(model([x, REAL]))
    assert scores.shape == (2, 2 + 2 * PREDICATES, LENGTH, LENGTH)
    possible = REAL[:, :, None] & REAL[:, None, :]
    spans = possible & np.triu(np.ones((LENGTH, LENGTH), bool))
    for kind in range(2 + 2 * PREDICATES):  # spans run forward; predicates join any two tokens
        np.testing.assert_array_equal(scores[:, kind] > FORBIDDEN / 2, spans if kind < 2 else possible)
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(keras.saving.load_model(tmp_path / "m.keras")([x, REAL])), scores, atol=1e-6)


@pytest.mark.backends
def test_it_learns_a_text() -> None:
    x = np.random.default_rng(0).normal(size=(1, LENGTH, HIDDEN)).astype("float32")
    links = [Link((0, 2), 1, (3, 5)), Link((2, 3), 0, (0, 1))]
    inputs = keras.Input((None, HIDDEN))
    model = keras.Model(inputs, GPLinker(PREDICATES, 8)(keras.layers.Dense(16, "tanh")(inputs)))
    model.compile(keras.optimizers.Adam(0.05), GlobalPointerLoss())
    model.fit(x, link_targets(links, PREDICATES, LENGTH)[None], epochs=80, verbose=0)
    assert link(model.predict_on_batch(x)[0]) == sorted(links)
