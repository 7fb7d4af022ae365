"""Scores of links, against counts by hand and a scorer written out."""

import random

import pytest

from bert4k.errors import DataError
from bert4k.linking import LinkedText, Mention, linking_scores, ranking_accuracy, recall_at
from bert4k.scores import ClassScore

TEXT = "苹果公司在加州发布苹果手机"
GOLD = [
    LinkedText("1", TEXT, (Mention(0, 4, "苹果公司", "2"), Mention(5, 7, "加州", "3"), Mention(9, 11, "苹果"), Mention(11, 13, "手机"))),
    LinkedText("2", TEXT, (Mention(0, 2, "苹果", "2"),)),
]
MINE = [
    LinkedText("2", TEXT, ()),
    LinkedText(
        "1",
        TEXT,
        (
            Mention(0, 4, "苹果公司", "2"),  # right
            Mention(5, 7, "加州", "4"),  # the right place, the wrong id
            Mention(9, 11, "苹果", "1"),  # an id, though it is NIL
            Mention(11, 13, "手机"),  # NIL, as it is
            Mention(7, 9, "发布"),  # nothing is there
        ),
    ),
]


def test_by_hand() -> None:
    found = linking_scores(MINE, GOLD)
    assert {name: (score.precision, score.recall, score.support) for name, score in found.items()} == {
        "links": (1 / 3, 1 / 3, 3),
        "links_and_nil": (2 / 5, 2 / 5, 5),
        "mentions": (4 / 5, 4 / 5, 5),
        "nil": (1 / 2, 1 / 2, 2),
    }
    assert found["links"].f1 == pytest.approx(1 / 3)


def test_against_a_scorer_written_out() -> None:
    """The competition's definition: of (text, mention, offset, kb_id), those in both, over predicted and over gold; no NIL."""
    rng = random.Random(0)

    def draw() -> list[LinkedText]:
        places = [(start, start + 2) for start in range(len(TEXT) - 2)]
        ids = ["1", "2", "3", None]
        return [
            LinkedText(str(n), TEXT, tuple(Mention(a, b, TEXT[a:b], rng.choice(ids)) for a, b in rng.sample(places, rng.randrange(9))))
            for n in range(30)
        ]

    mine, gold = draw(), draw()
    told = [[(text.id, each.surface, each.start, each.id) for text in side for each in text.mentions if each.id] for side in (mine, gold)]
    right = sum(each in told[1] for each in told[0])
    precision, recall = right / len(told[0]), right / len(told[1])
    score = linking_scores(mine, gold)["links"]
    assert right and score[:2] == (precision, recall)
    assert score.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_nothing_at_all() -> None:
    assert linking_scores([], [])["links"] == ClassScore(0.0, 0.0, 0.0, 0)
    empty = [LinkedText("1", TEXT)]
    assert set(linking_scores(empty, empty).values()) == {ClassScore(0.0, 0.0, 0.0, 0)}


@pytest.mark.parametrize(
    ("mine", "gold", "told"),
    [
        (MINE[:1], GOLD, "1 texts have no prediction, the first is '1'"),
        (MINE, GOLD[:1], "1 predicted texts have no gold, one is '2'"),
        ([*MINE, MINE[0]], GOLD, "same id"),
        ([MINE[1], LinkedText("2", "别的")], GOLD, "The text '2' is '别的'"),
    ],
)
def test_texts_that_are_not_the_same(mine: list[LinkedText], gold: list[LinkedText], told: str) -> None:
    with pytest.raises(DataError, match=told):
        linking_scores(mine, gold)


def test_recall_at() -> None:
    ranked = [["a", "b", "c"], ["b", "a"], [], ["c", "d", "a"]]
    gold = [{"a"}, {"a", "x"}, {"a"}, {"a", "d"}]
    assert recall_at(ranked, gold, (1, 2, 3, 10)) == {1: 0.25, 2: 0.75, 3: 0.75, 10: 0.75}
    assert recall_at([], [], (1,)) == {1: 0.0}
    with pytest.raises(ValueError, match="shorter"):
        recall_at(ranked, gold[:2])


def test_ranking_accuracy() -> None:
    assert ranking_accuracy(["a", "b", None, "c", None], ["a", "c", None, None, "a"]) == {"all": 0.4, "linked": 1 / 3, "nil": 0.5}
    assert ranking_accuracy([], []) == {"all": 0.0, "linked": 0.0, "nil": 0.0}
