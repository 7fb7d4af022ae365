"""Models of arrays that are at hand: by the names of every layout, with all that is wrong told at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding.conftest import CHARACTERS, SPECIAL, tiny_model

import bert4k
from bert4k import CheckpointError, ConfigError
from bert4k.checkpoints import open_checkpoint
from bert4k.tokenizers import Tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def same(model: Any, other: Any) -> None:
    ours, theirs = model.weight_values(), other.weight_values()
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])


@pytest.mark.parametrize("layout", ["google", "huggingface", "own"])
def test_by_the_names_of_every_layout(tmp_path: Path, layout: str) -> None:
    model = tiny_model(kinds={"hidden_act": "gelu"})
    if layout == "own":
        arrays, config = model.weight_values(), model.config.to_dict()
    else:
        folder = bert4k.save(model, Tokenizer(SPECIAL + CHARACTERS), tmp_path / "saved", layout)
        arrays = dict(open_checkpoint(folder))
        name = {"google": "bert_config.json", "huggingface": "config.json"}[layout]
        config = json.loads((folder / name).read_text(encoding="utf-8"))
    same(bert4k.from_arrays(arrays, config, outputs=("mlm", "pooled")), model)
    same(bert4k.from_arrays(arrays, model.config, "seq2seq", ("mlm", "pooled")), model)


def test_the_state_of_a_model_of_transformers() -> None:
    """PyTorch's tensors as they are, of the one model or the other."""
    config = transformers.BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12)
    theirs = transformers.BertForMaskedLM(config).eval()
    ours = bert4k.from_arrays(theirs.state_dict(), json.loads(config.to_json_string()), outputs=("mlm",))
    token_ids = np.int32([[2, 7, 11, 3]])
    with torch.no_grad():
        expected = theirs(torch.tensor(token_ids).long()).logits.numpy()
    np.testing.assert_allclose(np.asarray(ours.predict({"token_ids": token_ids}, verbose=0)), expected, atol=1e-5)


def test_some_layers_and_other_settings(tmp_path: Path) -> None:
    model = tiny_model(layers=3)
    (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()), encoding="utf-8")
    given = model.weight_values()
    found = bert4k.from_arrays(given, tmp_path / "config.json", outputs=("mlm", "pooled"), layers=[0, 1], hidden_dropout_prob=0.3)
    assert found.config.hidden_dropout_prob == 0.3
    assert found.config.num_hidden_layers == 2
    np.testing.assert_array_equal(found.weight_values()["block_1/attention/query/kernel"], given["block_1/attention/query/kernel"])


def test_what_does_not_fit_is_told() -> None:
    model = tiny_model()
    arrays = model.weight_values()
    del arrays["block_1/attention/query/kernel"]
    arrays["block_0/feed_forward_norm/gamma"] = np.zeros(3, "float32")
    with pytest.raises(CheckpointError, match=r"1 of 37 weights: block_1/attention/query/kernel.*block_0/feed_forward_norm/gamma has"):
        bert4k.from_arrays(arrays, model.config)
    with pytest.raises(CheckpointError, match="arrays is list; expected tensors by their names"):
        bert4k.from_arrays([1], model.config)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="expected tensors by their names"):
        bert4k.from_arrays({}, model.config)
    with pytest.raises(ConfigError, match="no config value 'dropout'"):
        bert4k.from_arrays(model.weight_values(), model.config, dropout=0.1)
