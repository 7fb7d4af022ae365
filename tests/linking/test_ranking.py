"""What a ranker reads, what it is taught, and what is made of its answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import TOKENS, checkpoint

from bert4k.linking import AnnotationStatistics, Entity
from bert4k.linking.evidence import AROUND, KNOWN, Evidence, shared
from bert4k.linking.linker import Linked, Linker, best_threshold, chosen
from bert4k.linking.prior import features
from bert4k.linking.prompts import Asked, Writer, described
from bert4k.tokenizers import Tokenizer

MING, OTHER, NOBODY = (
    Entity(str(number), name, (), about) for number, name, about in ((1, "王明", "好书"), (2, "王明", "坏"), (3, "小北", ""))
)


def words(writer: Writer, row: Any) -> list[str]:
    return [writer.tokenizer.id_to_token(int(id)) for id in row.token_ids]


def test_rows() -> None:
    writer = Writer(Tokenizer([*TOKENS, "[unused1]", "[unused2]", "；"]), 16)
    asked = Asked("的王明在", 1, 3)
    row = writer.pair(asked, MING)
    assert words(writer, row) == [*"[CLS] 的 [unused1] 王 明 [unused2] 在 [SEP] 王 明 ； 好 书 [SEP]".split()]
    assert row.segment_ids.tolist() == [0] * 8 + [1] * 6 and row.named.tolist() == [0, 0, 0, 1, 1] + [0] * 9
    assert words(writer, writer.mention(asked)) == words(writer, row)[:8]
    entity = writer.entity(MING)
    assert words(writer, entity) == [*"[CLS] 王 明 ； 好 书 [SEP]".split()] and entity.named.tolist() == [0, 1, 1, 0, 0, 0, 0]
    # Without such tokens, others: here [MASK]; 「」 and # are not in this vocabulary.
    assert words(Writer(Tokenizer(TOKENS), 16), Writer(Tokenizer(TOKENS), 16).mention(asked))[2:6] == ["[MASK]", "王", "明", "[MASK]"]


def test_of_a_long_text_what_is_near_is_enough() -> None:
    writer = Writer(Tokenizer(TOKENS), 16)
    long = Asked("书" * 5000 + "王明" + "京" * 5000, 5000, 5002)
    spans = Mock(side_effect=writer.tokenizer.spans)
    writer.tokenizer.spans = spans  # type: ignore[method-assign]
    told = writer.mention(long)
    assert words(writer, told) == words(writer, writer.mention(Asked("书" * 50 + "王明" + "京" * 50, 50, 52)))
    assert max(len(call.args[0]) for call in spans.call_args_list) <= 64
    before = spans.call_count
    writer.mention(long)  # as with each of its candidates
    assert spans.call_count == before


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20), st.integers(0, 40), st.integers(9, 24))
def test_long_rows_keep_the_mention_and_what_is_around_it(before: int, after: int, size: int, about: int, longest: int) -> None:
    writer = Writer(Tokenizer(TOKENS), longest)
    asked = Asked("的" * before + "王" * size + "在" * after, before, before + size)
    row = writer.pair(asked, Entity("1", "明", (), "书" * about))
    tokens = words(writer, row)
    assert len(tokens) <= longest and len(row.segment_ids) == len(row.named) == len(tokens)
    assert [tokens[place] for place in np.flatnonzero(row.named)] == ["王"] * row.named.sum() and row.named.sum() >= 1
    told = [token for token, segment in zip(tokens, row.segment_ids, strict=True) if segment == 1]
    whole = before + size + after + 2
    if whole + about + 5 <= longest:  # everything fits: nothing is cut
        assert tokens.count("的") == before and tokens.count("在") == after and told.count("书") == about
    if whole + 3 < longest:
        assert "明" in told
    kept = tokens.count("的"), tokens.count("在")
    if kept[0] < before and kept[1] < after:  # cut on both sides: as much is left on each
        assert abs(kept[0] - kept[1]) <= 1


def test_descriptions() -> None:
    entity = Entity("1", "苹果", ("apple", "苹果"), "长" * 100, ("公司",), (("创始人", "乔布斯"), ("简介", "很" * 60)))
    assert described(entity, 1000) == "；".join(["苹果", "apple", "公司", "长" * 100, "创始人：乔布斯", "简介：" + "很" * 60])
    short = described(entity, 120)
    assert len(short) <= 120 and "；创始人：乔布斯；" in short
    assert 0.45 < short.count("很") / short.count("长") < 0.75


def test_a_link_does_not_count_itself() -> None:
    counts = {"王明": Counter({"1": 3, "2": 1})}
    statistics = AnnotationStatistics(Counter({"王明": 6}), Counter(), counts, Counter({"王明": 2}))
    free = features(statistics, "王明", [MING, OTHER, NOBODY], 4)
    np.testing.assert_allclose(free[:, 0], [(3 + 0.25) / 7, (1 + 0.25) / 7, 0.25 / 7], rtol=1e-6)
    np.testing.assert_allclose(free[:, 1:], [[np.log1p(6) / 5, 1, np.log(5) / 5]] * 2 + [[np.log1p(6) / 5, 0, np.log(5) / 5]], rtol=1e-6)
    own = features(statistics, "王明", [MING, OTHER], 4, "2", counted=True)
    np.testing.assert_allclose(own[:, 0], [(3 + 0.25) / 6, 0.25 / 6], rtol=1e-6)
    nil = features(statistics, "王明", [MING, OTHER], 4, None, counted=True)
    np.testing.assert_allclose(nil[:, 0], [(3 + 0.25) / 6, 1.25 / 6], rtol=1e-6)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]), st.booleans()), max_size=8), st.integers(1, 8))
def test_the_best_threshold(links: list[tuple[float, bool]], expected: int) -> None:
    def f1(threshold: float) -> float:
        kept = [right for score, right in links if score >= threshold]
        return 2 * sum(kept) / (len(kept) + expected)

    found = best_threshold([score for score, _ in links], [right for _, right in links], expected)
    assert f1(found) == pytest.approx(max(map(f1, [0.0, 0.2, 0.3, 0.6, 0.8])))


def test_the_best_candidate() -> None:
    asked = Asked("的王明", 1, 3)
    assert chosen(asked, [MING, OTHER], np.array([0.4, 0.6]))[2:6] == ("王明", "2", 0.6, OTHER)
    assert chosen(asked, [MING, OTHER], np.array([0.6, 0.6]))[2:6] == ("王明", "1", 0.6, MING)
    assert chosen(asked, [], np.array([]))[2:6] == ("王明", None, 0.0, None)
    linker = Linker(Mock(), Mock(), Mock(), 0.7)
    linked = Linked(1, 3, "王明", "2", 0.6, OTHER, "人")
    assert linker.decide([asked], [linked]) == [Linked(1, 3, "王明", None, 0.6, None)]
    assert linker.decide([asked], [linked._replace(score=0.7)]) == [linked._replace(score=0.7)]


def characters(n: int) -> float:
    """A number of characters, as evidence."""
    return float(np.log1p(n) / 3)


def test_what_a_text_shares_with_what_is_known() -> None:
    song = Entity("1", "遥远", ("远方",), "遥远是陈列唱的歌", ("歌曲",), (("演唱者", "陈列"), ("专辑", "沧海列车")))
    film = Entity("2", "遥远", (), "", ("电影",), (("导演", "周《海》"),))
    text = "《遥远》收入沧海列車，陈列唱，遥远"
    found = shared(Asked(text, 1, 3), [song, film])
    # 沧海列车, in traditional characters, and 陈列唱 are covered; 遥远 itself counts nowhere, and what is called so in the base neither.
    np.testing.assert_allclose(found, [[characters(7), characters(4)], [0, 0]], rtol=1e-6)
    assert shared(Asked("远方", 0, 2), [song]).tolist() == [[0, 0]] and shared(Asked(text, 1, 3), []).shape == (0, 2)
    long = "好" * 300 + "遥远" + "的" * AROUND + "沧海列车"
    assert shared(Asked(long, 300, 302), [song]).max() == 0  # too far off to tell
    article = Entity("4", "遥远", (), "词" * KNOWN + "沧海列车", (), (("歌手", "陈列"),))
    np.testing.assert_allclose(shared(Asked(text, 1, 3), [article]), [[0, characters(2)]], rtol=1e-6)  # of an article, its beginning
    overlapping = shared(Asked("遥远abcdef", 0, 2), [Entity("3", "遥远", (), "ABCD CDEF")])
    np.testing.assert_allclose(overlapping, [[characters(6), characters(4)]], rtol=1e-6)


def test_evidence_is_what_is_asked_for() -> None:
    statistics, asked = AnnotationStatistics(), Asked("的王明好书", 1, 3)
    counts, both = Evidence(statistics), Evidence(statistics, overlap=True)
    assert (Evidence().size, Evidence(None, True).size, counts.size, both.size) == (0, 2, 4, 6)
    found = both.of(asked, [MING, OTHER], 2)
    np.testing.assert_array_equal(found[:, :4], counts.of(asked, [MING, OTHER], 2))
    np.testing.assert_array_equal(found[:, 4:], Evidence(None, True).of(asked, [MING, OTHER], 2))
    assert found[0, 5] == pytest.approx(characters(2)) and found[1, 5] == 0  # 好书, of which 王明 the first is known


@pytest.mark.backends
def test_batches_and_ranks(tmp_path: Path) -> None:
    from bert4k.linking.ranking import Question, RankingBatches, build, rank
    from bert4k.tuning import Tuning

    model, _, tokenizer = build(str(checkpoint(tmp_path / "model")), Tuning(), numbers=6)
    writer, known = Writer(tokenizer, 24), {each.id: each for each in (MING, OTHER, NOBODY)}
    statistics = AnnotationStatistics(Counter({"王明": 2, "小北": 1}), Counter(), {"王明": Counter({"1": 2})}, Counter({"小北": 1}))
    evidence = Evidence(statistics, overlap=True)
    asked = [Asked("的王明在", 1, 3), Asked("小北", 0, 2), Asked("王明好书", 0, 2)]
    questions = [
        Question(asked[0], "1", ("2",), 2),
        Question(asked[1], None, ("3",), 1),
        Question(asked[2], "1", ("2", "3"), 2),
    ]

    def of(ids: Any) -> list[Entity]:
        return [known[id] for id in ids]

    batches = RankingBatches(questions, writer, of, evidence, 2, 24 * 9, pool=["1", "2", "3"])
    assert batches.drawn(0)[:2] == ["1", "2"] and batches.drawn(0) in (["1", "2"], ["1", "2", "3"])
    assert sorted(batches.drawn(2)) == ["1", "2", "3"] and batches.drawn(2)[0] == "1"
    assert batches.drawn(1)[0] == "3" and "3" not in batches.drawn(1)[1:]
    for index in range(len(batches)):
        inputs, labels, _ = batches[index]
        shape = inputs["token_ids"].shape
        assert shape[:2] == labels.shape and shape[1] == 3 and inputs["features"].shape == (*labels.shape, 6)
        for row, label in zip(inputs["token_ids"], labels, strict=True):
            assert label.sum() == (0 if tokenizer.token_to_id("小") in row[0, :6] else 1)

    # A mention alone has the numbers that it has among others, and what is nobody's has none.
    candidates = [[MING, OTHER], [], [OTHER, NOBODY, MING]]
    together = rank(model, writer, asked, candidates, evidence)
    assert [len(each) for each in together] == [2, 0, 3] and all(((each > 0) & (each < 1)).all() for each in together)
    for place in range(3):
        [alone] = rank(model, writer, asked[place : place + 1], candidates[place : place + 1], evidence)
        np.testing.assert_allclose(alone, together[place], atol=1e-6)
    assert rank(model, writer, [], [], evidence) == []
