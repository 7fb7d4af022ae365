"""Config: what is understood, what is refused, and how the refusal reads."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from bert4k.config import Config
from bert4k.errors import ConfigError

GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 21128,
}


def test_a_released_config_is_the_default_base_model() -> None:
    assert Config.from_dict(GOOGLE) == Config(vocab_size=21128)


def test_google_and_hugging_face_keys_round_trip() -> None:
    for config in (
        Config(vocab_size=100),
        Config(
            vocab_size=7,
            hidden_size=6,
            num_attention_heads=3,
            hidden_act="gelu_new",
            layer_norm_eps=1e-6,
            pad_token_id=3,
            type_vocab_size=1,
        ),
    ):
        assert Config.from_dict(config.to_google()) == config
        assert Config.from_dict(config.to_huggingface()) == config
        assert Config.from_dict(config.to_dict()) == config
        assert Config.from_dict(json.loads(json.dumps(config.to_huggingface()))) == config


def test_googles_fixed_values_stay_out_of_googles_file() -> None:
    assert set(Config(vocab_size=100).to_google()) <= set(GOOGLE)


def test_a_config_of_transformers_is_understood() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertConfig(vocab_size=30, hidden_size=8, num_attention_heads=2, hidden_act="gelu_new", type_vocab_size=3)
    ours = Config.from_dict(json.loads(theirs.to_json_string(use_diff=False)))
    assert (ours.hidden_size, ours.head_size, ours.type_vocab_size, ours.hidden_act) == (8, 4, 3, "gelu_tanh")
    back = transformers.BertConfig(**ours.to_huggingface())
    assert all(getattr(back, key) == getattr(theirs, key) for key in GOOGLE if hasattr(theirs, key))


def test_frozen_and_hashable() -> None:
    config = Config(vocab_size=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.vocab_size = 11  # type: ignore[misc]
    assert hash(config) == hash(Config(vocab_size=10))


def test_override_is_a_checked_copy() -> None:
    config = Config(vocab_size=10)
    assert config.override(num_hidden_layers=2).num_hidden_layers == 2
    assert config.num_hidden_layers == 12
    with pytest.raises(ConfigError, match=r"'num_layers' to override.*'num_hidden_layers'"):
        config.override(num_layers=2)
    with pytest.raises(ConfigError, match="multiple of num_attention_heads"):
        config.override(num_attention_heads=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hiden_size": 768}, "unknown key 'hiden_size'.*Did you mean 'hidden_size'.*Known keys are.*Remove it"),
        ({"hidden_size": 100}, "hidden_size 100 cannot be divided among 12.*multiple"),
        ({"hidden_act": "gelu_tan"}, "hidden_act is 'gelu_tan'.*Did you mean 'gelu_tanh'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; expected.*at least 1"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers is 2.0; expected a whole number"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob is 1.0; expected a probability in \[0, 1\)"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'; only 'absolute'"),
        ({"is_decoder": True}, "is_decoder = True; only False"),
        ({"model_type": "distilbert"}, "model_type 'distilbert'.*Known are bert"),
    ],
)
def test_what_would_compute_something_else_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_dict(GOOGLE | changes)


@pytest.mark.parametrize("value", ["0.1", None, [0.1]])
def test_a_probability_that_is_no_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"hidden_dropout_prob is .*expected a probability"):
        Config.from_dict(GOOGLE | {"hidden_dropout_prob": value})


@pytest.mark.parametrize("name", ["layer_norm_eps", "initializer_range"])
@pytest.mark.parametrize("value", [0, -1e-12, "1e-12", None])
def test_a_small_number_that_is_none(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is .*expected a number between 0 and 1"):
        Config.from_dict(GOOGLE | {name: value})


@pytest.mark.parametrize("value", [None, -1, 21128, "0"])
def test_a_padding_id_outside_the_vocabulary(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"pad_token_id is .*below vocab_size 21128"):
        Config.from_dict(GOOGLE | {"pad_token_id": value})


@pytest.mark.parametrize("value", [None, 3, ["gelu"]])
def test_an_activation_that_is_no_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"hidden_act is .*known activations"):
        Config.from_dict(GOOGLE | {"hidden_act": value})


def test_vocab_size_is_required() -> None:
    with pytest.raises(ConfigError, match="no vocab_size"):
        Config.from_dict({"hidden_size": 768})


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bert_config.json"
    with pytest.raises(ConfigError, match=r"Cannot read the config .*bert_config.json"):
        Config.from_file(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        Config.from_file(path)
    path.write_bytes(b'{"vocab_size": "\xff"}')
    with pytest.raises(ConfigError, match="is not JSON"):
        Config.from_file(path)
    path.write_text("[1]", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a JSON list; expected an object"):
        Config.from_file(path)
    path.write_text(json.dumps(GOOGLE | {"hiden_size": 1}), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path.name} has the unknown key"):
        Config.from_file(path)
    path.write_text(json.dumps(GOOGLE), encoding="utf-8")
    assert Config.from_file(path) == Config.from_file(str(path)) == Config(vocab_size=21128)
