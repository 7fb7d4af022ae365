"""Where answers stand in texts."""

from __future__ import annotations

from unicodedata import combining, normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4k.answering import occurrences
from bert4k.scores import plain


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("王小明在北京，北京在北", "北京", ["北京", "北京"]),
        ("他说：《红 楼，梦》。", "“红楼梦”", ["红 楼，梦"]),  # without the punctuation beside it
        ("是《红楼梦》和红楼梦", "《红楼梦》", ["《红楼梦》", "红楼梦"]),
        ("好12，", "12%", ["12"]),
        ("是ＩＢＭ公司", "ibm", ["ＩＢＭ"]),
        ("是IBM公司", "ｉｂｍ", ["IBM"]),
        ("１２％和12%", "12%", ["１２％", "12%"]),
        ("ﾌﾟﾛは１", "プロ", ["ﾌﾟﾛ"]),  # two characters of half width make one
        ("cafe\u0301好", "café", ["cafe\u0301"]),
        ("café好", "cafe\u0301", ["café"]),
        ("cafe\u0301好", "cafe", []),
        ("重6½公斤", "1", []),  # ½ is 1⁄2, as a whole
        ("重6½公斤", "½", ["½"]),
        ("重6½公斤", "6½", ["6½"]),
        ("aaaa", "aa", ["aa", "aa", "aa"]),
        ("有13个，第3个", "3", ["3"]),  # not that of 13
        ("有13个", "3", ["3"]),  # unless there is no other
        ("abc ab", "ab", ["ab"]),
        ("abc的abc", "bc", ["bc", "bc"]),
        ("1949年", "1949", ["1949"]),
        ("有巴西和俄罗斯及巴西", "俄罗斯 巴西", ["巴西", "俄罗斯", "巴西"]),
        ("有巴西、俄罗斯", "巴西 俄罗斯", ["巴西、俄罗斯"]),  # as a whole
        ("有巴西", "巴西 俄罗斯", []),
        ("在New  York", "new york", ["New  York"]),
        ("在York", "New York", []),
        ("好", "", []),
        ("好。", "。", []),
        ("", "好", []),
        ("好", "坏 。", []),
    ],
)
def test_occurrences(text: str, answer: str, found: list[str]) -> None:
    places = occurrences(text, answer)
    assert [text[start:end] for start, end in places] == found and places == sorted(places)


ALPHABET = "ab1２Ａ 。，北京½㎏ﾌﾟe\u0301\u0323ガ\u3099"


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, max_size=12), st.text(ALPHABET, min_size=1, max_size=3))
def test_what_is_found_reads_so(text: str, answer: str) -> None:
    """Every place that is found reads as the answer or a part of it; what stands as it is written is found."""
    wanted = {plain(answer), *map(plain, answer.split())}
    for start, end in occurrences(text, answer):
        assert plain(text[start:end]) in wanted
    if plain(answer) and not combining(normalize("NFKC", answer)[0]):  # an accent belongs to what is before it
        assert occurrences(f"{text}好{answer}好", answer)
