"""Masks as text and as files: what a reader sees, what the files hold, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from bert4k import canvas, masks
from bert4k.canvas import cells
from bert4k.errors import ConfigError, DataError
from bert4k.pictures import MaskPicture, mask_matrix, save_picture, text_picture, tokens_of

TOKENS = ["[CLS]", "今", "天", "[SEP]", "好", "[SEP]"]
SEGMENTS = [0, 0, 0, 0, 1, 1]
MATRIX = mask_matrix(masks.seq2seq, SEGMENTS)


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


# --- MaskPicture -------------------------------------------------------------------------------------------------------

MASKS = [
    *masks.NAMED,
    "causal & window(2)",
    "~causal | window(1)",
    "causal & window(2) | source",
    "permuted(seed=5)",
    "permuted(seed=5, strict=True)",
    "permuted & window(3)",
    "seq2seq & same_document",
    "permuted & same_document",
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("texts", [["春风"], ["春风", "秋月明"], ["问", "答二", "再问", "再答"], ["春\t风", "秋月", "明"]])
def test_every_mask_can_be_drawn_over_any_texts(mask: str, texts: list[str], tmp_path: Path) -> None:
    """The matrix is that of a model over the same rows; texts are turns, or documents when the mask tells them apart."""
    drawn = masks.parse(mask)
    picture = MaskPicture.of(drawn, texts)
    documents = [text.split("\t") for text in texts] if drawn.uses("same_document") else [[turn for t in texts for turn in t.split("\t")]]
    rows = [tokens_of(document) for document in documents]
    assert list(picture.tokens) == [token for tokens, _ in rows for token in tokens]
    assert list(picture.segments or ()) == [segment for _, segments in rows for segment in segments]
    assert (picture.times is not None) == drawn.uses("permuted")
    inputs = {"document_ids": picture.documents, "order": picture.times if masks.needs_order(drawn) else None}
    np.testing.assert_array_equal(picture.matrix, mask_matrix(drawn, picture.segments or (), **inputs))
    grid = picture.text().split("\n")[-2 - len(picture.tokens) : -2]
    found = [[{"＃": True, "．": False}[c] for c in re.findall("[＃．]", line)] for line in grid]
    np.testing.assert_array_equal(found, picture.matrix)


@pytest.mark.parametrize("mask", ["seq2seq & same_document", "permuted & same_document"])
def test_packed_texts_are_pictures_side_by_side(mask: str) -> None:
    texts = ["春\t风", "秋月", "花\t明"]
    together = MaskPicture.of(masks.parse(mask), texts)
    expected = np.zeros_like(together.matrix)
    begin = 0
    for text in texts:
        tokens, segments = tokens_of(text.split("\t"))
        own = slice(begin, begin + len(tokens))
        order = None if together.times is None else together.times[own]
        expected[own, own] = mask_matrix(masks.parse(mask.removesuffix(" & same_document")), segments, order=order)
        begin += len(tokens)
    np.testing.assert_array_equal(together.matrix, expected)


@pytest.mark.parametrize("mask", ["permuted", "permuted(seed=1)", "permuted & window(3)", "permuted & same_document"])
def test_a_query_looks_at_what_comes_strictly_before_its_token(mask: str) -> None:
    picture = MaskPicture.of(masks.parse(mask), ["春眠不觉晓", "处处"], two_stream=True)
    assert [picture.tokens[place] for place in picture.queries] == list("春眠不觉晓处处")
    assert picture.times is not None and picture.documents is not None
    if masks.needs_order(masks.parse(mask)):
        given = [time for time, token in zip(picture.times, picture.tokens, strict=True) if token in ("[CLS]", "[SEP]")]
        assert set(given) == {0} and sorted(set(picture.times)) == list(range(8))
        assert [picture.times[place] for place in picture.queries] != list(range(1, 8)), "an order that is worth drawing"
    count = len(picture.tokens)
    for row, place in enumerate(picture.queries, start=count):
        for key in range(count):
            near = "window" not in mask or abs(place - key) < 3
            own = "same_document" not in mask or picture.documents[place] == picture.documents[key]
            assert picture.matrix[row, key] == (near and own and picture.times[key] < picture.times[place]), (place, key)
    np.testing.assert_array_equal(picture.matrix[:count], MaskPicture.of(masks.parse(mask), ["春眠不觉晓", "处处"]).matrix)


def test_queries_are_those_that_a_model_is_trained_with() -> None:
    """The rows that pretraining appends to a text as tokens that nobody sees."""
    from bert4k.pretraining.objectives import Special, permuted
    from bert4k.pretraining.shards import Stretch

    words = np.ones(12, bool)
    special = Special(2, 3, 4, np.arange(5, 30, dtype=np.int32))
    example = permuted(Stretch(np.arange(5, 17, dtype=np.int32), words, words, True), special, np.random.default_rng(3), 0.5)
    count = int(example.real.sum())
    whole = mask_matrix(masks.permuted(), example.segment_ids, example.real, order=example.order)
    targets = example.position_ids[count:].tolist()
    assert len(targets) > 2
    drawn = mask_matrix(masks.permuted(), [0] * count, order=example.order[:count], queries=targets)
    np.testing.assert_array_equal(drawn, whole[:, :count])
    assert not whole[:, count:].any()


def test_a_strict_mask_is_the_query_stream_alone() -> None:
    order = (0, 3, 1, 4, 2, 5)
    strict = MaskPicture.of(masks.permuted(order=order, strict=True), ["今天", "好"])
    both = MaskPicture.of(masks.permuted(order=order), ["今天", "好"], two_stream=True)
    np.testing.assert_array_equal(strict.matrix[list(both.queries)], both.matrix[6:])


@pytest.mark.parametrize("mask", ["lm", "permuted(strict=True)"])
def test_one_stream_has_no_queries(mask: str) -> None:
    with pytest.raises(ConfigError, match="has one stream"):
        MaskPicture.of(masks.parse(mask), ["今天"], two_stream=True)


def test_both_streams_by_eye() -> None:
    expected = """
　　　　　　　　［　　［
　　　　　　　　Ｃ　　Ｓ
　　　　　　　　Ｌ　　Ｅ
　　　　　　　　Ｓ　　Ｐ
　　　　　　　　］春风］
［ＣＬＳ］　　　＃．．．　0
春　　　　　　　＃＃＃．　2
风　　　　　　　＃．＃．　1
［ＳＥＰ］　　　＃＃＃＃　3
［ＭＡＳＫ］春　＃．＃．　2
［ＭＡＳＫ］风　＃．．．　1

＃ may look  ． may not  (a row looks from its token, a column is looked at; right: the time of each row)"""
    assert "\n" + MaskPicture.of(masks.permuted(order=(0, 2, 1, 3)), ["春风"], two_stream=True).text() == expected


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_streams_and_documents_are_told_apart_in_a_file(kind: str, tmp_path: Path) -> None:
    """Each of the two adds its lines: of the ink, and nothing of the other colours."""
    mask = masks.permuted() & masks.same_document
    for name, documents in (("lines", [0] * 4 + [1] * 4), ("plain", None)):
        picture = MaskPicture.of(mask, ["春风", "秋月"], two_stream=True)
        MaskPicture(picture.matrix, picture.tokens, picture.segments, documents, picture.times, picture.queries).save(
            tmp_path / f"{name}.{kind}", "permuted"
        )
    if kind == "svg":
        lines, plain = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in ("lines", "plain"))
        assert lines.count(f"stroke: {canvas.INK}") == plain.count(f"stroke: {canvas.INK}") + 2
    else:
        lines, plain = (pixels(tmp_path / f"{name}.png") for name in ("lines", "plain"))
        assert share(lines, canvas.INK) > share(plain, canvas.INK)
        counts = np.array([picture.matrix.sum(), (~picture.matrix).sum()])
        areas = [share(plain, colour) for colour in (canvas.SEGMENTS[0], canvas.PALE)]
        np.testing.assert_allclose(areas / counts, areas[0] / counts[0], rtol=0.1)


def test_texts_are_checked() -> None:
    with pytest.raises(DataError, match="expected a list"):
        MaskPicture.of(masks.lm, "今天")
    with pytest.raises(DataError, match="one row and one column for each token, and 1 rows of queries"):
        MaskPicture(np.eye(2, dtype=bool), ["今", "天"], queries=[1])


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
    areas = [share(image, colour) for colour in (*canvas.SEGMENTS[:2], canvas.PALE)]
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


def test_refused_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shape \(6, 6\) for 5 tokens"):
        text_picture(MATRIX, TOKENS[:5])
    with pytest.raises(DataError, match="129 tokens; a picture shows 1 to 128"):
        text_picture(np.ones((129, 129), bool), ["字"] * 129)
    with pytest.raises(DataError, match="0 tokens"):
        text_picture(np.ones((0, 0), bool), [])
    with pytest.raises(DataError, match="5 segments for 6 tokens"):
        save_picture(MATRIX, TOKENS, tmp_path / "mask.png", "seq2seq", SEGMENTS[:5])
