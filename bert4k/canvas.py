"""What every picture over tokens shares: labels that can be read anywhere, the shipped font, and a file that is whole or not there.

A picture is a grid with a query in each row and a key in each column. matplotlib is imported when the first one is drawn.
"""

import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from bert4k.errors import ConfigError, DataError

MAX_TOKENS = 128  # beyond, no label can be read on a screen
PAD = "[PAD]"

INK, FAINT, PALE, WHITE = "#333a45", "#b4bac4", "#e9ecf1", "#ffffff"
SEGMENTS = ("#3a6ea5", "#dd8a2e", "#4f9d69", "#a45a8f")  # distinct for the colour-blind too
_LETTERS = ("#2f5b8a", "#a85e0c", "#35724b", "#85437a")  # the same, dark enough to read
BLANK = "\u3000"

_FONT = Path(__file__).parent / "fonts" / "DroidSansFallbackFull.ttf"
_FAMILIES = ["DejaVu Sans", "Droid Sans Fallback"]  # letters from the first, which matplotlib brings along


# Files. -------------------------------------------------------------------------------------------------------------


def check_target(path: str | Path) -> None:
    """Raise `DataError` unless `path` names a `.png` or `.svg` file in a folder that exists."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"Cannot draw to {path}: it is a folder. Give the name of a file in it, such as {path / 'picture.png'}.")
    if path.suffix.lower() not in (".png", ".svg"):
        raise DataError(f"Cannot draw to {path}: found the suffix {path.suffix!r}, expected .png or .svg. Give the file such a name.")
    if not path.parent.is_dir():
        raise DataError(f"Cannot draw to {path}: the folder {path.parent} does not exist. Create it first, or choose another.")


def save(draw: Callable[[], Any], path: str | Path) -> None:
    """Write the matplotlib figure that `draw()` makes to `path`, a `.png` or `.svg` file, which is replaced when it exists.

    The same figure gives the same file on every machine, whatever the user has set for other plots. Raises `DataError`
    for another kind of file, or a folder that does not exist or cannot be written to, and `ConfigError` without matplotlib.
    """
    check_target(path)
    path = Path(path)
    kind = path.suffix.lower()[1:]
    with _style():
        written = BytesIO()
        # An SVG without its date: the same picture gives the same file.
        draw().savefig(
            written, format=kind, dpi=150, bbox_inches="tight", pad_inches=0.2, metadata={"Date": None} if kind == "svg" else None
        )
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(written.getvalue())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"Cannot draw to {path}: {error.strerror}. Choose a folder with space and write permission.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _style() -> Iterator[None]:
    """Within, matplotlib has its own defaults and the fonts of this library."""
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            f"Drawing to a file needs matplotlib, which cannot be imported ({error}). Install it with `pip install matplotlib`,"
            " or leave the file out and see the picture in the terminal."
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.family": _FAMILIES, "svg.hashsalt": "bert4k", "text.color": INK, "text.parse_math": False})
        yield


# The sides of a grid. -----------------------------------------------------------------------------------------------


def named(tokens: Sequence[str], segments: Sequence[int]) -> list[tuple[str, str]]:
    """Each token with the colour of its name: that of its segment, or a faint one for padding."""
    return [(token, FAINT if token == PAD else _LETTERS[segment % len(_LETTERS)]) for token, segment in zip(tokens, segments, strict=True)]


def name_sides(axes: Any, cell: float, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[str, str]]) -> None:
    """Write a token above each column and before each row of a grid; `columns` and `rows` hold (token, colour), `cell` is in inches.

    An empty list leaves its side bare."""
    shown = _glyphs()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3, labelsize=min(13, 44 * cell), top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks([column + 0.5 for column in range(len(columns))], [label(token, 12, shown) for token, _ in columns])
    axes.set_yticks([row + 0.5 for row in range(len(rows))], [label(token, 12 + len("[MASK]"), shown) for token, _ in rows])
    for text, (_, colour) in zip(axes.get_xticklabels(), columns, strict=True):
        text.set(color=colour, rotation=0 if len(text.get_text()) == 1 else 90)
    for text, (_, colour) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_color(colour)


def check_count(count: int, most: int = MAX_TOKENS) -> None:
    """Raise `DataError` for a number of tokens that no picture shows."""
    if not 0 < count <= most:
        raise DataError(f"Found {count} tokens; a picture shows 1 to {most}. Draw a part of the text.")


@cache
def _glyphs() -> Callable[[str], bool]:
    """Makes the shipped font known to matplotlib; whether a character can be drawn."""
    from matplotlib import font_manager

    if not _FONT.is_file():
        raise DataError(f"The font of the pictures is missing: {_FONT}. It comes with bert4k; install bert4k again.")
    font_manager.fontManager.addfont(_FONT)
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in _FAMILIES]
    return lambda character: any(font.get_char_index(ord(character)) for font in fonts)


# Labels. ------------------------------------------------------------------------------------------------------------


def label(token: str, longest: int, shown: Callable[[str], bool] = str.isprintable) -> str:
    """`token` with a code point, such as U+200B, for what cannot be shown, cut at `longest` characters."""
    text = "".join(c if c.isprintable() and shown(c) else f"U+{ord(c):04X}" for c in unicodedata.normalize("NFC", token))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def full_width(text: str) -> list[str]:
    """The characters of `text`, each two cells wide on a terminal: ASCII in its full-width form, others with a space."""
    found: list[str] = []
    for character in text:
        if "!" <= character <= "~":
            found.append(chr(ord(character) + 0xFEE0))
        elif unicodedata.east_asian_width(character) in "WF":
            found.append(character)
        elif unicodedata.combining(character) and found:
            found[-1] = f"{found[-1].rstrip(' ')}{character}"  # an accent takes no room
        else:
            found.append(f"{character} ")
    return found


def cells(text: str) -> int:
    """The width of `text` on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
