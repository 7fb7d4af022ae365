"""What a checkpoint is, told from the names of its tensors."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# Slots and counters that optimizers leave in a checkpoint, and the bookkeeping of TensorFlow's object-based saver.
OPTIMIZER = (
    r"(^|/)(global_step|beta[12]_power|loss_scale|good_steps|save_counter)(/|$)|/(adam|lamb)_[mv]$|/Adam(_1)?$|/(Exponential)?MovingAverage$"
    r"|\.OPTIMIZER_SLOT/|^_CHECKPOINTABLE_OBJECT_GRAPH$|^optimizer/|_slot_(v|vr|vc|m)$"  # the last: Mesh TensorFlow's Adafactor
)


class Mark(NamedTuple):
    """A family is recognised when some name matches `has` and none matches `lacks`."""

    family: str
    has: str
    lacks: str = r"(?!)"  # nothing matches this


# The first that fits is the answer, so what is particular comes before what is common.
MARKS = (
    Mark("albert_zh", r"/layer_shared/|word_embeddings_2$"),
    Mark("albert", r"^albert\.|encoder/transformer/group_|albert_layer_groups"),
    Mark("electra_generator", r"^generator_(predictions|lm_head)[./]", r"^discriminator_predictions[./]"),
    Mark("electra", r"^(electra|discriminator|generator)[./]|(discriminator|generator)_predictions"),
    Mark("distilbert", r"^distilbert\."),
    Mark("roberta or xlm_roberta", r"^(xlm_)?roberta\.|^lm_head\.layer_norm"),
    Mark("deberta_v2", r"^deberta\.|rel_embeddings", r"\.in_proj\."),
    Mark("deberta", r"^deberta\.|rel_embeddings"),
    Mark("gau_alpha", r"(^GAU_alpha|/gau)/"),
    Mark("bart", r"(encoder|decoder)\.layernorm_embedding\.|^final_logits_bias$"),
    Mark("roformer_v2", r"layer[._]\d+[./]attention[./]self[./]query", r"position_embeddings|LayerNorm|[./]bias$"),
    Mark("roformer", r"^roformer\.|encoder\.embed_positions"),
    Mark("ernie", r"^ernie\."),
    Mark("modernbert", r"(^|\.)layers\.\d+\.attn\.Wqkv\."),
    Mark("nezha", r"^nezha\.|relative_positions"),
    Mark("t5_pegasus or mt5", r"/rms_norm/scale$"),
    Mark("t5_v1_1", r"/DenseReluDense/wi_0/kernel$"),
    Mark("t5_v1_1 or mt5 or t5_pegasus", r"\.DenseReluDense\.wi_0\."),
    Mark("t5", r"\.SelfAttention\.|/SelfAttention/|(encoder|decoder)[./]block[._]\d"),
    Mark("gpt2_ml", r"^newslm/"),
    Mark("gpt", r"^(transformer\.)?tokens_embed\.|^gpt/transformer/layer_\d+/attention/output/LayerNorm/"),
    Mark("gpt2", r"^(transformer\.)?h\.\d+\.|^model/h\d+/|(^|\.)wte\.|^gpt/transformer/layer_\d+/attention/input/LayerNorm/"),
    Mark("xlnet", r"^transformer\.layer\.\d+\.rel_attn|^model/transformer/layer_\d+/rel_attn"),
    Mark("roformer or nezha", r"layer[._]\d+[./]attention[./]self[./]query", r"position_embeddings"),
    Mark("bert or nezha_gen", r"^cls/predictions/output_bias$", r"token_type_embeddings|^bert/pooler/"),
    Mark("bert", r"layer[._]\d+[./]attention[./]self[./]query"),
)


def may_be(recognised: str, family: str) -> bool:
    """Whether names that were `recognise`d so may be of `family`: some families share their names, and some names tell nothing."""
    return recognised == "unknown" or family in recognised.split(" or ")


def recognise(names: Iterable[str]) -> str:
    """The family that tensor names belong to, or "unknown"."""
    names = [name for name in names if not re.search(OPTIMIZER, name)]
    for family, has, lacks in MARKS:
        if any(re.search(has, name) for name in names) and not any(re.search(lacks, name) for name in names):
            return family
    return "unknown"


def count_layers(names: Iterable[str]) -> int:
    """How many numbered layers the names speak of; 0 when layers are shared or not numbered."""
    return len({number for name in names for number in re.findall(r"(?:(?:layer|layers|block|h)[._]|/layer)(\d+)[./]", name)})
