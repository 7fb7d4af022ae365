"""The README is executed: its Python as it stands, its command lines through the command line's own entry. The Chinese page shows
the same code with other comments."""

import io
import re
import shlex
import tokenize
from pathlib import Path

import pytest

from bert4k import cli

PAGES = ("README.md", "README.zh.md")


def blocks(root: Path, page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (root / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(root: Path, page: str) -> list[str]:
    """The bert4k command lines of a page."""
    return [line for block in blocks(root, page, "sh") for line in block.split("\n") if line.startswith("bert4k ")]


def code(block: str) -> list[str]:
    """The tokens of a Python block, comments and layout left out."""
    left_out = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE)
    return [token.string for token in tokenize.generate_tokens(io.StringIO(block).readline) if token.type not in left_out]


def test_python_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = blocks(root, PAGES[0], "python")
    assert found
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(found):
        exec(compile(block, f"{PAGES[0]}, Python block {number}", "exec"), namespace)


def test_commands_run(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands(root, PAGES[0])
    assert len(lines) > 5
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line
        told = capsys.readouterr()
        assert told.out or "wrote" in told.err, line


@pytest.mark.parametrize("page", [*PAGES, "tests/bench/README.md"])
def test_links_lead_somewhere(root: Path, page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", (root / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\[[^\]]*\]\(([^)#]+)\)", prose)
    assert found
    for target in found:
        assert target.startswith("https://") or (root / page).parent.joinpath(target).exists(), target


def test_the_pages_show_the_same_code(root: Path) -> None:
    english, chinese = PAGES
    assert commands(root, english) == commands(root, chinese)
    assert code(blocks(root, english, "python")[0]) == code(blocks(root, chinese, "python")[0])
