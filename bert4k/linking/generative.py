"""Linking by writing: a model that has read the text, with the mention marked, writes the title of the entity that is meant (GENRE, De
Cao et al. 2021, arXiv:2010.00904), here a BERT under the mask seq2seq (UniLM).

    model, network, tokenizer = build("wenbai", Tuning())               # `model` is trained on `lessons`, `network` writes
    probabilities = rank(network, tokenizer, asked, candidates)

What may be written are the titles of a mention's candidates and nothing else: `bert4k.constraints.one_of` makes a trie of them, of which a
beam follows the likeliest branches. A title is the name and the beginning of what is known of it, since namesakes share the name.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from bert4k.decoding import beam, constraints, generate
from bert4k.decoding.batches import bucket
from bert4k.finetuning import loaded
from bert4k.linking.entities import Entity
from bert4k.linking.prompts import Asked, Writer
from bert4k.model import Transformer
from bert4k.pretraining import objectives
from bert4k.pretraining.mapped import Pair
from bert4k.telling import ToldBatches, teller
from bert4k.tokenizers import Tokenizer
from bert4k.tuning import Tuning

WIDEST = 8  # beams: candidates beyond the likeliest ones are not told apart
TITLE = 24  # tokens of a title


def build(source: str, tuning: Tuning) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The model that is trained, as `telling.teller` makes it; the network that writes, under the mask seq2seq; its tokenizer."""
    network, tokenizer = loaded(source, tuning, "seq2seq", ("mlm",))
    return teller(network, "seq2seq", tuning.dropout), network, tokenizer


def title(entity: Entity, tokenizer: Tokenizer) -> str:
    """The name and the beginning of what is known of an entity, as far as the vocabulary can write it: what cannot be written is left out.
    Empty where nothing can."""
    about = next((value for predicate, value in entity.facts if predicate == "义项描述"), entity.description or "、".join(entity.types))
    special = set(tokenizer.special_ids)
    ids = [token for text in (entity.name, about) for token in tokenizer.spans(text[: 4 * TITLE])[0] if token not in special]
    return tokenizer.decode(ids[:TITLE]).strip()


def source_of(asked: Asked, writer: Writer) -> str:
    """The text with the mention marked; of a long one, so many characters on both sides that it fits into a row of the writer."""
    before, after = writer.mark_tokens
    room = max(writer.longest - 4 - len(asked.surface), 0)
    begin = max(0, asked.start - max(room // 2, room - (len(asked.text) - asked.end)))
    end = asked.end + max(0, room - (asked.start - begin))
    return f"{asked.text[begin : asked.start]}{before}{asked.surface[: writer.longest]}{after}{asked.text[asked.end : end]}"


def lessons(pairs: Sequence[tuple[Asked, Entity]], writer: Writer, tokens: int, seed: int = 0) -> ToldBatches:
    """Batches for the model that is trained: mentions, and the titles of what they mean, which are told token by token."""
    tokenizer, special = writer.tokenizer, objectives.Special.of(writer.tokenizer)
    sides = [(source_of(asked, writer), title(entity, tokenizer)) for asked, entity in pairs]
    rows = [Pair(*(np.array(tokenizer.spans(text)[0], np.int32) for text in side)) for side in sides if side[1]]
    lengths = [len(row.source) + len(row.target) + 3 for row in rows]
    most = [len(row.target) + 1 for row in rows]

    def make(row: int, random: np.random.Generator) -> objectives.Example:
        return objectives.seq2seq(rows[row], special)

    return ToldBatches(lengths, most, make, tokenizer.pad_id, max(tokens, *lengths), seed)


def rank(network: Transformer, writer: Writer, asked: Sequence[Asked], candidates: Sequence[Sequence[Entity]]) -> list[NDArray[np.float64]]:
    """How probable the title of each candidate is, a mean over its tokens (the geometric one), from 0 to 1: float64 [K] for each mention.
    0 for one that the beam has given up, and for one that cannot be written."""
    tokenizer = writer.tokenizer
    titles = [[title(entity, tokenizer) for entity in own] for own in candidates]
    places = [place for place, own in enumerate(titles) if any(own)]
    found = [np.zeros(len(own)) for own in titles]
    if not places:
        return found
    width = min(WIDEST, bucket(max(len(set(titles[place])) for place in places)))
    written = generate(
        network,
        tokenizer,
        [source_of(asked[place], writer) for place in places],
        beam(width, length_penalty=1.0, n_best=width),
        constraints=[constraints.one_of(dict.fromkeys(filter(None, titles[place]))) for place in places],
        max_tokens=TITLE,
    )
    for place, best in zip(places, written, strict=True):
        told = {each.text: float(np.exp(np.mean(each.log_probs))) for each in (best, *best.alternatives)}
        found[place] = np.array([told.get(each, 0.0) for each in titles[place]])
    return found
