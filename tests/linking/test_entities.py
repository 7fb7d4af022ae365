"""Files of entities, in three forms, and what may be wrong with them."""

import gzip
import json
from pathlib import Path

import pytest

from bert4k.errors import DataError
from bert4k.linking.entities import Entity, entity_of, read_entities
from bert4k.linking.problems import Problems

APPLE = {
    "subject_id": "42",
    "subject": "苹果",
    "alias": ["apple", "苹果", "", "apple"],
    "type": ["Organization"],
    "data": [{"predicate": "摘要", "object": "美国科技公司"}, {"predicate": "义项描述", "object": "公司"}],
}


def lines(path: Path, *objects: object) -> Path:
    path.write_text("".join(each if isinstance(each, str) else json.dumps(each) + "\n" for each in objects), encoding="utf-8")
    return path


def test_the_competitions_form(tmp_path: Path) -> None:
    expected = Entity("42", "苹果", ("apple",), "美国科技公司", ("Organization",), (("义项描述", "公司"),))
    assert list(read_entities(lines(tmp_path / "kb.jsonl", APPLE, "\n", APPLE | {"subject_id": "7"}))) == [
        (1, expected),
        (3, Entity("7", *list(expected.__dict__.values())[1:])),
    ]


def test_the_simple_forms_agree(tmp_path: Path) -> None:
    rows = [{"id": 1, "name": "苹果, 红", "aliases": ["a", "b"], "description": "两\n行", "type": "Plant"}, {"id": "2", "name": "梨"}]
    expected = [Entity("1", "苹果, 红", ("a", "b"), "两\n行", ("Plant",)), Entity("2", "梨")]
    packed = tmp_path / "kb.jsonl.gz"
    packed.write_bytes(gzip.compress(lines(tmp_path / "kb.jsonl", *rows).read_bytes()))
    table = lines(tmp_path / "kb.csv", "\ufeffid,name,aliases,description,type\n", '1,"苹果, 红",a|b,"两\n行",Plant\n', "\n", "2,梨,,,\n")
    for path, begins in ((tmp_path / "kb.jsonl", [1, 2]), (packed, [1, 2]), (table, [2, 5])):
        assert list(read_entities(path)) == list(zip(begins, expected, strict=True)), path
    tabs = lines(tmp_path / "kb.tsv", "name\tid\n", "梨\t2\n")
    assert list(read_entities(tabs)) == [(2, expected[1])]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[1]", "no JSON object"),
        ('{"id": "1"}', "name is None"),
        ('{"id": " ", "name": "a"}', "id is ' '"),
        ('{"id": true, "name": "a"}', "id is True"),
        ('{"id": "1", "name": "a", "aliases": [1]}', "aliases is"),
        ('{"id": "1", "name": "a", "facts": [["x"]]}', "a fact is"),
        ('{"id": "1", "name": "a", "facts": ["颜色"]}', "a fact is"),
        ('{"id": "1", "name": "a", "facts": 3}', "the facts are 3"),
        ('{"id": "1", "name": "a", "facts": {"颜色": "红"}}', "the facts are"),
        ('{"subject_id": "1", "subject": "a", "data": [{"predicate": "p"}]}', "a fact is"),
        ('{"id": "1", "name": "a", "description": 3}', "description is 3"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_is_told_or_counted(tmp_path: Path, line: str, told: str) -> None:
    path = lines(tmp_path / "kb.jsonl", '{"id": "0", "name": "x"}\n', line + "\n", '{"id": "9", "name": "y"}\n')
    with pytest.raises(DataError, match=f"line 2: .*{told}"):
        list(read_entities(path))
    problems = Problems("skip")
    assert [entity.id for _, entity in read_entities(path, problems)] == ["0", "9"]
    assert problems.counts == {"broken entities": 1} and "line 2" in str(problems)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,title\n1,a\n", "the first line names"),
        ("", "the first line names"),
        ("id,name,aliases,aliases\n1,a,b,c\n", "each once"),
        ('"id"x,name\n', "line 1: .*names of columns"),
        ('id,name\n1,"a\n2,b\n', "line 2 to 3: .*stays open"),
        ("id,name\n1,a,b\n", "line 2: .*it has 3 columns; expected 2"),
        ('id,name\n1,"a"b\n', "line 2: .*quotation marks"),
        ("id,name\n1,\n", "line 2: .*name is ''"),
    ],
)
def test_a_broken_table_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        list(read_entities(lines(tmp_path / "kb.csv", text)))


def test_broken_quotes_are_counted(tmp_path: Path) -> None:
    """One line at fault is no reason to give up the table, where faults are to be passed over."""
    problems, huge = Problems("skip"), "长" * 140_000
    table = lines(tmp_path / "kb.csv", f'id,name,description\n1,甲,x\n2,"乙"丙,x\n3,丁,{huge}\n4,戊,x\n5,"己\n')
    assert [entity.id for _, entity in read_entities(table, problems)] == ["1", "4"]
    assert problems.counts == {"broken entities": 3} and "line 3: " in str(problems) and "field limit" in str(problems)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the path"):
        read_entities(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "1", "name": "\xe9"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_entities(tmp_path / "latin.jsonl"))


def test_an_entity_has_an_id_and_a_name() -> None:
    with pytest.raises(DataError, match="more than white space"):
        Entity("1", " ")
    assert entity_of({"id": " 1 ", "name": "a", "aliases": None}) == Entity("1", "a")
