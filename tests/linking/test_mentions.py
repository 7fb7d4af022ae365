"""Where mentions stand: pieces of long texts, the channels of a dictionary, heads and their bounds, what is read off them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from tiny_runs import TOKENS, checkpoint

from bert4k.linking.linker import stored_finder
from bert4k.linking.mentions import THRESHOLDS, Span, apart, best_threshold, detect, detect_at, encode, in_pieces, lessons, spans_of
from bert4k.linking.rows import cut
from bert4k.tokenizers import Tokenizer

TOKENIZER = Tokenizer(TOKENS)


@pytest.mark.parametrize("length", [0, 1, 5, 6, 7, 23, 100])
def test_every_character_has_one_piece(length: int) -> None:
    text = ("王明在北京" * 20)[:length]
    pieces = list(cut([text, "书"], TOKENIZER, 6))
    own = [piece for piece in pieces if piece.text == 0]
    for at in range(length):
        [home] = [piece for piece in own if piece.own[0] <= at < piece.own[1]]
        inside = [start for start, _ in home.places]
        assert at in inside
        # Whatever is asked at a character has at least a sixth of the piece on both sides, or the text ends there.
        place = inside.index(at)
        assert place >= 1 or at == 0
        assert len(inside) - place > 1 or inside[-1] == length - 1
    assert [piece.ids for piece in pieces if piece.text == 1] == [TOKENIZER.spans("书")[0]]
    assert all(len(piece.ids) <= 6 for piece in pieces)


def test_channels_of_the_dictionary() -> None:
    rows, pieces = encode(["王明在 北京", "书"], TOKENIZER, 16, lambda text: [(0, 2), (1, 2), (4, 6)] if len(text) > 1 else [])
    [one, other] = rows.of_tokens["matches"]
    assert one.tolist() == [[0, 0], [1, 0], [1, 1], [0, 0], [1, 0], [0, 1], [0, 0]] and other.tolist() == [[0, 0]] * 3
    inputs = rows.inputs([1, None, 0], 8)
    assert inputs["matches"].shape == (3, 8, 2) and not inputs["matches"][:2].any() and inputs["matches"][2, :7].tolist() == one.tolist()
    assert in_pieces([[(0, 2), (4, 6), (3, 6)], [(0, 1)]], pieces) == [[(1, 3), (4, 6)], [(1, 2)]]


@pytest.mark.parametrize("head", ["half_pointer", "global_pointer"])
def test_lessons(head: Any) -> None:
    rows, _ = encode(["王明在北京", "书"], TOKENIZER, 16, lambda text: [(0, 2), (4, 5)])
    targets = [[(1, 3), (4, 6)], []]
    inputs, labels, *weights = lessons(rows, targets, head, "features")([0, 1], 8)
    bounded = lessons(rows, targets, head, "boundaries")([0, 1], 8)[1]
    assert inputs["token_ids"].shape == (2, 8)
    if head == "half_pointer":
        assert np.argwhere(labels).tolist() == [[0, 1, 0, 0], [0, 2, 0, 1], [0, 4, 0, 0], [0, 5, 0, 1]]
        # An alias ends at 京, but none begins at 北.
        assert np.argwhere(bounded).tolist() == [[0, 1, 0, 0], [0, 2, 0, 1], [0, 5, 0, 1]]
        assert weights[0].shape == (2, 8, 1, 1) and weights[0].sum(axis=(1, 2, 3)).tolist() == [7, 3]
    else:
        assert np.argwhere(labels).tolist() == [[0, 0, 1, 2], [0, 0, 4, 5]] and not weights
        assert np.argwhere(bounded).tolist() == [[0, 0, 1, 2]]


@pytest.mark.backends
@pytest.mark.parametrize("head", ["half_pointer", "global_pointer"])
def test_bounds_are_a_product_of_probabilities(tmp_path: Path, head: Any) -> None:
    """As in Su's system: probabilities times 1 where an alias begins or ends, and 0 elsewhere."""
    from bert4k.linking.mentions import build
    from bert4k.tuning import Tuning

    rows, pieces = encode(["王明在北京", "书"], TOKENIZER, 16, lambda text: [(0, 2), (2, 5)] if len(text) > 1 else [(0, 1)])
    inputs = rows.inputs([0, 1], 8)
    models = [build(str(checkpoint(tmp_path / name)), Tuning(seed=3), head, name)[0] for name in ("features", "boundaries")]
    models[1].set_weights(models[0].get_weights())
    free, bounded = (1 / (1 + np.exp(-np.asarray(model.predict_on_batch(inputs), np.float64).clip(-500))) for model in models)
    begins, ends = (inputs["matches"][..., side].astype(float) for side in (0, 1))
    if head == "half_pointer":
        allowed = np.stack([begins, ends], axis=-1)[:, :, None]
        assert free.shape == (2, 8, 1, 2)
    else:
        allowed = begins[:, None, :, None] * ends[:, None, None, :]
        assert free.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(bounded, free * allowed, atol=1e-6)
    found = detect(models[1], rows, pieces, 2, head, 1e-6, overlaps=True)
    assert {each[:2] for each in found[0]} <= {(0, 2), (2, 5), (0, 5)} and {each[:2] for each in found[1]} <= {(0, 1)}


def test_reading_spans() -> None:
    scores = np.full((1, 4, 4), -9.0)
    scores[0, 0, 1], scores[0, 2, 2], scores[0, 1, 2] = 3.0, 0.2, -0.2
    assert [span[:2] for span in spans_of(scores, "global_pointer")] == [(0, 2), (2, 3)]
    assert [span[:2] for span in spans_of(scores, "global_pointer", 0.4)] == [(0, 2), (1, 3), (2, 3)]
    assert spans_of(scores, "global_pointer")[0].probability == pytest.approx(1 / (1 + np.exp(-3)))
    ends = np.full((4, 1, 2), -9.0)
    ends[0, 0, 0], ends[1, 0, 1], ends[3, 0, 1] = 2.0, 1.0, 4.0
    [span] = spans_of(ends, "half_pointer")
    assert span[:2] == (0, 2) and span.probability == pytest.approx(1 / (1 + np.exp(-2)) / (1 + np.exp(-1)))


class Told:
    """In place of a network: every row of a batch has these scores."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def predict_on_batch(self, inputs: Any) -> np.ndarray:
        return np.stack([self.scores] * len(inputs["token_ids"]))


def test_a_threshold_is_chosen() -> None:
    scores = np.full((1, 8, 8), -9.0)
    scores[0, 1, 2], scores[0, 4, 5], scores[0, 3, 3] = -0.2, -0.9, -1.7  # 王明, 北京, and 在, which is no mention
    rows, pieces = encode(["王明在北京"] * 2, TOKENIZER, 16)
    gold = [[(0, 2), (3, 5)]] * 2
    found = detect_at(Told(scores), rows, pieces, 2, "global_pointer", THRESHOLDS)  # type: ignore[arg-type]
    for threshold, every in zip(THRESHOLDS, found, strict=True):
        assert every == detect(Told(scores), rows, pieces, 2, "global_pointer", threshold)  # type: ignore[arg-type]
    chosen = best_threshold(found, gold)
    assert chosen["f1"] == chosen["precision"] == chosen["recall"] == 1
    assert 1 / (1 + np.exp(1.7)) < chosen["threshold"] < 1 / (1 + np.exp(0.9))
    assert THRESHOLDS[0] == 0.5 and not any(found[0])  # where one would stay without a choice
    assert best_threshold([[[]], [[]]], [[(0, 1)]], (0.5, 0.4))["threshold"] == 0.5


def test_a_part_trained_before_thresholds_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels.json tells of overlaps alone, and its settings have the threshold."""
    scores = np.full((1, 8, 8), -9.0)
    scores[0, 1, 2], scores[0, 4, 5] = -0.2, -0.9
    settings = {"head": "global_pointer", "longest": 16, "dictionary": "none", "mention_threshold": 0.4}
    for labels, expected in (([False], [(0, 2)]), ([False, 0.2], [(0, 2), (3, 5)])):
        monkeypatch.setattr("bert4k.finetuning.read_model", lambda folder, labels=labels: (Told(scores), TOKENIZER, labels))
        [found] = stored_finder(Path("run"), settings, Mock(), Mock())(["王明在北京"])
        assert [each[:2] for each in found] == expected


def test_overlapping_mentions() -> None:
    spans = [Span(0, 4, 0.6), Span(2, 6, 0.9), Span(6, 8, 0.5), Span(6, 7, 0.5), Span(0, 2, 0.55)]
    assert sorted(apart(spans)) == [Span(0, 2, 0.55), Span(2, 6, 0.9), Span(6, 8, 0.5)]
