"""Settings of a linker that cannot be, or do not fit together, are refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bert4k.errors import ConfigError
from bert4k.linking.settings import Settings, most_candidates


def settings(**more: Any) -> Settings:
    return Settings(run=Path("run"), train=[Path("train.jsonl")], dev=Path("dev.jsonl"), kb=Path("kb.jsonl"), **more)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"nearest": 3}, "nearest is 3, .* Give --retrieval"),
        ({"mention_threshold": 0.0}, "mention_threshold is 0.0; expected"),
        ({"mention_threshold": 50.0}, "mention_threshold is 50.0; expected"),
        ({"candidates": 0}, "at least one of the candidates"),
        ({"negatives": 0}, "at least one of .* the negatives"),
        ({"judged": 0}, "at least one of .* judged"),
        ({"retrieval": True, "nearest": -1}, "no fewer than 0 for nearest"),
        ({"longest": 0}, "longest is 0, .* expected 8"),
        ({"longest_pair": 3}, "longest_pair 3; expected 8"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(**given)


def test_candidates_by_default() -> None:
    assert [most_candidates(vars(settings(retrieval=retrieval))) for retrieval in (False, True)] == [20, 4]
    assert most_candidates(vars(settings(retrieval=True, candidates=7))) == 7
    assert settings(mention_threshold=0.3).mention_threshold == 0.3
