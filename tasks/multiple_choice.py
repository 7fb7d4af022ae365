"""Choose the right one of several answers to a question, which may be about a text.

    bert4k train multiple_choice --run runs/reading --train train.jsonl --dev dev.jsonl
    bert4k evaluate runs/reading test.jsonl
    bert4k predict runs/reading '{"question": "猫吃什么？", "choices": ["鱼", "书"]}' -     # - reads lines

Files are JSON lines: {"context": "...", "question": "...", "choices": ["...", "..."], "answer": 1}. The answer is the number of the right
choice, from 0, or its text; context may be missing, and questions may have different numbers of choices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4k.errors import DataError
from bert4k.reading import read_rows
from bert4k.recipe import setting
from bert4k.tuning import RecipeSettings

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

    from bert4k.finetuning import Groups
    from bert4k.tokenizers import Tokenizer


@dataclass(frozen=True)
class Settings(RecipeSettings):
    """Everything that decides the result."""

    longest: int = setting(256, "tokens of context, question and one choice; where they are more, the longer part is cut")
    pooling: str = setting("mean", "of the last layer: mean, max, first ([CLS]) or attention")


@dataclass(frozen=True)
class Example:
    """A question, what it is about ("" for nothing), its choices, and which of them is right, where that is told."""

    context: str
    question: str
    choices: tuple[str, ...]
    answer: int | None


def read(path: Path) -> list[Example]:
    """The examples of a file. Raises `DataError`, with the line, for what is not as expected."""
    rows = read_rows(path, ("question", "choices", "answer"), ("context",))
    found = [example(row.values, f"{path}, line {row.line}: ") for row in rows]
    if unanswered := [row.line for row, each in zip(rows, found, strict=True) if each.answer is None]:
        raise DataError(f"{path}, line {unanswered[0]}: there is no answer. Add it, or remove the line.")
    return found


def example(values: Mapping[str, Any], where: str) -> Example:
    """One example of the values of an object, with or without an answer. Raises `DataError`, which begins with `where`."""
    context, question, choices, answer = values.get("context") or "", values.get("question"), values.get("choices"), values.get("answer")
    if not isinstance(context, str) or not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}the question is {question!r}, of the context {str(context)[:40]!r}; expected a text that is not empty.")
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice.strip() for choice in choices) or len(choices) < 2:
        raise DataError(f"{where}the choices are {str(choices)[:80]}; expected a list of two or more texts that are not empty.")
    if isinstance(answer, str) and choices.count(answer) == 1:
        answer = choices.index(answer)
    if answer is not None and (isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices)):
        last = len(choices) - 1
        raise DataError(f"{where}the answer is {answer!r}; expected the number of a choice, from 0 to {last}, or the text of one.")
    return Example(context, question, tuple(choices), answer)


def encode(examples: Sequence[Example], tokenizer: Tokenizer, longest: int) -> Groups:
    """Each choice as `[CLS] context [SEP] question choice [SEP]`, or `[CLS] question [SEP] choice [SEP]`; a group a question."""
    from bert4k.finetuning import Groups, encoded

    texts: list[str | tuple[str, str]] = []
    members: list[range] = []
    for each in examples:
        members.append(range(len(texts), len(texts) + len(each.choices)))
        about = each.context.strip() != ""
        texts += [(each.context, f"{each.question} {choice}") if about else (each.question, choice) for choice in each.choices]
    return Groups(encoded(texts, tokenizer, longest), members)


def build(settings: Settings) -> tuple[keras.Model, Any, Tokenizer]:
    """The network with a pooled head on top, which gives a logit a choice, [B]; the network itself; its tokenizer."""
    import keras
    from keras import ops

    from bert4k.finetuning import body
    from bert4k.layers import FORBIDDEN
    from bert4k.structured import Pooling

    network, tokenizer, inputs, x, real = body(settings.model, settings.tuning)
    x = keras.layers.Dropout(settings.tuning.dropout)(Pooling(settings.pooling)(x, real))
    first = keras.initializers.TruncatedNormal(stddev=0.02)
    logits = keras.layers.Dense(1, kernel_initializer=first, dtype="float32", name="right")(x)[:, 0]
    # In training, questions with fewer choices than others are filled up with padding, which is never right.
    return keras.Model(inputs, ops.where(ops.any(real, axis=1), logits, FORBIDDEN)), network, tokenizer


def answers(model: keras.Model, given: Groups) -> list[NDArray[np.float64]]:
    """The probabilities of the choices of each question."""
    import numpy as np

    from bert4k.finetuning import outputs_of

    logits = np.array(outputs_of(model, given.texts), np.float64)
    odds = [np.exp(logits[list(texts)] - logits[list(texts)].max()) for texts in given.members]
    return [each / each.sum() for each in odds]


def score(predicted: Sequence[NDArray[np.float64]], examples: Sequence[Example]) -> dict[str, float]:
    """Share of questions whose right choice is the most probable one."""
    right = sum(int(each.argmax()) == example.answer for each, example in zip(predicted, examples, strict=True))
    return {"accuracy": right / len(examples)}


# The commands. -------------------------------------------------------------------------------------------------------------------


def train(settings: Settings) -> dict[str, Any]:
    """`bert4k train multiple_choice`: train, keep the best epoch, write the run folder; returns the scores on dev."""
    import keras
    import numpy as np

    from bert4k import finetuning
    from bert4k.training import Grouped, LengthBatches

    examples, dev = [example for path in settings.train for example in read(path)], read(settings.dev)
    model, network, tokenizer = build(settings)
    learn, judge = (encode(part, tokenizer, settings.longest) for part in (examples, dev))
    targets = np.array([each.answer for each in examples])
    tuning = settings.tuning

    def collate(rows: list[int], length: int) -> tuple[Any, ...]:
        return learn.inputs(rows, length), targets[rows]

    best = finetuning.fit(
        settings.run,
        Grouped(model),
        network.config.num_hidden_layers,
        LengthBatches(learn.lengths(), collate, tuning.tokens // learn.most, seed=tuning.seed),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        lambda: score(answers(model, judge), dev),
        "accuracy",
        tuning,
    )
    found = answers(model, judge)
    report(settings.run, settings.dev, found, dev)
    finetuning.finish(settings.run, model, network, tokenizer, [])
    return {"run": str(settings.run), "epoch": best["epoch"], **score(found, dev)}


def report(folder: Path, path: Path, found: Sequence[NDArray[np.float64]], examples: Sequence[Example]) -> None:
    """report.md: how many questions of a file are answered rightly, by the number of their choices."""
    from bert4k.finetuning import write_text

    lines = [f"# {path.name}: {len(examples):,} questions", "", "| choices | questions | right | by chance |", "|---:|---:|---:|---:|"]
    for count in sorted({len(each.choices) for each in examples}):
        rows = [(told, each) for told, each in zip(found, examples, strict=True) if len(each.choices) == count]
        right = score(*zip(*rows, strict=True))["accuracy"]
        lines.append(f"| {count} | {len(rows):,} | {100 * right:.2f} | {100 / count:.2f} |")
    write_text(folder / "report.md", "\n".join(lines) + "\n")


def evaluate(run: Path, path: Path) -> dict[str, Any]:
    """`bert4k evaluate RUN FILE`: the scores on a file; writes evaluation/NAME/ with its report."""
    from bert4k import finetuning

    model, tokenizer, _, settings = finetuning.finished(run, "multiple_choice")
    examples = read(path)
    found = answers(model, encode(examples, tokenizer, settings["longest"]))
    report(finetuning.evaluation_folder(run, path), path, found, examples)
    return {"file": str(path), "examples": len(examples), **score(found, examples)}


def predict(run: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """`bert4k predict RUN OBJECT...`: which choice is right, and how probable each is, of questions as JSON objects."""
    from bert4k import finetuning

    examples = []
    for number, text in enumerate(texts, 1):
        try:
            values = dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise DataError(f"Text {number} is {text[:80]!r}; expected a JSON object with question and choices ({error}).") from error
        examples.append(example(values, f"Text {number}: "))
    model, tokenizer, _, settings = finetuning.finished(run, "multiple_choice")
    return [
        {
            "question": each.question,
            "answer": int(told.argmax()),
            "text": each.choices[int(told.argmax())],
            "probabilities": [round(float(value), 4) for value in told],
        }
        for each, told in zip(examples, answers(model, encode(examples, tokenizer, settings["longest"])), strict=True)
    ]
