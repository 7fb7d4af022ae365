"""How good links are: as CCKS2019 counts, and part by part."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bert4k.errors import DataError
from bert4k.linking.texts import LinkedText
from bert4k.scores import ClassScore, overlap


def linking_scores(predicted: Sequence[LinkedText], gold: Sequence[LinkedText]) -> dict[str, ClassScore]:
    """Micro-averaged precision, recall and F1, texts matched by their ids:

    - "links": (offset, mention, kb_id) all right, the score of CCKS2019, in which what is NIL does not count on either side;
    - "links_and_nil": the same with NIL as one more id;
    - "mentions": the places alone, those of NIL included;
    - "nil": the places that are said to be NIL, of those that are.

    Raises `DataError` when the texts are not the same.
    """
    pairs = _pairs(predicted, gold)
    sides = [[text.mentions for text in side] for side in zip(*pairs, strict=True)] if pairs else [[], []]

    def score(of: str) -> ClassScore:
        return overlap(*([_told(mentions, of) for mentions in side] for side in sides))

    return {of: score(of) for of in ("links", "links_and_nil", "mentions", "nil")}


def _told(mentions: Sequence, of: str) -> set[tuple[object, ...]]:
    if of == "mentions":
        return {(each.start, each.end) for each in mentions}
    wanted = {"links": lambda known: known, "links_and_nil": lambda known: True, "nil": lambda known: not known}[of]
    return {(each.start, each.surface, each.id) for each in mentions if wanted(each.id is not None)}


def _pairs(predicted: Sequence[LinkedText], gold: Sequence[LinkedText]) -> list[tuple[LinkedText, LinkedText]]:
    own = {text.id: text for text in predicted}
    if len(own) != len(predicted) or len({text.id for text in gold}) != len(gold):
        raise DataError("Two texts have the same id: which is to be compared with which? Give every text its own.")
    if missing := [text.id for text in gold if text.id not in own]:
        raise DataError(
            f"{len(missing):,} texts have no prediction, the first is {missing[0]!r}. Predict all of them, if only that there is nothing."
        )
    if len(own) > len(gold):
        surplus = next(iter(own.keys() - {text.id for text in gold}))
        raise DataError(
            f"{len(own) - len(gold):,} predicted texts have no gold, one is {surplus!r}. Compare predictions with the file they are for."
        )
    if other := next((text for text in gold if own[text.id].text != text.text), None):
        raise DataError(
            f"The text {other.id!r} is {own[other.id].text[:50]!r} in the prediction and {other.text[:50]!r} in gold. Expected the same."
        )
    return [(own[text.id], text) for text in gold]


def recall_at(ranked: Sequence[Sequence[str]], gold: Sequence[Collection[str]], at: Sequence[int] = (1, 5, 10, 50)) -> dict[int, float]:
    """In what share of examples a right id is among the first k candidates, for each k, from 0 to 1; at 1 the accuracy of the ranking.

    ranked: the candidates of each mention, best first; gold: the ids that are right, one or more. Mentions without a right id (NIL) do not
    belong here.
    """
    places = [
        next((place for place, each in enumerate(candidates) if each in right), len(candidates) + max(at))
        for candidates, right in zip(ranked, gold, strict=True)
    ]
    return {k: sum(place < k for place in places) / len(places) if places else 0.0 for k in at}


def ranking_accuracy(predicted: Sequence[str | None], gold: Sequence[str | None]) -> dict[str, float]:
    """Given the gold mentions: the share of right answers, from 0 to 1, of "all", of those with an entry ("linked") and of "nil" ones."""
    right = [(mine == other, other is None) for mine, other in zip(predicted, gold, strict=True)]

    def share(of: list[bool]) -> float:
        return sum(of) / len(of) if of else 0.0

    return {
        "all": share([same for same, _ in right]),
        "linked": share([same for same, nil in right if not nil]),
        "nil": share([same for same, nil in right if nil]),
    }
