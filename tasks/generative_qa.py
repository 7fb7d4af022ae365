"""Answer questions from passages by writing the answer, token by token (UniLM).

    bert4k train generative_qa --run runs/qa --train train.jsonl --dev dev.jsonl --extractive
    bert4k evaluate runs/qa test.jsonl
    bert4k predict runs/qa "问题<TAB>段落" -                                # - reads lines: tabs between, or JSON objects

Files are those of `bert4k.answering.readers`. The model reads `[CLS] passage [SEP] question [SEP]`, of which each token sees all others,
and writes `answer [SEP]`, of which each sees what comes before it; of a passage without the answer, the [SEP] at once. Long passages are
read in pieces that overlap; all pieces of all passages that answer vote. With --extractive only what stands in a piece can be written, one
token after the other (`constraints.substring_of`).

After Su's reading comprehension by UniLM for bert4keras (kexue.fm, archive 7115), but for the vote: there the passages write one answer
together and vote on every token of it; here each writes its own, and whole answers are voted on, each worth the mean probability of its
tokens, as in archive 7148. So rows are independent of each other, as decoding in batches has them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bert4k.answering import (
    Answer,
    Evidence,
    Passage,
    Question,
    answer_scores,
    occurrences,
    pieces,
    placed,
    question_of_line,
    read_questions,
    report_answers,
    told,
    vote,
)
from bert4k.errors import ConfigError, DataError
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from bert4k.decoding import Generation
    from bert4k.model import Transformer
    from bert4k.telling import ToldBatches
    from bert4k.tokenizers import Tokenizer


LEAST_ROOM = 16  # tokens of a passage


@dataclass(frozen=True, kw_only=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    longest_answer: int = setting(24, "tokens of an answer; what is longer is cut")
    extractive: bool = setting(False, "answer only with what stands in a passage, as it is written there")
    longest_question: int = setting(48, "tokens of a question; what is longer is cut")
    longest: int = setting(256, "tokens that are read and written at once; a longer passage is read in pieces")


class Piece(NamedTuple):
    """A part of a passage with its question, as the model reads it."""

    question: int
    text: str  # of the part
    source: str  # the part, [SEP], the question
    source_ids: NDArray[np.int32]
    answer: NDArray[np.int32]  # tokens to be told; of a question that is only asked, none


read = read_questions


def encode(questions: Sequence[Question], tokenizer: Tokenizer, settings: Settings, what: str = "") -> list[Piece]:
    """The rows of all questions, with the answers that their passages have; says what of `what` was cut."""
    import numpy as np

    from bert4k.telling import fitted, tell_cuts

    texts, cut = fitted(tokenizer, [each.text for each in questions], settings.longest_question)
    tell_cuts(cut, len(texts), f"questions{what}", settings.longest_question)
    found, long, between = [], 0, tokenizer.id_to_token(tokenizer.sep_id)
    for number, (text, question) in enumerate(zip(texts, questions, strict=True)):
        room = settings.longest - settings.longest_answer - len(tokenizer.spans(text)[0]) - 4
        for passage in question.passages:
            ids, starts, ends = tokenizer.spans(passage.text)
            for part in pieces(len(ids), room):
                here = passage.text[starts[part][0] : ends[part][-1]] if ids else ""
                [here], _ = fitted(tokenizer, [here], room)  # a word that is cut in two may have more tokens than its halves had
                source = f"{here}{between}{text}"
                answer = tokenizer.spans(passage.answer_of(here))[0]
                long += len(answer) > settings.longest_answer
                both = (np.array(each, np.int32) for each in (tokenizer.spans(source)[0], answer[: settings.longest_answer]))
                found.append(Piece(number, here, source, *both))
    if long:
        print(f"{long:,} of {len(found):,} answers{what} are longer than {settings.longest_answer} tokens and were cut", file=sys.stderr)
    return found


def batches(rows: Sequence[Piece], tokenizer: Tokenizer, settings: Settings) -> ToldBatches:
    """`[CLS] passage [SEP] question [SEP] answer [SEP]`, of which the answer and its end are told."""
    from bert4k.pretraining.mapped import Pair
    from bert4k.pretraining.objectives import Example, Special, seq2seq
    from bert4k.telling import ToldBatches

    special = Special.of(tokenizer)

    def make(row: int, random: Any) -> Example:
        return seq2seq(Pair(rows[row].source_ids, rows[row].answer), special)

    lengths, most = [len(row.source_ids) + len(row.answer) + 3 for row in rows], [len(row.answer) + 1 for row in rows]
    return ToldBatches(lengths, most, make, tokenizer.pad_id, settings.tuning.tokens, settings.tuning.seed)


def build(settings: Settings) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The model that is trained: logits [B, P, V] where the answer is told; the network that writes; its tokenizer."""
    from bert4k.finetuning import loaded
    from bert4k.telling import teller

    network, tokenizer = loaded(settings.model, settings.tuning, "seq2seq", ("mlm",))
    positions, taken = network.config.max_position_embeddings, settings.longest_answer + settings.longest_question + 4
    if settings.longest > positions or settings.longest_answer < 1 or taken + LEAST_ROOM > settings.longest:
        raise ConfigError(
            f"--longest is {settings.longest} ({settings.model} has {positions} positions), --longest_answer {settings.longest_answer} and"
            f" --longest_question {settings.longest_question}. Expected room for both, 4 marks and {LEAST_ROOM} tokens of a passage."
        )
    return teller(network, "seq2seq", settings.tuning.dropout), network, tokenizer


def answers(network: Transformer, rows: Sequence[Piece], tokenizer: Tokenizer, settings: Settings, of: int) -> list[Answer]:
    """The answers of so many questions, for which the pieces of their passages have voted. network: under the mask `seq2seq`."""
    from bert4k.decoding import constraints, generate

    given: Any = {}
    if settings.extractive:
        # A piece of which no token can be written can only have no answer.
        sets = [constraints.substring_of([row.text]) | constraints.empty if row.text else constraints.empty for row in rows]
        given = {"constraints": sets}
    votes: list[list[Answer]] = [[] for _ in range(of)]
    written = generate(network, tokenizer, [row.source for row in rows], max_tokens=settings.longest_answer + 1, **given)
    for row, each in zip(rows, written, strict=True):
        votes[row.question].append(answer_of(each, row.text))
    return [vote(each) for each in votes]


def answer_of(written: Generation, text: str) -> Answer:
    """What was written of a text, as it stands there if it does; confidence is the mean probability of its tokens, [SEP] included."""
    import numpy as np

    places = occurrences(text, written.text)
    told = text[places[0][0] : places[0][1]] if places else written.text
    return Answer(told, float(np.exp(written.log_probs).mean()))


score = answer_scores


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train generative_qa`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.telling import told_loss

    questions, dev = [question for path in settings.train for question in read(path)], read(settings.dev)
    if not any(passage.answers for question in questions for passage in question.passages):
        raise DataError("No passage to learn from holds an answer of its question. Look at the answers and passages of the files.")
    model, network, tokenizer = build(settings)
    learn, judge = (encode(part, tokenizer, settings, f" of {name}") for name, part in (("train", questions), ("dev", dev)))
    if without := sum(not len(row.answer) for row in learn):
        print(f"{without:,} of {len(learn):,} passages, or pieces of them, hold no answer: there, none is learnt", file=sys.stderr)

    def answered() -> list[Answer]:
        return answers(network, judge, tokenizer, settings, len(dev))

    best = finetuning.fit(
        settings.run,
        model,
        network.config.num_hidden_layers,
        batches(learn, tokenizer, settings),
        told_loss(),
        lambda: score([each.text for each in answered()], dev),
        "mean",
        settings.tuning,
    )
    found = answered()
    report_answers(settings.run, settings.dev, found, dev)
    finetuning.finish(settings.run, network, network, tokenizer, ())
    return {"run": str(settings.run), "epoch": best["epoch"], **score([each.text for each in found], dev)}


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k.finetuning import evaluation_folder

    questions = read(path)
    found = QA.load(run).answers(questions)
    report_answers(evaluation_folder(run, path), path, found, questions)
    return {"file": str(path), "questions": len(questions), **score([each.text for each in found], questions)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN "QUESTION<TAB>PASSAGE..."...`: the answer to each question, "" where the passages have none."""
    questions = [question_of_line(text, number) for number, text in enumerate(texts, 1)]
    return [told(*pair) for pair in zip(questions, QA.load(run).answers(questions), strict=True)]


class QA:
    """A finished run that answers questions from any passages: `QA.load(run).answer(question, passages)`."""

    def __init__(self, network: Transformer, tokenizer: Tokenizer, settings: Settings) -> None:
        self.network, self.tokenizer, self.settings = network, tokenizer, settings

    @classmethod
    def load(cls, run: Path) -> QA:
        """The network of a run. Raises `CheckpointError` when it is not finished."""
        from bert4k import finetuning

        network, tokenizer, _, stored = finetuning.finished(run, "generative_qa")
        names = ("longest_answer", "extractive", "longest_question", "longest")
        return cls(network, tokenizer, Settings(run=run, train=[], dev=Path(), **{name: stored[name] for name in names}))

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answer to each question."""
        return answers(self.network, encode(questions, self.tokenizer, self.settings), self.tokenizer, self.settings, len(questions))

    def answer(self, question: str, passages: Sequence[str]) -> Evidence:
        """The answer to a question, with its first place in the passages; one that is told in other words has no place."""
        [found] = self.answers([Question(question, tuple(map(Passage, passages)))])
        return placed(found, passages)
