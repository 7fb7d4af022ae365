"""Every script of `examples/` runs as it stands, in an empty folder, and tells something."""

from __future__ import annotations

import ast
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"), key=lambda path: path.stem)

# Beyond running: what the output must hold, whatever the weights have learned. Texts that the model writes are not looked at.
TELLS = {
    "compare_masks": r"ours is +.*window\(2\)(.|\n)*seq2seq +away from seq2seq: 0\.0( 0\.0)+\n",
    "continue_poem": r"(竹外小桥横，.*\n){3}",
    "convert_checkpoint": r"google: \d+ tensors(.|\n)*model\.safetensors(.|\n)*every bit the same",
    "custom_block": r"\d\d,\d{3} of \d,\d{3},\d{3} weights are trained\n",
    "fill_blanks": r"(?m)^窗外\[MASK\]声细细来\n( +\S+ \d+\.\d%){4}\n小舟载\[MASK\]过前\[MASK\]\n( +\S+ \d+\.\d%){4}\n( +\S+ \d+\.\d%){4}",
    "finetune_classifier": r"accuracy (9|10)\d%",
    "hidden_layers": r"(block \d: .* -?\d\.\d\d\n){4}",
    "recipes": r"(.+是什么颜色 -> .*\n){4}",
    "search_by_meaning": r"as pretrained: \d+% (.|\n)*fine-tuned on them: (100|[89]\d)% ",
    "score_and_embed": r"lm .*-\d+\.\d(.|\n)*\[\[ ?1\. ",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    """Runs a script as `python FILE` would, in this process, which has imported Keras already; gives what it printed."""

    def running(path: Path) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(path)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return running


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_runs(path: Path, run: Callable[[Path], str], tmp_path: Path) -> None:
    printed = run(path)
    assert printed.strip(), "it tells nothing"
    assert re.search(TELLS.get(path.stem, ""), printed), printed
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out"}, "it writes elsewhere than where it says"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_it_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a script opens with what it shows"
    assert text.count("\n") <= 60


def test_what_is_told_is_of_scripts_that_exist() -> None:
    assert set(TELLS) <= {path.stem for path in SCRIPTS}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert "demo.py" in listed
