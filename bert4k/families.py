"""Every family as a row: what its released config says in which words, what it leaves unsaid, and which outputs it has.

A family is a choice of kinds (`Config`: of position, of what is shared and what is factorised), so nothing here computes and no layer
knows a family's name. The names of its tensors stand in `bert4k.pretrained`, one table for each layout in which it was released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bert4k.errors import ConfigError, did_you_mean

Values = dict[str, Any]

ENCODER_OUTPUTS = ("sequence", "pooled", "mlm", "nsp")
ENCODER_DECODER_OUTPUTS = ("sequence", "decoder", "logits")


def _as_it_is(values: Values) -> Values:
    return values


@dataclass(frozen=True)
class Family:
    """One family.

    title: as people write it. source: where its architecture is described. outputs: those that its checkpoints have weights for.
    mask: the one under which it was trained, and which a model has when none is given. framed: whether it was trained on texts between
    [CLS] and [SEP], where its vocabulary is BERT's.
    values: Config values that its files leave unsaid. keys: the file's key -> the Config value, where they differ or where only this
    family's files have it. only: keys that would change the computation, and the one value that is implemented. without_effect: keys that
    change nothing. marks: keys by which a file without a model_type is known; told_by: keys and values by which one is told apart from
    another family of its model_type. google_gelu: which gelu the TensorFlow code means by "gelu". model_type, architecture: what
    transformers calls it; None when it has no such model. read, write: changes that no renaming expresses, from a file's values to ours,
    and back; write_huggingface: those of transformers' file alone, in its words, to which `keys` have led.
    """

    title: str
    source: str
    outputs: tuple[str, ...] = ENCODER_OUTPUTS
    mask: str = "encoder"
    framed: bool = True
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)
    without_effect: frozenset[str] = frozenset()
    marks: frozenset[str] = frozenset()
    told_by: Mapping[str, Any] = field(default_factory=dict)
    google_gelu: str = "gelu"
    model_type: str | None = None
    architecture: str | None = None
    read: Callable[[Values], Values] = _as_it_is
    write: Callable[[Values], Values] = _as_it_is
    write_huggingface: Callable[[Values], Values] = _as_it_is


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


# Of an encoder-decoder's file: how somebody generated with it, and dropout in places where there is none here.
_OF_GENERATION = frozenset(
    """
    tokenizer_class task_specific_params early_stopping num_beams no_repeat_ngram_size length_penalty max_length min_length do_sample
    forced_bos_token_id forced_eos_token_id activation_dropout encoder_layerdrop decoder_layerdrop
    """.split()
)


def _read_decoder(values: Values) -> Values:
    """The decoder's depth is the encoder's where nothing else is said, and its start and end are numbers in the file."""
    values.setdefault("num_decoder_layers", values.get("num_hidden_layers", 12))
    for name in ("decoder_start", "decoder_end"):
        if values.get(name, 0) is None:  # left to the tokenizer
            del values[name]
    if isinstance(start := values.get("decoder_start"), int):
        values["decoder_start"] = [start]
    if isinstance(end := values.get("decoder_end"), list):
        values["decoder_end"] = end[0]
    return values


def _write_decoder(values: Values) -> Values:
    start = values.pop("decoder_start_token_id")
    names = ("decoder_start_token_id", "bos_token_id")
    values |= {"is_encoder_decoder": True, **dict(zip(names, start, strict=False))}
    return {name: value for name, value in values.items() if value is not None}


def _read_t5(values: Values) -> Values:
    """transformers has activation and gate in one word, and one rate for all dropout."""
    gate, _, act = values.pop("feed_forward_proj", "").rpartition("-")
    if act:
        values |= {"feed_forward": gate or "plain", "hidden_act": "gelu_new" if (gate, act) == ("gated", "gelu") else act}
    if "hidden_dropout_prob" in values:
        values.setdefault("attention_probs_dropout_prob", values["hidden_dropout_prob"])
    return _read_decoder(values)


def _read_t5_pegasus(values: Values) -> Values:
    """Conversions for transformers call it mT5, with mT5's activation and ids, which it was not trained with."""
    if "model_type" in values:
        for name in ("feed_forward_proj", "decoder_start", "decoder_end"):
            values.pop(name, None)
    return _read_t5(values)


def _write_t5(values: Values, gate: str) -> Values:
    del values["type_vocab_size"]
    act = values.pop("hidden_act")
    if gate and act == "gelu":
        raise ConfigError(
            "transformers' T5 has no gated feed-forward with hidden_act='gelu', the erf form. Save with format='google' or 'keras'."
        )
    del values["cross_position_bias"]
    projection = gate + ("gelu" if gate and act == "gelu_new" else act)
    return _write_decoder(values | {"feed_forward_proj": projection, "tie_word_embeddings": not gate})


def _write_for_bert4keras(values: Values) -> Values:
    """Its decoder counts position buckets in the attention to the encoder unless it is told not to."""
    return values | {"cross_position_bias": False}


def _read_bart(values: Values) -> Values:
    """The decoder's sizes must be the encoder's. It is given "</s> <s>" and goes on with the text (fairseq's denoising task, where both
    are the tokenizer's): transformers lets it write the second of these itself."""
    for theirs, ours in (("decoder_ffn_dim", "intermediate_size"), ("decoder_attention_heads", "num_attention_heads")):
        if (size := values.pop(theirs, values.get(ours))) != values.get(ours):
            raise ConfigError(
                f"{theirs} is {size}, and the encoder has {values.get(ours)}; only a decoder of the same width is implemented."
            )
    if isinstance(values.get("decoder_start"), int) and (begin := values.get("bos_token_id")) is not None:
        values["decoder_start"] = [values["decoder_start"], begin]
    return _read_decoder(values)


def _write_bart(values: Values) -> Values:
    del values["type_vocab_size"]
    if (epsilon := values.pop("layer_norm_eps")) != 1e-5:
        raise ConfigError(f"transformers' BART has layer_norm_eps=1e-05, and this model {epsilon}. Save with format='keras'.")
    sizes = {"decoder_ffn_dim": values["encoder_ffn_dim"], "decoder_attention_heads": values["encoder_attention_heads"]}
    return _write_decoder(values | sizes | {"scale_embedding": False})


# Facts of the T5 rows: transformers' models/t5 and models/mt5 (buckets, epsilon, unscaled attention, no biases; `scale_decoder_outputs`
# where the output is tied; "gated-gelu" is gelu_new), and the class T5_Base of bert4keras.
_T5 = Family(
    title="T5",
    source="Raffel et al. 2019, arXiv:1910.10683; github.com/google-research/text-to-text-transfer-transformer",
    outputs=ENCODER_DECODER_OUTPUTS,
    values={
        "hidden_act": "relu",
        "layer_norm_eps": 1e-6,
        "type_vocab_size": 0,
        "embedding_norm": False,
        "block": "pre_norm",
        "norm": "rms",
        "position": "bucketed",
        "max_relative_position": 128,
        "attention_scale": False,
        "use_bias": False,
        "logits_scaled": True,
        "num_decoder_layers": 12,
        "decoder_start": (0,),
        "decoder_end": 1,
    },
    keys={
        "d_model": "hidden_size",
        "d_kv": "attention_head_size",
        "d_ff": "intermediate_size",
        "num_layers": "num_hidden_layers",
        "num_decoder_layers": "num_decoder_layers",
        "num_heads": "num_attention_heads",
        "n_positions": "max_position_embeddings",
        "relative_attention_num_buckets": "position_buckets",
        "relative_attention_max_distance": "max_relative_position",
        "dropout_rate": "hidden_dropout_prob",
        "layer_norm_epsilon": "layer_norm_eps",
        "decoder_start_token_id": "decoder_start",
        "eos_token_id": "decoder_end",
    },
    only={"is_encoder_decoder": True, "cross_position_bias": False},
    without_effect=_OF_GENERATION | frozenset("initializer_factor is_gated_act dense_act_fn scale_decoder_outputs".split()),
    model_type="t5",
    architecture="T5ForConditionalGeneration",
    read=_read_t5,
    write=_write_for_bert4keras,
    write_huggingface=partial(_write_t5, gate=""),
)
_T5_V1_1 = Family(
    **vars(_T5)
    | {
        "title": "T5 1.1",
        "source": "Raffel et al. 2019, arXiv:1910.10683; released_checkpoints.md of the same repository; Shazeer 2020, arXiv:2002.05202",
        "values": {**_T5.values, "hidden_act": "gelu_tanh", "feed_forward": "gated", "logits": "untied", "logits_scaled": False},
        "told_by": {"feed_forward_proj": "gated-gelu"},
        "google_gelu": "gelu_tanh",
        "write_huggingface": partial(_write_t5, gate="gated-"),
    }
)


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


def _read_gpt(values: Values) -> Values:
    """What Hugging Face's file leaves to its reader: the width of the feed-forward layer, a padding token that it does not have; and by
    "gelu" both it and OpenAI's code mean the tanh approximation (transformers, `models/openai/modeling_openai.py`, ACT_FNS)."""
    values = {key: value for key, value in values.items() if value is not None}
    if values.get("hidden_act") == "gelu":
        values["hidden_act"] = "gelu_tanh"
    return {"intermediate_size": 4 * values.get("hidden_size", 768)} | values


def _read_gpt2(values: Values) -> Values:
    """Its gelu has a name of its own there. A TensorFlow file may count segments, for which there are no rows."""
    values = {key: value for key, value in values.items() if value is not None}
    return {"intermediate_size": 4 * values.get("hidden_size", 768), "max_position_embeddings": 1024} | values | {"type_vocab_size": 0}


def _write_gpt(values: Values) -> Values:
    act = {"gelu_tanh": "gelu"}.get(values["hidden_act"], values["hidden_act"])
    return _without_segments(values | {"hidden_act": act})


def _no_segments(values: Values) -> Values:
    """A file may count segments for which the checkpoint has no rows."""
    return values | {"type_vocab_size": 0}


def _without_segments(values: Values) -> Values:
    return {key: value for key, value in values.items() if key != "type_vocab_size" or value}


# The decoders: trained as language models, with no rows for segments and an output layer that is the embedding alone.
_DECODER = {"type_vocab_size": 0, "mlm_head": "plain", "layer_norm_eps": 1e-5}
_GPT_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "resid_pdrop": "hidden_dropout_prob",
    "attn_pdrop": "attention_probs_dropout_prob",
}
# n_ctx repeats n_positions; n_special counts rows that vocab_size counts, too; embd_pdrop is resid_pdrop in all released files; of
# summary_* is the head for multiple choice.
_GPT_WITHOUT_EFFECT = frozenset(
    """
    n_ctx n_special embd_pdrop predict_special_tokens summary_type summary_use_proj summary_activation summary_proj_to_labels
    summary_first_dropout task_specific_params reorder_and_upcast_attn
    """.split()
)
_GPT2 = Family(
    title="GPT-2",
    source="Radford et al. 2019, Language Models are Unsupervised Multitask Learners; github.com/openai/gpt-2",
    outputs=("sequence", "mlm"),
    mask="lm",
    values=_DECODER | {"block": "pre_norm", "embedding_norm": False, "hidden_act": "gelu_tanh"},
    keys=_GPT_NAMES | {"n_inner": "intermediate_size", "activation_function": "hidden_act"},
    only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    without_effect=_GPT_WITHOUT_EFFECT,
    marks=frozenset({"n_embd"}),
    google_gelu="gelu_tanh",
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    read=_read_gpt2,
    write=_without_segments,
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
        write=lambda values: {{"attention_head_size": "attention_key_size"}.get(name, name): value for name, value in values.items()},
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
    "gpt": Family(
        title="GPT",
        source="Radford et al. 2018, Improving Language Understanding by Generative Pre-Training; github.com/thu-coai/CDial-GPT",
        outputs=("sequence", "mlm"),
        mask="lm",
        values=_DECODER | {"embedding_norm": False, "hidden_act": "gelu_tanh"},
        keys=_GPT_NAMES | {"afn": "hidden_act"},
        without_effect=_GPT_WITHOUT_EFFECT,
        marks=frozenset({"afn"}),
        google_gelu="gelu_tanh",
        model_type="openai-gpt",
        architecture="OpenAIGPTLMHeadModel",
        read=_read_gpt,
        write=_write_gpt,
    ),
    "gpt2": _GPT2,
    "gpt2_ml": Family(
        title="GPT2-ML",
        source="github.com/imcaspar/gpt2-ml, train/modeling.py, after Grover (Zellers et al. 2019, arXiv:1905.12616)",
        outputs=("sequence", "mlm"),
        mask="lm",
        framed=False,  # dataset/prepare_data.py: the tokens of an article, then padding
        values=_DECODER | {"block": "feed_forward_norms"},
        read=_no_segments,
        write=_without_segments,
    ),
    "nezha_gen": Family(
        title="NEZHA-Gen",
        source="github.com/huawei-noah/Pretrained-Language-Model, NEZHA-Gen-TensorFlow: BERT without segments, trained as a language model;"
        " its positions are absolute, in spite of the name",
        outputs=("sequence", "mlm"),
        mask="lm",
        values={"type_vocab_size": 0},
        read=_no_segments,
        write=lambda values: _without_segments(values) | {"model_type": "nezha_gen"},  # nothing else would tell it from a BERT
    ),
    "t5": _T5,
    "t5_v1_1": _T5_V1_1,
    "mt5": Family(
        **vars(_T5_V1_1)
        | {
            "title": "mT5",
            "source": "Xue et al. 2020, arXiv:2010.11934; github.com/google-research/multilingual-t5",
            "marks": frozenset({"cross_position_bias"}),  # of a T5, names tell more
            "told_by": {},
            "model_type": "mt5",
            "architecture": "MT5ForConditionalGeneration",
        }
    ),
    # Trained with bert4keras 0.10, of which three things stayed in the weights: gelu is the erf form, logits are scaled although the output
    # is not tied, and the decoder's position buckets count in its attention to the encoder, too. transformers' mT5 has none of these.
    "t5_pegasus": Family(
        **vars(_T5_V1_1)
        | {
            "title": "T5-PEGASUS",
            "source": "github.com/ZhuiyiTechnology/t5-pegasus (finetune.py: [CLS] to [SEP]); T5_Decoder of github.com/bojone/bert4keras",
            "values": {
                **_T5_V1_1.values,
                "hidden_act": "gelu",
                "logits_scaled": True,
                "cross_position": "bucketed",
                "decoder_start": (),
                "decoder_end": None,
            },
            "told_by": {},
            "google_gelu": "gelu",
            "model_type": None,
            "architecture": None,
            "only": {"is_encoder_decoder": True, "cross_position_bias": True},
            "read": _read_t5_pegasus,
            "write": _as_it_is,
        }
    ),
    "bart": Family(
        title="BART",
        source="Lewis et al. 2019, arXiv:1910.13461; Shao et al. 2021, arXiv:2109.05729; transformers, models/bart",
        outputs=ENCODER_DECODER_OUTPUTS,
        values={"type_vocab_size": 0, "layer_norm_eps": 1e-5, "position_offset": 2, "logits": "tied_bias", "num_decoder_layers": 6},
        keys={
            "d_model": "hidden_size",
            "encoder_layers": "num_hidden_layers",
            "decoder_layers": "num_decoder_layers",
            "encoder_attention_heads": "num_attention_heads",
            "encoder_ffn_dim": "intermediate_size",
            "activation_function": "hidden_act",
            "dropout": "hidden_dropout_prob",
            "attention_dropout": "attention_probs_dropout_prob",
            "init_std": "initializer_range",
            "decoder_start_token_id": "decoder_start",
            "eos_token_id": "decoder_end",
        },
        only={
            "is_encoder_decoder": True,
            "scale_embedding": False,
            "add_final_layer_norm": False,
            "normalize_before": False,
            "normalize_embedding": True,
            "add_bias_logits": False,
            "static_position_embeddings": False,
        },
        without_effect=_OF_GENERATION | {"classif_dropout"},
        model_type="bart",
        architecture="BartForConditionalGeneration",
        read=_read_bart,
        write_huggingface=_write_bart,
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
        # One model_type may be two machines: transformers tells them apart by another key, or by the head that was saved.
        rows = {name: row for name, row in FAMILIES.items() if row.model_type == named}
        if told := [name for name, row in rows.items() if row.told_by and row.told_by.items() <= values.items()]:
            return told[0]
        architectures = values.get("architectures") or []
        return next((name for name, row in rows.items() if row.architecture in architectures), known[named])
    shown = {name: len(row.marks & set(values)) / len(row.marks) for name, row in FAMILIES.items() if row.marks & set(values)}
    return max(shown, key=lambda name: shown[name], default=None)


def checked(name: str) -> Family:
    """The row of a family; raises `ConfigError` when there is none of that name."""
    if name not in FAMILIES:
        raise ConfigError(f"There is no family {name!r}.{did_you_mean(str(name), FAMILIES)} Families are {', '.join(FAMILIES)}.")
    return FAMILIES[name]
