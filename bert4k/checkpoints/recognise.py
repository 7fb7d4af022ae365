"""What a checkpoint is, told from the names of its tensors."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# Slots and counters that optimizers leave in a checkpoint, and the bookkeeping of TensorFlow's object-based saver.
OPTIMIZER = (
    r"(^|/)(global_step|beta[12]_power|loss_scale|good_steps|save_counter)(/|$)|/(adam|lamb)_[mv]$|/Adam(_1)?$|/(Exponential)?MovingAverage$"
    r"|\.OPTIMIZER_SLOT/|^_CHECKPOINTABLE_OBJECT_GRAPH$|^optimizer/"
)


class Mark(NamedTuple):
    """A family is recognised when some name matches `has` and none matches `lacks`."""

    family: str
    has: str
    lacks: str = r"(?!)"  # nothing matches this


# The first that fits is the answer, so what is particular comes before what is common.
MARKS = (
    Mark("albert", r"^albert\.|/layer_shared/|word_embeddings_2|embedding_hidden_mapping_in|encoder/transformer/group_"),
    Mark("electra", r"^(electra|discriminator|generator)[./]|(discriminator|generator)_predictions|embeddings_project"),
    Mark("distilbert", r"^distilbert\."),
    Mark("roberta", r"^(xlm_)?roberta\.|^lm_head\.layer_norm"),
    Mark("roformer", r"^roformer\.|encoder\.embed_positions"),
    Mark("ernie", r"^ernie\."),
    Mark("deberta", r"^deberta\.|rel_embeddings"),
    Mark("nezha", r"^nezha\.|relative_positions"),
    Mark("t5", r"\.SelfAttention\.|/SelfAttention/|(encoder|decoder)[./]block[._]\d"),
    Mark("gpt2", r"^(transformer\.)?h\.\d+\.|^model/h\d+/|(^|\.)wte\."),
    Mark("xlnet", r"^transformer\.layer\.\d+\.rel_attn|^model/transformer/layer_\d+/rel_attn"),
    Mark("nezha or roformer", r"layer[._]\d+[./]attention[./]self[./]query", r"position_embeddings"),
    Mark("bert", r"layer[._]\d+[./]attention[./]self[./]query"),
)


def recognise(names: Iterable[str]) -> str:
    """The family that tensor names belong to, or "unknown"."""
    names = [name for name in names if not re.search(OPTIMIZER, name)]
    for family, has, lacks in MARKS:
        if any(re.search(has, name) for name in names) and not any(re.search(lacks, name) for name in names):
            return family
    return "unknown"


def count_layers(names: Iterable[str]) -> int:
    """How many numbered layers the names speak of; 0 when layers are shared or not numbered."""
    return len({number for name in names for number in re.findall(r"(?:layer|layers|block|h)[._](\d+)[./]", name)})
