"""What all pictures share: files that are whole or not there, the shipped font, and labels that can be read anywhere."""

import fnmatch
import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bert4k import canvas, masks
from bert4k.errors import ConfigError, DataError
from bert4k.pictures import MaskPicture

PICTURE = MaskPicture.of(masks.seq2seq, ["今天", "好"])


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
        PICTURE.save(tmp_path / name, "seq2seq")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "mask.png").write_bytes(b"old")
    monkeypatch.setattr(canvas.os, "replace", full)
    with pytest.raises(DataError, match="No space left"):
        PICTURE.save(tmp_path / "mask.png", "seq2seq")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"] and (tmp_path / "mask.png").read_bytes() == b"old"


def test_without_matplotlib_the_terminal_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails
    with pytest.raises(ConfigError, match=r"needs matplotlib.*pip install matplotlib"):
        PICTURE.save(tmp_path / "mask.png", "seq2seq")
    assert not list(tmp_path.iterdir())
    assert "今" in PICTURE.text()


def test_what_the_user_has_set_for_other_plots_is_neither_used_nor_changed(tmp_path: Path) -> None:
    import matplotlib

    PICTURE.save(tmp_path / "plain.png", "seq2seq")
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "red", "font.family": ["serif"]}):
        PICTURE.save(tmp_path / "set.png", "seq2seq")
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
    shown = canvas._glyphs()
    assert all(map(shown, "今天氣Aé，·《龘"))
    assert canvas.label("𠮷", 12, shown) == "U+20BB7"
    assert canvas.label("cafe\u0301", 12, shown) == "café"
    assert canvas.label("a" * 13, 12, shown) == "a" * 11 + "…"


def test_the_font_is_the_one_that_its_page_describes(root: Path) -> None:
    page = (root / "bert4k" / "fonts" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(canvas._FONT.read_bytes()).hexdigest() in page
    packaged = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["bert4k"]
    assert any(fnmatch.fnmatch(f"fonts/{canvas._FONT.name}", pattern) for pattern in packaged), "the wheel would have no font"


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("今天", 4), ("Ａ,", 3), ("cafe\u0301", 4)])
def test_width_on_a_terminal(text: str, width: int) -> None:
    assert canvas.cells(text) == width
