"""Public data for entity linking, made small: what becomes of it, and baselines that are counted by hand."""

import gzip
import json
import math
from collections import Counter
from pathlib import Path

import pytest

from bert4k.errors import DataError
from bert4k.linking import KnowledgeBase, Mention, read_texts
from bert4k.scores import ClassScore
from bert4k.tasks.shipped import linking

ENTITY = {
    "subject_id": "10001",
    "subject": "胜利",
    "alias": ["胜利", "V"],
    "type": ["Thing"],
    "data": [{"predicate": "摘要", "object": "皮肤"}],
}


def write(path: Path, *lines: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data sets' files, with a few rows each."""
    chip = tmp_path / linking.CHIP
    write(chip / "train.tsv", "原始词\t标准词", "左甲术\t甲切除术", "甲乙术\t甲切除术##乙切除术")
    write(chip / "dev.tsv", "原始词\t标准词", "乙切除术\t乙切除术", "丙\t乙切除术##丙病损切除术")
    write(chip / "bm25_train.jsonl.gz", {"corpus": "左甲术", "entity": "丁造口术", "label": 0})
    write(chip / "bm25_dev.jsonl", {"corpus": "丙", "entity": "丙病损切除术", "label": 1})
    kgclue = tmp_path / linking.KGCLUE
    first = {"id": 0, "question": "守望星光是谁唱的？", "answer": "守望星光（韩玉玲（组合）歌曲） ||| 演唱 ||| 韩玉玲"}
    write(kgclue / "train.jsonl.gz", first, {"id": 1, "question": "它在哪？", "answer": "龙编站 ||| 地点 ||| 越南"})
    write(kgclue / "dev.jsonl", {"id": 0, "question": "你知道龙编站吗", "answer": "龙编站 ||| 坐标 ||| 21°"})
    write(kgclue / "test_public.jsonl", {"id": 0, "question": "守望星光好看吗", "answer": "守望星光（电影） ||| 评价 ||| 好"})
    ccks = tmp_path / linking.CCKS
    write(ccks / "kb_data_small.jsonl.gz", ENTITY)
    row = "\t".join(
        ["{}", "['[CLS]', '胜', '利', '与', '胜', '利', '在', 'i', '##os', '[SEP]']", "['胜利']", "['胜利', '胜利', 'ios', '无', ' ']"]
    )
    held = "\t".join(["{}", "['[CLS]', '失', '败', '与', '胜', '利', '[SEP]']", "['胜利']", "['失败', '胜利']"])
    rows = [(row if number % 5 else held).format(number) for number in range(10)]
    write(ccks / "train_mentions_gold.tsv.gz", "\ttext\tpred\tlabel", *rows)
    silver = {
        "text": "胜利者与胜利",
        "mention_data": [{"mention": "胜利者", "offset": "0", "kb_id": "7"}, {"mention": "胜利", "offset": "4", "kb_id": "10001"}],
    }
    write(ccks / "develop_pred_v1.jsonl.gz", *({"text_id": str(number)} | silver for number in range(20)))
    rows = ["text_id\ttext\tmention\toffset", "1\t在ios上\t['ios', '在上']\t[1, 0]", "2\t胜利 与胜利在iOS\t['与']\t[3]"]
    write(ccks / "eval_mentions_pred.tsv.gz", *rows)
    return tmp_path


def test_terms(data: Path) -> None:
    found = linking.chip2019(data)
    ids = {entity.name: entity.id for entity in found.entities}
    assert set(ids) == {"甲切除术", "乙切除术", "丙病损切除术", "丁造口术"}
    assert found.train[1].mentions == (Mention(0, 3, "甲乙术", ids["甲切除术"]),)
    assert found.right == [{ids["乙切除术"]}, {ids["乙切除术"], ids["丙病损切除术"]}]
    assert [text.id for text in found.train + found.dev] == ["train-1", "train-2", "dev-1", "dev-2"]


def test_questions(data: Path) -> None:
    found = linking.kgclue(data)
    assert {(entity.name, entity.description) for entity in found.entities} == {
        ("守望星光", "韩玉玲（组合）歌曲"),
        ("守望星光", "电影"),
        ("龙编站", ""),
    }
    [song] = [entity.id for entity in found.entities if "歌曲" in entity.description]
    assert [text.mentions for text in found.train] == [(Mention(0, 4, "守望星光", song),)]
    assert found.dev[0].mentions[0].start == 3
    assert found.dropped == {"train.jsonl.gz: questions that do not have the entity's name": 1}
    assert not any(entity.facts for entity in found.entities)


def test_marked_texts(data: Path) -> None:
    found = linking.ccks2019_marks(data)
    assert (len(found.train), [text.id for text in found.dev]) == (8, ["0", "5"])
    assert found.train[0].text == "胜利与胜利在ios"
    assert found.train[0].mentions == (Mention(0, 2, "胜利", "M2"), Mention(3, 5, "胜利", "M2"), Mention(6, 9, "ios", "M3"))
    assert found.dev[0].text == "失败与胜利" and found.dev[0].mentions == (Mention(0, 2, "失败"), Mention(3, 5, "胜利", "M2"))
    assert found.dropped == {"mentions that are not in the text": 16}
    assert [(entity.id, entity.name) for entity in found.entities] == [("M1", "胜利者"), ("M2", "胜利"), ("M3", "ios")]


def test_texts_with_what_another_system_found(data: Path) -> None:
    found, marked = linking.ccks2019_found(data), linking.ccks2019_marks(data)
    assert (found.entities, found.dev) == (marked.entities, marked.dev)
    assert [text.id for text in found.train] == [*map(str, range(20)), "eval-1"]  # the other one of that file is among the gold ones
    assert found.train[0].mentions == (Mention(0, 3, "胜利者", "M1"), Mention(4, 6, "胜利", "M2"))
    assert found.train[-1].mentions == (Mention(1, 4, "ios", "M3"),)
    assert found.dropped["mentions that are not where they should be"] == 1


def test_silver_links(data: Path) -> None:
    found = linking.ccks2019_silver(data)
    assert (len(found.train), len(found.dev)) == (16, 4)
    assert {entity.id: (entity.name, entity.aliases) for entity in found.entities} == {"10001": ("胜利", ("V",)), "7": ("胜利者", ())}


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, told = tmp_path / "out", tmp_path / "results.json"
    linking.main(["--data", str(data), "--out", str(out), "--results", str(told)])
    for name in linking.DATA_SETS:
        base = KnowledgeBase.build(out / name / "kb.jsonl", tmp_path / f"{name}.kb")
        prepared = linking.DATA_SETS[name](data)
        assert list(map(base.entity, base.ids())) == prepared.entities
        assert [read_texts(out / name / f"{split}.jsonl", base) for split in ("train", "dev")] == [prepared.train, prepared.dev]
    numbers = json.loads(told.read_text(encoding="utf-8"))
    ranking = numbers["chip2019"]["baselines"]
    assert ranking["exact_name"]["recall_at_1"] == 0.5 and ranking["bm25"]["recall_at_1"] == 0.5
    assert ranking["bm25"]["recall_at_1_of_any_right"] == 1.0
    silver = numbers["ccks2019_silver"]["baselines"]
    assert silver["counted"]["links"]["f1"] == 1.0
    strings = numbers["ccks2019_marks"]["baselines"]["as_strings"]
    assert (strings["predictions_of_the_file"]["precision"], strings["predictions_of_the_file"]["recall"]) == (1.0, 0.5)
    assert {line[:4] for line in capsys.readouterr().out.strip().split("\n")} == {'{"ch', '{"kg', '{"cc'}


def test_bm25_is_the_formula() -> None:
    names, query, k1, b = ["甲切除术", "左甲切除", "乙造口术", "甲甲"], "甲切术", 1.5, 0.75
    documents = [Counter(linking.grams(name)) for name in names]
    mean = sum(each.total() for each in documents) / len(documents)

    def score(document: Counter[str]) -> float:
        total = 0.0
        for gram in linking.grams(query):
            having = sum(gram in each for each in documents)
            count, weight = document[gram], math.log(1 + (len(names) - having + 0.5) / (having + 0.5))
            total += weight * count / (count + k1 * (1 - b + b * document.total() / mean))
        return total

    expected = sorted(range(len(names)), key=lambda place: -score(documents[place]))
    assert linking.bm25(names, [query, "乙"], 9) == [expected, [2, *linking.bm25(names, ["乙"], 9)[0][1:]]]
    assert linking.grams("Ａ和b") == ["a", "和", "b", "a和", "和b"]


def test_strings_score() -> None:
    assert linking.strings_score([["a", "a", "b"], []], [["a", "c"], ["d", "a"]]) == ClassScore(1 / 3, 1 / 4, 2 / 7, 4)


def test_data_that_is_not_there_or_other(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        linking.main(["--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")])
    write(data / linking.CHIP / "dev.tsv", "原始词\t标准词", "没有标准词")
    with pytest.raises(DataError, match=r"chip2019 .* are not as expected"):
        linking.main(["--data", str(data), "--out", str(tmp_path / "out"), "--only", "chip2019"])
