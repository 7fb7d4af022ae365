"""What kind of thing a mention is, told from its text: a person, a work, a place. Of a mention that means no entity (NIL), it is all that
can be said, as DuEL 2.0 asks (CCKS2020).

    model, network, tokenizer = build("wenbai", Tuning(), len(classes))
    types = types_of(model, writer, asked, classes)                     # ["Person", ...]

The classes are the types of the entities that training texts mention, of an entity with several the first one, and those of their NIL
mentions where these have one.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from bert4k.finetuning import body, outputs_of
from bert4k.linking.knowledge_base import Entity, KnowledgeBase
from bert4k.linking.prompts import Asked, Writer
from bert4k.linking.rows import TOKENS, rows_of
from bert4k.linking.texts import LinkedText
from bert4k.model import Transformer
from bert4k.structured import Pooling
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning


def type_of(entity: Entity) -> str | None:
    """The first of its types."""
    return next(iter(entity.types), None)


def typed(texts: Sequence[LinkedText], knowledge_base: KnowledgeBase) -> list[tuple[Asked, str]]:
    """The mentions of texts of which a type is known."""
    ids = list(dict.fromkeys(mention.id for text in texts for mention in text.mentions if mention.id is not None))
    types = {id: type_of(entity) for id, entity in zip(ids, knowledge_base.entities(ids), strict=True)}
    told = [
        (Asked(text.text, mention.start, mention.end), mention.type if mention.id is None else types[mention.id])
        for text in texts
        for mention in text.mentions
    ]
    return [(asked, type) for asked, type in told if type is not None]


def build(source: str, tuning: Tuning, classes: int) -> tuple[keras.Model, Transformer, Tokenizer]:
    """A checkpoint that gives logits, float32 [B, classes], for rows of `Writer.mention`: of the tokens of the mention, and of all;
    the network itself; its tokenizer."""
    network, tokenizer, inputs, x, real = body(source, tuning)
    inputs["named"] = keras.Input((None,), dtype="int32", name="named")
    mean = Pooling("mean")
    named = keras.ops.logical_and(real, keras.ops.greater(inputs["named"], 0))
    x = keras.layers.Dropout(tuning.dropout)(keras.ops.concatenate([mean(x, named), mean(x, real)], axis=-1))
    return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32", name="types")(x)), network, tokenizer


def types_of(model: keras.Model, writer: Writer, asked: Sequence[Asked], classes: Sequence[str]) -> list[str]:
    """The likeliest class of each mention."""
    if not asked:
        return []
    rows = rows_of([writer.mention(each) for each in asked], writer.tokenizer.pad_id)
    return [classes[int(np.argmax(logits))] for logits in outputs_of(model, rows, TOKENS)]
