"""The chain against every path, one by one, and against PyTorch's gradients."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.errors import ConfigError
from bert4k.structured import CRF, CRFLoss, log_partition, path_score, viterbi

pytestmark = pytest.mark.backends

TAGS, LENGTH = 3, 5
# Padding after, none, [CLS] before and a hole between, one place only.
REAL = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]], bool)


def numpy(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def layer() -> tuple[CRF, np.ndarray]:
    crf = CRF()
    crf.build((None, None, TAGS))
    for weight in crf.weights:
        weight.assign(np.random.standard_normal(weight.shape))
    return crf, np.random.standard_normal((len(REAL), LENGTH, TAGS)).astype("float32")


def score(crf: CRF, emissions: np.ndarray, real: np.ndarray, path: tuple[int, ...]) -> float:
    """The score of a path through the real places of one row, by its definition."""
    transitions, begin, end = (numpy(weight).astype("float64") for weight in (crf.transitions, crf.begin, crf.end))
    told = emissions[real].astype("float64")
    return float(
        begin[path[0]]
        + end[path[-1]]
        + sum(told[at, tag] for at, tag in enumerate(path))
        + sum(transitions[pair] for pair in pairwise(path))
    )


def test_partition_path_and_best_path_against_all_paths() -> None:
    crf, emissions = layer()
    chain = crf(emissions, REAL)
    best, best_score = map(numpy, viterbi(chain))
    for row, real in enumerate(REAL):
        paths = list(product(range(TAGS), repeat=int(real.sum())))
        scores = np.array([score(crf, emissions[row], real, path) for path in paths])
        np.testing.assert_allclose(numpy(log_partition(chain))[row], np.log(np.sum(np.exp(scores))), rtol=1e-5)
        assert tuple(best[row][real]) == paths[int(np.argmax(scores))]
        np.testing.assert_allclose(best_score[row], scores.max(), rtol=1e-5)
        for path in (paths[0], paths[-1], paths[len(paths) // 2]):
            labels = np.full((len(REAL), LENGTH), -1)
            labels[row, real] = path
            np.testing.assert_allclose(numpy(path_score(chain, labels))[row], score(crf, emissions[row], real, path), rtol=1e-4)


def test_without_a_mask_every_place_counts() -> None:
    crf, emissions = layer()
    np.testing.assert_allclose(numpy(crf(emissions)), numpy(crf(emissions, np.ones(REAL.shape, bool))))


def test_places_without_a_label_do_not_count_whatever_the_layer_was_told() -> None:
    crf, emissions = layer()
    labels = np.where(REAL, np.random.default_rng(0).integers(0, TAGS, REAL.shape), -1)
    told = CRFLoss(reduction="none")(labels, crf(emissions, REAL))
    longer = np.concatenate([emissions, np.full((len(REAL), 2, TAGS), 7.0, "float32")], axis=1)
    real = np.concatenate([REAL, np.zeros((len(REAL), 2), bool)], axis=1)
    padded = CRFLoss(reduction="none")(np.concatenate([labels, np.full((len(REAL), 2), -1)], axis=1), crf(longer, real))
    np.testing.assert_allclose(numpy(padded), numpy(told), rtol=1e-5)
    assert (numpy(told) > 0).all()


def test_gradients_are_those_of_the_sum_over_all_paths_in_torch() -> None:
    torch = pytest.importorskip("torch")
    crf, emissions = layer()
    labels = np.where(REAL, np.random.default_rng(1).integers(0, TAGS, REAL.shape), -1)

    given = {"emissions": emissions, "transitions": numpy(crf.transitions), "begin": numpy(crf.begin), "end": numpy(crf.end)}
    of = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in given.items()}

    def torch_score(row: int, path: tuple[int, ...]) -> Any:
        told = of["emissions"][row][torch.from_numpy(REAL[row])]
        total = of["begin"][path[0]] + of["end"][path[-1]] + sum(told[at, tag] for at, tag in enumerate(path))
        return total + sum(of["transitions"][pair] for pair in pairwise(path))

    loss = 0.0
    for row, real in enumerate(REAL):
        everything = torch.stack([torch_score(row, path) for path in product(range(TAGS), repeat=int(real.sum()))])
        loss = loss + torch.logsumexp(everything, 0) - torch_score(row, tuple(labels[row][real]))
    loss.backward()

    emissions_in = keras.Variable(emissions)
    variables = [emissions_in, crf.transitions, crf.begin, crf.end]

    found, gradients = value_and_gradients(lambda: CRFLoss(reduction="sum")(labels, crf(emissions_in.value, REAL)), variables)
    np.testing.assert_allclose(found, loss.item(), rtol=1e-5)
    for gradient, expected in zip(gradients, of.values(), strict=True):
        np.testing.assert_allclose(gradient, expected.grad.numpy(), atol=2e-5)


def value_and_gradients(function: Any, variables: list[keras.Variable]) -> tuple[float, list[np.ndarray]]:
    from bert4k.backend import differentiated

    def at(values: list[Any]) -> tuple[Any, None]:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(), None

    loss, _, gradients = differentiated(at, [variable.value for variable in variables])
    return float(numpy(loss)), [numpy(gradient) for gradient in gradients]


def model(policy: str = "float32") -> keras.Model:
    x, real = keras.Input((None, 4), name="x"), keras.Input((None,), dtype="bool", name="real")
    emissions = keras.layers.Dense(TAGS, dtype=policy)(x)
    return keras.Model({"x": x, "real": real}, CRF(dtype=policy)(emissions, real))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fit_finds_tags_and_a_saved_model_gives_the_same(policy: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, TAGS, (16, 6))
    x = np.concatenate([np.eye(TAGS)[labels], random.normal(size=(16, 6, 1))], axis=-1).astype("float32")
    real = np.ones((16, 6), bool)
    real[::2, 4:] = False
    inputs, labels = {"x": x, "real": real}, np.where(real, labels, -1)
    tagger = model(policy)
    tagger.compile(keras.optimizers.Adam(0.1), CRFLoss())
    losses = tagger.fit(inputs, labels, epochs=25, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    chain = tagger.predict(inputs, verbose=0)
    assert chain.dtype == np.float32
    assert (numpy(viterbi(chain)[0])[real] == labels[real]).all()
    tagger.save(tmp_path / "tagger.keras")
    again = keras.saving.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(again.predict(inputs, verbose=0), chain)
    assert isinstance(again.loss, CRFLoss)


def test_a_thousand_places_give_no_nan() -> None:
    crf, _ = layer()
    emissions = (np.random.standard_normal((2, 1000, TAGS)) * 30).astype("float32")
    labels = np.zeros((2, 1000), int)
    assert np.isfinite(numpy(CRFLoss(reduction="none")(labels, crf(emissions)))).all()
    assert numpy(viterbi(crf(emissions))[0]).shape == (2, 1000)


def test_tags_without_a_number() -> None:
    with pytest.raises(ConfigError, match="the tags a known number"):
        CRF().build((None, None, None))
