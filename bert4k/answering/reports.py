"""What a recipe that answers questions leaves behind of how it did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bert4k.answering.metrics import answer_scores
from bert4k.answering.questions import Question
from bert4k.answering.voting import Answer
from bert4k.checkpoints.stored import replacing


def write_report(folder: Path, path: Path, scores: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> None:
    """report.md, the scores on the file `path` and some answers, and answers.jsonl, all of them. rows: "question", "answer" and what else
    is told of it, and "right", the right answers."""
    lines = [f"# {path.name}: {len(rows):,} questions", "", f"| {' | '.join(scores)} |", f"|{'---:|' * len(scores)}"]
    lines += [f"| {' | '.join(f'{value:.2%}' for value in scores.values())} |", ""]
    lines += [f"    {row['question']}  {row['answer'] or '-'}  ({' / '.join(row['right']) or '-'})" for row in rows[:20]]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for name, content in (("report.md", "\n".join(lines) + "\n"), ("answers.jsonl", text)):
        with replacing(folder / name) as (temporary,):
            temporary.write_text(content, encoding="utf-8")


def told(question: Question, found: Answer) -> dict[str, Any]:
    """A voted answer as JSON."""
    return {"question": question.text, "answer": found.text, "confidence": round(found.confidence, 4)}


def report_answers(folder: Path, path: Path, found: Sequence[Answer], questions: Sequence[Question]) -> None:
    """`write_report` of voted answers."""
    rows = [told(*pair) | {"right": list(pair[0].answers)} for pair in zip(questions, found, strict=True)]
    write_report(folder, path, answer_scores([each.text for each in found], questions), rows)
