"""Names in the form that is compared."""

import builtins
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4k.errors import ConfigError
from bert4k.linking import surfaces
from bert4k.linking.surfaces import folded, normalised


@pytest.mark.parametrize(
    ("surface", "form"),
    [
        ("ＡＰＰＬＥ　Ｍａｃ", "apple mac"),
        ("《張三的歌》", "张三的歌"),
        (" 《 时间的针脚 》\n", "时间的针脚"),
        ("約翰•列儂", "约翰·列侬"),
        ("電影《大話西遊》", "电影《大话西游》"),
        ("《甲》与《乙》", "《甲》与《乙》"),  # two titles are not one in brackets
        ("Ⓐ", "a"),
        ("㎏", "㎏"),  # would be two characters
        ("İ", "İ"),
        ("😀\ud800", "😀\ufffd"),
        ("《》", ""),
        ("《", "《"),
        ("\t\0 ", ""),
        ("甲\0乙", "甲 乙"),
    ],
)
def test_forms(surface: str, form: str) -> None:
    assert normalised(surface) == form


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_places_stay_and_pieces_fold_alike(one: str, other: str) -> None:
    assert len(folded(one)) == len(one)
    assert folded(one + other) == folded(one) + folded(other)
    assert folded(folded(one)) == folded(one)
    assert normalised(normalised(one)) == normalised(one) or "《" in one


def test_full_width_is_what_unicode_says() -> None:
    letters = [chr(code) for code in range(0xFF01, 0xFF5F)]
    assert folded("".join(letters)) == unicodedata.normalize("NFKC", "".join(letters)).lower()


def test_without_opencc_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name == "opencc":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "opencc", raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    surfaces._converter.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'bert4k\[linking\]'"):
        surfaces._converter()
