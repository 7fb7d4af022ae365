"""The questions of the comparison: what is together stays together, and what is searched for holds no answer."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from bert4k.answering import Passage, Question, occurrences, read_questions
from bert4k.errors import DataError
from bert4k.tasks.shipped import questions
from bert4k.tasks.shipped.questions import Asked, Source, draw, groups, is_answerable, read, read_ids, row, with_passages, write_ids

PLACES = [f"{first}{last}" for first in "东西南北中" for last in "山河湖海城"]


def asked(name: str, text: str, passage: str, *answers: str, source: str = "webqa") -> Asked:
    return Asked(source, Question(text, (Passage(passage, answers),), answers, name))


MANY = [asked(f"q{at}", f"{place}有多高", f"{place}很高，高{100 + at}米。", f"{100 + at}米") for at, place in enumerate(PLACES)]


def test_groups() -> None:
    rows = [
        asked("a", "甲", "一"),
        asked("b", "乙", "一。"),  # the passage of a
        asked("c", "乙？", "二"),  # the words of b
        asked("d", "丙", "三"),
        asked("1147-5-1", "丁", "四", source="drcd"),
        asked("1147-2-1", "戊", "五", source="drcd"),  # the article
        asked("1147-9", "己", "六"),  # no article
    ]
    found = [sorted(each.question.id for each in group) for group in groups(rows)]
    assert sorted(found) == [["1147-2-1", "1147-5-1"], ["1147-9"], ["a", "b", "c"], ["d"]]


def test_a_split_depends_on_ids_alone(tmp_path: Path) -> None:
    many = [asked(f"q{at}", f"第{at}题", f"第{at // 2}段") for at in range(4000)]
    parts = draw(many)
    assert sorted(name for ids in parts.values() for name in ids) == sorted(each.question.id for each in many)
    assert 0.07 < len(parts["dev"]) / 4000 < 0.13 and 0.07 < len(parts["test"]) / 4000 < 0.13
    part_of = {name: part for part, ids in parts.items() for name in ids}
    assert all(part_of[f"q{at}"] == part_of[f"q{at + 1}"] for at in range(0, 4000, 2))
    backwards = draw(many[::-1])
    assert {part: sorted(ids) for part, ids in parts.items()} == {part: sorted(ids) for part, ids in backwards.items()}
    write_ids(tmp_path, parts)
    assert read_ids(tmp_path) == parts
    (tmp_path / "dev.txt").write_text(f"{parts['test'][0]}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"test\.txt: .* is in dev\.txt, too"):
        read_ids(tmp_path)
    (tmp_path / "dev.txt").unlink()
    with pytest.raises(DataError, match=r"Cannot read .*dev\.txt"):
        read_ids(tmp_path)


def test_the_passages_of_others() -> None:
    pytest.importorskip("tantivy", reason="passages are found by Tantivy (bert4k[ask])")
    rows = [*MANY, asked("x", "东山有多高", "东山高100米的。", "100米")]
    rows += [asked("p", "熊猫吃什么", "熊猫吃竹子。", "竹子"), asked("q", "熊猫住哪", "熊猫住四川。", "四川")]
    found = {each.question.id: others for each, others in with_passages(rows, 6)}
    assert all(len(set(others)) == 6 for others in found.values())
    for each in rows:
        assert each.passage not in found[each.question.id]
        assert not any(occurrences(text, answer) for text in found[each.question.id] for answer in each.question.answers)
    assert not {"东山高100米的。", MANY[0].passage} & {*found["x"], *found["q0"]}, "the answer stands in both"
    assert found["p"][0] == "熊猫住四川。" and found["q"][0] == "熊猫吃竹子。"
    assert found == {each.question.id: others for each, others in with_passages(rows, 6)}


def test_rows() -> None:
    others = [f"别处{number}" for number in range(9)]
    kept = [is_answerable(each.question) for each in MANY]
    assert any(kept) and not all(kept)
    for each, keeps in zip(MANY, kept, strict=True):
        one, ten = (row(each, others, count) for count in (1, 10))
        assert [one["id"], one["question"], bool(one["answers"])] == [each.question.id, each.question.text, keeps]
        assert one["passages"] == [{"passage": each.passage, "answer": one["answers"]} if keeps else {"passage": "别处0", "answer": []}]
        texts = [passage["passage"] for passage in ten["passages"]]
        assert sorted(texts) == sorted(others if not keeps else [each.passage, *others]) and (each.passage in texts) == keeps
    places = {next((at for at, each in enumerate(row(one, others, 10)["passages"]) if each["answer"]), None) for one in MANY}
    assert len(places) > 4, "its own passage may stand anywhere"


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tantivy", reason="passages are found by Tantivy (bert4k[ask])")
    pytest.importorskip("opencc", reason="traditional characters are converted by OpenCC")
    many = [*MANY, asked("long", "为什么", "因为" * 30, "因为" * 20), asked("lost", "在哪", "不知", "北京")]
    document = {}
    for each in many:
        evidence = {"evidence": each.passage.replace("东", "東"), "answer": list(each.question.answers)}
        document[each.question.id] = {"question": each.question.text, "evidences": {"e": evidence}}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))
    monkeypatch.setattr(questions, "SOURCES", {"webqa": Source(("a.json.gz",), "web", traditional=True)})
    monkeypatch.setattr(questions, "IDS", tmp_path / "ids")
    monkeypatch.setattr(questions, "read_ids", lambda: read_ids(tmp_path / "ids"))
    counts: Counter[str] = Counter()
    assert len(read(tmp_path / "data", counts)) == len(MANY)
    assert sorted(counts.values()) == [1, 1, 1, len(many)]
    main = ["--data", str(tmp_path / "data"), "--out"]
    questions.main([*main, str(tmp_path / "ids"), "--draw"])
    questions.main([*main, str(tmp_path / "out")])
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "out" / "counts.json").read_text(encoding="utf-8"))
    seen: dict[str, set[str]] = {}
    for name, numbers in questions.PARTS.items():
        for number in numbers:
            path = tmp_path / "out" / f"{name}_{number}.jsonl"
            rows = read_questions(path)
            assert [each.id for each in rows] == read_ids(tmp_path / "ids")[name]
            assert told["written"][path.name]["questions"] == len(rows)
            assert all(bool(each.answers) == is_answerable(each) for each in rows)
            seen.setdefault(name, set()).update(passage.text for each in rows for passage in each.passages)
            assert not any("東" in passage.text for each in rows for passage in each.passages)
    assert not seen["train"] & (seen["dev"] | seen["test"]) and not seen["dev"] & seen["test"]
    (tmp_path / "ids" / "dev.txt").write_text("q99\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of the questions in .* are not in .*'q99' first"):
        questions.main([*main, str(tmp_path / "out")])


def test_the_split_of_the_repository(shared_data: Path) -> None:
    """Every id once, none of them a text, and what belongs together is together; on the real data, where they are."""
    parts = read_ids()
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 10885, "dev": 1466, "test": 1621}
    names = [name for ids in parts.values() for name in ids]
    assert len(names) == len(set(names)) and all(name.isascii() and len(name) < 30 for name in names)
    part_of = {name: part for part, ids in parts.items() for name in ids}
    articles = {(name.partition("-")[0], part_of[name]) for name in names if name[0].isdigit() and name.count("-") == 2}
    assert len(articles) == len({article for article, _ in articles}), "an article of DRCD is in two parts"
    if not all((shared_data / file).exists() for source in questions.SOURCES.values() for file in source.files):
        pytest.skip("the data sets are not all here")
    webqa = shared_data / questions.SOURCES["webqa"].files[0]
    here = {each.id for each in read_questions(webqa)}
    assert sum(name in here for name in names) == 3008
