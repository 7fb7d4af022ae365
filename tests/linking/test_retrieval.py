"""Vectors of entities: made once, kept, refused where they are another's, and the nearest of them."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tiny_runs import checkpoint

from bert4k.errors import CheckpointError
from bert4k.linking import AnnotationStatistics, Entity, KnowledgeBase
from bert4k.linking.candidates import Candidates, Nearest
from bert4k.linking.prompts import Asked, Writer

NAMES = ["王明"] * 6 + ["小北", "小", "北", "人"]
ENTITIES = [Entity(str(number), name, (), about) for number, (name, about) in enumerate(zip(NAMES, "好书坏京在人喜欢讨厌", strict=True))]


@pytest.mark.backends
def test_from_a_model_to_candidates(tmp_path: Path) -> None:
    from bert4k.linking.retrieval import EntityVectors, batches, build, vectors_of
    from bert4k.tuning import Tuning

    model, _, tokenizer = build(str(checkpoint(tmp_path / "model")), Tuning())
    writer, pad = Writer(tokenizer, 24), tokenizer.pad_id
    asked = [Asked("的王明在书", 1, 3), Asked("王明坏", 0, 2), Asked("人人", 0, 2)]
    queries = vectors_of(model, [writer.mention(each) for each in asked], pad)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)
    for place, each in enumerate(asked):
        np.testing.assert_allclose(vectors_of(model, [writer.mention(each)], pad)[0], queries[place], atol=1e-5)
    assert vectors_of(model, [], pad).shape == (0, 16)

    with KnowledgeBase.of(ENTITIES, tmp_path / "k.db") as knowledge_base:
        path = tmp_path / "entities.npy"
        vectors = EntityVectors.make(path, model, writer, knowledge_base, "me")
        expected = vectors_of(model, [writer.entity(each) for each in ENTITIES], pad)
        np.testing.assert_allclose(vectors.of([each.id for each in ENTITIES]), expected, atol=1e-3)
        assert not vectors.of(["none"]).any()
        kept = EntityVectors.kept(path, "me", Mock(side_effect=AssertionError))
        cosines = queries @ kept.of([each.id for each in ENTITIES]).T
        assert kept.nearest(queries, 3) == [[str(place) for place in np.argsort(-row, kind="stable")[:3]] for row in cosines]
        with pytest.raises(CheckpointError, match="of other entities"):
            EntityVectors(path, "another")
        broken = tmp_path / "broken.npy"  # a copy: the file itself is mapped into memory
        broken.write_bytes(path.read_bytes()[:50])
        broken.with_suffix(".json").write_text(path.with_suffix(".json").read_text())
        with pytest.raises(CheckpointError, match="cannot be read"):
            EntityVectors(broken, "me")
        assert EntityVectors.kept(broken, "me", lambda: vectors) is vectors

        # Of six namesakes three: the one most often linked, then those whose vectors are nearest.
        statistics = AnnotationStatistics()
        statistics.meant["王明"] = statistics.meant.get("王明", type(statistics.marked)())
        statistics.meant["王明"]["4"] = 2
        nearest = Nearest(model, writer, vectors)
        found = Candidates(knowledge_base, statistics, 3, nearest=nearest).ids(asked)
        for own, row in zip(found[:2], cosines, strict=False):
            best = [str(place) for place in np.argsort(-row[:6], kind="stable")]
            assert own == list(dict.fromkeys(["4", *best]))[:3]
        assert found[2] == []
        assert Candidates(knowledge_base, statistics, 3).ids(asked) == [["4", "0", "1"]] * 2 + [[]]
        assert Candidates(knowledge_base, statistics, 3, least=2).ids(asked)[0] == ["4"]
        unknown = Entity("none", "王明")  # what has no vector is neither near nor far
        own = [ENTITIES[:3], [unknown, ENTITIES[7]], []]
        for told, entities, row in zip(
            nearest.cosines(nearest.queries(asked), [[each.id for each in one] for one in own]), own, cosines, strict=True
        ):
            np.testing.assert_allclose(told, [0.0 if each is unknown else row[int(each.id)] for each in entities], atol=1e-5)
        assert Candidates(knowledge_base, statistics, 3, nearest=nearest).ids(asked, nearest.queries(asked)) == found
        more = Candidates(knowledge_base, statistics, 3, nearest=nearest, more=2)
        assert more.ids(asked)[2] == vectors.nearest(queries[2:], 2)[0]
        knowledge_base.delete(vectors.nearest(queries[2:], 2)[0][:1])  # by somebody, meanwhile
        assert [each.id for each in more.entities(asked)[2]] == vectors.nearest(queries[2:], 2)[0][1:]

    inputs, subjects, weights = batches(
        [writer.mention(each) for each in asked], [writer.entity(each) for each in ENTITIES[:3]], [5, 6, 5], pad, 24 * 8
    )[0]
    assert inputs["token_ids"].shape[1] == 2 and inputs["named"].shape == inputs["token_ids"].shape
    assert set(subjects[weights > 0]) <= {5.0, 6.0} and np.isnan(subjects[weights == 0]).all()


def test_a_knowledge_base_that_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process adds and deletes while vectors are made, which takes minutes, and between candidates and their entities."""
    from bert4k.linking import retrieval

    writer, model = Mock(), Mock(output=Mock(shape=(None, 4)))
    with KnowledgeBase.of(ENTITIES, tmp_path / "k.db") as knowledge_base, KnowledgeBase(tmp_path / "k.db") as other:

        def vectors_of(model: object, rows: list[object], pad_id: object) -> np.ndarray:
            if "new" not in other:
                other.add([Entity("new", "王明")])
                other.delete(["9"])
            return np.ones((len(rows), 4), np.float32)

        monkeypatch.setattr(retrieval, "vectors_of", vectors_of)
        monkeypatch.setattr(retrieval, "TOGETHER", 3)
        vectors = retrieval.EntityVectors.make(tmp_path / "entities.npy", model, writer, knowledge_base, "me")
        assert vectors.of(["0", "8", "9", "new"]).sum(axis=1).tolist() == [4, 4, 0, 0]

        candidates = Candidates(knowledge_base, AnnotationStatistics(), 3)
        asked = [Asked("王明小北", 0, 2), Asked("王明小北", 2, 4)]
        monkeypatch.setattr(candidates, "ids", Mock(side_effect=lambda *_: [["0", "1"], ["6"]] if other.delete(["1", "6"]) is None else []))
        assert candidates.entities(asked) == [ENTITIES[:1], []]
