"""Scores of answers, by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bert4k.answering import (
    Expanded,
    Question,
    answer_scores,
    cmrc_scores,
    read_expanded,
    scores_of_kinds,
    sogou_scores,
    squad_scores,
)
from bert4k.answering.metrics import _SOGOU_MARKS, words_of
from bert4k.errors import DataError


def asked(*answers: str) -> Question:
    return Question("?", (), answers)


def test_scores() -> None:
    questions = [Question("?", (), answers) for answers in (("北京",), ("北京", "上海"), ())]
    assert answer_scores(["《北京》", "上海市", ""], questions) == pytest.approx({"exact": 2 / 3, "f1": 2.8 / 3, "mean": 4.8 / 6})


def test_scores_of_kinds() -> None:
    found = scores_of_kinds(["北京", "", "北", ""], [asked("北京"), asked(), asked(), asked("北京")])
    assert found["all"] == {"questions": 4, "exact": 0.5, "f1": 0.5, "mean": 0.5}
    assert found["answerable"] == {"questions": 2, "exact": 0.5, "f1": 0.5, "mean": 0.5}
    assert found["unanswerable"]["exact"] == 0.5
    assert set(scores_of_kinds(["a"], [asked("a")])) == {"all", "answerable"}


# SogouQA. ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gold", "right", "same", "share"),
    [
        ("林海音", "林海音", ("林海音", "林含英"), True, 1),
        ("林含英。", "林海音", ("林海音", "林含英"), True, 1),
        ("林 海音", "林海音", ("林海音",), True, 1),  # blanks go
        ("Ｉbm", "IBM", ("IBM",), True, 1),  # full width, and both cases
        ("ibm", "IBM", ("Ibm", "x"), True, 1),
        ("俄罗斯 巴西", "巴西 俄罗斯", ("巴西 俄罗斯",), True, 1),  # the same parts, and the same characters
        ("俄罗斯、巴西", "巴西 俄罗斯", ("巴西俄罗斯",), True, 1),  # a mark parts, too
        ("俄罗斯  巴西", "巴西 俄罗斯", ("巴西俄罗斯",), False, 1),  # two blanks hold an empty part
        ("巴西", "巴西 俄罗斯", ("巴西 俄罗斯",), False, 4 / 7),  # 2 of 2 and of 5
        ("382米高", "382米", ("382米", "382"), False, 8 / 9),  # 4 of 5 and of 4; against 382: 3 of 5 and of 3
        ("米", "10℃", ("10℃",), False, 0),
        ("10", "10℃", ("10℃",), False, 0.8),  # ℃ is a character: 2 of 2 and of 3
        ("佐佐木", "佐々木", ("佐々木",), False, 0.8),  # 々 is a mark: 佐木, 2 of 3 and of 2
        ("Ü", "ü", ("ü",), False, 0),  # of lower case it knows ASCII
        ("", "北京", ("北京",), False, 0),
        ("。", "北京", ("北京",), False, 0),
    ],
)
def test_sogou_by_hand(answer: str, gold: str, right: tuple[str, ...], same: bool, share: float) -> None:
    found = sogou_scores({"1": answer}, {"1": Expanded(gold, right)})
    assert found == pytest.approx({"exact": float(same), "f1": share, "mean": (same + share) / 2})


def test_sogou_means() -> None:
    gold = {"1": Expanded("北京", ("北京",)), "2": Expanded("上海", ("上海",)), "3": Expanded("广州", ("广州",))}
    assert sogou_scores({"1": "北京", "2": "上"}, gold) == pytest.approx({"exact": 0.5, "f1": (1 + 2 / 3) / 2, "mean": (0.5 + 5 / 6) / 2})
    with pytest.raises(DataError, match="1 of 1 ids are in no line of the right answers, '4' first"):
        sogou_scores({"4": ""}, gold)
    with pytest.raises(DataError, match="no answer to be scored"):
        sogou_scores({}, gold)


def test_files_of_right_answers(tmp_path: Path) -> None:
    path = tmp_path / "expand.txt"
    path.write_text("1\t巴西 印度\t巴西印度|巴西 印度\n\n2\t米\t米\n", encoding="utf-8")
    assert read_expanded(path) == {"1": Expanded("巴西 印度", ("巴西印度", "巴西 印度")), "2": Expanded("米", ("米",))}
    for content, told in (("1\t米", "line 1: found 2 columns"), ("1\t米\t米\n1\t米\t米", "line 2: the id '1'"), ("", "holds no answer")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=told):
            read_expanded(path)


def test_the_sample_of_sogou(shared_data: Path) -> None:
    folder = shared_data / "mrc_sogouqa_eval"
    if not folder.exists():
        pytest.skip("the evaluation sample of SogouQA is not here")
    marks = {line.rstrip("\n") for line in (folder / "punctuation.txt").read_text(encoding="utf-8").split("\n")} - {""}
    assert set(_SOGOU_MARKS) == marks
    gold = read_expanded(folder / "qid_answer_expand.txt.gz")
    answers = dict(line.split("\t") for line in (folder / "test_input.txt").read_text(encoding="utf-8").split("\n") if line)
    lines = gzip.decompress((folder / "test_out.txt.gz").read_bytes()).decode().split("\n")[: len(answers)]
    assert len(gold) == 30_000 and len(answers) == 8_000
    told = [line.split("\t") for line in lines]
    expected = {"exact": sum(int(row[2]) for row in told) / 8000, "f1": sum(float(row[3]) for row in told) / 8000}
    assert sogou_scores(answers, gold) == pytest.approx(expected | {"mean": sum(expected.values()) / 2})


# SQuAD and CMRC. -----------------------------------------------------------------------------------------------------------------


def test_words() -> None:
    assert words_of("It's 3.5 km，长江") == ["it's", "3.5", "km", "，", "长", "江"]


@pytest.mark.parametrize(
    ("answer", "gold", "squad", "cmrc"),
    [
        ("北京市", ("北京市",), (1, 1), (1, 1)),
        ("《北京市》", ("上海", "北京市"), (1, 1), (1, 1)),
        ("北京", ("北京市",), (0, 0.8), (0, 0.8)),  # 2 of 2 and of 3
        ("京北", ("北京",), (0, 1), (0, 0.5)),  # the same bag; the longest run is one character
        ("北东京", ("北京",), (0, 0.8), (0, 0.4)),  # a run of 1 of 3 and of 2
        ("3.5 km", ("3.5 KM",), (1, 1), (1, 1)),
        ("New York", ("new york city",), (0, 0.8), (0, 0.8)),
        ("(北京)", ("北京",), (1, 1), (0, 2 / 3)),  # to CMRC half-width brackets are words
        ("1,000", ("1000",), (1, 0), (0, 0)),  # exact knows no comma; words do
        ("", ("北京",), (0, 0), (0, 0)),
        ("", (), (1, 1), (1, 1)),
        ("北京", (), (0, 0), (0, 0)),
    ],
)
def test_squad_and_cmrc_by_hand(answer: str, gold: tuple[str, ...], squad: tuple[float, float], cmrc: tuple[float, float]) -> None:
    for rule, expected in ((squad_scores, squad), (cmrc_scores, cmrc)):
        assert tuple(rule([answer], [asked(*gold)]).values()) == pytest.approx(expected), rule.__name__


def test_squad_means() -> None:
    assert squad_scores(["北京", "上"], [asked("北京"), asked("上海")]) == pytest.approx({"exact": 0.5, "f1": 5 / 6})
    with pytest.raises(DataError, match="no question"):
        squad_scores([], [])
