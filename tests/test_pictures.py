"""Masks as text and as files: what a reader sees, what the files hold, and what is refused."""

import fnmatch
import hashlib
import os
import re
import subprocess
import sys
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from bert4k import masks, pictures
from bert4k.errors import ConfigError, DataError
from bert4k.pictures import mask_matrix, save_picture, text_picture, tokens_of

TOKENS = ["[CLS]", "今", "天", "[SEP]", "好", "[SEP]"]
SEGMENTS = [0, 0, 0, 0, 1, 1]
MATRIX = mask_matrix(masks.seq2seq, SEGMENTS)


def cells(line: str) -> int:
    """The width of a line on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


# --- tokens_of ---------------------------------------------------------------------------------------------------------


def test_tokens_of_a_pair() -> None:
    tokens, segments = tokens_of(["今天天气", "不错"])
    assert tokens == ["[CLS]", "今", "天", "天", "气", "[SEP]", "不", "错", "[SEP]"]
    assert segments == [0, 0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n　", []),
        ("我用Python3写", ["我", "用", "Python3", "写"]),
        ("今[MASK]天 [TITLE]", ["今", "[MASK]", "天", "[TITLE]"]),
        ("a[b]", ["a", "[", "b", "]"]),
        ("3.14，ok!", ["3", ".", "14", "，", "ok", "!"]),
        ("cafe\u0301 từ Ёлка", ["cafe\u0301", "từ", "Ёлка"]),
        ("ひらカナ한국", list("ひらカナ한국")),
        ("𠮷野家\u2028x", ["𠮷", "野", "家", "x"]),
        ("ＡＢ", ["Ａ", "Ｂ"]),
    ],
)
def test_tokens_of_one_text(text: str, expected: list[str]) -> None:
    assert tokens_of([text]) == (["[CLS]", *expected, "[SEP]"], [0] * (len(expected) + 2))


def test_segments_take_turns() -> None:
    assert tokens_of(["问", "答", "问"])[1] == [0, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("texts", [[], "今天"])
def test_tokens_of_wants_a_list_of_texts(texts: object) -> None:
    with pytest.raises(DataError, match="expected a list"):
        tokens_of(texts)  # type: ignore[arg-type]


# --- mask_matrix -------------------------------------------------------------------------------------------------------


def test_matrix_of_seq2seq_by_hand() -> None:
    assert MATRIX.dtype == bool
    assert MATRIX.astype(int).tolist() == [[1, 1, 1, 1, 0, 0]] * 4 + [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]


def test_matrix_takes_every_input_of_a_model() -> None:
    padded = mask_matrix(masks.lm, [0, 0, 0], real=[True, True, False])
    assert not padded[:, 2].any() and padded[:2, :2].tolist() == [[True, False], [True, True]]
    packed = mask_matrix(masks.same_document, [0, 0, 0], document_ids=[0, 0, 1])
    assert packed.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert mask_matrix(masks.permuted(), [0, 0, 0], order=[2, 1, 0]).tolist() == np.triu(np.ones((3, 3), bool)).tolist()
    with pytest.raises(ConfigError, match="order"):
        mask_matrix(masks.permuted(), [0, 0, 0])


# --- text_picture ------------------------------------------------------------------------------------------------------


def test_text_by_eye() -> None:
    expected = """
　　　　　　［　　［　［
　　　　　　Ｃ　　Ｓ　Ｓ
　　　　　　Ｌ　　Ｅ　Ｅ
　　　　　　Ｓ　　Ｐ　Ｐ
　　　　　　］今天］好］
［ＣＬＳ］　＃＃＃＃．．
今　　　　　＃＃＃＃．．
天　　　　　＃＃＃＃．．
［ＳＥＰ］　＃＃＃＃．．
好　　　　　＃＃＃＃＃．
［ＳＥＰ］　＃＃＃＃＃＃

＃ may look  ． may not  (a row looks from its token, a column is looked at)"""
    assert "\n" + text_picture(MATRIX, TOKENS) == expected


def test_every_row_of_the_grid_is_equally_wide() -> None:
    tokens = ["[CLS]", "naïve", "cafe\u0301", "q\u0301", "α", "“", "한", "𠮷", "\u200b", "a" * 40, "\x1b[31m", "\ud800"]
    matrix = np.ones((len(tokens), len(tokens)), bool)
    rows = text_picture(matrix, tokens).split("\n")[-2 - len(tokens) : -2]
    assert {cells(row) for row in rows} == {2 * (8 + 1 + len(tokens))}
    assert all(row.endswith("＃" * len(tokens)) for row in rows)


def test_what_a_terminal_would_obey_is_shown_as_a_code_point() -> None:
    text = text_picture(np.ones((2, 2), bool), ["\x1b", "\u202e"])
    assert "\x1b" not in text and "\u202e" not in text and "Ｕ＋００１Ｂ" in text and "Ｕ＋２０２Ｅ" in text


def test_padding_is_blank_in_text() -> None:
    tokens = ["[CLS]", "好", "[PAD]"]
    text = text_picture(mask_matrix(masks.encoder, [0, 0, 0], [True, True, False]), tokens)
    lines = text.split("\n")
    assert lines[-4] == "好　　　　　＃＃" and lines[-3] == "［ＰＡＤ］"
    assert "blank: padding" in lines[-1] and "blank" not in text_picture(MATRIX, TOKENS)


# --- save_picture ------------------------------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).round().astype(int)


def share(image: np.ndarray, colour: str) -> int:
    """How many pixels have the colour `#rrggbb`."""
    return int((image == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).sum())


def test_png_has_as_much_colour_as_the_mask(tmp_path: Path) -> None:
    """The cells of a colour cover an area in proportion to their number, so the file shows this mask and no other."""
    save_picture(MATRIX, TOKENS, tmp_path / "mask.png", "seq2seq", SEGMENTS)
    image = pixels(tmp_path / "mask.png")
    areas = [share(image, colour) for colour in (*pictures._SEGMENTS[:2], pictures._PALE)]
    counts = np.array([24, 3, 9])  # cells that look at segment 0, at segment 1, and that may not look
    np.testing.assert_allclose(areas / counts, areas[0] / 24, rtol=0.3)  # a patch in the legend is a quarter of a cell


def test_svg_is_text_with_outlined_glyphs(tmp_path: Path) -> None:
    save_picture(MATRIX, TOKENS, tmp_path / "mask.SVG", "(causal | source) & real")
    drawing = (tmp_path / "mask.SVG").read_text(encoding="utf-8")
    assert drawing.startswith("<?xml") and "<text" not in drawing  # outlines need no font where the picture is seen
    assert re.search(r"DroidSansFallback-\w+", drawing) and "DejaVuSans-" in drawing


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_same_mask_same_file(tmp_path: Path, kind: str) -> None:
    for name in "ab":
        save_picture(MATRIX, TOKENS, tmp_path / f"{name}.{kind}", "seq2seq", SEGMENTS)
    assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_what_the_user_has_set_for_other_plots_is_neither_used_nor_changed(tmp_path: Path) -> None:
    import matplotlib

    save_picture(MATRIX, TOKENS, tmp_path / "plain.png", "seq2seq")
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "red", "font.family": ["serif"]}):
        save_picture(MATRIX, TOKENS, tmp_path / "set.png", "seq2seq")
        assert matplotlib.rcParams["font.size"] == 31.0 and matplotlib.rcParams["font.family"] == ["serif"]
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "set.png").read_bytes()


def test_only_the_own_font_is_needed(tmp_path: Path, root: Path) -> None:
    """Chinese shows without any installed font, in a process that has never drawn: nothing warns of a missing glyph."""
    code = f"""
import warnings; warnings.simplefilter("error")
from matplotlib import font_manager
font_manager.fontManager.ttflist = [font for font in font_manager.fontManager.ttflist if "matplotlib" in font.fname]
from bert4k.pictures import save_picture
save_picture([[True]], ["龘"], {str(tmp_path / "own.svg")!r}, "遮罩")
"""
    # A picture needs no backend, and numpy is the one that starts fastest.
    environment = os.environ | {"KERAS_BACKEND": "numpy"}
    run = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "DroidSansFallback" in (tmp_path / "own.svg").read_text(encoding="utf-8")


def test_characters_without_a_glyph_become_code_points() -> None:
    shown = pictures._glyphs()
    assert all(map(shown, "今天氣Aé，·《龘"))
    assert pictures._label("𠮷", 12, shown) == "U+20BB7"
    assert pictures._label("cafe\u0301", 12, shown) == "café"
    assert pictures._label("a" * 13, 12, shown) == "a" * 11 + "…"


def test_any_token_can_be_drawn(tmp_path: Path) -> None:
    """No token is read as a formula, and none breaks the file or warns: warnings are errors here."""
    tokens = ["$x$", "$\\frac{", "##ing", "_a", "\n", "\ud800", "𠮷", "[PAD]"]
    save_picture(np.eye(8, dtype=bool), tokens, tmp_path / "odd.png", "$not a formula$")
    save_picture(np.eye(8, dtype=bool), tokens, tmp_path / "odd.svg", "$not a formula$")


@pytest.mark.parametrize("count", [1, 128])
def test_small_and_large(tmp_path: Path, count: int) -> None:
    save_picture(np.tri(count, dtype=bool), ["字"] * count, tmp_path / "mask.png", "causal")
    height, width = pixels(tmp_path / "mask.png").shape[:2]
    assert 100 < height < 4000 and 100 < width < 4000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mask.jpg", "'.jpg', expected .png or .svg"),
        ("mask", "'', expected .png or .svg"),
        ("absent/mask.png", "does not exist"),
        ("folder.png", "is a folder"),
    ],
)
def test_refused_paths(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=message):
        save_picture(MATRIX, TOKENS, tmp_path / name, "seq2seq")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "mask.png").write_bytes(b"old")
    monkeypatch.setattr(pictures.os, "replace", full)
    with pytest.raises(DataError, match="No space left"):
        save_picture(MATRIX, TOKENS, tmp_path / "mask.png", "seq2seq")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"] and (tmp_path / "mask.png").read_bytes() == b"old"


def test_refused_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shape \(6, 6\) for 5 tokens"):
        text_picture(MATRIX, TOKENS[:5])
    with pytest.raises(DataError, match="129 tokens; a picture shows 1 to 128"):
        text_picture(np.ones((129, 129), bool), ["字"] * 129)
    with pytest.raises(DataError, match="0 tokens"):
        text_picture(np.ones((0, 0), bool), [])
    with pytest.raises(DataError, match="5 segment ids for 6 tokens"):
        save_picture(MATRIX, TOKENS, tmp_path / "mask.png", "seq2seq", SEGMENTS[:5])


def test_the_font_is_the_one_that_its_page_describes(root: Path) -> None:
    page = (root / "bert4k" / "fonts" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(pictures._FONT.read_bytes()).hexdigest() in page
    packaged = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["bert4k"]
    assert any(fnmatch.fnmatch(f"fonts/{pictures._FONT.name}", pattern) for pattern in packaged), "the wheel would have no font"
