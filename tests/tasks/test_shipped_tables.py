"""The numbers of the shipped checkpoint's card are those that were measured."""

from __future__ import annotations

import json

from bert4k.pretrained import folder_of
from bert4k.tasks.shipped import tables
from bert4k.tasks.shipped.results import weights_digest


def test_the_card_shows_the_results() -> None:
    folder = folder_of("wenbai")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert tables.language(results) in card
    assert tables.jobs(results, "wenbai") in card
    assert tables.finetuned(results) in card
    made = [part["made"] for part in (*results.values(), *results["finetuned"].values()) if "made" in part]
    assert made and all("+changes" not in each["commit"] for each in made)
    assert results["about"]["files_sha256"] == weights_digest(folder)


def test_a_table() -> None:
    assert tables.markdown(("a", "b"), [("1", "2"), ("3", "")]) == "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |  |"
