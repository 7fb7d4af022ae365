"""`bert4k ask`: questions answered from a folder of texts, with the evidence."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from bert4k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bert4k.retrieval import Engine


class Reader(Protocol):
    """What answers a question from passages."""

    def answer(self, question: str, passages: Sequence[str]) -> Any:
        """Something with `text`, `score`, `passage` (its number) and `start`, `end` (in its text); text is "" where there is no answer, and
        passage -1 where the answer stands in none."""


def reader_of(task: ModuleType, run: Path) -> Reader:
    """What a run of `bert4k train` has become, by its recipe. Raises `ConfigError` for one that answers no questions."""
    if not hasattr(task, "QA"):
        raise ConfigError(f"{run} is a run of {task.__name__.rpartition('.')[2]}. Asking needs one of dgcnn_qa, generative_qa or mlm_qa.")
    reader: Reader = task.QA.load(run)
    return reader


def check(questions: Sequence[str], count: int) -> None:
    """Raises `DataError` for what cannot be asked, before a model is loaded for it."""
    if empty := [number for number, question in enumerate(questions, 1) if not question.strip()]:
        raise DataError(f"Question {empty[0]} is empty. Ask something.")
    if count < 1:
        raise DataError(f"{count} passages were asked for. Ask for 1 or more.")


def answered(engine: Engine, reader: Reader, questions: Sequence[str], count: int) -> Iterator[dict[str, Any]]:
    """For each question its answer, "" for none, with the passage that it stands in and the places of all `count` that were looked at.

    "start" and "end" are those of the answer in the text of "file", "evidence_start" and "evidence_end" in "evidence"."""
    check(questions, count)
    for question in questions:
        passages = engine.search(question, count)
        told: dict[str, Any] = {"question": question, "answer": "", "score": 0.0}
        if passages and (found := reader.answer(question, [each.text for each in passages])).text:
            told |= {"answer": found.text, "score": round(float(found.score), 4)}
            if found.passage >= 0:
                passage, start, end = passages[found.passage], int(found.start), int(found.end)
                told |= {"file": passage.file, "line": passage.line + passage.text.count("\n", 0, start)}
                told |= {"start": passage.start + start, "end": passage.start + end}
                told |= {"evidence": passage.text, "evidence_start": start, "evidence_end": end}
        yield told | {"passages": [{"file": each.file, "line": each.line, "score": round(each.score, 4)} for each in passages]}


def show(told: dict[str, Any]) -> None:
    """Print an answer and its evidence, in which it is highlighted: on a terminal by colour, else between 【】."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    if not told["answer"]:
        console.print(Text(f"-  no answer in {len(told['passages'])} passages"))
        return
    console.print(Text.assemble((_visible(told["answer"]), "bold green"), f"  {told['score']:.2f}"))
    if "evidence" not in told:
        console.print(Text("  in no passage as it stands"), style="dim")
        return
    start, end = told["evidence_start"], told["evidence_end"]
    before, own, after = (_visible(told["evidence"][part]) for part in (slice(start), slice(start, end), slice(end, None)))
    marked = (own, "bold reverse") if console.is_terminal else (f"【{own}】", "")
    console.print(Text(f"  {_visible(told['file'])}, line {told['line']}"), style="dim")
    console.print(Text.assemble("  ", before, marked, after))


def _visible(text: str) -> str:
    """A text of a file in one line, without what would command the terminal or turn the direction of what follows."""
    return "".join(" " if char.isspace() else "\ufffd" if _commands(char) else char for char in text)


def _commands(char: str) -> bool:
    turns = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in turns
