"""`Config`: what a checkpoint's JSON file says about its model, as one frozen dataclass.

Keys are Google's (`bert_config.json`), which Hugging Face kept for BERT. A key that is not understood
is refused with the nearest known one: a model that silently ignores part of its description
computes something else than was released.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bert4k.errors import ConfigError, did_you_mean

# Keys of released files that describe training, the exporting program, or a layer Google's code never
# reads; dropping them changes nothing that is computed.
_WITHOUT_EFFECT = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype use_cache classifier_dropout
    gradient_checkpointing output_past return_dict output_attentions output_hidden_states problem_type
    id2label label2id num_labels _name_or_path finetuning_task bos_token_id eos_token_id sep_token_id
    cls_token_id mask_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type tie_word_embeddings language name attn_implementation
    _attn_implementation_autoset chunk_size_feed_forward
    """.split()
)

# Keys that would change the computation, and the one value under which they do not.
_ONLY_VALUE = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "directionality": "bidi",
    "pruned_heads": {},
}

_ALBERT_KEYS = frozenset({"embedding_size", "num_hidden_groups", "inner_group_num", "down_scale_factor", "net_structure_type"})

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "tanh", "silu")
# Other spellings in released files. "gelu" is the erf form, as in Google's BERT and transformers.
_ACTIVATION_NAMES = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "swish": "silu"}


@dataclass(frozen=True)
class Config:
    """The shape of a transformer. Names and defaults follow Google's `bert_config.json`.

    Raises `ConfigError` when values contradict each other.
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_act", _ACTIVATION_NAMES.get(str(self.hidden_act), self.hidden_act))
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                f"hidden_act is {self.hidden_act!r}; known activations are {', '.join(ACTIVATIONS)}."
                f"{did_you_mean(str(self.hidden_act), ACTIVATIONS)}"
            )
        for name in (
            "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings type_vocab_size"
        ).split():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of at least 1. Correct the config file or the override.")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be divided among {self.num_attention_heads} attention heads;"
                " it must be a multiple of num_attention_heads."
            )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
                raise ConfigError(f"{name} is {value!r}; expected a probability in [0, 1). Correct the config file or the override.")
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0.0 < value < 1.0:
                raise ConfigError(f"{name} is {value!r}; expected a number between 0 and 1. Correct the config file or the override.")
        if self.pad_token_id not in range(self.vocab_size):
            raise ConfigError(
                f"pad_token_id is {self.pad_token_id!r}; expected the id of [PAD], below vocab_size {self.vocab_size}."
                " Correct the config file or the override."
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head (D)."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the config") -> "Config":
        """A Config from the keys of a `bert_config.json` or of a Hugging Face `config.json`.

        Raises `ConfigError` for an unknown key (naming the nearest known one), for a known key with a value
        that this library does not implement, and for a missing `vocab_size`.
        """
        known = {field.name for field in fields(cls)}
        albert = sorted(_ALBERT_KEYS & set(values))
        if albert or values.get("model_type") == "albert":
            raise ConfigError(
                f"{origin} describes an ALBERT model ({', '.join(albert) or 'model_type'}), and this model is built as BERT."
                " ALBERT shares its layers and factorises its embedding, so its weights do not fit; load a BERT checkpoint instead."
            )
        if values.get("model_type", "bert") != "bert":
            raise ConfigError(
                f"{origin} has model_type {values['model_type']!r}; this version of bert4k builds 'bert'. Load a BERT checkpoint."
            )
        for key, only in _ONLY_VALUE.items():
            if key in values and values[key] != only:
                raise ConfigError(f"{origin} has {key} = {values[key]!r}; only {only!r} is implemented for BERT.")
        unknown = [key for key in values if key not in known | _WITHOUT_EFFECT | set(_ONLY_VALUE)]
        if unknown:
            raise ConfigError(
                f"{origin} has the unknown key {unknown[0]!r}.{did_you_mean(unknown[0], known)}"
                f" Known keys are {', '.join(sorted(known))}. Remove it if it changes nothing in the model."
            )
        if "vocab_size" not in values:
            raise ConfigError(f"{origin} has no vocab_size; it must say how many rows the embedding has.")
        return cls(**{key: value for key, value in values.items() if key in known})

    @classmethod
    def from_file(cls, path: str | Path) -> "Config":
        """Read a JSON file; see `from_dict`."""
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"Cannot read the config {path}: {error.strerror}. Expected a JSON file such as bert_config.json.") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} is not JSON ({error}). Expected the config file that came with the checkpoint; fetch it again."
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds a JSON {type(values).__name__}; expected an object with keys such as hidden_size.")
        return cls.from_dict(values, str(path))

    def override(self, **changes: Any) -> "Config":
        """A copy with some values changed; an unknown name raises `ConfigError`."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigError(f"There is no config value {name!r} to override.{did_you_mean(name, known)}")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Every value under Google's key."""
        return asdict(self)

    def to_google(self) -> dict[str, Any]:
        """The keys of Google's `bert_config.json`; the two that Google fixes are left out at Google's value."""
        values = self.to_dict()
        for name, fixed in (("layer_norm_eps", 1e-12), ("pad_token_id", 0)):
            if values[name] == fixed:
                del values[name]
        return values

    def to_huggingface(self) -> dict[str, Any]:
        """The keys of a Hugging Face `config.json` for `BertForPreTraining`."""
        act = {"gelu_tanh": "gelu_new"}.get(self.hidden_act, self.hidden_act)
        return self.to_dict() | {
            "architectures": ["BertForPreTraining"],
            "model_type": "bert",
            "hidden_act": act,
            "position_embedding_type": "absolute",
        }
