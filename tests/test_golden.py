"""What bert4keras computes, recorded by golden/record.py: the same checkpoints, made again from the names of their tensors, give the same
outputs and gradients here. For families that transformers does not have, and for masks and positions that only bert4keras has."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import bert4k
from bert4k.backend import differentiated
from bert4k.checkpoints import write_bundle
from bert4k.model import weights_of
from bert4k.pretrained import table_of

pytestmark = pytest.mark.backends
FOLDER = Path(__file__).parent / "golden"
ABOUT = json.loads((FOLDER / "bert4keras.json").read_text(encoding="utf-8"))
RECORDED = np.load(FOLDER / "bert4keras.npz")
CASES = sorted({name.rpartition("/")[0] for name in RECORDED.files if "/" in name})
LONGER = {"bert_hierarchical": {"max_position_embeddings": 24, "extend_positions": "hierarchical"}}


def value(name: str, shape: list[int]) -> np.ndarray:
    """As golden/record.py draws it."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    deviation = 0.2 if len(shape) > 1 else 0.1
    return random.normal(float(name.endswith("gamma")), deviation, shape).astype("float32")


def folder_of(name: str, place: Path) -> Path:
    """The checkpoint as it would be released."""
    about = ABOUT[name]
    write_bundle(place / "bert_model.ckpt", {stored: value(stored, shape) for stored, shape in about["shapes"].items()})
    (place / "bert_config.json").write_text(json.dumps(about["config"]), encoding="utf-8")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = [chr(0x4E00 + number) for number in range(about["config"]["vocab_size"] - len(special))]
    (place / "vocab.txt").write_text("\n".join([*special, *characters]) + "\n", encoding="utf-8")
    return place


@pytest.mark.parametrize("case", CASES)
def test_as_bert4keras_computes_it(case: str, tmp_path: Path) -> None:
    name, mask = case.split("/")
    family = ABOUT[name]["family"]
    told = {"model": family} if family == "roformer_v2" else {}  # whose config and names alone tell
    model, _ = bert4k.load(folder_of(name, tmp_path), mask, ("sequence", "mlm"), **told, **LONGER.get(name, {}))  # type: ignore[arg-type]
    assert model.config.family == family
    batch = {key: RECORDED[key] for key in ("token_ids", "segment_ids")}
    real = batch["token_ids"] != 0
    found = model(batch, training=False)
    for output in ("sequence", "mlm"):
        expected = RECORDED[f"{case}/{output}"]
        limit = 1e-5 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(ops.convert_to_numpy(found[output])[real], expected, rtol=0, atol=limit)

    share = np.random.default_rng(1).standard_normal((*real.shape, model.config.vocab_size)).astype("float32") * real[..., None]

    def loss(values: list[Any]) -> tuple[Any, Any]:
        with keras.StatelessScope(state_mapping=list(zip(model.trainable_variables, values, strict=True))):
            return ops.sum(model(batch, training=False)["mlm"] * ops.convert_to_tensor(share)), None

    _, _, gradients = differentiated(loss, [variable.value for variable in model.trainable_variables])
    names = {id(getattr(layer, attribute)): ours for ours, layer, attribute in weights_of(model.parts)}
    mine = {names[id(v)]: ops.convert_to_numpy(g) for v, g in zip(model.trainable_variables, gradients, strict=True)}
    if name in LONGER:  # theirs is by the rows that are stored, and ours by those that are made of them
        del mine["embeddings/position/embeddings"]
    stored = table_of(family, "google").save(mine)
    largest = RECORDED[f"{case}/gradients"][:, 0].max()
    for one, (norm, product) in zip(sorted(ABOUT[name]["shapes"]), RECORDED[f"{case}/gradients"], strict=True):
        if one in stored:
            direction = np.random.default_rng(2).standard_normal(stored[one].shape)
            limit = 1e-4 * max(norm, 0.01 * largest)
            assert abs(np.linalg.norm(stored[one]) - norm) <= limit, one
            assert abs(np.vdot(stored[one], direction) - product) <= limit * np.sqrt(direction.size), one
    assert len(stored) == len(ABOUT[name]["shapes"]) - (name in LONGER)
