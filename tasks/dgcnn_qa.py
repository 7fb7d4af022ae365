"""Answer questions from passages: where in a passage the answer begins and ends, and whether it is there (DGCNN; half pointers on BERT).

    bert4k train dgcnn_qa --run runs/qa --train train.jsonl --dev dev.jsonl                          # characters, no checkpoint
    bert4k train dgcnn_qa --run runs/qa --train train.jsonl --dev dev.jsonl --reader joint --model wenbai --tuning.epochs 5
    bert4k evaluate runs/qa test.jsonl
    bert4k predict runs/qa --question 白云山海拔多少米 --passages passages.txt     # or "问题<TAB>段落", JSON objects, - for lines of them

Files are those of `bert4k.answering`. Readers, which have labels, decoding, vote and scores in common:

    dgcnn_characters  characters, learnt here
    dgcnn_words       the same, with the vector of the word that each stands in: of --vectors, or learnt from the training texts
    dgcnn_encoder     what a checkpoint makes of the tokens, question and passage apart: a passage is encoded without knowing the question
    joint             a checkpoint reads both together; no DGCNN

The first three see the question as one vector, which is little among ten passages; so, unless --overlap false, they are told of each token
of a passage what it has in common with the question. In every epoch each question meets one of its passages. After Su's DGCNN (kexue.fm,
archives 5409 and 6906).
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bert4k.answering import Question, answer_scores, question_of_line, read_questions, write_report
from bert4k.errors import ConfigError, DataError
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings, Tuning

if TYPE_CHECKING:
    import keras

    from bert4k.answering import Evidence
    from bert4k.model import Transformer
    from bert4k.reading_comprehension.inputs import LessonBatches, Representation


LEAST_ROOM = 16  # tokens of a passage


@dataclass(frozen=True)
class SlowTuning(Tuning):
    """How the weights change."""

    epochs: int = setting(30, "times that every question is seen, with one of its passages; 5 or so with a checkpoint")
    ema: float | None = setting(
        0.999, "decay, a step, of a moving average of the weights, which is what is judged and kept; 0.9999 in 6906"
    )


@dataclass(frozen=True, kw_only=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    reader: Literal["dgcnn_characters", "dgcnn_words", "dgcnn_encoder", "joint"] = setting(
        "dgcnn_characters", "what reads: characters, also words, a checkpoint's tokens with DGCNN on them, or a checkpoint alone"
    )
    longest: int = setting(256, "tokens of a passage that are read at once, if the checkpoint can; a longer one is read in pieces")
    longest_question: int = setting(48, "tokens of a question; what is longer is cut")
    longest_answer: int = setting(12, "characters of an answer")
    threshold: float = setting(0.1, "how likely a begin and an end of an answer must be")
    rows: int = setting(128, "questions of a batch; fewer fit with a checkpoint")
    holding: float | None = setting(None, "how often a question meets a passage with its answer, if it has both kinds; 0.5 if it has many")
    second_stage: int = setting(10, "epochs that follow, from the best weights, at a tenth of the learning rates; 0: none")
    head_rate: float = setting(5.0, "learning rate of all that is not of the checkpoint, as a multiple of tuning.learning_rate")
    units: int = setting(128, "of DGCNN: width of its layers")
    overlap: bool = setting(True, "of DGCNN: tell of each token of a passage what it has in common with the question")
    frozen: bool = setting(False, "of dgcnn_encoder: leave the checkpoint as it is")
    least_count: int = setting(4, "of characters (and of words learnt here): those that come so often in training have a number")
    vectors: Path | None = setting(None, "of dgcnn_words: word vectors in word2vec's format, binary if .bin; without, they are learnt")
    most_words: int = setting(200_000, "of the vectors: the first so many words")
    tuning: SlowTuning = field(default_factory=SlowTuning)


read = read_questions


def __getattr__(name: str) -> Any:
    """`QA`, by which `bert4k ask` and programs use a run; imported when it is asked for, since --help needs no backend."""
    if name != "QA":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bert4k.reading_comprehension import QA

    return QA


def encode(questions: Sequence[Question], settings: Settings, run: Path) -> Representation:
    """How texts become inputs where characters do: those of the training questions, with word vectors if they are asked for, which are kept
    in `run`, so that a run that goes on has the same ones."""
    from bert4k.reading_comprehension.inputs import Characters
    from bert4k.reading_comprehension.word_vectors import read_word_vectors, train_word_vectors

    texts = list(dict.fromkeys(text for each in questions for text in (each.text, *(passage.text for passage in each.passages))))
    vectors, kept = None, run / "words.bin"
    if settings.reader == "dgcnn_words":
        if not kept.exists():
            if settings.vectors is not None:
                found = read_word_vectors(settings.vectors, settings.most_words)
            else:
                found = train_word_vectors(texts, settings.units, settings.least_count, seed=settings.tuning.seed)
            found.save(kept)
        vectors = read_word_vectors(kept)
        print(f"{len(vectors.words):,} word vectors of {vectors.width} numbers", file=sys.stderr)
    return Characters.counted(texts, settings.least_count, settings.longest_question, settings.longest, vectors, settings.overlap)


def build(settings: Settings, representation: Representation | None = None) -> tuple[keras.Model, Transformer | None, Representation]:
    """The model, probabilities [B, L, 2]; its network, where there is one; how it takes texts: `representation` where those are characters,
    else by the network's tokenizer."""
    import keras
    from keras import ops

    from bert4k import finetuning
    from bert4k.backend import set_seed
    from bert4k.reading_comprehension.dgcnn import DGCNN, PassagePointers
    from bert4k.reading_comprehension.inputs import Characters, Joint, Separate
    from bert4k.reading_comprehension.overlap import FEATURES

    tuning = settings.tuning
    dropout = keras.layers.Dropout(tuning.dropout)
    with_overlap = settings.overlap if representation is None else representation.overlap
    shared = {"passage_overlap": keras.Input((None, FEATURES), name="passage_overlap")} if with_overlap else {}
    if isinstance(representation, Characters):
        set_seed(tuning.seed)
        common: dict[str, Any] = {"dtype": tuning.dtype}
        table = keras.layers.Embedding(2 + len(representation.characters), settings.units, name="reader_characters", **common)
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("question", "passage")}
        given, real = {name: table(ids) for name, ids in inputs.items()}, {name: ops.not_equal(ids, 0) for name, ids in inputs.items()}
        if representation.vectors is not None:
            project = keras.layers.Dense(settings.units, use_bias=False, name="reader_words", **common)
            words = {name: keras.Input((None, representation.vectors.width), name=f"{name}_words") for name in inputs}
            given = {name: given[name] + project(words[name]) for name in inputs}
            inputs |= {f"{name}_words": each for name, each in words.items()}
        reader = DGCNN(settings.units, tuning.dropout, name="reader", **common)
        told = reader(dropout(given["question"]), real["question"], dropout(given["passage"]), real["passage"], *shared.values())
        return keras.Model(inputs | shared, told), None, representation
    if settings.reader == "joint":
        network, tokenizer, inputs, x, _ = finetuning.body(settings.model, tuning)
        room = _room(settings, network, settings.longest_question + 3)
        told = PassagePointers(name="reader", dtype=tuning.dtype)(dropout(x), dropout(x[:, 0]))
        return keras.Model(inputs, told), network, Joint(tokenizer, settings.longest_question, room)
    network, tokenizer = finetuning.loaded(settings.model, tuning)
    room = _room(settings, network, 2)
    network.trainable = not settings.frozen
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("question", "passage")}
    project = keras.layers.Dense(settings.units, use_bias=False, name="reader_projection", dtype=tuning.dtype)
    sides = []
    for ids in inputs.values():
        row = {"token_ids": ids, "segment_ids": ops.zeros_like(ids)}
        real = finetuning.within_text(row, ops.not_equal(ids, network.config.pad_token_id), tokenizer)
        sides += [dropout(project(network(row, training=False if settings.frozen else None))), real]
    told = DGCNN(settings.units, tuning.dropout, name="reader", dtype=tuning.dtype)(*sides, *shared.values())
    return keras.Model(inputs | shared, told), network, Separate(tokenizer, settings.longest_question, room, settings.overlap)


def _room(settings: Settings, network: Transformer, beside: int) -> int:
    """Tokens of a passage that are read at once: what is asked for, or as many as the network has positions for with `beside` others."""
    positions = network.config.max_position_embeddings
    room = min(settings.longest, positions - beside)
    if room < min(settings.longest, LEAST_ROOM) or settings.longest_question + 2 > positions:
        raise ConfigError(
            f"{settings.model} has {positions} positions, of which --longest_question {settings.longest_question} and the marks take"
            f" {beside}; a passage needs {LEAST_ROOM} at least. Give a smaller --longest_question, or another checkpoint."
        )
    return room


def score(found: Sequence[Evidence], questions: Sequence[Question]) -> dict[str, float]:
    """Exact match, F1 of characters and their mean, over all questions, and F1 over those that have an answer and those that have none."""
    scores = answer_scores([each.text for each in found], questions)
    for name, some in (("answerable", True), ("unanswerable", False)):
        own = [(each.text, question) for each, question in zip(found, questions, strict=True) if bool(question.answers) is some]
        if own and len(own) < len(questions):
            scores[name] = answer_scores(*zip(*own, strict=True))["f1"]
    return scores


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train dgcnn_qa`: train in two stages, keep the best epoch, write the run folder; returns the scores on dev."""
    from bert4k import finetuning
    from bert4k.reading_comprehension import QA
    from bert4k.reading_comprehension.inputs import LessonBatches, lessons
    from bert4k.reading_comprehension.spans import calibrated, silenced

    questions, dev = [question for path in settings.train for question in read(path)], read(settings.dev)
    if settings.frozen and settings.reader != "dgcnn_encoder":
        raise ConfigError(
            f"--frozen leaves a checkpoint as it is under a DGCNN. It goes with --reader dgcnn_encoder, not {settings.reader}."
        )
    own = settings.reader in ("dgcnn_characters", "dgcnn_words")
    model, network, representation = build(settings, encode(questions, settings, settings.run) if own else None)
    learn, lost = lessons(questions, representation)
    count = sum(map(len, learn))
    losses = (
        (lost.cut, f"of {len(questions):,} questions are longer than {settings.longest_question} tokens and were cut"),
        (lost.absent, f"of {count:,} passages do not hold the answer that they are said to hold; they are learnt as without one"),
        (lost.within, "places of answers begin or end within a token; they are not learnt"),
        (sum(not lesson.spans for one in learn for lesson in one), f"of {count:,} passages hold no answer: there, none is learnt"),
    )
    for number, what in losses:
        if number:
            print(f"{number:,} {what}", file=sys.stderr)
    if not any(lesson.spans for one in learn for lesson in one):
        raise DataError("No passage to learn from holds an answer of its question. Look at the answers and passages of the files.")
    qa = QA(model, representation, settings.threshold, settings.longest_answer)

    def judged() -> dict[str, float]:
        found = qa.likeliest(dev)
        return score(silenced(found, calibrated(found, dev)), dev)

    batches = LessonBatches(learn, representation, settings.rows, settings.tuning.seed, settings.holding)
    best = fit(settings, model, network, batches, judged)
    found = qa.likeliest(dev)
    qa.least = calibrated(found, dev)
    found = silenced(found, qa.least)
    report(settings.run, settings.dev, found, dev)
    representation.save(settings.run)
    tokenizer = getattr(representation, "tokenizer", None)
    finetuning.finish(settings.run, model, network, tokenizer, [{"least_score": qa.least, "longest": representation.longest}])
    for left in (settings.run / "second_stage" / "backup", settings.run / "second_stage" / finetuning.BEST):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return {"run": str(settings.run), "epoch": best["epoch"], "least_score": qa.least, **score(found, dev)}


def fit(settings: Settings, model: keras.Model, network: Transformer | None, batches: LessonBatches, judged: Any) -> dict[str, Any]:
    """The two stages, each with its own folder and an optimizer that knows nothing of the other; the numbers of the best epoch of the last
    stage that was better than what it began with. A stage that is over is not done again when a run goes on."""
    from bert4k import finetuning
    from bert4k.reading_comprehension.dgcnn import PointerFocal

    tuning = settings.tuning
    best: dict[str, Any] = {}
    stages = [(settings.run, tuning)]
    if settings.second_stage:
        slower = dataclasses.replace(tuning, learning_rate=tuning.learning_rate / 10, epochs=settings.second_stage)
        stages.append((settings.run / "second_stage", slower))
    for folder, tuning in stages:
        before = model.get_weights() if best else []
        now = finetuning.fit(
            folder,
            model,
            network.config.num_hidden_layers if network else 0,
            batches,
            PointerFocal(),
            judged,
            "mean",
            tuning,
            {r"(^|/)reader": settings.head_rate},
            divergence=None,
        )
        if best and now["mean"] <= best["mean"]:
            model.set_weights(before)
        else:
            best = now
    return best


def report(folder: Path, path: Path, found: Sequence[Evidence], questions: Sequence[Question]) -> None:
    """report.md and answers.jsonl, with the evidence."""
    rows = [told(question, each) | {"right": list(question.answers)} for question, each in zip(questions, found, strict=True)]
    write_report(folder, path, score(found, questions), rows)


def told(question: Question, found: Evidence) -> dict[str, Any]:
    """An answer as JSON."""
    row: dict[str, Any] = {"question": question.text, "answer": found.text, "score": round(found.score, 4)}
    return row | ({"passage": found.passage, "start": found.start, "end": found.end} if found.text else {})


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k.finetuning import evaluation_folder
    from bert4k.reading_comprehension import QA

    questions, qa = read(path), QA.load(run)
    began = time.monotonic()
    found = qa.answers(questions)
    took = time.monotonic() - began
    report(evaluation_folder(run, path), path, found, questions)
    return {"file": str(path), "questions": len(questions), **score(found, questions), "questions_per_second": len(questions) / took}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN "QUESTION<TAB>PASSAGE..."...`: the answer to each question with its evidence, "" where the passages have none."""
    from bert4k.reading_comprehension import QA

    questions = [question_of_line(text, number) for number, text in enumerate(texts, 1)]
    return [told(question, each) for question, each in zip(questions, QA.load(run).answers(questions), strict=True)]
