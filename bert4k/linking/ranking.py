"""Which of its candidates a mention means: a cross-encoder reads the text, the mention marked in it, together with what is known of one.

    evidence = Evidence(statistics, overlap=True)
    model, network, tokenizer = build("wenbai", Tuning(), numbers=evidence.size)
    batches = RankingBatches(questions, Writer(tokenizer, 192), kb.entities, evidence, negatives=3, tokens=4096)
    finetuning.fit(run, Grouped(model), layers, batches, loss(), ...)
    probabilities = rank(model, writer, asked, candidates, evidence)        # [float64 [K] for each mention]

Each candidate has a logit of its own, and the loss asks that the right one's is above 0 and all others' below (`MultilabelSoftmax`); so
where nothing is right, all are below, and a mention that means no entity (NIL) needs no class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.finetuning import body, outputs_of
from bert4k.layers import FORBIDDEN
from bert4k.linking.calibration import sigmoid
from bert4k.linking.entities import Entity
from bert4k.linking.evidence import Evidence
from bert4k.linking.prompts import Asked, Writer
from bert4k.linking.rows import TOKENS, rows_of
from bert4k.losses import MultilabelSoftmax
from bert4k.model import Transformer
from bert4k.structured import Pooling
from bert4k.tokenizers import Tokenizer
from bert4k.training import LengthBatches
from bert4k.tuning import Tuning

Entities = Callable[[Sequence[str]], Sequence[Entity]]
TOGETHER = 4096  # pairs that are written and read at a time


class Question(NamedTuple):
    """A mention, what it means (None: nothing that the knowledge base has), what else it could, and how many candidates it has."""

    asked: Asked
    right: str | None
    others: tuple[str, ...]
    candidates: int


def build(source: str, tuning: Tuning, pooling: str = "mean", numbers: int = 0) -> tuple[keras.Model, Transformer, Tokenizer]:
    """A checkpoint that gives the logit, float32 [B], of a mention's meaning an entity, for rows as `Writer.pair` writes them; the network
    itself; its tokenizer. numbers: how many of `Evidence` it takes, too. A row of nothing but padding has FORBIDDEN."""
    network, tokenizer, inputs, x, real = body(source, tuning)
    inputs["named"] = keras.Input((None,), dtype="int32", name="named")
    mean = Pooling("mean")
    mention = mean(x, ops.logical_and(real, ops.greater(inputs["named"], 0)))
    entity = mean(x, ops.logical_and(real, ops.greater(inputs["segment_ids"], 0)))
    # The product tells a small network, whose attention compares little, where the two agree.
    x = ops.concatenate([Pooling(pooling)(x, real), mention, entity, mention * entity], axis=-1)
    return answer(inputs, x, real, network.config.hidden_size, tuning.dropout, numbers), network, tokenizer


def answer(inputs: dict[str, Any], x: Any, real: Any, units: int, dropout: float, numbers: int) -> keras.Model:
    """The model of a ranker that has made x [B, X] of its inputs: a layer of so many units, and a logit a row, with that of so many numbers
    of its evidence."""
    x = keras.layers.Dense(units, "gelu", dtype="float32", name="compared")(keras.layers.Dropout(dropout)(x))
    logits = keras.layers.Dense(1, dtype="float32", name="means")(x)
    if numbers:
        inputs["features"] = keras.Input((numbers,), name="features")
        # A line through them, and not part of the vector above: few weights, which learn at a rate of their own (see RATES).
        line = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float32", name="evidence")
        logits = logits + line(inputs["features"])
    return keras.Model(inputs, ops.where(ops.any(real, axis=1), logits[:, 0], FORBIDDEN))


# Learning rates of parts of the head, as multiples of that of the network.
RATES = {r"(^|/)evidence/": 50.0}


def loss() -> keras.losses.Loss:
    """Of the logits of a group of candidates, [B, n], of which one is right, or none."""
    return MultilabelSoftmax()


class RankingBatches(LengthBatches):
    """Batches of groups: a mention with what it means and `negatives` of what it does not, inputs [B, n, L] and labels [B, n].

    The negatives of a question are drawn anew in every epoch: of its `others`, and, where these are too few, of all entities (`pool`). They
    follow from the seed, the epoch and the question, so a run that goes on meets the same ones. entities: gives those with these ids, when
    they are needed: all together they may not fit into memory. evidence: its statistics were counted on these questions."""

    def __init__(
        self,
        questions: Sequence[Question],
        writer: Writer,
        entities: Entities,
        evidence: Evidence,
        negatives: int,
        tokens: int,
        pool: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self.questions, self.writer, self.entities, self.evidence = questions, writer, entities, evidence
        self.negatives, self.pool = negatives, pool
        sizes: dict[str, int] = {}
        ids = list(dict.fromkeys(id for question in questions for id in (*question.others, question.right) if id is not None))
        for begin in range(0, len(ids), TOGETHER):
            some = ids[begin : begin + TOGETHER]
            sizes |= {id: len(writer.entity(entity).token_ids) for id, entity in zip(some, entities(some), strict=True)}

        def length(question: Question) -> int:
            # What is drawn of all entities may be as long as a row can be.
            few = len(question.others) < negatives and pool
            own = (sizes[id] for id in (*question.others, question.right) if id is not None)
            return writer.longest if few else min(writer.longest, len(writer.mention(question.asked).token_ids) + max(own))

        lengths = [length(question) for question in questions]
        super().__init__(lengths, self._arrays, max(tokens // (negatives + 1), max(lengths, default=0)), seed=seed)

    def drawn(self, number: int) -> list[str]:
        """The candidates of a question in this epoch, the right one first, if there is one."""
        random = np.random.default_rng([self.seed, self.epoch, number])
        question = self.questions[number]
        others = [id for id in question.others if id != question.right]
        found = [others[place] for place in random.permutation(len(others))[: self.negatives]]
        if len(found) < self.negatives and self.pool:
            known = {question.right, *found, *others}
            more = (self.pool[place] for place in random.integers(len(self.pool), size=4 * self.negatives))
            found += [id for id in dict.fromkeys(more) if id not in known][: self.negatives - len(found)]
        return found if question.right is None else [question.right, *found]

    def _arrays(self, rows: list[int], length: int) -> tuple[Any, ...]:
        count = self.negatives + 1
        written, numbers = [], []  # type: list[Any], list[NDArray[np.float32]]
        members: list[int | None] = []
        labels = np.zeros((len(rows), count), np.float32)
        drawn = [self.drawn(row) for row in rows]
        ids = list(dict.fromkeys(id for own in drawn for id in own))
        known = dict(zip(ids, self.entities(ids), strict=True))
        for at, (row, own) in enumerate(zip(rows, drawn, strict=True)):
            question = self.questions[row]
            members += [*range(len(written), len(written) + len(own)), *[None] * (count - len(own))]
            written += [self.writer.pair(question.asked, known[id]) for id in own]
            if self.evidence.size:
                # How many candidates there are is a feature, and must mean in training what it means afterwards: all, not those drawn.
                how = (question.candidates, question.right, True)
                numbers += list(self.evidence.of(question.asked, [known[id] for id in own], *how))
            labels[at, 0] = question.right is not None
        inputs = rows_of(written, self.writer.tokenizer.pad_id, numbers or None).inputs(members, length)
        return {name: each.reshape(len(rows), count, *each.shape[1:]) for name, each in inputs.items()}, labels


def rank(
    model: keras.Model,
    writer: Writer,
    asked: Sequence[Asked],
    candidates: Sequence[Sequence[Entity]],
    evidence: Evidence,
) -> list[NDArray[np.float64]]:
    """How probable each of its candidates is for each mention, each by itself: from 0 to 1, float64 [K] for each."""
    pairs = [(place, entity) for place, own in enumerate(candidates) for entity in own]
    numbers: list[NDArray[np.float32]] = []
    if evidence.size:
        for each, own in zip(asked, candidates, strict=True):
            numbers += list(evidence.of(each, own, len(own)))
    logits: list[float] = []
    for begin in range(0, len(pairs), TOGETHER):
        some = slice(begin, begin + TOGETHER)
        rows = [writer.pair(asked[place], entity) for place, entity in pairs[some]]
        logits += outputs_of(model, rows_of(rows, writer.tokenizer.pad_id, numbers[some] or None), TOKENS)
    values = sigmoid(logits)
    ends = np.cumsum([len(own) for own in candidates], dtype=int)
    return [values[end - len(own) : end] for end, own in zip(ends, candidates, strict=True)]
