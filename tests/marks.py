"""Marks of parametrised tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def on_backends(cases: Iterable[Any], *chosen: Any) -> list[Any]:
    """The cases of a test, of which only the `chosen` ones run on every backend: those that differ in what a backend computes. For what
    takes long to compile."""
    found = list(cases)
    assert all(case in found for case in chosen), f"{chosen} are not all among {found}"
    several = [case if isinstance(case, tuple) else (case,) for case in found]
    return [pytest.param(*each, marks=[pytest.mark.backends] if case in chosen else []) for case, each in zip(found, several, strict=True)]
