"""Files of questions, pieces of passages, and the vote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert4k.answering import Answer, Passage, Question, answer_scores, pieces, question_of_line, read_questions, vote
from bert4k.errors import DataError

PASSAGE = Passage("王小明在北京", ("北京",))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", {"question": "在哪", "passages": ["王小明在北京", "人在"], "answers": ["北京"]}, [PASSAGE, Passage("人在")]),
        ("a.jsonl", {"query": "在哪", "context": "王小明在北京", "answer": "北京"}, [PASSAGE]),
        (
            "a.jsonl",
            {"question": "在哪", "passages": [{"passage": "王小明在北京", "answer": "北京"}, {"passage": "在北京", "answer": ""}]},
            [PASSAGE, Passage("在北京")],
        ),
        ("a.tsv", "在哪\t王小明在北京\t北京\r\n", [PASSAGE]),
        ("a.tsv", "\ufeffquestion\tpassage\tanswer\n在哪\t王小明在北京\t北京\n", [PASSAGE]),
    ],
)
def test_how_files_may_look(tmp_path: Path, name: str, content: Any, expected: list[Passage]) -> None:
    path = tmp_path / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    assert read_questions(path) == [Question("在哪", tuple(expected), ("北京",))]


def test_answers_are_found_in_either_case(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "谁", "passage": "是IBM的", "answers": ["ibm", "", "ibm", "王"]}\n', encoding="utf-8")
    [question] = read_questions(tmp_path / "a.jsonl")
    assert question.answers == ("ibm", "王") and question.passages == (Passage("是IBM的", ("ibm",)),)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no example"),
        ('{"question": "谁"}', "line 1: .* lacks passages"),
        ('\n{"question": " ", "passages": ["好"], "answers": []}', "line 2: a question is ' '"),
        ('{"question": "谁", "passages": ["好", ""], "answers": []}', "line 1: a passage is ''"),
        ('{"question": "谁", "passages": [], "answers": []}', "line 1: there is no passage"),
        ('{"question": "谁", "passages": [3], "answers": []}', "line 1: a passage is 3"),
        ('{"question": "谁", "passages": [{"text": "好"}], "answers": []}', "line 1: a passage is None"),
        ('{"question": "谁", "passages": ["好"], "answers": [1]}', r"line 1: answers are \[1\]"),
        ('{"question": "谁", "passages": ["好"]}', "line 1: the question '谁' has no answers"),
        ('{"question": "谁", ', "line 1: .* is not JSON"),
        ("3", "line 1: found '3'; expected an object"),
    ],
)
def test_what_is_wrong(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read_questions(tmp_path / "a.jsonl")


def test_questions_that_are_only_asked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "谁", "passages": ["好", "人"]}', encoding="utf-8")
    expected = Question("谁", (Passage("好"), Passage("人")))
    assert read_questions(tmp_path / "a.jsonl", answered=False) == [expected]
    assert question_of_line("谁\t好\t人", 1) == question_of_line('{"question": "谁", "passages": ["好", "人"]}', 1) == expected
    assert question_of_line('{"question": "谁", "passage": "好"}', 1) == Question("谁", (Passage("好"),))
    for line, told in (("谁", "question 3: found no tab"), ("{", "question 3: .* is not JSON"), ('{"a": 1}', "lacks question, passages")):
        with pytest.raises(DataError, match=told):
            question_of_line(line, 3)


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


def test_scores() -> None:
    questions = [Question("?", (), answers) for answers in (("北京",), ("北京", "上海"), ())]
    assert answer_scores(["《北京》", "上海市", ""], questions) == pytest.approx({"exact": 2 / 3, "f1": 2.8 / 3, "mean": 4.8 / 6})
