"""Maximum matching, what is counted on annotated texts, and the baseline made of it."""

import random
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from linking_world import World

from bert4k.errors import DataError
from bert4k.linking import (
    AnnotationStatistics,
    DictionaryLinker,
    Entity,
    KnowledgeBase,
    LinkedText,
    Match,
    Mention,
    linking_scores,
    longest_matching,
)


def exhaustive(matches: list[Match]) -> tuple[int, int]:
    """Covered characters and number of matches of the best set of all, tried one by one."""
    best = (0, 0)
    for size in range(len(matches) + 1):
        for some in combinations(sorted(matches), size):
            if all(one.end <= other.start for one, other in pairwise(some)):
                best = max(best, (sum(each.end - each.start for each in some), -size))
    return best[0], -best[1]


def test_longest_matching_covers_most_with_fewest() -> None:
    rng = random.Random(5)
    for _ in range(200):
        places = {tuple(sorted(rng.sample(range(9), 2))) for _ in range(rng.randrange(8))}
        matches = [Match(start, end, "x" * (end - start)) for start, end in places]
        found = longest_matching(matches, 8)
        assert (sum(len(each.surface) for each in found), len(found)) == exhaustive(matches)
        assert found == sorted(found) and set(found) <= set(matches)


def test_of_equals_the_first_is_longest() -> None:
    matches = [Match(0, 1, "长"), Match(0, 2, "长江"), Match(1, 3, "江大"), Match(2, 3, "大")]
    assert [each.surface for each in longest_matching(matches, 3)] == ["长江", "大"]
    assert longest_matching([], 4) == [] and longest_matching([], 0) == []


@pytest.fixture
def base(tmp_path: Path) -> KnowledgeBase:
    names = {"1": "苹果", "2": "苹果", "3": "苹果公司", "4": "在线", "5": "苹果", "6": "梨"}
    return KnowledgeBase.of([Entity(key, name) for key, name in names.items()], tmp_path / "kb")


def annotated(text: str, *mentions: tuple[str, str | None]) -> LinkedText:
    return LinkedText(text, text, tuple(Mention(text.index(name), text.index(name) + len(name), name, key) for name, key in mentions))


TRAINING = [
    annotated("蘋果公司在线", ("蘋果公司", "3")),
    annotated("苹果在线观看", ("苹果", "2")),
    annotated("苹果在线下载", ("苹果", "2")),
    annotated("苹果很甜", ("苹果", "1")),
    annotated("苹果的在线评价", ("苹果", None)),
    annotated("在线吃苹果"),
    annotated("葡萄", ("葡萄", None)),
]


def test_what_is_counted(base: KnowledgeBase) -> None:
    found = AnnotationStatistics.learn(TRAINING, base)
    assert found.marked == {"苹果公司": 1, "苹果": 4, "葡萄": 1}
    assert found.unmarked == {"在线": 5, "苹果": 1}  # the 苹果 in 苹果公司 is not what maximum matching finds
    assert found.meant == {"苹果公司": {"3": 1}, "苹果": {"2": 2, "1": 1}} and found.nil == {"苹果": 1, "葡萄": 1}
    assert found.prior("《苹果》", "2") == 0.5 and found.prior("苹果", "5") == found.prior("梨", "6") == 0.0
    assert found.counts("蘋果") == {"2": 2, "1": 1} and found.counts("梨") == {}


def test_what_annotators_pass_over_is_no_mention(base: KnowledgeBase) -> None:
    found = AnnotationStatistics.learn(TRAINING, base)
    assert not found.is_mention("在线") and found.is_mention("在线", unmarked=6.1)  # (5 + 1) / (0 + 1)
    assert found.is_mention("苹果") and found.is_mention("梨")


def test_candidates_are_those_that_were_meant(base: KnowledgeBase) -> None:
    found = AnnotationStatistics.learn(TRAINING, base)
    assert found.candidates("苹果", base) == ["2"]  # meant twice
    assert found.candidates("苹果", base, least=1) == ["2", "1"]
    assert found.candidates("苹果", base, least=3) == ["2", "1", "5"] and found.candidates("苹果", base, 3, limit=2) == ["2", "1"]
    assert found.candidates("梨", base) == ["6"] and found.candidates("桃", base) == []
    base.delete(["2"])
    assert found.candidates("苹果", base) == ["1", "5"]


def test_kept_and_read_again(base: KnowledgeBase, tmp_path: Path) -> None:
    found = AnnotationStatistics.learn(TRAINING, base)
    found.save(tmp_path / "statistics.json")
    assert AnnotationStatistics.load(tmp_path / "statistics.json") == found
    for content in ("{}", "[", '{"marked": 3}'):
        (tmp_path / "broken.json").write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="Cannot read annotation statistics"):
            AnnotationStatistics.load(tmp_path / "broken.json")
    with pytest.raises(DataError, match="Cannot read annotation statistics"):
        AnnotationStatistics.load(tmp_path / "absent.json")


def test_the_baseline(base: KnowledgeBase) -> None:
    linker = DictionaryLinker(base, AnnotationStatistics.learn(TRAINING, base))
    [found] = linker.link([LinkedText("x", "在线买苹果和梨", (Mention(0, 2, "在线", "4"),))])
    assert found.mentions == (Mention(3, 5, "苹果", "2"), Mention(6, 7, "梨", "6"))
    assert DictionaryLinker(base).best("苹果") == "1" and DictionaryLinker(base).best("桃") is None
    nobody = AnnotationStatistics.learn([annotated("苹果", ("苹果", None)), annotated("苹果", ("苹果", None))], base)
    assert DictionaryLinker(base, nobody).best("苹果") is None and DictionaryLinker(base, nobody).best("梨") == "6"


def test_counting_helps_in_a_world(tmp_path: Path) -> None:
    world = World(600, seed=2)
    base = KnowledgeBase.of(map(world.entity, range(600)), tmp_path / "kb")
    statistics = AnnotationStatistics.learn(world.texts(1200), base)
    texts = list(world.texts(150, seed=9, first=10_000))
    plain, counted = (linking_scores(DictionaryLinker(base, each).link(texts), texts) for each in (None, statistics))
    assert counted["mentions"].precision > plain["mentions"].precision + 0.2
    assert counted["mentions"].recall > plain["mentions"].recall - 0.05
    assert counted["links"].f1 > plain["links"].f1 + 0.05
