"""Losses, gradients and accuracies of the model that is trained, against a slow one in NumPy that takes one text at a time."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from decoding import reference
from pretraining.conftest import SPECIAL, make_tiny, some_stretch

from bert4k.pretraining import objectives
from bert4k.pretraining.objectives import NOTHING, Example
from bert4k.pretraining.packing import Batch, Shape, pack
from bert4k.pretraining.stream import OBJECTIVES
from bert4k.pretraining.trainer import SWAPPED, Pretrainer, Tally, as_fit_takes, make_transformer, peak_flops

NUMBER = {name: number for number, name in enumerate(OBJECTIVES)}
RATIOS = {NUMBER["sentence_order"]: 0.4, NUMBER["left_to_right"]: 0.3, NUMBER["permuted"]: 0.2, NUMBER["pairs"]: 0.1}


def some_examples(count: int = 14) -> list[tuple[int, Example]]:
    random = np.random.default_rng(0)
    made = []
    for seed in range(count):
        text = some_stretch(seed, lines=3, words=3)
        match seed % 4:
            case 0:
                made.append((NUMBER["left_to_right"], objectives.left_to_right(text, SPECIAL)))
            case 1:
                made.append((NUMBER["permuted"], objectives.permuted(text, SPECIAL, random, 0.3)))
            case _:
                made.append((NUMBER["sentence_order"], objectives.sentence_order(text, SPECIAL, random, 0.3)))
    return made


@pytest.fixture(scope="module")
def batch() -> Batch:
    [batch] = pack(some_examples(), Shape(2, 3, 64, 80), RATIOS)
    assert batch.left_out == 0 and (batch.targets["swapped_weights"] > 0).sum() > 2
    assert not (batch.targets["objectives"] == NUMBER["pairs"]).any()  # one that is absent
    return batch


def make(batch: Batch, optimizer: Any = None, sentence_order: bool = True, compiled: bool = True, dtype: str | None = None) -> Pretrainer:
    groups, rows, length = batch.inputs["token_ids"].shape
    shape = Shape(groups, rows, length, batch.inputs["positions"].shape[1])
    pretrainer = Pretrainer(make_tiny(sentence_order, layers=1, dtype=dtype), shape, compiled)
    pretrainer.compile(optimizer or keras.optimizers.SGD(1.0), jit_compile=False)
    return pretrainer


class Slow:
    """The model in float64: each text of a batch alone, under a mask that is written out pair by pair."""

    def __init__(self, pretrainer: Pretrainer) -> None:
        self.bert = reference.Bert(pretrainer.transformer)
        self.weights = self.bert.weights

    def sequence(self, batch: Batch) -> np.ndarray:
        x = np.zeros((*batch.inputs["token_ids"].shape, self.bert.config.hidden_size))
        for group, row in np.ndindex(x.shape[:2]):
            inputs = {
                name: batch.inputs[name][group, row]
                for name in ("token_ids", "segment_ids", "position_ids", "order", "real", "document_ids")
            }
            for document in range(inputs["document_ids"].max() + 1):
                here = inputs["document_ids"] == document
                tokens, segments, places, order, real = (values[here].tolist() for values in list(inputs.values())[:5])
                allowed = [[real[key] and order[key] <= order[query] for key in range(len(order))] for query in range(len(order))]
                x[group, row, here] = self.bert.sequence(tokens, segments, places, np.array(allowed))
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        x = self.sequence(batch)
        told = self.bert.told(np.stack([x[group, places] for group, places in enumerate(batch.inputs["positions"])]))
        labels = batch.targets["labels"]
        first = np.stack([x[group, places] for group, places in enumerate(batch.inputs["firsts"])])
        order = (
            self.bert.dense("nsp/dense", np.tanh(self.bert.dense("pooled/dense", first))) if "nsp/dense/kernel" in self.weights else None
        )
        return {
            "log_probs": np.take_along_axis(told, labels[..., None], axis=-1)[..., 0],
            "right": told.argmax(axis=-1) == labels,
            **({} if order is None else {"order": order - np.log(np.exp(order).sum(axis=-1, keepdims=True))}),
        }

    def losses(self, batch: Batch) -> dict[str, tuple[int, float, float]]:
        """Of each objective: how many predictions, their mean loss, and the share of right ones."""
        y = self(batch)
        told = {}
        for number, name in enumerate(OBJECTIVES):
            these = batch.targets["objectives"] == number
            if these.any():
                told[name] = (int(these.sum()), -y["log_probs"][these].mean(), y["right"][these].mean())
        judged = batch.targets["swapped_weights"] > 0
        if "order" in y:
            swapped = batch.targets["swapped"][judged]
            own = y["order"][judged]
            told[SWAPPED] = (len(swapped), -np.mean(own[np.arange(len(own)), swapped]), np.mean(own.argmax(axis=-1) == swapped))
        return told

    def loss(self, batch: Batch) -> float:
        losses = self.losses(batch)
        total = sum(ratio for number, ratio in RATIOS.items() if OBJECTIVES[number] in losses)
        shares = {OBJECTIVES[number]: ratio / total for number, ratio in RATIOS.items()}
        shares[SWAPPED] = shares["sentence_order"]
        return sum(shares[name] * loss for name, (_, loss, _) in losses.items())


def tensors(values: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: keras.ops.convert_to_tensor(value) for name, value in values.items()}


def numpy(values: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(values)


@pytest.mark.backends
def test_what_it_gives_is_what_the_slow_model_gives(batch: Batch) -> None:
    pretrainer = make(batch)
    inputs, targets = as_fit_takes(batch)
    y, expected = pretrainer(tensors(inputs)), Slow(pretrainer)(batch)
    told = targets["objectives"] != NOTHING
    np.testing.assert_allclose(numpy(y["log_probs"])[told], expected["log_probs"][told], atol=2e-4)
    assert (numpy(y["right"])[told] == expected["right"][told]).all() and 0 < expected["right"][told].sum() < told.sum()
    judged = targets["swapped_weights"] > 0
    order = numpy(keras.ops.log_softmax(y["order"], axis=-1))
    np.testing.assert_allclose(order[judged], expected["order"][judged], atol=2e-4)
    assert "right" not in pretrainer(tensors(inputs), training=True)


@pytest.mark.backends
@pytest.mark.parametrize("sentence_order", [True, False])
def test_losses_and_accuracies(batch: Batch, sentence_order: bool) -> None:
    pretrainer = make(batch, sentence_order=sentence_order)
    inputs, targets = map(tensors, as_fit_takes(batch))
    slow = Slow(pretrainer)
    logs = pretrainer.test_on_batch(inputs, targets, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(slow.loss(batch), rel=1e-4)
    losses = slow.losses(batch)
    for name in (*OBJECTIVES, SWAPPED):
        if name == SWAPPED and not sentence_order:
            assert f"{name}_count" not in logs
            continue
        count, loss, right = losses.get(name, (0, 0.0, 0.0))
        assert float(logs[f"{name}_count"]) == count
        assert float(logs[f"{name}_loss"]) == pytest.approx(loss, rel=1e-4)
        assert float(logs[f"{name}_accuracy"]) == pytest.approx(right, rel=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("compiled", [True, False] if keras.backend.backend() == "torch" else [True])
def test_gradients_are_slopes_of_the_slow_loss(batch: Batch, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of plain descent with rate 1 moves the weights by the gradient."""
    monkeypatch.setattr("bert4k.backend.has_compiler", lambda: False)  # PyTorch: one graph, but no minute of C++
    pretrainer = make(batch, compiled=compiled)
    slow = Slow(pretrainer)
    before = {name: values.copy() for name, values in slow.weights.items()}
    logs = pretrainer.train_on_batch(*map(tensors, as_fit_takes(batch)), return_dict=True)
    assert float(logs["loss"]) == pytest.approx(slow.loss(batch), rel=1e-4)
    after = pretrainer.transformer.weight_values()
    random = np.random.default_rng(0)
    for name, values in before.items():
        gradient = values - after[name]
        # Along the gradient itself, and somewhere: no slope is missing, and none is too much.
        for direction in (gradient / max(np.linalg.norm(gradient), 1e-12), random.standard_normal(values.shape) / np.sqrt(values.size)):
            slope = 0.0
            for sign in (1, -1):
                slow.weights[name] = values + sign * 1e-5 * direction
                slope += sign * slow.loss(batch) / 2e-5
            slow.weights[name] = values
            assert np.sum(gradient * direction) == pytest.approx(slope, rel=2e-3, abs=2e-4), name


@pytest.mark.backends
def test_fit_learns_and_logs_means_over_the_epoch(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bert4k.backend.has_compiler", lambda: False)
    pretrainer = make(batch, keras.optimizers.Adam(1e-2))
    data = as_fit_takes(batch)
    history = pretrainer.fit((data for _ in range(12)), epochs=3, steps_per_epoch=4, verbose=0, shuffle=False).history
    for name in ("sentence_order", "left_to_right", "permuted", SWAPPED):
        assert history[f"{name}_loss"][2] < history[f"{name}_loss"][0]
    told = (batch.targets["objectives"] == NUMBER["left_to_right"]).sum()
    assert history["left_to_right_count"] == [4 * told] * 3
    assert history["pairs_count"] == [0] * 3
    assert history["left_to_right_accuracy"] == [0] * 3  # not counted while it trains


@pytest.mark.backends
def test_groups_do_not_matter() -> None:
    """The same rows in one group or three: the same loss and gradient. Several devices train as one does."""
    texts = some_examples(11)
    after, losses = [], []
    for groups in (1, 3):
        [batch] = pack(texts, Shape(groups, 6 // groups, 64, 240 // groups), RATIOS)
        assert batch.left_out == 0
        pretrainer = make(batch, compiled=False)
        losses.append(float(pretrainer.train_on_batch(*map(tensors, as_fit_takes(batch)), return_dict=True)["loss"]))
        after.append(pretrainer.transformer.weight_values())
    assert losses == pytest.approx([losses[0]] * 2, rel=1e-5)
    for name, values in after[0].items():
        np.testing.assert_allclose(after[1][name], values, atol=2e-4, err_msg=name)


@pytest.mark.backends
def test_mixed_precision(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bert4k.backend.has_compiler", lambda: False)
    pretrainer = make(batch, keras.optimizers.SGD(1e-3), dtype="mixed_bfloat16")
    before = pretrainer.transformer.weight_values()
    loss = float(pretrainer.train_on_batch(*map(tensors, as_fit_takes(batch)), return_dict=True)["loss"])
    assert loss == pytest.approx(Slow(make(batch)).loss(batch), rel=0.1)
    after = pretrainer.transformer.weight_values()
    assert all(np.isfinite(values).all() and values.dtype == np.float32 for values in after.values())
    assert all((after[name] != before[name]).any() for name in ("embeddings/token/embeddings", "nsp/dense/kernel", "mlm/bias"))


def test_in_float16_the_loss_is_scaled(batch: Batch) -> None:
    """Keras does so for a model of that precision, whatever the parts' is."""
    scaled = {dtype: make(batch, dtype=dtype).optimizer for dtype in ("mixed_float16", "mixed_bfloat16", "float32")}
    assert [isinstance(each, keras.optimizers.LossScaleOptimizer) for each in scaled.values()] == [True, False, False]


# Counting. -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.backends
def test_tally() -> None:
    tally = Tally(tells_order=True)
    random = np.random.default_rng(0)
    seen = []
    for with_right in (True, True, False):
        numbers = random.integers(-1, 4, (2, 30)).astype("int32")
        losses, right = random.random((2, 30)).astype("float32"), random.integers(2, size=(2, 30)).astype("float32")
        tally.add(*map(keras.ops.convert_to_tensor, (numbers, losses, *([right] if with_right else []))))
        seen.append((numbers.ravel(), losses.ravel(), right.ravel() * with_right))
    numbers, losses, right = map(np.concatenate, zip(*seen, strict=True))
    found = {name: float(value) for name, value in tally.result().items()}
    assert len(found) == 3 * (len(OBJECTIVES) + 1)
    for number, name in enumerate(OBJECTIVES[:4]):
        these = numbers == number
        assert found[f"{name}_count"] == these.sum()
        assert found[f"{name}_loss"] == pytest.approx(losses[these].mean(), rel=1e-5)
        assert found[f"{name}_accuracy"] == pytest.approx(right[these].mean(), rel=1e-5)
    assert found[f"{OBJECTIVES[5]}_count"] == found[f"{OBJECTIVES[5]}_loss"] == 0
    tally.reset_state()
    assert not any(float(value) for value in tally.result().values())


def test_flops_by_hand() -> None:
    from bert4k.config import Config

    config = Config(100, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16)
    pretrainer = Pretrainer(make_transformer(config, sentence_order=False), Shape(groups=2, rows=3, length=16, predictions=20))
    # Multiplications forward. A row of 16 tokens in a layer: queries, keys, values and output 4 * 16 * 8 * 8; scores of 16 by 16 pairs with
    # 8 numbers in all heads, and as many to mix the values; twice 16 * 8 * 32. A prediction: a dense layer 8 * 8, the vocabulary 8 * 100.
    row = 4 * 16 * 8 * 8 + 2 * 16 * 16 * 8 + 2 * 16 * 8 * 32
    forward = 2 * 3 * (2 * row) + 2 * 20 * (8 * 8 + 8 * 100)
    # Each with an addition; backward, once for the inputs and once for the weights.
    assert pretrainer.flops() == 3 * 2 * forward


@pytest.mark.backends
def test_peak_flops() -> None:
    assert 1e6 < peak_flops("float32", size=64, rounds=2) < 1e15
