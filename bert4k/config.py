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
from bert4k.families import FAMILIES, checked, family_of

# Keys of released files that describe training, the exporting program, or a layer Google's code never
# reads; dropping them changes nothing that is computed.
_WITHOUT_EFFECT = frozenset(
    """
    architectures model_type transformers_version torch_dtype dtype use_cache classifier_dropout
    gradient_checkpointing output_past return_dict output_attentions output_hidden_states problem_type
    id2label label2id num_labels _name_or_path finetuning_task bos_token_id eos_token_id sep_token_id
    cls_token_id mask_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers
    pooler_size_per_head pooler_type tie_word_embeddings language name attn_implementation
    _attn_implementation_autoset chunk_size_feed_forward tokenizer_class
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

# What every family's file says. The other values are kinds, which a family implies or has a key for.
_COMMON = frozenset(
    """
    vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act hidden_dropout_prob
    attention_probs_dropout_prob max_position_embeddings type_vocab_size initializer_range layer_norm_eps pad_token_id
    """.split()
)

POSITIONS = ("absolute", "relative", "rotary", "rotary_halves", "bucketed", "disentangled")
CROSS_POSITIONS = ("absolute", "bucketed")
BLOCKS = ("post_norm", "pre_norm", "pre_norm_but_first", "feed_forward_norms", "convolved", "gated")
NORMS = ("layer", "unit", "rms", "layer_without_bias")
FEED_FORWARDS = ("plain", "gated")
MLM_HEADS = ("transformed", "plain")
LOGITS = ("tied", "tied_bias", "untied")
PROJECTIONS = ("if_needed", "all", "tokens")
_KINDS = {
    "block": BLOCKS,
    "position": POSITIONS,
    "cross_position": CROSS_POSITIONS,
    "embedding_projection": PROJECTIONS,
    "norm": NORMS,
    "feed_forward": FEED_FORWARDS,
    "mlm_head": MLM_HEADS,
    "logits": LOGITS,
}

# The least that a size may be.
_LEAST = dict.fromkeys(
    """
    vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings embedding_size
    num_hidden_groups max_relative_position attention_head_size position_buckets global_attn_every_n_layers local_attention
    """.split(),
    1,
) | dict.fromkeys(
    ("type_vocab_size", "task_type_vocab_size", "position_offset", "num_decoder_layers", "conv_kernel_size", "condition_size"), 0
)
# Sizes that follow from others where they are None.
_USUAL = ("embedding_size", "num_hidden_groups", "attention_head_size")

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "tanh", "silu")
# Other spellings in released files. "gelu" is the erf form, as in Google's BERT and transformers.
_ACTIVATION_NAMES = {
    "gelu_erf": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "swish": "silu",
}


@dataclass(frozen=True)
class Config:
    """The shape of a transformer: sizes and kinds. Names and defaults follow Google's `bert_config.json`.

    family: whose checkpoints it reads and writes (`bert4k.families`); it decides about names, and nothing that is computed.
    embedding_size: width of the embeddings; None is hidden_size. embedding_projection: what is projected from there to hidden_size:
    "all", the sum of the embeddings after its norm; "tokens", the token's row alone, before the others are added, by a matrix that
    the MLM output uses again; "if_needed", all when the sizes differ. num_hidden_groups: how many different layers there are, each used
    for num_hidden_layers / num_hidden_groups layers in a row; None is one for each layer. attention_head_size: width of a head; None is
    hidden_size / num_attention_heads. attention_scale: whether products of queries and keys are divided by its square root.

    position: "absolute", "relative", "rotary", "rotary_halves", "bucketed" (`bert4k.positions`) or "disentangled" (`bert4k.disentangled`).
    max_relative_position: from where on relative distances count as one; position_buckets: how many distances "bucketed" tells apart, and
    "disentangled" on either side; position_biased_input: whether rows of positions are added to the embedding as well.
    global_attn_every_n_layers: of "rotary_halves", every which layer looks as far as it may, with the angles of global_rope_theta; the
    others look at local_attention tokens around them, with those of local_rope_theta. position_offset: rows of the table before that of
    position 0. type_vocab_size, task_type_vocab_size: segments and tasks that have a row in the embedding; 0 is none, and 1 a row that
    every token has. shared_segment_embeddings: a token's segment is the id of another token, whose row is added, too, unless that is 0: who
    speaks, in CDial-GPT (arXiv:2008.03946, section 3.1).

    embedding_norm: whether the sum of the embeddings is normalised. block: how a layer's sublayers are joined (`bert4k.blocks`).
    norm: "layer"; "layer_without_bias", which learns a gain alone; "rms", which divides by the root of the mean square and learns a gain;
    or "unit", which learns nothing. use_bias: whether dense layers of the blocks, and that of the MLM head, have a bias.
    feed_forward: "plain", or "gated" by a second dense layer beside the activated one (Shazeer 2020, arXiv:2002.05202). conv_kernel_size,
    conv_act: of "convolved" blocks, how many neighbours the convolution sees, 0 for none, and what activates it.
    mlm_head: "transformed" (a dense layer and a norm before the product with the embedding, a bias after it) or "plain" (the product
    alone).

    num_decoder_layers: layers of a decoder of its own, which looks at the encoder (`bert4k.encoder_decoder`); 0 is none. Of the decoder
    are, too: cross_position, what its attention to the encoder does with positions; logits, its output layer: "tied" to the embedding,
    that with a constant bias ("tied_bias"), or "untied"; logits_scaled, whether what goes into that is divided by the root of hidden_size;
    decoder_start, the tokens before a text, and decoder_end, the one after it (none: [CLS] and [SEP] of the vocabulary).

    condition_size: how many numbers the model is given for each row, on which the gains and biases of its norms depend; 0 for norms that
    depend on nothing (`bert4k.layers.ConditionalNormalization`). residual_attention: whether the scores of each layer's attention are
    added to those of the next (RealFormer, arXiv:2012.11747).

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
    family: str = "bert"
    embedding_size: int | None = None
    embedding_projection: str = "if_needed"
    num_hidden_groups: int | None = None
    embedding_norm: bool = True
    block: str = "post_norm"
    position: str = "absolute"
    max_relative_position: int = 64
    position_offset: int = 0
    task_type_vocab_size: int = 0
    norm: str = "layer"
    use_bias: bool = True
    mlm_head: str = "transformed"
    attention_head_size: int | None = None
    attention_scale: bool = True
    position_buckets: int = 32
    feed_forward: str = "plain"
    num_decoder_layers: int = 0
    cross_position: str = "absolute"
    logits: str = "tied"
    logits_scaled: bool = False
    decoder_start: tuple[int, ...] = ()
    decoder_end: int | None = None
    position_biased_input: bool = False
    conv_kernel_size: int = 0
    conv_act: str = "tanh"
    global_attn_every_n_layers: int = 1
    local_attention: int = 128
    global_rope_theta: float = 10000.0
    local_rope_theta: float = 10000.0
    condition_size: int = 0
    residual_attention: bool = False
    shared_segment_embeddings: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_act", _ACTIVATION_NAMES.get(str(self.hidden_act), self.hidden_act))
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(
                f"hidden_act is {self.hidden_act!r}; known activations are {', '.join(ACTIVATIONS)}."
                f"{did_you_mean(str(self.hidden_act), ACTIVATIONS)}"
            )
        if self.conv_act not in ACTIVATIONS:
            raise ConfigError(f"conv_act is {self.conv_act!r}; known activations are {', '.join(ACTIVATIONS)}.")
        checked(self.family)
        object.__setattr__(self, "decoder_start", tuple(self.decoder_start))
        heads = self.num_attention_heads if isinstance(self.num_attention_heads, int) else 0
        usual_head = self.hidden_size // heads if heads > 0 and self.hidden_size % heads == 0 else None
        for name, usual in zip(_USUAL, (self.hidden_size, self.num_hidden_layers, usual_head), strict=True):
            if getattr(self, name) == usual:
                object.__setattr__(self, name, None)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _USUAL:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                expected = f"expected a whole number of at least {least}"
                raise ConfigError(f"{name} is {value!r}; {expected}. Correct the config file or the override.")
        for name, kinds in _KINDS.items():
            if getattr(self, name) not in kinds:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; known kinds are {', '.join(kinds)}.{did_you_mean(str(getattr(self, name)), kinds)}"
                )
        if self.groups > self.num_hidden_layers:
            raise ConfigError(
                f"num_hidden_groups is {self.groups}, and there are {self.num_hidden_layers} layers; it must not be more than these."
            )
        for name in (
            "use_bias",
            "embedding_norm",
            "attention_scale",
            "logits_scaled",
            "position_biased_input",
            "residual_attention",
            "shared_segment_embeddings",
        ):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected true or false. Correct the config file or the override.")
        if self.mlm_head == "plain" and self.embedding_width != self.hidden_size:
            raise ConfigError(
                f"A plain MLM head multiplies {self.hidden_size} numbers with an embedding of {self.embedding_width}; both must be equal."
            )
        if self.conv_kernel_size and self.conv_kernel_size % 2 == 0:
            raise ConfigError(
                f"conv_kernel_size is {self.conv_kernel_size}; expected an odd number, as many neighbours on either side, or 0."
            )
        if self.shared_segment_embeddings and (self.type_vocab_size or self.projected == "all"):
            raise ConfigError(
                f"shared_segment_embeddings takes the rows of segments from the embedding of tokens, and type_vocab_size is"
                f" {self.type_vocab_size}: there are rows of their own, too, or a projection between. Set it for models without."
            )
        if self.condition_size and self.norm != "layer":
            raise ConfigError(
                f"condition_size is {self.condition_size}; only norms of the kind 'layer' take a condition, not {self.norm!r}."
            )
        if self.num_decoder_layers and (self.condition_size or self.residual_attention):
            raise ConfigError("condition_size and residual_attention are for models of one stack; an encoder-decoder has neither.")
        if self.position in ("rotary", "rotary_halves") and self.head_size % 2:
            raise ConfigError(
                f"Attention heads have {self.head_size} numbers; rotary positions turn them in pairs. Choose another num_attention_heads."
            )
        if self.groups != self.num_hidden_layers and (
            self.global_attn_every_n_layers > 1 or self.block in ("pre_norm_but_first", "convolved")
        ):
            raise ConfigError(
                f"num_hidden_groups is {self.groups} for {self.num_hidden_layers} layers, which differ in what they see or how they are"
                " joined and so cannot be shared. Leave num_hidden_groups out."
            )
        for name in ("global_rope_theta", "local_rope_theta"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 1:
                raise ConfigError(
                    f"{name} is {value!r}; expected a number above 1, such as 10000.0. Correct the config file or the override."
                )
        if self.attention_head_size is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be divided among {self.num_attention_heads} attention heads;"
                " it must be a multiple of num_attention_heads, or attention_head_size must say how wide one is."
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
        for name, ids in (("decoder_start", self.decoder_start), ("decoder_end", () if self.decoder_end is None else (self.decoder_end,))):
            if any(token not in range(self.vocab_size) for token in ids):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected ids of tokens, below vocab_size {self.vocab_size}.")

    @property
    def head_size(self) -> int:
        """Width of the queries and keys of one attention head (D)."""
        return self.hidden_size // self.num_attention_heads if self.attention_head_size is None else self.attention_head_size

    @property
    def embedding_width(self) -> int:
        """Width of the token embedding, and of what the MLM output multiplies with it."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def projected(self) -> str | None:
        """What is projected from embedding_size to hidden_size: "all", "tokens" or, where the sizes agree, None."""
        if self.embedding_projection == "if_needed":
            return None if self.embedding_width == self.hidden_size else "all"
        return self.embedding_projection

    @property
    def groups(self) -> int:
        """How many different layers there are."""
        return self.num_hidden_layers if self.num_hidden_groups is None else self.num_hidden_groups

    def group(self, layer: int) -> int:
        """Which of the different layers is used as layer number `layer`."""
        return layer * self.groups // self.num_hidden_layers

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that checkpoints of this family have weights for."""
        return FAMILIES[self.family].outputs

    @property
    def mask(self) -> str:
        """The name of the mask under which checkpoints of this family were trained."""
        return FAMILIES[self.family].mask

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str = "the config", family: str | None = None) -> "Config":
        """A Config from the keys of a `bert_config.json`, of a Hugging Face `config.json`, or of `to_dict`.

        family: whose file it is; by default what the file itself says or shows by its keys, else "bert". Raises `ConfigError` for an
        unknown key (naming the nearest known one), for a known key with a value that this library does not implement, and for a
        missing `vocab_size`.
        """
        family = family or family_of(values, origin) or "bert"
        row = checked(family)
        known = {field.name for field in fields(cls)}
        if "family" not in values:  # as it was released, not by to_dict
            if isinstance(act := values.get("hidden_act"), list) and len(act) == 2 and act[1] == "linear":  # as bert4keras writes it
                values = {**values, "hidden_act": act[0], "feed_forward": "gated"}
            if row.google_gelu != "gelu" and "model_type" not in values and values.get("hidden_act") == "gelu":
                values = {**values, "hidden_act": row.google_gelu}
            values = {**row.values, **row.read({row.keys.get(key, key): value for key, value in values.items()})}
        only_values = {**_ONLY_VALUE, **row.only}
        for key, only in only_values.items():
            if key in values and values[key] != only:
                raise ConfigError(f"{origin} has {key} = {values[key]!r}; only {only!r} is implemented for {row.title}.")
        unknown = [key for key in values if key not in known | _WITHOUT_EFFECT | row.without_effect | set(only_values)]
        if unknown:
            raise ConfigError(
                f"{origin} has the unknown key {unknown[0]!r}, read as {row.title}.{did_you_mean(unknown[0], known)}"
                f" Known keys are {', '.join(sorted(known))}. Remove it if it changes nothing, or say whose file it is (model=)."
            )
        if "vocab_size" not in values:
            raise ConfigError(f"{origin} has no vocab_size; it must say how many rows the embedding has.")
        return cls(**{key: value for key, value in values.items() if key in known} | {"family": family})

    @classmethod
    def from_file(cls, path: str | Path, family: str | None = None) -> "Config":
        """Read a JSON file; see `from_dict`."""
        return cls.from_dict(read_json(path), str(path), family)

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
        """The keys of the `bert_config.json` of TensorFlow checkpoints; what its family implies, or Google fixes, is left out."""
        row, values = FAMILIES[self.family], FAMILIES[self.family].write(self.own())
        for name, fixed in (("layer_norm_eps", 1e-12), ("pad_token_id", 0)):
            if values[name] == row.values.get(name, fixed):
                del values[name]
        if row.google_gelu == "gelu_tanh":
            values["hidden_act"] = {"gelu_tanh": "gelu", "gelu": "gelu_erf"}.get(self.hidden_act, self.hidden_act)
        if self.feed_forward == "gated":
            values = {name: value for name, value in values.items() if name != "feed_forward"}
            values["hidden_act"] = [values["hidden_act"], "linear"]
        return values

    def to_huggingface(self) -> dict[str, Any]:
        """The keys of a Hugging Face `config.json`. Raises `ConfigError` for kinds that transformers' model of the family lacks."""
        row = FAMILIES[self.family]
        beyond = [f"{name}={value!r}" for name, value in self.own().items() if name not in _COMMON | set(row.keys.values())]
        if not self.type_vocab_size and row.values.get("type_vocab_size") != 0:
            beyond.append("type_vocab_size=0")
        if row.model_type is None or beyond:
            lacking = f"no {row.title}" if row.model_type is None else f"no {row.title} with {', '.join(beyond)}"
            raise ConfigError(f"transformers has {lacking}, so it would compute something else. Save with format='google' or 'keras'.")
        values = row.write(self.own())
        values["hidden_act"] = {"gelu_tanh": "gelu_new"}.get(values["hidden_act"], values["hidden_act"])
        values |= {"architectures": [row.architecture], "model_type": row.model_type}
        if self.position == "absolute" and "hidden_size" not in row.keys.values():  # whose words are those of BERT's file
            values["position_embedding_type"] = "absolute"
        names = {ours: theirs for theirs, ours in row.keys.items()}
        return row.write_huggingface({names.get(name, name): value for name, value in values.items()})

    def own(self) -> dict[str, Any]:
        """Values that a file of the family tells: those of every family, those that it has a key for, and what it would not imply."""
        row = FAMILIES[self.family]
        implied = {**asdict(Config(vocab_size=1)), **row.values, "family": self.family}
        told = _COMMON | set(row.keys.values())
        values = {name: value for name, value in self.to_dict().items() if name in told or value != implied[name]}
        usual = {"embedding_size": self.embedding_width, "num_hidden_groups": self.groups, "attention_head_size": self.head_size}
        return {name: usual.get(name, value) for name, value in values.items()}


def read_json(path: str | Path) -> dict[str, Any]:
    """The values of a config file as they are written. Raises `ConfigError` when it cannot be read or is no JSON object."""
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
    return values
