"""Answer questions from passages, all characters of the answer at once: they are read from [MASK]s (masked language model, `encoder`).

    bert4k train mlm_qa --run runs/qa --train train.jsonl --dev dev.jsonl --extractive
    bert4k evaluate runs/qa test.jsonl
    bert4k predict runs/qa "问题<TAB>段落" -                                # - reads lines: tabs between, or JSON objects

Files are JSON lines, {"question": ..., "passages": [...], "answers": [...]}, or a data set: see `bert4k.answering.readers`. The model reads
`[CLS] [MASK] x n [SEP] question [SEP] passage [SEP]` and tells the answer in the first places, then a [SEP]; the others are filled and tell
nothing. A passage without the answer is told by a [SEP] at once. Long passages are read in pieces that overlap; all pieces of all passages
vote. After Su's reading comprehension by MLM for bert4keras (kexue.fm, archive 7148).
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

    from bert4k.model import Transformer
    from bert4k.pretraining.objectives import Example
    from bert4k.telling import ToldBatches
    from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    places: int = setting(24, "[MASK]s: tokens of the longest answer and its end")
    extractive: bool = setting(False, "answer only with what stands in a passage, as it is written there")
    longest_question: int = setting(48, "tokens of a question; what is longer is cut")
    longest: int = setting(256, "tokens that are read at once; a longer passage is read in pieces")


class Piece(NamedTuple):
    """A part of a passage, as the model reads it."""

    question: int
    text: str  # of the whole passage
    token_ids: NDArray[np.int32]
    begin: int  # the token of the row with which the passage begins
    spans: tuple[tuple[int, int], ...]  # where in the text each of its tokens stands
    answer: NDArray[np.int32]  # tokens to be told, [SEP] at their end; of a question that is only asked, nothing but that


read = read_questions


def encode(questions: Sequence[Question], tokenizer: Tokenizer, settings: Settings, what: str = "") -> list[Piece]:
    """The rows of all questions, with the answers that their passages have; says what of `what` was cut."""
    import numpy as np

    from bert4k.telling import fitted, tell_cuts

    texts, cut = fitted(tokenizer, [each.text for each in questions], settings.longest_question)
    tell_cuts(cut, len(texts), f"questions{what}", settings.longest_question)
    found, long = [], 0
    for number, (text, question) in enumerate(zip(texts, questions, strict=True)):
        front = [tokenizer.cls_id, *[tokenizer.mask_id] * settings.places, tokenizer.sep_id, *tokenizer.spans(text)[0], tokenizer.sep_id]
        for passage in question.passages:
            ids, starts, ends = tokenizer.spans(passage.text)
            for part in pieces(len(ids), settings.longest - len(front) - 1):
                row = np.array([*front, *ids[part], tokenizer.sep_id], np.int32)
                places = tuple(zip(starts[part], ends[part], strict=True))
                here = passage.text[places[0][0] : places[-1][1]] if places else ""
                answer = tokenizer.spans(passage.answer_of(here))[0]
                long += len(answer) >= settings.places
                answer = [*answer[: settings.places - 1], tokenizer.sep_id]
                found.append(Piece(number, passage.text, row, len(front), places, np.array(answer, np.int32)))
    if long:
        print(f"{long:,} of {len(found):,} answers{what} are longer than {settings.places - 1} tokens and were cut", file=sys.stderr)
    return found


def batches(rows: Sequence[Piece], tokenizer: Tokenizer, settings: Settings, shuffle: bool = True) -> ToldBatches:
    """Rows with the answer to be told in the places of the first [MASK]s."""
    import numpy as np

    from bert4k.pretraining.objectives import NOTHING, Example
    from bert4k.telling import ToldBatches

    def make(row: int, random: Any) -> Example:
        ids, answer = rows[row].token_ids, rows[row].answer
        labels = np.full(len(ids), NOTHING, np.int32)
        labels[1 : 1 + len(answer)] = answer
        nothing = np.zeros(len(ids), np.int32)
        return Example(ids, nothing, np.arange(len(ids), dtype=np.int32), nothing, labels, np.ones(len(ids), bool))

    lengths, most = [len(row.token_ids) for row in rows], [len(row.answer) for row in rows]
    return ToldBatches(lengths, most, make, tokenizer.pad_id, settings.tuning.tokens, settings.tuning.seed, shuffle)


def build(settings: Settings) -> tuple[keras.Model, Transformer, Tokenizer]:
    """The model that is trained: logits [B, P, V] in places of [MASK]s; the network; its tokenizer."""
    from bert4k.finetuning import loaded
    from bert4k.telling import teller

    network, tokenizer = loaded(settings.model, settings.tuning, "encoder", ("mlm",))
    most = min(settings.longest, network.config.max_position_embeddings)
    if settings.longest > most or settings.places < 2 or settings.places + settings.longest_question + 4 + 16 > most:
        raise ConfigError(
            f"--longest is {settings.longest} ({settings.model} has {network.config.max_position_embeddings} positions), --places"
            f" {settings.places} and --longest_question {settings.longest_question}. Expected room for both, 4 marks and 16 tokens of a"
            " passage, and 2 places at least."
        )
    return teller(network, "encoder", settings.tuning.dropout), network, tokenizer


def answers(model: keras.Model, rows: Sequence[Piece], tokenizer: Tokenizer, settings: Settings, of: int) -> list[Answer]:
    """The answers of so many questions, which the pieces of their passages have voted for. model: a `teller`."""
    import numpy as np

    from bert4k.progress import track

    asked = batches(rows, tokenizer, settings, shuffle=False)
    votes: list[list[Answer]] = [[] for _ in range(of)]
    for index in track(range(len(asked)), len(asked), "answering"):
        inputs, *_ = asked[index]
        count = len(inputs["token_ids"])
        inputs["at"] = np.tile(np.arange(1, 1 + settings.places, dtype=np.int32), (count, 1))
        logits = np.asarray(model.predict_on_batch(inputs), np.float64)
        log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        for row, own in zip(asked.batches[index][1], log_probs, strict=False):
            piece = rows[int(row)]
            votes[piece.question].append(extracted(own, piece, tokenizer) if settings.extractive else written(own, tokenizer))
    return [vote(each) for each in votes]


def written(log_probs: NDArray[np.float64], tokenizer: Tokenizer) -> Answer:
    """The likeliest token of each place, log_probs [P, V], up to the first [SEP]; confidence is their mean probability, [SEP] included."""
    import numpy as np

    best = log_probs.argmax(axis=-1)
    size = int(np.argmax(np.append(best == tokenizer.sep_id, True)))
    read = best[: size + 1]  # with its end, where there is one
    confidence = float(np.exp(log_probs[np.arange(len(read)), read]).mean())
    return Answer(tokenizer.decode(read[:size].tolist()), confidence)


def extracted(log_probs: NDArray[np.float64], piece: Piece, tokenizer: Tokenizer) -> Answer:
    """Of all that stands in the piece of a passage, and of nothing, what the places, log_probs [P, V], together find likeliest.

    Places are told independently of each other, so this is exact: every part of the passage is tried, with a [SEP] after it."""
    import numpy as np

    ids = piece.token_ids[piece.begin : -1]
    most = min(len(log_probs) - 1, len(ids))
    if not most:
        return Answer("", 1.0)
    # gathered[k, s]: the place k tells the token s + k of the passage; beyond its end, nothing may be.
    padded = np.append(ids, np.zeros(most, ids.dtype))
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(ids))[:most]
    gathered = log_probs[np.arange(most)[:, None], windows]
    gathered[np.arange(most)[:, None] + np.arange(len(ids)) >= len(ids)] = -np.inf
    ends = log_probs[:, tokenizer.sep_id]
    totals = np.cumsum(gathered, axis=0) + ends[1 : most + 1, None]
    last, first = np.unravel_index(int(totals.argmax()), totals.shape)
    if totals[last, first] <= ends[0]:
        return Answer("", float(np.exp(ends[0])))
    confidence = np.exp(np.append(gathered[: last + 1, first], ends[last + 1])).mean()
    return Answer(piece.text[piece.spans[first][0] : piece.spans[first + last][1]], float(confidence))


score = answer_scores


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train mlm_qa`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.telling import told_loss

    questions, dev = [question for path in settings.train for question in read(path)], read(settings.dev)
    if not any(passage.answers for question in questions for passage in question.passages):
        raise DataError("No passage to learn from holds an answer of its question. Look at the answers and passages of the files.")
    model, network, tokenizer = build(settings)
    learn, judge = (encode(part, tokenizer, settings, f" of {name}") for name, part in (("train", questions), ("dev", dev)))
    if without := sum(len(row.answer) == 1 for row in learn):
        print(f"{without:,} of {len(learn):,} passages, or pieces of them, hold no answer: there, none is learnt", file=sys.stderr)

    def answered() -> list[Answer]:
        return answers(model, judge, tokenizer, settings, len(dev))

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

    def __init__(self, model: keras.Model, tokenizer: Tokenizer, settings: Settings) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings

    @classmethod
    def load(cls, run: Path) -> QA:
        """The model of a run. Raises `CheckpointError` when it is not finished."""
        from bert4k import finetuning
        from bert4k.telling import teller

        network, tokenizer, _, stored = finetuning.finished(run, "mlm_qa")
        names = ("places", "extractive", "longest_question", "longest")
        settings = Settings(run=run, train=[], dev=Path(), **{name: stored[name] for name in names})
        return cls(teller(network, "encoder"), tokenizer, settings)

    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answer to each question."""
        return answers(self.model, encode(questions, self.tokenizer, self.settings), self.tokenizer, self.settings, len(questions))

    def answer(self, question: str, passages: Sequence[str]) -> Evidence:
        """The answer to a question, with its first place in the passages; one that is told in other words has no place."""
        [found] = self.answers([Question(question, tuple(map(Passage, passages)))])
        return placed(found, passages)
