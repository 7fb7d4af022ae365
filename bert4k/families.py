"""Every family as a row: what its released config says in which words, what it leaves unsaid, and which outputs it has.

A family is a choice of kinds (`Config`: of position, of what is shared and what is factorised), so nothing here computes and no layer
knows a family's name. The names of its tensors stand in `bert4k.pretrained`, one table for each layout in which it was released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bert4k.errors import ConfigError, did_you_mean

Values = dict[str, Any]

ENCODER_OUTPUTS = ("sequence", "pooled", "mlm", "nsp")


def _as_it_is(values: Values) -> Values:
    return values


@dataclass(frozen=True)
class Family:
    """One family.

    title: as people write it. source: where its architecture is described. outputs: those that its checkpoints have weights for.
    values: Config values that its files leave unsaid. keys: the file's key -> the Config value, where they differ or where only this
    family's files have it. only: keys that would change the computation, and the one value that is implemented. without_effect: keys that
    change nothing. marks: keys by which a file without a model_type is known. google_gelu: which gelu the TensorFlow code means by "gelu".
    model_type, architecture: what transformers calls it; None when it has no such model. read, write: changes that no renaming expresses,
    from a file's values to ours, and back.
    """

    title: str
    source: str
    outputs: tuple[str, ...] = ENCODER_OUTPUTS
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)
    without_effect: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    google_gelu: str = "gelu"
    model_type: str | None = None
    architecture: str | None = None
    read: Callable[[Values], Values] = _as_it_is
    write: Callable[[Values], Values] = _as_it_is


def _read_task_rows(values: Values) -> Values:
    """ERNIE 2.0 and 3.0 add a row for the task; a file may count rows that `use_task_id` says are not there."""
    if not values.pop("use_task_id", False):
        values["task_type_vocab_size"] = 0
    return values


def _write_task_rows(values: Values) -> Values:
    rows = values["task_type_vocab_size"]
    return values | {"use_task_id": rows > 0, "task_type_vocab_size": rows or 3}


def _read_offset(values: Values) -> Values:
    """fairseq numbers positions from the padding's id + 1 on, and the file counts the rows before."""
    offset = values.get("pad_token_id", 1) + 1
    return values | {"position_offset": offset, "max_position_embeddings": values.get("max_position_embeddings", 514) - offset}


def _write_offset(values: Values) -> Values:
    offset = values.pop("position_offset")
    return values | {"max_position_embeddings": values["max_position_embeddings"] + offset}


def _read_deberta(values: Values) -> Values:
    """With what transformers does where a file says nothing (`models/deberta_v2/modeling_deberta_v2.py`)."""
    unsaid: Values = {"relative_attention": False, "share_att_key": False, "norm_rel_ebd": "none", "pos_att_type": []}
    values = unsaid | {"position_buckets": -1, "position_biased_input": True, "max_relative_position": -1} | values
    if values["max_relative_position"] < 1:
        values["max_relative_position"] = values.get("max_position_embeddings", 512)
    kinds = values["pos_att_type"] or []
    return values | {"pos_att_type": sorted(kinds.lower().replace(" ", "").split("|") if isinstance(kinds, str) else kinds)}


# What transformers calls in ModernBERT's file otherwise than in BERT's.
_MODERN_NAMES = {
    "norm_eps": "layer_norm_eps",
    "hidden_activation": "hidden_act",
    "attention_dropout": "attention_probs_dropout_prob",
    "embedding_dropout": "hidden_dropout_prob",
}
_EVERY = "global_attn_every_n_layers"


def _read_modern(values: Values) -> Values:
    """Files of before transformers 5 count layers (every n-th looks at everything) and name two thetas; later ones list `layer_types` and
    `rope_parameters`."""
    values = {**values, **{ours: values[theirs] for theirs, ours in _MODERN_NAMES.items() if theirs in values}}
    values = {"pad_token_id": 50283} | {name: value for name, value in values.items() if name not in _MODERN_NAMES}
    if kinds := values.pop("layer_types", None):
        every = next((layer for layer, kind in enumerate(kinds) if layer and kind == "full_attention"), len(kinds))
        if kinds != ["sliding_attention" if layer % every else "full_attention" for layer in range(len(kinds))]:
            raise ConfigError(f"layer_types is {kinds}; only full_attention in every n-th layer, from the first on, is implemented.")
        values[_EVERY] = every
    for kind, rope in (values.pop("rope_parameters", None) or {}).items():
        if rope.get("rope_type", "default") != "default":
            raise ConfigError(f"rope_parameters has rope_type {rope['rope_type']!r} for {kind}; only 'default' is implemented.")
        if "rope_theta" in rope:
            values["local_rope_theta" if kind == "sliding_attention" else "global_rope_theta"] = rope["rope_theta"]
    if values.pop("classifier_activation", "gelu") != values.get("hidden_act", "gelu"):
        raise ConfigError("classifier_activation and hidden_activation differ; only one activation for layers and MLM head is implemented.")
    return values


def _write_modern(values: Values) -> Values:
    """`hidden_act` and `layer_norm_eps` stay, as in the released files, beside their other names."""
    named = {theirs: values[ours] for theirs, ours in _MODERN_NAMES.items()}
    named["hidden_activation"] = {"gelu_tanh": "gelu_new"}.get(named["hidden_activation"], named["hidden_activation"])
    values = {name: value for name, value in values.items() if not name.endswith("dropout_prob")}
    return values | named | {"classifier_activation": named["hidden_activation"]}


# Of summary_*, the heads of transformers that are trained anew for each task.
_ELECTRA_WITHOUT_EFFECT = frozenset(
    "summary_type summary_use_proj summary_activation summary_last_dropout summary_first_dropout generator_size".split()
)
_ELECTRA = Family(
    title="ELECTRA",
    source="Clark et al. 2020, arXiv:2003.10555; github.com/google-research/electra",
    outputs=("sequence", "discriminator"),
    keys={"embedding_size": "embedding_size"},
    without_effect=_ELECTRA_WITHOUT_EFFECT,
    model_type="electra",
    architecture="ElectraForPreTraining",
)
_ROBERTA = Family(
    title="RoBERTa",
    source="Liu et al. 2019, arXiv:1907.11692",
    outputs=("sequence", "pooled", "mlm"),
    values={"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5},
    keys={"position_offset": "position_offset"},
    read=_read_offset,
    write=_write_offset,
    model_type="roberta",
    architecture="RobertaForMaskedLM",
)
_DEBERTA_ONLY = {"relative_attention": True, "share_att_key": True, "norm_rel_ebd": "layer_norm", "pos_att_type": ["c2p", "p2c"]}
_DEBERTA_KEYS = {
    "max_relative_positions": "max_relative_position",
    **{name: name for name in ("position_buckets", "position_biased_input", "conv_kernel_size", "conv_act")},
}
_MODERN_KINDS = {
    _EVERY: 3,
    "local_attention": 128,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
}
# Of the heads that are trained anew for each task, of training, and of how it is computed.
_MODERN_WITHOUT_EFFECT = frozenset(
    """
    classifier_pooling deterministic_flash_attn initializer_cutoff_factor reference_compile repad_logits_with_grad sparse_prediction
    sparse_pred_ignore_index
    """.split()
)
_ALBERT_ONLY = {"inner_group_num": 1, "net_structure_type": 0, "gap_size": 0, "num_memory_blocks": 0, "layers_to_keep": []}

FAMILIES: dict[str, Family] = {
    "bert": Family(
        title="BERT",
        source="Devlin et al. 2018, arXiv:1810.04805; github.com/google-research/bert",
        model_type="bert",
        architecture="BertForPreTraining",
    ),
    "albert": Family(
        title="ALBERT",
        source="Lan et al. 2019, arXiv:1909.11942; github.com/google-research/albert",
        values={"embedding_size": 128, "embedding_projection": "all", "num_hidden_groups": 1},
        keys={"embedding_size": "embedding_size", "num_hidden_groups": "num_hidden_groups"},
        only=_ALBERT_ONLY,
        without_effect=frozenset({"classifier_dropout_prob", "down_scale_factor"}),
        marks=frozenset({"num_hidden_groups", "inner_group_num", "net_structure_type"}),
        google_gelu="gelu_tanh",
        model_type="albert",
        architecture="AlbertForPreTraining",
    ),
    "albert_zh": Family(
        title="ALBERT (albert_zh)",
        source="github.com/brightmart/albert_zh: the token's row alone is factorised, without a bias, and all layers are one",
        values={"embedding_size": 128, "embedding_projection": "tokens", "num_hidden_groups": 1},
        keys={"embedding_size": "embedding_size"},
        only={"ln_type": "postln"},
        write=lambda values: values | {"ln_type": "postln"},
        marks=frozenset({"ln_type"}),
        google_gelu="gelu_tanh",
    ),
    "ernie": Family(
        title="ERNIE",
        source="Sun et al. 2019, 2020, 2021, arXiv:1904.09223, 1907.12412, 2107.02137",
        keys={"task_type_vocab_size": "task_type_vocab_size"},
        read=_read_task_rows,
        write=_write_task_rows,
        model_type="ernie",
        architecture="ErnieForPreTraining",
    ),
    "electra": _ELECTRA,
    "electra_generator": Family(
        **vars(_ELECTRA) | {"title": "ELECTRA's generator", "outputs": ("sequence", "mlm"), "architecture": "ElectraForMaskedLM"}
    ),
    "nezha": Family(
        title="NEZHA",
        source="Wei et al. 2019, arXiv:1909.00204; github.com/huawei-noah/Pretrained-Language-Model",
        values={"position": "relative", "max_relative_position": 64},
        keys={"max_relative_position": "max_relative_position"},
        only={"use_relative_position": True},
        marks=frozenset({"max_relative_position", "use_relative_position"}),
        model_type="nezha",
        architecture="NezhaForPreTraining",
    ),
    "roformer": Family(
        title="RoFormer",
        source="Su et al. 2021, arXiv:2104.09864; github.com/ZhuiyiTechnology/roformer",
        values={"position": "rotary"},
        keys={"embedding_size": "embedding_size"},
        only={"rotary_value": False},
        model_type="roformer",
        architecture="RoFormerForMaskedLM",
    ),
    "roformer_v2": Family(
        title="RoFormerV2",
        source="Su et al. 2022; github.com/ZhuiyiTechnology/roformer-v2, and the class RoFormerV2 of github.com/bojone/bert4keras",
        outputs=("sequence", "mlm"),
        values={"position": "rotary", "norm": "unit", "use_bias": False, "mlm_head": "plain"},
    ),
    "gau_alpha": Family(
        title="GAU-alpha",
        source="Su et al. 2022; github.com/ZhuiyiTechnology/GAU-alpha, and the class GatedAttentionUnit of github.com/bojone/bert4keras",
        outputs=("sequence", "mlm"),
        values={"block": "gated", "position": "rotary", "norm": "unit", "use_bias": False, "mlm_head": "plain"}
        | {"attention_head_size": 128, "hidden_act": "silu"},
        keys={"attention_key_size": "attention_head_size"},
        marks=frozenset({"attention_key_size"}),
        # There is one head, whatever the file says: its width is that of the keys.
        read=lambda values: values | {"num_attention_heads": 1},
    ),
    "roberta": _ROBERTA,
    "xlm_roberta": Family(
        **vars(_ROBERTA)
        | {
            "title": "XLM-RoBERTa",
            "source": "Conneau et al. 2020, arXiv:1911.02116",
            "model_type": "xlm-roberta",
            "architecture": "XLMRobertaForMaskedLM",
        }
    ),
    "deberta_v2": Family(
        title="DeBERTa-v2",
        source="He et al. 2020, arXiv:2006.03654; github.com/microsoft/DeBERTa; in Chinese github.com/IDEA-CCNL/Fengshenbang-LM",
        outputs=("sequence", "mlm"),
        values={"block": "convolved", "position": "disentangled", "position_buckets": 256, "max_relative_position": 512}
        | {"type_vocab_size": 0, "layer_norm_eps": 1e-7},
        keys=_DEBERTA_KEYS,
        only=_DEBERTA_ONLY | {"conv_groups": 1, "z_steps": 0},
        without_effect=frozenset({"pooler_hidden_size", "pooler_dropout", "pooler_hidden_act", "legacy"}),
        marks=frozenset({"norm_rel_ebd", "pos_att_type"}),
        model_type="deberta-v2",
        architecture="DebertaV2ForMaskedLM",
        read=_read_deberta,
        write=lambda values: values | _DEBERTA_ONLY,
    ),
    "modernbert": Family(
        title="ModernBERT",
        source="Warner et al. 2024, arXiv:2412.13663; in Chinese huggingface.co/TurboPascal/ChineseModernBert",
        outputs=("sequence", "mlm"),
        values={"block": "pre_norm_but_first", "position": "rotary_halves", "norm": "layer_without_bias", "use_bias": False}
        | {"feed_forward": "gated", "type_vocab_size": 0, "layer_norm_eps": 1e-5}
        | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **_MODERN_KINDS},
        keys={name: name for name in _MODERN_KINDS},
        only=dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), False)
        | {"decoder_bias": True, "mlp_dropout": 0.0},
        without_effect=_MODERN_WITHOUT_EFFECT,
        marks=frozenset({_EVERY}),
        model_type="modernbert",
        architecture="ModernBertForMaskedLM",
        read=_read_modern,
        write=_write_modern,
    ),
}


def family_of(values: Mapping[str, Any], origin: str = "the config") -> str | None:
    """The family that a config names or shows by its keys; None when it does neither. Raises `ConfigError` for one that is not here."""
    named = values.get("family", values.get("model_type"))
    if named is not None:
        known = {row.model_type: name for name, row in reversed(FAMILIES.items()) if row.model_type} | {name: name for name in FAMILIES}
        if named not in known:
            raise ConfigError(
                f"{origin} has model_type {named!r}, a family that this version of bert4k does not build."
                f"{did_you_mean(str(named), known)} Known are {', '.join(FAMILIES)}. Load a checkpoint of one of these."
            )
        # One model_type may be two machines: transformers tells them apart by the head that was saved.
        architectures = values.get("architectures") or []
        return next((name for name, row in FAMILIES.items() if row.model_type == named and row.architecture in architectures), known[named])
    return next((name for name, row in FAMILIES.items() if row.marks & set(values)), None)


def checked(name: str) -> Family:
    """The row of a family; raises `ConfigError` when there is none of that name."""
    if name not in FAMILIES:
        raise ConfigError(f"There is no family {name!r}.{did_you_mean(str(name), FAMILIES)} Families are {', '.join(FAMILIES)}.")
    return FAMILIES[name]
