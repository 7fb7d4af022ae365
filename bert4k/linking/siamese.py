"""Su's ranker of the CCKS2019 competition (kexue.fm/archives/6919): text and entity are read apart, then compared by attention both ways.

    model, network, tokenizer = build("wenbai", Tuning(), "checkpoint")

It takes the rows of `prompts.Writer.pair`, and is trained and asked as the cross-encoder of `ranking` is. What reads is a checkpoint, under
a mask that keeps the two apart, or, as in the original, its table of characters and a BiLSTM. Of the original's three features of how the
text matches the entity, that of characters is the same; for the other two, which need words and the objects of facts, stand pairs and
triples of neighbouring characters that both have: nothing depends on how a description is cut into words.
"""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from bert4k import masks
from bert4k.finetuning import loaded
from bert4k.linking.ranking import answer
from bert4k.model import Transformer
from bert4k.structured import Pooling
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

Encoder = Literal["checkpoint", "bilstm"]
UNITS = 64  # of an LSTM, each way
HEADS, HEAD_SIZE = 8, 16
NGRAMS = 3


@keras.saving.register_keras_serializable("bert4k")
class Shared(keras.layers.Layer):
    """`shared(token_ids, text, entity)`: ids int [B, L], and which tokens are of the text and of the entity, bool [B, L], give float32
    [B, L, n]: whether a token of the text is part of 1, of 2 ... of n neighbours that also stand, as neighbours, in the entity. 0 for all
    other tokens."""

    def __init__(self, n: int = NGRAMS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = n

    def call(self, token_ids: Any, text: Any, entity: Any) -> Any:
        same = ops.equal(token_ids[:, :, None], token_ids[:, None, :])
        same = ops.logical_and(same, ops.logical_and(text[:, :, None], entity[:, None, :]))
        found, run = [], same
        for size in range(1, self.n + 1):
            if size > 1:  # a run that begins here goes on one further
                run = ops.logical_and(run, _shifted(_shifted(same, 1 - size, 1), 1 - size, 2))
            begins = ops.any(run, axis=2)
            inside = begins
            for back in range(1, size):
                inside = ops.logical_or(inside, _shifted(begins, back, 1))
            found.append(ops.cast(inside, "float32"))
        return ops.stack(found, axis=-1)

    def compute_output_spec(self, token_ids: Any, text: Any, entity: Any) -> Any:
        return keras.KerasTensor((*token_ids.shape, self.n), "float32")

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"n": self.n}


def _shifted(x: Any, by: int, axis: int) -> Any:
    """x with what was at l at l + by of an axis, and False where nothing was."""
    length = ops.shape(x)[axis]
    places = ops.arange(length) - by
    real = ops.logical_and(places >= 0, places < length)
    moved = ops.take(x, ops.clip(places, 0, length - 1), axis=axis)
    return ops.logical_and(moved, ops.reshape(real, [-1 if place == axis else 1 for place in range(len(x.shape))]))


def build(source: str, tuning: Tuning, encoder: Encoder = "checkpoint", numbers: int = 0) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The logit, float32 [B], of a mention's meaning an entity; the network of the checkpoint, of which `bilstm` uses the table of tokens
    and nothing else; its tokenizer. numbers: as in `ranking.build`."""
    network, tokenizer = loaded(source, tuning, str(masks.encoder & masks.same_document))
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "named")}
    ids, segments = inputs["token_ids"], inputs["segment_ids"]
    real = ops.not_equal(ids, network.config.pad_token_id)
    text, entity = (ops.logical_and(real, ops.equal(segments, number)) for number in (0, 1))
    mention = ops.logical_and(text, ops.greater(inputs["named"], 0))
    if encoder == "checkpoint":
        x = network({"token_ids": ids, "segment_ids": ops.zeros_like(segments), "document_ids": segments})
        of_text = of_entity = x
    else:
        table = keras.layers.Embedding(
            network.config.vocab_size, network.config.embedding_size or network.config.hidden_size, name="characters"
        )
        x = keras.layers.Dropout(tuning.dropout)(table(ids))
        table.set_weights([np.asarray(network.weight_values()["embeddings/token/embeddings"])])
        of_text, of_entity = _bilstm("text", x, text), _bilstm("entity", x, entity)
    marks = ops.cast(mention, "float32")[..., None]
    of_text = keras.layers.Dropout(tuning.dropout)(of_text)
    of_text = ops.concatenate([of_text, marks, Shared(name="shared")(ids, text, entity)], axis=-1)
    of_text = _bilstm("compared_text", of_text, text)
    if encoder == "checkpoint":
        of_entity = _bilstm("compared_entity", of_entity, entity)
    x = [
        _looking("text_at_entity", of_text, of_entity, text, entity),
        _looking("entity_at_text", of_entity, of_text, entity, text),
        Pooling("mean")(of_text, mention),
    ]
    return answer(inputs, ops.concatenate(x, axis=-1), real, 128, tuning.dropout, numbers), network, tokenizer


def _bilstm(name: str, x: Any, these: Any) -> Any:
    """An LSTM each way over `these` tokens of x, whose state passes over others; they have 0."""
    found = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True), name=name)(x, mask=these)
    return ops.where(these[..., None], found, 0.0)


def _looking(name: str, queries: Any, keys: Any, these: Any, those: Any) -> Any:
    """The maximum, over `these` tokens, of what they see of `those`: [B, 128]."""
    allowed = ops.logical_and(these[:, :, None], those[:, None, :])
    seen = keras.layers.MultiHeadAttention(HEADS, HEAD_SIZE, output_shape=HEADS * HEAD_SIZE, name=name)(
        queries, keys, attention_mask=allowed
    )
    return Pooling("max")(seen, these)
