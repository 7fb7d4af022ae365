"""Annotated texts: both forms, and everything that may be wrong with them."""

import json
from pathlib import Path

import pytest

from bert4k.errors import ConfigError, DataError
from bert4k.linking import LinkedText, Mention, Problems, competition_line, read_texts, write_texts

TEXT = LinkedText("7", "😀苹果发布会", (Mention(1, 3, "苹果", "42"), Mention(3, 6, "发布会")))
COMPETITION = {
    "text_id": "7",
    "text": TEXT.text,
    "mention_data": [{"kb_id": "NIL", "mention": "发布会", "offset": "3"}, {"kb_id": "42", "mention": "苹果", "offset": "1"}],
}
SIMPLE = {"id": 7, "text": TEXT.text, "mentions": [{"start": 1, "end": 3, "id": 42}, {"start": 3, "end": 6, "id": None}]}


def file(path: Path, *rows: object) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows), encoding="utf-8")
    return path


def test_both_forms(tmp_path: Path) -> None:
    assert read_texts(file(tmp_path / "a.jsonl", COMPETITION, "", SIMPLE)) == [TEXT, TEXT]


def test_an_id_by_the_other_forms_name_is_not_lost(tmp_path: Path) -> None:
    """Such a mention was taken for one of NIL."""
    mentions = [{"start": 1, "end": 3, "kb_id": "42"}, {"offset": 3, "mention": "发布会", "id": "NIL"}]
    mixed = {"id": "7", "text": TEXT.text, "mentions": mentions}
    swapped = mixed | {"mentions": [{"offset": 1, "mention": "苹果", "id": 42}, {"start": 3, "end": 6, "kb_id": None}]}
    assert read_texts(file(tmp_path / "a.jsonl", mixed, swapped)) == [TEXT, TEXT]


def test_written_and_read(tmp_path: Path) -> None:
    strange = LinkedText("8", "\ud800和\n苹果\u2028", (Mention(3, 5, "苹果", "42"),))
    write_texts(tmp_path / "a.jsonl", [TEXT, strange])
    assert read_texts(tmp_path / "a.jsonl") == [TEXT, strange]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_prediction_is_a_line_of_the_competition() -> None:
    assert json.loads(competition_line(TEXT)) == COMPETITION | {"mention_data": COMPETITION["mention_data"][1:]}
    assert json.loads(competition_line(TEXT, nil=True))["mention_data"] == COMPETITION["mention_data"][::-1]
    assert "苹果" in competition_line(TEXT)


def test_texts_to_be_predicted_need_no_mentions(tmp_path: Path) -> None:
    path = file(tmp_path / "a.jsonl", {"text_id": "1", "text": "苹果"}, {"text": "梨"})
    assert read_texts(path, annotated=False) == [LinkedText("1", "苹果"), LinkedText("2", "梨")]
    with pytest.raises(DataError, match=r"line 1: .*neither mention_data nor mentions"):
        read_texts(path)


def test_ten_thousand_characters(tmp_path: Path) -> None:
    text = "苹果" * 5_000
    row = {"text": text, "mentions": [{"start": 9_998, "end": 10_000, "id": "42"}]}
    assert read_texts(file(tmp_path / "a.jsonl", row)) == [LinkedText("1", text, (Mention(9_998, 10_000, "苹果", "42"),))]


@pytest.mark.parametrize(
    ("mention", "told"),
    [
        ({"mention": "苹果", "offset": "2", "kb_id": "42"}, "'苹果' should stand at 2 of .*, where '果发' is; it stands at 1"),
        ({"mention": "苹果", "offset": "-1", "kb_id": "42"}, "should stand at -1"),
        ({"mention": "梨", "offset": "1", "kb_id": "42"}, "it is not in the text"),
        ({"mention": "苹果", "start": 3, "end": 5, "id": "42"}, "should stand at 3 of .*, where '发布' is; it stands at 1"),
        ({"mention": "", "offset": "1", "kb_id": "42"}, "should stand at 1"),
        ({"start": 3, "end": 3, "id": "42"}, "should stand at 3"),
        ({"start": 3, "end": 99, "id": "42"}, "should stand at 3"),
    ],
)
def test_a_mention_in_the_wrong_place(tmp_path: Path, mention: dict[str, object], told: str) -> None:
    path = file(tmp_path / "a.jsonl", SIMPLE, {"id": "8", "text": TEXT.text, "mentions": [mention, SIMPLE["mentions"][0]]})  # type: ignore[index]
    with pytest.raises(DataError, match=f"line 2: .*{told}"):
        read_texts(path)
    problems = Problems("skip")
    assert read_texts(path, problems=problems) == [TEXT, LinkedText("8", TEXT.text, TEXT.mentions[:1])]
    assert problems.counts == {"misplaced mentions": 1} and "line 2" in str(problems)


def test_an_unknown_id_is_nil_to_this_knowledge_base(tmp_path: Path) -> None:
    path = file(tmp_path / "a.jsonl", COMPETITION, COMPETITION)
    assert read_texts(path, known={"42"}) == [TEXT, TEXT]
    with pytest.raises(DataError, match="line 1: '苹果' means '42', which the knowledge base does not have"):
        read_texts(path, known={"41"})
    problems = Problems("skip", shown=1)
    [one, _] = read_texts(path, {"41"}, problems)
    assert one.mentions == (Mention(1, 3, "苹果"), Mention(3, 6, "发布会"))
    assert str(problems).startswith("unknown ids: 2\n  ") and str(problems).count("\n") == 1


@pytest.mark.parametrize(
    ("row", "kind", "told"),
    [
        ("{", "broken lines", "not JSON"),
        ("3", "broken lines", "no JSON object"),
        ({"text_id": "1", "mention_data": []}, "broken lines", "text is None"),
        ({"text": "苹果", "mentions": 3}, "broken lines", "the mentions are 3"),
        ({"text": "苹果", "mentions": [{"start": 0}]}, "broken lines", "a mention is"),
        ({"text": "苹果", "mention_data": [{"mention": "苹果", "offset": "x"}]}, "broken lines", "a mention is"),
        ({"text": "苹果", "mention_data": ["苹果"]}, "broken lines", "a mention is"),
        ('{"text": "苹果", "mention_data": [{"mention": "苹果", "offset": Infinity}]}', "broken lines", "a mention is"),
        ({"text": " \n", "mentions": []}, "empty texts", "is empty"),
    ],
)
def test_a_broken_line(tmp_path: Path, row: object, kind: str, told: str) -> None:
    path = file(tmp_path / "a.jsonl", SIMPLE, row)
    with pytest.raises(DataError, match=f"line 2: .*{told}"):
        read_texts(path)
    problems = Problems("skip")
    assert read_texts(path, problems=problems) == [TEXT] and problems.counts == {kind: 1}


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no text"):
        read_texts(file(tmp_path / "a.jsonl", ""))
    with pytest.raises(ConfigError, match="Expected 'stop'"):
        Problems("ignore")  # type: ignore[arg-type]
