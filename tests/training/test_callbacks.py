"""A score of one's own decides which epoch is kept; curves and numbers are written."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from bert4k.errors import CheckpointError
from bert4k.training import LearningCurves, Scored, make_optimizer

pytestmark = pytest.mark.backends


def model() -> keras.Model:
    inputs = keras.Input((1,))
    made = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="only")(inputs))
    made.compile(keras.optimizers.SGD(0.1), "mse")
    return made


X, Y = np.ones((4, 1), "float32"), np.ones((4, 1), "float32")


def weight(made: keras.Model) -> float:
    return float(ops.convert_to_numpy(made.get_layer("only").kernel)[0, 0])


def test_keras_keeps_the_epoch_with_the_best_score_and_stops(tmp_path: Path) -> None:
    made, scores, weights = model(), iter([0.1, 0.7, 0.5, 0.3, 0.9]), []

    def score() -> dict[str, float]:
        weights.append(weight(made))
        return {"f1": next(scores)}

    stop = keras.callbacks.EarlyStopping("f1", mode="max", patience=2, restore_best_weights=True)
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "f1", mode="max", save_best_only=True)
    history = made.fit(X, Y, epochs=5, verbose=0, callbacks=[Scored(score), stop, best]).history
    assert history["f1"] == [0.1, 0.7, 0.5, 0.3]
    assert weight(made) == pytest.approx(weights[1]) == pytest.approx(weight(keras.saving.load_model(tmp_path / "best.keras")))
    assert len(set(weights)) == 4


def test_averaged_weights_are_scored_and_kept() -> None:
    made, weights, seen = model(), [], []
    made.compile(make_optimizer("adamw", 0.1, ema=0.9, weight_decay=0.0), "mse")
    raw = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: weights.append(weight(made)))
    swap, scored = keras.callbacks.SwapEMAWeights(swap_on_epoch=True), Scored(lambda: seen.append(weight(made)) or {})
    jax = keras.backend.backend() == "jax"  # where the weights are elsewhere between the batches of an epoch
    made.fit(X, Y, epochs=3, batch_size=4, verbose=0, callbacks=[*([] if jax else [raw]), swap, scored])
    for count, average in enumerate([] if jax else seen, 1):
        shares = [0.9 ** (count - 1 - age) for age in range(count)]
        assert average == pytest.approx(np.average(weights[:count], weights=shares), rel=1e-5)
    assert seen[-1] == pytest.approx(weight(made))


def test_numbers_and_curves_are_written_and_go_on(tmp_path: Path) -> None:
    for _ in range(2):
        model().fit(X, Y, batch_size=1, epochs=2, verbose=0, callbacks=[Scored(lambda: {"f1": 0.5}), LearningCurves(tmp_path / "run", 3)])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().split("\n") if line]
    assert [row["step"] for row in rows if "epoch" not in row] == [3, 6, 9, 12, 15]
    assert [(row["step"], row["epoch"], row["f1"]) for row in rows if "epoch" in row] == [
        (4, 1, 0.5),
        (8, 2, 0.5),
        (12, 1, 0.5),
        (16, 2, 0.5),
    ]
    assert all(row["loss"] >= 0 for row in rows)
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match="Make room"):
        model().fit(X, Y, epochs=1, verbose=0, callbacks=[LearningCurves(tmp_path / "run")])
