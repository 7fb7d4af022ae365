"""Masks as pictures: which token looks at which, as text for a terminal and as a PNG or SVG file.

    tokens, segments = tokens_of(["今天天气", "不错"])
    matrix = mask_matrix(masks.seq2seq, segments)
    print(text_picture(matrix, tokens))
    save_picture(matrix, tokens, "seq2seq.png", title=str(masks.seq2seq), segments=segments)

A row is a query, a column a key. Padding is what the token `[PAD]` says, as in the model.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from keras import ops
from numpy.typing import NDArray

from bert4k.errors import DataError
from bert4k.masks import Mask

MAX_TOKENS = 128  # beyond, no label can be read on a screen

# A special token; a word, number or accented run in scripts that write words (from U+2E80 on, characters stand alone); one character.
_TOKEN = re.compile(r"\[[A-Z]+\]|(?:[^\W\u2e80-\U0010ffff]|[\u0300-\u036f])+|\S")
_PAD = "[PAD]"

_FONT = Path(__file__).parent / "fonts" / "DroidSansFallbackFull.ttf"
_FAMILIES = ["DejaVu Sans", "Droid Sans Fallback"]  # letters from the first, which matplotlib brings along
_INK, _FAINT, _PALE, _PADDING = "#333a45", "#b4bac4", "#e9ecf1", "#ffffff"
_SEGMENTS = ("#3a6ea5", "#dd8a2e", "#4f9d69", "#a45a8f")  # distinct for the colour-blind too
_BLANK = "\u3000"


def tokens_of(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Tokens and segment ids of `texts` without a vocabulary: each Chinese character is one, words and numbers stay whole.

    A special token in a text, such as `[MASK]`, is kept. The layout is the model's: `[CLS]` first, `[SEP]` after each
    text, segments 0 and 1 by turns. Raises `DataError` when there is no text.
    """
    if isinstance(texts, str) or not texts:
        raise DataError(
            f"Found {texts!r} as the texts of a picture; expected a list of one or more strings, the source and then the target."
        )
    tokens, segment_ids = ["[CLS]"], [0]
    for turn, text in enumerate(texts):
        found = [*_TOKEN.findall(text), "[SEP]"]
        tokens += found
        segment_ids += [turn % 2] * len(found)
    return tokens, segment_ids


def mask_matrix(
    mask: Mask,
    segment_ids: Sequence[int],
    real: Sequence[bool] | None = None,
    document_ids: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> NDArray[np.bool_]:
    """`mask` for one row of L tokens: bool [L, L], True where the query (row) may look at the key (column).

    The arguments are those of the model's inputs; all tokens are real unless `real` says otherwise.
    Raises `ConfigError` when the mask needs an `order` and there is none.
    """

    def row(values: Sequence[Any] | None, dtype: str) -> Any:
        return None if values is None else ops.convert_to_tensor(np.asarray([values]), dtype)

    everything = [True] * len(segment_ids)
    tokens = mask.tokens(
        row(segment_ids, "int32"), row(everything if real is None else real, "bool"), row(document_ids, "int32"), row(order, "int32")
    )
    return np.asarray(ops.convert_to_numpy(mask(tokens, tokens))[0, 0], bool)


def text_picture(matrix: NDArray[np.bool_], tokens: Sequence[str]) -> str:
    """The mask as lines of text; `matrix` is bool [L, L] and `tokens` label both its sides.

    Everything in the grid is a full-width character, two cells on every terminal and as wide as a Chinese character in
    every font, so that columns stay columns. Tokens are written downwards above their column. Raises `DataError`
    when the sides differ or are longer than 128.
    """
    padding = _padding(matrix, tokens)
    labels = [_full_width(_label(token, longest=8)) for token in tokens]
    longest = max(map(len, labels))
    above = zip(*([_BLANK] * (longest - len(label)) + label for label in labels), strict=True)
    lines = [_BLANK * (longest + 1) + "".join(cells) for cells in above]
    for label, may, hidden in zip(labels, matrix, padding, strict=True):
        cells = (_BLANK if pad else "＃" if look else "．" for look, pad in zip(may, hidden, strict=True))
        lines.append("".join(label) + _BLANK * (longest + 1 - len(label)) + "".join(cells))
    legend = "＃ may look  ． may not" + ("  blank: padding" if padding.any() else "")
    return "\n".join([*(line.rstrip() for line in lines), "", f"{legend}  (a row looks from its token, a column is looked at)"])


def save_picture(
    matrix: NDArray[np.bool_], tokens: Sequence[str], path: str | Path, title: str, segments: Sequence[int] | None = None
) -> None:
    """Draw the mask to `path`, a `.png` or `.svg` file, which is replaced when it exists.

    `matrix` is bool [L, L], L at most 128; `tokens` label both its sides; `segments`, int [L], colour the tokens and the
    keys. The same arguments give the same file on every machine. Raises `DataError` for another kind of file, a folder
    that does not exist or cannot be written to, or sides that differ.
    """
    path = Path(path)
    kind = path.suffix.lower()[1:]
    if path.is_dir():
        raise DataError(f"Cannot draw to {path}: it is a folder. Give the name of a file in it, such as {path / 'mask.png'}.")
    if kind not in ("png", "svg"):
        raise DataError(f"Cannot draw to {path}: found the suffix {path.suffix!r}, expected .png or .svg. Give the file such a name.")
    if not path.parent.is_dir():
        raise DataError(f"Cannot draw to {path}: the folder {path.parent} does not exist. Create it first, or choose another.")
    if segments is not None and len(segments) != len(tokens):
        raise DataError(f"Found {len(segments)} segment ids for {len(tokens)} tokens; expected one for each.")
    drawing = _draw(matrix, tokens, title, segments, kind)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(drawing)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"Cannot draw to {path}: {error.strerror}. Choose a folder with space and write permission.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _draw(matrix: NDArray[np.bool_], tokens: Sequence[str], title: str, segments: Sequence[int] | None, kind: str) -> bytes:
    """The picture as the bytes of a `png` or `svg` file."""
    import matplotlib
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    padding = _padding(matrix, tokens)
    count = len(tokens)
    segments = [0] * count if segments is None else segments
    colours = {segment: _SEGMENTS[segment % len(_SEGMENTS)] for segment in sorted(set(segments))}
    legend = {f"may look at segment {segment}" if len(colours) > 1 else "may look": colour for segment, colour in colours.items()}
    legend |= {"may not look": _PALE} | ({"padding": _PADDING} if padding.any() else {})
    # Colour 0 is "may not", 1 padding, 2 + k "may look at key k", which has the colour of the key's segment.
    painted = np.where(padding, 1, np.where(matrix, 2 + np.arange(count), 0))
    palette = ListedColormap([_PALE, _PADDING, *(colours[segment] for segment in segments)])
    cell = min(0.4, max(0.17, 8 / count))  # inches

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user has set for other plots
        matplotlib.rcParams.update({"font.family": _FAMILIES, "svg.hashsalt": "bert4k", "text.color": _INK, "text.parse_math": False})
        shown = _glyphs()
        labels = [_label(token, longest=12, shown=shown) for token in tokens]
        # The axes fill the figure, one cell a token; what stands around them is taken in by bbox_inches="tight".
        figure = Figure(figsize=(cell * count, cell * count), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.pcolormesh(painted, cmap=palette, vmin=0, vmax=count + 1, edgecolors="white", linewidth=4 * cell)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=3, labelsize=min(13, 44 * cell), top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.set_xticks(np.arange(count) + 0.5, labels)
        axes.set_yticks(np.arange(count) + 0.5, labels)
        for column, row, token, segment in zip(axes.get_xticklabels(), axes.get_yticklabels(), tokens, segments, strict=True):
            colour = _FAINT if token == _PAD else colours[segment]
            column.set(color=colour, rotation=0 if len(column.get_text()) == 1 else 90)
            row.set_color(colour)
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("looks at (key)", labelpad=8, color=_INK)
        axes.set_ylabel("looks from (query)", labelpad=8, color=_INK)
        axes.set_title(title, pad=14, fontsize=14)
        axes.legend(
            [Patch(facecolor=colour, edgecolor=_FAINT, linewidth=0.5) for colour in legend.values()],
            legend,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1 / cell / count),
            ncols=len(legend) if cell * count > 4 else 1,
            frameon=False,
        )
        written = BytesIO()
        # An SVG without its date: the same mask gives the same file.
        figure.savefig(
            written, format=kind, dpi=150, bbox_inches="tight", pad_inches=0.2, metadata={"Date": None} if kind == "svg" else None
        )
    return written.getvalue()


@cache
def _glyphs() -> Callable[[str], bool]:
    """Makes the shipped font known to matplotlib; whether a character can be drawn."""
    from matplotlib import font_manager

    if not _FONT.is_file():
        raise DataError(f"The font of the pictures is missing: {_FONT}. It comes with bert4k; install bert4k again.")
    font_manager.fontManager.addfont(_FONT)
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in _FAMILIES]
    return lambda character: any(font.get_char_index(ord(character)) for font in fonts)


def _padding(matrix: NDArray[np.bool_], tokens: Sequence[str]) -> NDArray[np.bool_]:
    """Where the query or the key is padding, bool [L, L]; `DataError` for a matrix that cannot be drawn."""
    if np.shape(matrix) != (len(tokens), len(tokens)):
        raise DataError(
            f"Found a mask of shape {np.shape(matrix)} for {len(tokens)} tokens; expected one row and one column for each token."
        )
    if not 0 < len(tokens) <= MAX_TOKENS:
        raise DataError(f"Found {len(tokens)} tokens; a picture shows 1 to {MAX_TOKENS}. Draw a part of the text.")
    pad = np.asarray([token == _PAD for token in tokens])
    return pad[:, None] | pad[None, :]


def _label(token: str, longest: int, shown: Callable[[str], bool] = str.isprintable) -> str:
    """`token` with a code point, such as U+200B, for what cannot be shown, cut at `longest` characters."""
    text = "".join(c if c.isprintable() and shown(c) else f"U+{ord(c):04X}" for c in unicodedata.normalize("NFC", token))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _full_width(label: str) -> list[str]:
    """The characters of `label`, each two cells wide on a terminal: ASCII in its full-width form, others with a space."""
    cells: list[str] = []
    for character in label:
        if "!" <= character <= "~":
            cells.append(chr(ord(character) + 0xFEE0))
        elif unicodedata.east_asian_width(character) in "WF":
            cells.append(character)
        elif unicodedata.combining(character) and cells:
            cells[-1] = f"{cells[-1].rstrip(' ')}{character}"  # an accent takes no room
        else:
            cells.append(f"{character} ")
    return cells
