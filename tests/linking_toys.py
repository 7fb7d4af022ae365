"""A toy knowledge base and texts in which a word says who is meant, for tests of linking; characters are those of `tiny_runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# 王明 is who likes 书 and who hates 京; 小北 is one; 人人 is nobody.
ENTITIES = [
    {"id": "1", "name": "王明", "description": "好书"},
    {"id": "2", "name": "王明", "description": "坏京"},
    {"id": "3", "name": "小北", "aliases": ["北北"], "description": "喜欢"},
    {"id": "4", "name": "人人", "description": "讨厌"},
]


def texts(count: int = 96) -> list[dict[str, Any]]:
    """Annotated texts, as a simple file has them."""
    rows = []
    for number in range(count):
        words, id = ("好书", "1") if number % 2 else ("坏京", "2")
        text = f"{'的' * (number // 2 % 3)}王明{'在' * (1 + number // 6 % 2)}{words}"
        mentions = [{"start": text.index("王明"), "end": text.index("王明") + 2, "id": id}]
        if number % 3 == 0:
            text += "小北"
            mentions.append({"start": len(text) - 2, "end": len(text), "id": "3"})
        if number % 4 == 1:
            text += "人人"
            mentions.append({"start": len(text) - 2, "end": len(text), "id": None})
        text += "的" * (14 - len(text))  # of one length: a graph less to be compiled
        rows.append({"id": str(number), "text": text, "mentions": mentions})
    return rows


def write(folder: Path) -> tuple[Path, Path]:
    """The files of the knowledge base and of the texts."""
    files = folder / "kb.jsonl", folder / "texts.jsonl"
    for file, rows in zip(files, (ENTITIES, texts()), strict=True):
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return files
