"""Texts in passages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4k.retrieval import cut
from bert4k.scores import plain


def parts(text: str, size: int) -> list[str]:
    return [text[start:end] for start, end in cut(text, size)]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("", 10, []),
        (" \n。\n", 10, []),
        ("好。", 10, ["好。"]),
        ("一二三。四五六。七八九。", 8, ["一二三。四五六。", "七八九。"]),
        ("他说：“一二三。”四五六。", 10, ["他说：“一二三。”", "四五六。"]),  # the quotation mark stays with what it ends
        ("一二三四。\n\n五六。", 10, ["一二三四。", "五六。"]),  # a blank line
        ("# 一\n\n二三四五。六", 16, ["# 一\n\n二三四五。六"]),  # but not behind a heading
        ("一二三\n四五六\n", 20, ["一二三\n四五六"]),
        ("一二三四五六七八九十", 4, ["一二三四", "三四五六", "五六七八", "七八九十"]),  # no sentence ends
        ("一二三四五六七。八九。", 4, ["一二三四", "三四五六", "五六七。", "八九。"]),
        ("Pi is 3.14. It is.\r\n好", 12, ["Pi is 3.14.", "It is.\r\n好"]),
        ("一" * 9, 1, ["一"] * 9),
    ],
)
def test_cut(text: str, size: int, expected: list[str]) -> None:
    assert parts(text, size) == expected


@settings(max_examples=300, deadline=None)
@given(st.text("一二。！” \n.a", max_size=60), st.integers(1, 12))
def test_nothing_is_lost_and_short_parts_are_whole(text: str, size: int) -> None:
    places = list(cut(text, size))
    assert all(0 < end - start <= size for start, end in places) and places == sorted(places)
    held = {at for start, end in places for at in range(start, end)}
    assert not [char for at, char in enumerate(text) if at not in held and plain(char)]


def test_a_long_text_takes_no_longer() -> None:
    """100,000 characters without a mark, and as many marks."""
    assert len(parts("好" * 100_000, 250)) == 799
    [last] = parts("。" * 100_000 + "好", 250)
    assert last.endswith("好")
