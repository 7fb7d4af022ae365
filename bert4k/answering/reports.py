"""What a recipe that answers questions leaves behind of how it did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
