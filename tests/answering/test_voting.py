"""Pieces of long passages, and the vote."""

from __future__ import annotations

import pytest

from bert4k.answering import Answer, pieces, vote


@pytest.mark.parametrize("tokens", range(40))
@pytest.mark.parametrize("room", [1, 2, 7, 8])
def test_pieces_hold_all_and_every_short_part_whole(tokens: int, room: int) -> None:
    parts = [range(tokens)[part] for part in pieces(tokens, room)]
    assert all(len(part) <= room for part in parts) and len(parts) == len(set(parts))
    assert tokens == 0 or all(parts)
    for size in range(1, max(room // 2, 1) + 1):
        for begin in range(tokens - size + 1):
            assert any(begin in part and begin + size - 1 in part for part in parts), (begin, size)
    assert tokens > room or len(parts) == 1


def test_vote() -> None:
    # Two of 0.6: 0.72 / 2.2 = 0.327; one of 0.8: 0.64 / 1.8 = 0.356, one of 0.7: 0.288; none counts for nothing.
    votes = [Answer("a", 0.6), Answer("b", 0.8), Answer("a", 0.6), Answer("", 0.99)]
    assert vote(votes) == Answer("b", 0.8)
    assert vote([*votes, Answer("a", 0.2)]) == Answer("b", 0.8)
    assert vote([Answer("a", 0.6), Answer("b", 0.7), Answer("a", 0.6)]) == Answer("a", 0.6)
    assert vote([Answer("", 0.9)]) == vote([]) == Answer("", 0.0)
