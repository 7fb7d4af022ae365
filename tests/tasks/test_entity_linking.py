"""`bert4k train entity_linking` from files to links, on a toy knowledge base in which the text says who is meant."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import linking_toys
import pytest
from tiny_runs import checkpoint, run

QUICK = [
    "--tuning.dropout",
    "0",
    "--tuning.network_dropout",
    "0",
    "--tuning.epochs",
    "8",
    "--tuning.learning_rate",
    "0.01",
    "--tuning.tokens",
    "96",
    "--longest",
    "32",
    "--longest_pair",
    "32",
]
# Of the training texts, which it has learnt by heart: what a network of this size makes of others is luck. And one that says nothing.
SEEN = {2: "的王明在坏京的的的的的的的的", 3: "的王明在好书小北的的的的的的", 5: "的的王明在好书人人的的的的的"}
ASKED = [SEEN[2], SEEN[3], "", SEEN[5]]


def arguments(folder: Path, *more: str) -> list[str]:
    model = folder / "model"
    kb, texts = linking_toys.write(folder) if not (folder / "kb.jsonl").exists() else (folder / "kb.jsonl", folder / "texts.jsonl")
    common = ["--run", str(folder / "run"), "--kb", str(kb), "--train", str(texts), "--dev", str(texts), *QUICK, *more]
    return ["train", "entity_linking", *common, "--model", str(model if model.exists() else checkpoint(model))]


def lines_of(told: str) -> list[Any]:
    return [json.loads(line) for line in told.split("\n") if line]


def test_from_files_to_links(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from bert4k.errors import ConfigError, DataError
    from bert4k.linking import Entity, KnowledgeBase, Linker, ranking
    from bert4k.linking.linker import check_fingerprint
    from bert4k.linking.prompts import Asked
    from bert4k.tasks.entity_linking import read, score
    from bert4k.training import LearningCurves

    assert all(linking_toys.texts()[number]["text"] == text for number, text in SEEN.items())
    monkeypatch.setattr(LearningCurves, "_draw", lambda self: None)  # a second each, and tested elsewhere
    folder, given = tmp_path / "run", arguments(tmp_path, "--retrieval", "true", "--candidates", "2", "--nearest", "1", "--negatives", "1")
    with monkeypatch.context() as killed:
        killed.setattr(ranking, "build", Mock(side_effect=KeyboardInterrupt))
        run(capsys, *given, code=130)
    assert "is not finished" in run(capsys, "link", str(folder), "王明", code=2)
    parts = [folder / part / "model.keras" for part in ("mentions", "retrieval")]
    written = [path.stat().st_mtime_ns for path in parts]

    found = json.loads(run(capsys, *given))
    assert [path.stat().st_mtime_ns for path in parts] == written  # a part that was finished is not trained again
    assert found["f1"] == found["mention_f1"] == found["accuracy"] == 1.0 and found["nil_recall"] == 1.0
    assert "is finished" in run(capsys, *given, code=2)

    linker = Linker.load(folder)
    # What is chosen goes by the ranker and by the vectors.
    asked = [Asked(ASKED[0], 1, 3), Asked(ASKED[1], 6, 8)]
    entities, nearest = linker.candidates.entities(asked), linker.candidates.nearest
    ids = [[each.id for each in own] for own in entities]
    both = zip(linker.ranker(asked, entities), nearest.cosines(nearest.queries(asked), ids), strict=True)
    best = [float(max(linker.calibration.apply(*each))) for each in both]
    assert [each.score for each in linker.disambiguate(asked)] == pytest.approx(best, abs=1e-5)
    assert linker.calibration.cosine + linker.calibration.behind > 0
    # Ranking is judged apart from what is NIL.
    with monkeypatch.context() as strict:
        strict.setattr(linker, "threshold", 1.1)
        assert [each.id for each in linker.disambiguate(asked)] == [None, None]
        assert [each.id for each in linker.best(asked)] == ["2", "3"]
        numbers = score(linker, read(tmp_path / "texts.jsonl", linker.candidates.knowledge_base, "stop"))
        assert numbers["ranking"] == 1.0 and numbers["accuracy_linked"] == 0.0
    # What is found and what is given at the same places is ranked once, for all scores and for what is written.
    with monkeypatch.context() as counted:
        ranker = Mock(wraps=linker.ranker)
        counted.setattr(linker, "ranker", ranker)
        texts = read(tmp_path / "texts.jsonl", linker.candidates.knowledge_base, "stop")
        score(linker, texts)
        [call] = ranker.call_args_list
        assert len(call.args[0]) == len({(text.text, each.start, each.end) for text in texts for each in text.mentions})
    together = linker.link(ASKED)
    assert [[(each.start, each.end, each.id) for each in own] for own in together] == [
        [(1, 3, "2")],
        [(1, 3, "1"), (6, 8, "3")],
        [],
        [(2, 4, "1"), (7, 9, None)],
    ]
    assert together[0][0].entity == Entity("2", "王明", (), "坏京") and together[3][1].entity is None
    for text, own in zip(ASKED, together, strict=True):
        [alone] = linker.link([text])
        assert [each[:4] for each in alone] == [each[:4] for each in own]
        assert [each.score for each in alone] == pytest.approx([each.score for each in own], abs=1e-5)
    results: list[Any] = []
    threads = [Thread(target=lambda: results.append(linker.link(ASKED))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [together] * 4
    assert linker.link([]) == [] and linker.link(["\ud83d", "😀"]) == [[], []]
    long = ("的王明在坏京" + "的" * 40) * 220
    [many] = linker.link([long])
    assert len(many) > 100 and all(long[each.start : each.end] == each.surface for each in many)
    assert all(one.end <= other.start for one, other in pairwise(many))
    with pytest.raises(DataError, match="list of texts"):
        linker.link("王明")

    load = Linker.load
    monkeypatch.setattr(Linker, "load", lambda *given: linker)  # what follows is the same linker, and loading takes a while
    assert json.loads(run(capsys, "evaluate", str(folder), str(tmp_path / "texts.jsonl"), "--json"))["f1"] == 1.0
    assert "| f1 | 100.00 |" in (folder / "evaluation" / "texts" / "report.md").read_text(encoding="utf-8")
    answers = lines_of(run(capsys, "predict", str(folder), ASKED[0], json.dumps({"text_id": "7", "text": ASKED[3]})))
    assert answers == [
        {"text_id": "1", "text": ASKED[0], "mention_data": [{"kb_id": "2", "mention": "王明", "offset": "1"}]},
        {"text_id": "7", "text": ASKED[3], "mention_data": [{"kb_id": "1", "mention": "王明", "offset": "2"}]},
    ]
    shown = run(capsys, "link", str(folder), *ASKED[1::2]).split("\n")
    assert shown[0] == "的[王明]在好书[小北]的的的的的的" and shown[1].startswith("  1-3\t王明\t1\t王明\t") and shown[1].endswith("\t好书")
    assert shown[3] == "的的[王明]在好书[人人]的的的的的" and shown[5].startswith("  7-9\t人人\tNIL")
    [told] = lines_of(run(capsys, "link", str(folder), ASKED[0], "--json"))
    assert told["links"][0]["id"] == "2" and told["links"][0]["name"] == "王明"

    # Another knowledge base than that of the training, and one that has grown.
    with KnowledgeBase(folder / "knowledge.db") as changing:
        changing.add([Entity("9", "书", (), "在")])
    monkeypatch.setattr(Linker, "load", load)
    assert "holds other entities than in training" in run(capsys, "link", str(folder), "王明", code=2)
    with pytest.raises(ConfigError, match="--changed"):
        Linker.load(folder)
    check_fingerprint(linker.candidates.knowledge_base, "as it was", changed=True)


def test_the_knowledge_base_must_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that has begun goes on with what it began with."""
    given = arguments(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "knowledge.json").write_text('"abc"')
    assert "kb.jsonl is not what it was when" in run(capsys, *given, code=2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mentions": [{"start": 0, "end": 2, "id": "99"}]}, "means '99', which the knowledge base does not have"),
        ({"mention_data": [{"mention": "王明", "offset": "1", "kb_id": "1"}]}, "should stand at 1"),
        ({"text": " ", "mentions": []}, "is empty"),
        ({"mentions": [{"start": 0, "end": 2, "id": None}]}, "has a mention with the id of an entity"),
    ],
)
def test_what_is_wrong(tmp_path: Path, change: dict[str, Any], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(tmp_path)
    row = {"text": "王明在京"} | change
    (tmp_path / "texts.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert told in run(capsys, *given, code=2)
    if "99" in told:  # what is passed over is told; here nothing is left to be learnt
        run(capsys, *given, "--faults", "skip", code=2)


def test_settings_that_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(capsys, *arguments(tmp_path, "--nearest", "3"))
    assert "Give --retrieval, too" in capsys.readouterr().err
    assert "Cannot read" in run(capsys, *arguments(tmp_path, "--kb", str(tmp_path / "none.jsonl")), code=2)


def test_texts_that_are_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves of surrogate pairs, in texts and entities, which no terminal takes; what is no JSON after all; an iterator."""
    import numpy as np

    from bert4k.linking import AnnotationStatistics, Entity, KnowledgeBase, Linker
    from bert4k.linking.candidates import Candidates
    from bert4k.linking.linker import matcher
    from bert4k.linking.mentions import Span
    from bert4k.tasks import entity_linking

    opened, counts = KnowledgeBase.of([Entity("1", "王\ud800明", (), "好\udc00书")], tmp_path / "k.db"), AnnotationStatistics()
    matches = matcher(opened, counts)
    linker = Linker(
        lambda texts: [[Span(*place, 1.0) for place in matches(text)] for text in texts],
        Candidates(opened, counts, 3),
        lambda asked, entities: [np.ones(len(own)) for own in entities],
        0.5,
    )
    monkeypatch.setattr(Linker, "load", lambda *given: linker)
    monkeypatch.setattr("bert4k.commands.learning.task_of", lambda options: entity_linking)
    assert run(capsys, "link", "run", "\udcff王\udc00明😀") == "?[王?明]😀\n  1-4\t王?明\t1\t王?明\t1.000\t好?书\n"
    [told] = lines_of(run(capsys, "link", "run", "\udcff王\ud800明😀", "--json"))
    assert told["text"] == "\udcff王\ud800明😀" and told["links"][0]["name"] == "王\ud800明"
    deep = '{"a":' * 100_000
    answers = lines_of(run(capsys, "predict", "run", '{"text": "\\ud800王\\ud800明"}', deep))
    assert answers[0]["mention_data"] == [{"kb_id": "1", "mention": "王\ud800明", "offset": "1"}] and answers[1]["text"] == deep
    assert linker.link(iter(["王\ud800明"])) == linker.link(["王\ud800明"]) != []  # type: ignore[arg-type]
    assert entity_linking.text_of('{"text_id": null, "text": "好"}', 3).id == "3"
