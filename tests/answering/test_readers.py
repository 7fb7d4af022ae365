"""Files of questions of every kind, whole and broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bert4k.answering import Passage, Question, occurrences, question_of_line, read_counted, read_questions
from bert4k.answering.readers import ELSEWHERE, EMPTY, NOWHERE, UNASKED, UNHELD
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


# Data sets. ----------------------------------------------------------------------------------------------------------------------


def keep(path: Path, value: Any, indent: int | None = None) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")
    return path


WEBQA = {
    "Q1": {
        "question": "在哪",
        "evidences": {"Q1#0": {"evidence": "王小明在北京", "answer": ["北京"]}, "Q1#1": {"evidence": "不知", "answer": ["no_answer"]}},
    },
    "Q2": {"question": "谁", "evidences": {"Q2#0": {"evidence": "没有人", "answer": "no_answer"}}},
}
LISTED = [
    {"id": 7, "question": "在哪", "passages": [{"passage": "王小明在北京", "answer": "北京"}, {"passage": "不知", "answer": ""}]},
    {"id": "8", "question": "谁", "passages": [{"passage": "没有人", "answer": ""}]},
]
ANSWERS = {  # told at their places or not, or nowhere
    "A": [{"text": "北京", "answer_start": 4}, {"text": "上海", "answer_start": 8}],
    "B": [{"text": "李小明", "answer_start": 0}, {"text": "王，小明", "answer_start": -1}],
}
SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "",
            "paragraphs": [
                {
                    "context": "王小明在北京，李在上海",
                    "qas": [
                        {
                            "id": "A",
                            "question": "在哪",
                            "answers": [{"text": "北京", "answer_start": 4}, {"text": "上海", "answer_start": 8}],
                        },
                        {
                            "id": "B",
                            "question": "谁",
                            "answers": [{"text": "李小明", "answer_start": 0}, {"text": "王，小明", "answer_start": -1}],
                        },
                        {"id": "C", "question": "何时", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("document", [WEBQA, LISTED])
def test_webqa_and_sogouqa(tmp_path: Path, document: Any, indent: int | None) -> None:
    questions, counts = read_counted(keep(tmp_path / "a.json", document, indent))
    assert [question.id for question in questions] == (["Q1", "Q2"] if document is WEBQA else ["7", "8"])
    assert [question.passages for question in questions] == [(PASSAGE, Passage("不知")), (Passage("没有人"),)]
    assert [question.answers for question in questions] == [("北京",), ()] and not counts


@pytest.mark.parametrize("indent", [None, 1])
def test_squad(tmp_path: Path, indent: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps(SQUAD, indent=indent).encode()))
    questions, counts = read_counted(path)
    assert [(question.id, question.answers) for question in questions] == [
        ("A", ("北京", "上海")),
        ("B", ("李小明", "王，小明")),
        ("C", ()),
    ]
    assert all(question.passages[0] == Passage("王小明在北京，李在上海", question.answers) for question in questions)
    # 上海 stands one character before, 王小明 where nothing was told, and 李小明 nowhere.
    assert counts == {ELSEWHERE: 2, NOWHERE: 1}
    assert read_questions(path) == questions
    assert capsys.readouterr().err == f"{path}: 2 {ELSEWHERE}\n{path}: 1 {NOWHERE}\n"


def test_secret_answers_are_not_known(tmp_path: Path) -> None:
    asked = {"id": "A", "question": "在哪", "answers": [{"text": "FAKE_ANSWER_1", "answer_start": -1}]}
    path = keep(tmp_path / "a.json", {"data": [{"paragraphs": [{"context": "王小明在北京", "qas": [asked]}]}]})
    assert read_questions(path, answered=False) == [Question("在哪", (Passage("王小明在北京"),), (), "A")]
    with pytest.raises(DataError, match=r"question 'A'.* has no answers"):
        read_questions(path)


def test_what_a_data_set_lacks_is_counted(tmp_path: Path) -> None:
    rows = [*LISTED, {"id": "9", "question": "", "passages": ["好"]}, {"id": "10", "question": "谁", "passages": [" "]}]
    rows += [{"id": "11", "question": "谁", "passages": ["好", ""], "answers": ["人"]}]
    questions, counts = read_counted(keep(tmp_path / "a.json", rows))
    assert [question.id for question in questions] == ["7", "8", "11"]
    assert counts == {EMPTY: 2, UNASKED: 2, UNHELD: 1}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"id": 1, "question": "谁", "passages": ["好"], "answers": []}] * 2, "question 2: the id '1' was there before: .*question 1"),
        ('{"A": {"question": "谁", "evidences": {}}, "A": {"question": "谁", "evidences": {}}}', "'A' stands twice in one JSON object"),
        ([{"question": "谁"}], "question 1: .* lacks passages"),
        ([3], "found|of no kind"),
        ([], "holds no question"),
        ({"Q": {"question": "谁", "evidences": {"E": {"answer": ["x"]}}}}, "question Q, evidence E: .* 'evidence' is a text"),
        ({"Q": {"question": "谁", "evidences": {"E": 3}}}, "question Q, evidence E"),
        ({"Q": {"question": 3, "evidences": {"E": {"evidence": "好"}}}}, "'question' is a text"),
        ({"Q": {"question": "谁", "evidences": {"E": {"evidence": "好", "answer": [3]}}}}, r"answers are \[3\]"),
        ({"data": [{"paragraphs": [{"context": "好", "qas": [{"question": "谁"}]}]}]}, "has no answers"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "article 1, paragraph 1: .* 'context' is a text"),
        ({"data": [3]}, "article 1: found 3; expected an object in which 'paragraphs' is a list"),
        ({"data": [{"paragraphs": [{"context": "好", "qas": [{"question": "谁", "answers": ["好"]}]}]}]}, "'text' is a text"),
        ({"data": []}, "holds no question"),
        ('[\n{"question": "谁",\n', "is not JSON .*line 3"),
        ("{\n", "is not JSON"),
        ('{"question": "谁", "passages": ["好"], "answers": []}\n{"question"', "line 2: .* is not JSON"),
        ('{"id": [1], "question": "谁", "passages": ["好"], "answers": []}', r"line 1: the id is \[1\]"),
        ("[" * 100_000, "is not JSON"),
        ('{\n"a": 1\n}', "is one JSON value, .* of no kind"),
    ],
)
def test_broken_data_sets(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_questions(keep(tmp_path / "a.json", content))


def test_lines_with_ids(tmp_path: Path) -> None:
    row = {"id": 3, "question": "在哪", "passages": ["王小明在北京"], "answers": ["北京"]}
    assert [each.id for each in read_questions(keep(tmp_path / "a.jsonl", json.dumps(row) + "\n"))] == ["3"]
    with pytest.raises(DataError, match=r"line 2: the id '3' was there before: .*line 1"):
        read_questions(keep(tmp_path / "a.jsonl", f"{json.dumps(row)}\n{json.dumps(row)}\n"))


def test_simplified_answers_are_those_of_the_passage(tmp_path: Path) -> None:
    pytest.importorskip("opencc", reason="traditional characters are converted by OpenCC")
    context = "他在乾隆年間學會了計算機與晾乾"
    told = [{"text": text, "answer_start": context.index(text)} for text in ("乾", "學會")]
    asked = [{"id": str(at), "question": "誰", "answers": [each]} for at, each in enumerate(told)]
    path = keep(tmp_path / "a.json", {"data": [{"paragraphs": [{"context": context, "qas": asked}]}]})
    for question in read_questions(path, simplified=True):
        [passage] = question.passages
        assert passage.text.startswith("他在乾隆年间学会了计算机") and all(occurrences(passage.text, each) for each in question.answers)
    assert read_questions(path)[0].passages[0].text == context
    rows = keep(tmp_path / "a.jsonl", {"question": "誰", "passages": [context], "answers": ["學會"]})
    half = {"question": "誰\ud800", "passages": ["誰\udfff\udfff國"], "answers": []}
    [question] = read_questions(keep(tmp_path / "b.jsonl", json.dumps(half)), simplified=True)
    assert (question.text, question.passages[0].text) == ("谁\ud800", "谁\udfff\udfff国")
    assert read_questions(rows, simplified=True) == [Question("谁", (Passage("他在乾隆年间学会了计算机与晾干", ("学会",)),), ("学会",))]


# Real files. ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "questions", "counts"),
    [
        ("mrc_webqa/me_test.ann.json.gz", 3024, {NOWHERE: 16}),
        ("mrc_cmrc2018/cmrc2018_dev.json.gz", 3219, {ELSEWHERE: 168, NOWHERE: 32}),
        ("mrc_xquad/xquad.zh.json.gz", 1190, {}),
    ],
)
def test_real_files(shared_data: Path, name: str, questions: int, counts: dict[str, int]) -> None:
    """The card of CMRC's dev tells of 200 wrong offsets: 168 of these answers stand elsewhere in their passage, 32 nowhere."""
    if not (shared_data / name).exists():
        pytest.skip(f"{name} is not here")
    found = read_counted(shared_data / name)
    assert (len(found[0]), dict(found[1])) == (questions, counts)
