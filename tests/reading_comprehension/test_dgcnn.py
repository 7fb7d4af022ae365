"""The DGCNN against its formulas in NumPy, what it can see, and what it must not see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.reading_comprehension.dgcnn import DGCNN, PassagePointers, PointerFocal

pytestmark = pytest.mark.backends
UNITS, WIDTH = 6, 5


def sides(rng: np.random.Generator, batch: int = 2, asked: int = 7, length: int = 90) -> tuple[Any, ...]:
    """A question and a passage of random vectors; rows are of different lengths."""
    found: list[Any] = []
    for size in (asked, length):
        found.append(rng.normal(size=(batch, size, WIDTH)).astype("float32"))
        found.append(np.arange(size) < size - np.arange(batch)[:, None] * (size // 3))
    return tuple(found)


def random_reader(rng: np.random.Generator, features: int = 0) -> DGCNN:
    """One all of whose weights are random, biases too."""
    reader = DGCNN(UNITS)
    given = sides(rng)
    reader(*given, *([np.zeros((*given[3].shape, features), "float32")] if features else []))
    for weight in reader.weights:
        if "seed_generator" not in weight.path:
            weight.assign(rng.normal(size=weight.shape) * 0.4)
    return reader


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def convolved(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Token by token, x [L, H] and kernel [3, H, out]."""
    rows = []
    for at in range(len(x)):
        row = bias.copy()
        for tap in range(3):
            place = at + (tap - 1) * dilation
            if 0 <= place < len(x):
                row = row + x[place] @ kernel[tap]
        rows.append(row)
    return np.stack(rows)


def formulas(reader: DGCNN, question: np.ndarray, passage: np.ndarray) -> np.ndarray:
    """What the reader gives for one row without padding, [L, 2]. passage: vectors, with the features of their tokens beside them."""
    weights = {each.path.partition("/")[2]: np.asarray(ops.convert_to_numpy(each), "float64") for each in reader.weights}

    def block(name: str, dilation: int, x: np.ndarray) -> np.ndarray:
        both = convolved(x, weights[f"{name}/convolution/kernel"], weights[f"{name}/convolution/bias"], dilation)
        h, gate = both[:, :UNITS], sigmoid(both[:, UNITS:])
        if f"{name}/projection/kernel" in weights:
            x = x @ weights[f"{name}/projection/kernel"] + weights[f"{name}/projection/bias"]
        return x * (1 - gate) + h * gate

    def pooled(name: str, x: np.ndarray) -> np.ndarray:
        scores = np.exp(np.tanh(x @ weights[f"{name}/inner/kernel"]) @ weights[f"{name}/scorer/kernel"])[:, 0]
        return (scores / scores.sum()) @ x

    for at, dilation in enumerate((1, 2, 1)):
        question = block(f"question_{at}", dilation, question)
    asked = pooled("question_pooling", question)
    beside = np.broadcast_to(asked, (len(passage), UNITS))
    tokens = np.concatenate([passage, beside], axis=1) @ weights["joining/kernel"]
    for at, dilation in enumerate((1, 2, 4, 8, 16, 1)):
        tokens = block(f"passage_{at}", dilation, tokens)
    whole = pooled("passage_pooling", np.concatenate([tokens, beside], axis=1))
    holds = sigmoid(whole @ weights["pointers/holds/kernel"] + weights["pointers/holds/bias"])
    return holds * sigmoid(tokens @ weights["pointers/pointer/dense/kernel"] + weights["pointers/pointer/dense/bias"])


def test_forward_is_that_of_the_formulas() -> None:
    rng = np.random.default_rng(0)
    reader, (question, question_real, passage, passage_real) = random_reader(rng), sides(rng)
    found = ops.convert_to_numpy(reader(question, question_real, passage, passage_real))
    assert found.shape == (2, 90, 2)
    for row in range(2):
        expected = formulas(reader, question[row][question_real[row]].astype("float64"), passage[row][passage_real[row]].astype("float64"))
        np.testing.assert_allclose(found[row][passage_real[row]], expected, rtol=2e-4, atol=1e-6)


def test_features_of_question_and_passage_stand_beside_the_passage() -> None:
    rng = np.random.default_rng(4)
    reader, (question, question_real, passage, passage_real) = random_reader(rng, 3), sides(rng)
    shared = rng.random((*passage_real.shape, 3)).astype("float32")
    found = ops.convert_to_numpy(reader(question, question_real, passage, passage_real, shared))
    both = np.concatenate([passage, shared], axis=-1).astype("float64")
    for row in range(2):
        expected = formulas(reader, question[row][question_real[row]].astype("float64"), both[row][passage_real[row]])
        np.testing.assert_allclose(found[row][passage_real[row]], expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("features", [0, 3])
def test_padding_says_nothing_and_rows_stay_apart(features: int) -> None:
    rng = np.random.default_rng(1)
    reader, (question, question_real, passage, passage_real) = random_reader(rng, features), sides(rng)
    shared = [rng.random((*passage_real.shape, features)).astype("float32")] * bool(features)
    together = ops.convert_to_numpy(reader(question, question_real, passage, passage_real, *shared))
    beginning = [each[1:, :60] for each in (passage, passage_real, *shared)]
    alone = ops.convert_to_numpy(reader(question[1:, :5], question_real[1:, :5], *beginning))
    np.testing.assert_allclose(together[1, :60], alone[0], rtol=1e-4, atol=1e-6)
    question[~question_real] = 7
    for each, value in zip((passage, *shared), (-3, 5), strict=False):
        each[~passage_real] = value
    other = ops.convert_to_numpy(reader(question, question_real, passage, passage_real, *shared))
    np.testing.assert_array_equal(together[passage_real], other[passage_real])


def test_a_token_sees_32_tokens_to_either_side() -> None:
    rng = np.random.default_rng(2)
    reader = random_reader(rng)
    question, question_real, passage, _ = sides(rng, batch=1, length=101)
    real = np.ones((1, 101), bool)
    asked = reader.ask(question, question_real)
    before = ops.convert_to_numpy(reader.read(asked, passage, real))[0, 50]
    seen = []
    for at in range(101):
        other = passage.copy()
        other[0, at] += 10
        if np.abs(ops.convert_to_numpy(reader.read(asked, other, real))[0, 50] - before).max() > 0:
            seen.append(at)
    assert len(seen) == 65 and seen == list(range(18, 83))


def test_nothing_is_told_of_a_passage_that_holds_nothing() -> None:
    pointers = PassagePointers()
    tokens, passage = np.ones((1, 4, 3), "float32"), np.ones((1, 2), "float32")
    pointers(tokens, passage)
    pointers.holds.bias.assign([-200.0])
    assert not ops.convert_to_numpy(pointers(tokens, passage)).any()


@pytest.mark.parametrize("features", [0, 3])
def test_kept_as_keras_file(tmp_path: Path, features: int) -> None:
    ids = {name: keras.Input((None,), dtype="int32", name=name) for name in ("question", "passage")}
    shared = {"shared": keras.Input((None, features), name="shared")} if features else {}
    table = keras.layers.Embedding(9, WIDTH)
    told = DGCNN(UNITS)(*(each for row in ids.values() for each in (table(row), ops.not_equal(row, 0))), *shared.values())
    model = keras.Model(ids | shared, told)
    batch = {"question": np.array([[3, 4, 0]]), "passage": np.array([[1, 2, 3, 8, 5, 0]])}
    batch |= {"shared": np.random.default_rng(6).random((1, 6, features), np.float32)} if features else {}
    before = model.predict_on_batch(batch)
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "m.keras").predict_on_batch(batch), before, rtol=1e-5, atol=1e-7)


def test_focal_loss() -> None:
    rng = np.random.default_rng(3)
    told, right = rng.uniform(0.01, 0.99, (2, 5, 2)).astype("float32"), (rng.random((2, 5, 2)) < 0.3).astype("float32")
    weights = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], "float32")
    p, alpha = np.where(right > 0, told, 1 - told), np.where(right > 0, 0.25, 0.75)
    each = -alpha * (1 - p) ** 2 * np.log(p)
    begins, ends = ((each[..., side] * weights).sum() / weights.sum() for side in (0, 1))
    assert float(PointerFocal()(right, told, weights)) == pytest.approx(100 * (begins + ends), rel=1e-4)
