"""Samplers driven by made-up languages, without a model: against plain Python, and against themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decoding import reference
from keras import ops

import bert4k
from bert4k import ConfigError
from bert4k.decoding import samplers

END, VOCABULARY, LIMIT = 1, 5, 5


def language(seed: int, end: float = 0.0) -> reference.Next:
    """Log-probabilities that depend on all that has been written; a few tokens are impossible. `end` is added to the end's logit."""

    def after(written: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([seed, *written])
        logits = rng.normal(0.0, 1.5, VOCABULARY)
        logits[END] += end
        log_probs = logits - np.log(np.exp(logits).sum())
        log_probs[0] = -np.inf
        return log_probs

    return after


def run(sampler: Any, languages: list[reference.Next], limit: int = LIMIT, settle: bool = True) -> samplers.Hypotheses:
    """The sampler's loop over rows that speak different languages, up to the limit or until all rows are settled."""
    book = sampler.start(len(languages), LIMIT)
    for slot in range(limit):
        written = ops.convert_to_numpy(book.live.tokens)[:, :, :slot]
        values = np.array([[after(tuple(one.tolist())) for one in row] for after, row in zip(languages, written, strict=True)], "float32")
        values = np.maximum(values, samplers.IMPOSSIBLE)
        book, _ = sampler.choose(book, ops.convert_to_tensor(values), END, limit, None)
        if settle and bool(ops.all(sampler.settled(book, limit))):
            break
    return samplers.Hypotheses(*(ops.convert_to_numpy(field) for field in sampler.result(book)))


def texts(found: samplers.Hypotheses, row: int) -> list[tuple[int, ...]]:
    possible = found.score[row] > samplers.LOST
    return [
        tuple(tokens[:length].tolist()) for tokens, length in zip(found.tokens[row][possible], found.length[row][possible], strict=True)
    ]


@pytest.mark.backends
@pytest.mark.parametrize("penalty", (0.0, 0.6, 1.0, -0.5))
@pytest.mark.parametrize(("width", "n_best"), ((1, 1), (3, 3), (8, 2)))
def test_a_beam_is_the_documented_search(width: int, n_best: int, penalty: float) -> None:
    languages = [language(seed, end=seed % 3 - 1) for seed in range(12)]
    found = run(bert4k.beam(width, penalty, n_best), languages)
    for row, after in enumerate(languages):
        expected = reference.beam(after, END, LIMIT, width, penalty, n_best)
        assert texts(found, row) == [one.tokens for one in expected]
        np.testing.assert_allclose(found.score[row], [one.score for one in expected], atol=1e-4)
        # That the reference may stop early is no part of the answer.
        assert expected == reference.beam(after, END, LIMIT, width, penalty, n_best, settles=False)


@pytest.mark.backends
@pytest.mark.parametrize(("width", "groups", "diversity", "n_best"), ((4, 2, 0.7, 4), (6, 3, 5.0, 3), (2, 2, 0.0, 1)))
def test_groups_of_beams_are_the_documented_search(width: int, groups: int, diversity: float, n_best: int) -> None:
    languages = [language(seed, end=seed % 3 - 1) for seed in range(300, 312)]
    sampler = bert4k.beam(width, 0.6, n_best, groups=groups, diversity=diversity)
    for settle in (False, True):
        found = run(sampler, languages, settle=settle)
        for row, after in enumerate(languages):
            expected = reference.diverse_beam(after, END, LIMIT, width, 0.6, groups, diversity, n_best)
            np.testing.assert_allclose(found.score[row], [one.score for one in expected], atol=1e-4)
            if diversity:  # else the groups find the same texts
                assert sorted(texts(found, row)) == sorted(one.tokens for one in expected)


def test_diversity_separates_the_groups() -> None:
    languages = [language(seed, end=-9.0) for seed in range(400, 408)]
    alike, apart = (run(bert4k.beam(2, n_best=2, groups=2, diversity=diversity), languages) for diversity in (0.0, 9.0))
    for row in range(len(languages)):
        assert len(set(texts(alike, row))) == 1
        assert all(one != other for one, other in zip(*texts(apart, row), strict=True)), "no slot holds the same token"


@pytest.mark.parametrize("penalty", (0.0, 0.6, 1.0, -0.5, -2.0))
@pytest.mark.parametrize(("width", "n_best"), ((2, 1), (3, 2)))
def test_settling_changes_nothing(width: int, n_best: int, penalty: float) -> None:
    sampler = bert4k.beam(width, penalty, n_best)
    languages = [language(seed, end=2.0) for seed in range(100, 140)]
    patient = run(sampler, languages, settle=False)
    for row, after in enumerate(languages[:12]):
        eager = run(sampler, [after])
        assert texts(eager, 0) == texts(patient, row), "a row alone, which may stop early, and among others that go on"
        np.testing.assert_allclose(eager.score[0], patient.score[row], atol=1e-5)


@pytest.mark.parametrize("penalty", (0.0, 0.6, 1.0, -0.5))
def test_a_beam_as_wide_as_the_language_finds_the_best(penalty: float) -> None:
    languages = [language(seed) for seed in range(200, 204)]
    found = run(bert4k.beam(200, penalty, n_best=5), languages, limit=4)
    for row, after in enumerate(languages):
        best = reference.exhaustive(after, END, 4, penalty)[:5]
        assert texts(found, row) == [one.tokens for one in best]


def test_beams_are_all_different() -> None:
    found = run(bert4k.beam(4, n_best=4), [language(seed) for seed in range(8)])
    assert all(len(set(texts(found, row))) == 4 for row in range(8))


def drawn(sampler: Any, log_probs: np.ndarray, count: int = 4000) -> np.ndarray:
    """How often each token is drawn from one distribution, with evenly spread numbers."""
    uniform = (np.arange(count, dtype="float32") + 0.5) / count
    tokens = sampler.token(
        ops.broadcast_to(ops.convert_to_tensor(log_probs), (count, 1, len(log_probs))), ops.convert_to_tensor(uniform[:, None])
    )
    return np.bincount(ops.convert_to_numpy(tokens)[:, 0], minlength=len(log_probs)) / count


PROBABILITY = np.array([0.0, 0.4, 0.1, 0.3, 0.2])
LOG_PROBS = np.log(np.maximum(PROBABILITY, 1e-30)).astype("float32")
LOG_PROBS[0] = samplers.IMPOSSIBLE


@pytest.mark.backends
@pytest.mark.parametrize(
    ("sampler", "share"),
    (
        (bert4k.sample(), PROBABILITY),
        (bert4k.sample(temperature=0.5), PROBABILITY**2 / (PROBABILITY**2).sum()),
        (bert4k.sample(temperature=1e9), [0, 0.25, 0.25, 0.25, 0.25]),
        (bert4k.sample(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        (bert4k.sample(top_k=1), [0, 1, 0, 0, 0]),
        (bert4k.sample(top_k=99), PROBABILITY),
        (bert4k.sample(top_p=0.5), [0, 4 / 7, 0, 3 / 7, 0]),
        (bert4k.sample(top_p=0.3), [0, 1, 0, 0, 0]),
        (bert4k.sample(top_p=1.0), PROBABILITY),
        (bert4k.sample(top_k=3, top_p=0.75), [0, 4 / 7, 0, 3 / 7, 0]),
        (bert4k.sample(min_p=0.4), [0, 4 / 9, 0, 3 / 9, 2 / 9]),
        (bert4k.sample(min_p=1.0), [0, 1, 0, 0, 0]),
        (bert4k.sample(min_p=1e-6), PROBABILITY),
        (bert4k.sample(temperature=0.5, min_p=0.4), [0, 16 / 25, 0, 9 / 25, 0]),  # of the probabilities that the temperature gave
        (bert4k.sample(min_p=0.4, top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
    ),
)
def test_tokens_are_drawn_by_their_probability(sampler: Any, share: Any) -> None:
    np.testing.assert_allclose(drawn(sampler, LOG_PROBS), share, atol=1e-3)


@pytest.mark.backends
def test_the_ends_of_the_unit_interval_are_possible_tokens() -> None:
    log_probs = ops.broadcast_to(ops.convert_to_tensor(np.append(LOG_PROBS, np.float32(samplers.IMPOSSIBLE))), (2, 1, 6))
    for sampler in (bert4k.sample(), bert4k.sample(top_k=6), bert4k.sample(top_p=1.0)):
        tokens = ops.convert_to_numpy(sampler.token(log_probs, ops.convert_to_tensor(np.array([[0.0], [1 - 1e-6]], "float32"))))
        assert not set(tokens.ravel()) & {0, 5}


def test_the_seed_is_no_part_of_the_program() -> None:
    assert bert4k.sample(seed=1) == bert4k.sample(seed=2)
    assert hash(bert4k.sample(seed=1)) == hash(bert4k.sample())
    assert bert4k.sample(top_k=1) != bert4k.sample(top_k=2)


@pytest.mark.parametrize(
    ("make", "words"),
    (
        (lambda: bert4k.sample(temperature=0), "temperature=0"),
        (lambda: bert4k.sample(temperature=-1.0), "temperature=-1"),
        (lambda: bert4k.sample(temperature=float("nan")), "temperature=nan"),
        (lambda: bert4k.sample(temperature=float("inf")), "temperature=inf"),
        (lambda: bert4k.sample(top_k=0), "top_k=0"),
        (lambda: bert4k.sample(top_k=2.5), "top_k=2.5"),
        (lambda: bert4k.sample(top_p=0), "top_p=0"),
        (lambda: bert4k.sample(top_p=1.01), "top_p=1.01"),
        (lambda: bert4k.sample(top_p=float("nan")), "top_p=nan"),
        (lambda: bert4k.sample(min_p=0), "min_p=0"),
        (lambda: bert4k.sample(min_p=1.5), "min_p=1.5"),
        (lambda: bert4k.sample(count=0), "count=0"),
        (lambda: bert4k.sample(seed=-1), "seed=-1"),
        (lambda: bert4k.beam(0), "beam\\(0\\)"),
        (lambda: bert4k.beam(True), "beam\\(True\\)"),
        (lambda: bert4k.beam(2.0), "beam\\(2.0\\)"),
        (lambda: bert4k.beam(2, n_best=3), "n_best=3"),
        (lambda: bert4k.beam(2, n_best=0), "n_best=0"),
        (lambda: bert4k.beam(2, length_penalty=float("nan")), "length_penalty=nan"),
        (lambda: bert4k.beam(4, groups=3), "groups=3"),
        (lambda: bert4k.beam(4, groups=0), "groups=0"),
        (lambda: bert4k.beam(4, groups=2, diversity=-1.0), "diversity=-1"),
    ),
)
def test_settings_out_of_range_are_named(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
