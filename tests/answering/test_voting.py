"""Pieces of long passages, the vote, and what is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert4k.answering import Answer, Evidence, Passage, pieces, placed, vote, write_report


@pytest.mark.parametrize("tokens", range(40))
@pytest.mark.parametrize("room", [1, 2, 7, 8])
def test_pieces_hold_all_and_every_short_part_whole(tokens: int, room: int) -> None:
    parts = [range(tokens)[part] for part in pieces(tokens, room)]
    assert all(len(part) <= room for part in parts) and len(parts) == len(set(parts))
    assert tokens == 0 or all(parts)
    for size in range(1, max(room // 2, 1) + 1):
        for begin in range(tokens - size + 1):
            assert any(begin in part and begin + size - 1 in part for part in parts), (begin, size)
    assert tokens > room or len(parts) == 1


def test_vote() -> None:
    # Two of 0.6: 0.72 / 2.2 = 0.327; one of 0.8: 0.64 / 1.8 = 0.356, one of 0.7: 0.288; none counts for nothing.
    votes = [Answer("a", 0.6), Answer("b", 0.8), Answer("a", 0.6), Answer("", 0.99)]
    assert vote(votes) == Answer("b", 0.8)
    assert vote([*votes, Answer("a", 0.2)]) == Answer("b", 0.8)
    assert vote([Answer("a", 0.6), Answer("b", 0.7), Answer("a", 0.6)]) == Answer("a", 0.6)
    assert vote([Answer("", 0.9)]) == vote([]) == Answer("", 0.0)


def test_where_an_answer_stands_and_of_which_part_it_is_told() -> None:
    assert placed(Answer("382米", 0.5), ["广州", "高３８２米"]) == Evidence("382米", 0.5, 1, 1, 5)
    assert placed(Answer("很高", 0.5), ["广州"]) == Evidence("很高", 0.5, -1, 0, 0)
    passage = Passage("高382米，在广州", ("广州", "382米"))
    assert [passage.answer_of(part) for part in ("高382米", "在广州", "，在", passage.text)] == ["382米", "广州", "", "广州"]
    assert Passage("高382米", ("很高",)).answer_of("高3") == "很高" and Passage("高").answer_of("高") == ""


def test_report(tmp_path: Path) -> None:
    rows = [{"question": "多高", "answer": "382米", "right": ["382米", "382"]}, {"question": "谁", "answer": "", "right": []}] * 15
    write_report(tmp_path, Path("some/test.jsonl"), {"exact": 0.5, "f1": 0.75}, rows)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# test.jsonl: 30 questions\n\n| exact | f1 |\n|---:|---:|\n| 50.00% | 75.00% |\n\n    多高  382米  (382米 / 382)\n"
    )
    assert text.count("    谁  -  (-)\n") == 10
    assert (tmp_path / "answers.jsonl").read_text(encoding="utf-8").count("\n") == 30
