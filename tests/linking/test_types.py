"""Types of mentions: what is learnt from, and that what is learnt is told of mentions that mean no entity, and of no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import checkpoint

from bert4k.errors import DataError
from bert4k.linking import NIL, AnnotationStatistics, Entity, KnowledgeBase, LinkedText, Linker, Mention, competition_line, read_texts
from bert4k.linking.candidates import Candidates
from bert4k.linking.prompts import Asked

PERSON, PLACE = Entity("1", "王明", (), "", ("人", "作品")), Entity("2", "北京", (), "", ("地",))


@pytest.fixture
def base(tmp_path: Path) -> KnowledgeBase:
    return KnowledgeBase.of([PERSON, PLACE, Entity("3", "小书")], tmp_path / "kb.db")


def written(path: Path, rows: list[dict[str, Any]]) -> list[LinkedText]:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return read_texts(path)


def test_nil_of_a_type_is_read_and_written(tmp_path: Path) -> None:
    line = {"text_id": "7", "text": "小明", "mention_data": [{"kb_id": "NIL_人", "mention": "小明", "offset": "0"}]}
    simple = {
        "text": "小明在",
        "mentions": [{"start": 0, "end": 2, "id": None, "type": "人"}, {"start": 2, "end": 3, "id": NIL, "type": 5}],
    }
    texts = written(tmp_path / "texts.jsonl", [line, simple])
    assert [[(each.id, each.type) for each in text.mentions] for text in texts] == [[(None, "人")], [(None, "人"), (None, None)]]
    assert json.loads(competition_line(texts[0], nil=True)) == line
    assert json.loads(competition_line(texts[0])) == line | {"mention_data": []}
    assert [each["kb_id"] for each in json.loads(competition_line(texts[1], nil=True))["mention_data"]] == ["NIL_人", "NIL"]


def test_what_is_learnt_from(base: KnowledgeBase) -> None:
    from bert4k.linking.types import typed

    mentions = (Mention(0, 2, "王明", "1"), Mention(3, 5, "北京", "2"), Mention(5, 7, "小书", "3"), Mention(7, 8, "人", None, "作品"))
    text = LinkedText("1", "王明在北京小书人好", (*mentions, Mention(8, 9, "好")))
    assert typed([text], base) == [(Asked(text.text, 0, 2), "人"), (Asked(text.text, 3, 5), "地"), (Asked(text.text, 7, 8), "作品")]


@pytest.mark.backends
def test_what_is_learnt_is_told_of_nil(base: KnowledgeBase, tmp_path: Path) -> None:
    from bert4k.linking.linker import stored_typer
    from bert4k.linking.mentions import Span
    from bert4k.linking.settings import Settings
    from bert4k.linking.stages import train_types
    from bert4k.tuning import Tuning

    # Who likes is a person; where somebody is, is a place.
    rows = [("王明喜欢书的的", "1", 0), ("的的在北京坏坏", "2", 3), ("小人喜欢书的的", "1", 0), ("的的在小好坏坏", "2", 3)] * 12
    texts = [LinkedText(str(number), text, (Mention(at, at + 2, text[at : at + 2], id),)) for number, (text, id, at) in enumerate(rows)]
    tuning = Tuning(learning_rate=0.01, epochs=10, tokens=128, dropout=0.0, network_dropout=0.0)
    files: Any = {"kb": base.path, "train": [], "dev": tmp_path}
    settings = Settings(run=tmp_path / "run", model=str(checkpoint(tmp_path / "model")), longest=16, types=True, tuning=tuning, **files)
    train_types(settings, texts, texts, base)
    typer = stored_typer(settings.run, {"types": True, "longest": 16})
    assert typer is not None and stored_typer(settings.run, {"types": False}) is None
    assert typer([Asked("小人喜欢书的的", 0, 2), Asked("的的在小好坏坏", 3, 5)]) == ["人", "地"] and typer([]) == []

    def finder(texts: Any) -> list[list[Span]]:
        return [[Span(0, 2, 1.0)], [Span(0, 2, 1.0)]]

    candidates = Candidates(base, AnnotationStatistics(), 4)
    linker = Linker(finder, candidates, lambda asked, entities: [np.ones(len(own)) for own in entities], 0.5, typer)
    found = linker.link(["小人喜欢书的的", "王明在北京坏坏"])
    assert [[(each.id, each.type) for each in own] for own in found] == [[(None, "人")], [("1", "人")]]

    with pytest.raises(DataError, match="1 types"):
        train_types(settings, texts[::2], texts, base)
