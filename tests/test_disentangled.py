"""Disentangled attention: its buckets, and that one table serves all layers. What it computes is held against transformers and NumPy in
`test_families`."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from decoding.reference import log_bucket
from test_families import batch_of, build, outputs_of, same

from bert4k.attention_maps import attention_probabilities
from bert4k.disentangled import DisentangledAttention, Distances


@pytest.mark.parametrize(
    ("buckets", "farthest", "positions"), [(256, 512, 512), (256, 512, 700), (4, 16, 20), (64, 128, 512), (32, 64, 40)]
)
def test_buckets_are_those_of_transformers(buckets: int, farthest: int, positions: int) -> None:
    """Every distance there is, and those by the formula in float64."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distance = np.arange(1 - positions, positions)
    theirs = make_log_bucket_position(torch.tensor(distance), buckets, farthest).long().numpy()
    expected = np.clip(theirs + buckets, 0, 2 * buckets - 1)
    found = Distances(buckets, farthest, positions, 8).row
    assert found.tolist() == expected.tolist()
    exact = [min(max(log_bucket(int(each), buckets, farthest) + buckets, 0), 2 * buckets - 1) for each in distance]
    assert found.tolist() == exact


def test_one_table_serves_all_layers() -> None:
    model = build("DeBERTa-v2")
    tables = {id(part.positions) for part in model.parts.values() if isinstance(part, DisentangledAttention)}
    assert tables == {id(model.parts["positions"])}
    names = [name for name in model.weight_names() if "positions" in name]
    assert names == ["positions_norm/gamma", "positions_norm/beta", "positions/embeddings"]
    assert len(model.weights) == len(model.weight_names())


@pytest.mark.backends
def test_low_rank_training_leaves_the_table_alone(tmp_path: Path) -> None:
    model = build("DeBERTa-v2", ("mlm",))
    model.enable_lora(2)
    assert model.trainable_variables and all("lora" in variable.path for variable in model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    batch = batch_of(model.config)
    assert same(outputs_of(again, batch), outputs_of(model, batch))


def test_attention_is_numbered_without_the_convolution() -> None:
    model = build("DeBERTa-v2", ("attention_0", "attention_3"))
    batch = batch_of(model.config)
    maps = attention_probabilities(model, batch)
    found = outputs_of(model, batch)
    assert maps.shape[1] == model.config.num_hidden_layers
    for layer in (0, 3):
        np.testing.assert_allclose(found[f"attention_{layer}"], maps[:, layer], atol=1e-5)


def test_vectors_are_dropped_in_training_only() -> None:
    model = build("DeBERTa-v2", ("sequence",), hidden_dropout_prob=0.5, num_hidden_layers=1)
    layer = model.parts["block_0/attention"]
    random = np.random.default_rng(0)
    x, places = random.standard_normal((1, 5, 24)).astype("float32"), np.arange(5, dtype="int32")[None]
    allowed = np.ones((1, 1, 5, 5), bool)
    still, again = (keras.ops.convert_to_numpy(layer(x, allowed, places, training=False)) for _ in range(2))
    moved = keras.ops.convert_to_numpy(layer(x, allowed, places, training=True))
    assert np.array_equal(still, again) and np.abs(still - moved).max() > 1e-3
