"""The bar of long work: nothing to see for what is quick, or where nobody is watching; the items always pass through."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import pytest

from bert4k import progress
from bert4k.progress import measured, track


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Puts a terminal in the place of standard error; called in the test, because pytest puts its own there after the fixtures."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    def watch() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr("sys.stderr", terminal)
        return terminal

    return watch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock of `track` is 0.4 seconds after the one before."""
    ticks = itertools.count()

    class Time:
        @staticmethod
        def monotonic() -> float:
            return next(ticks) * 0.4

    monkeypatch.setattr(progress, "time", Time)


def test_where_nobody_is_watching_nothing_is_shown(clock: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(10), 10, "counting")) == list(range(10))
    assert capsys.readouterr() == ("", "")


def test_quick_work_shows_nothing(clock: None, watched: Callable[[], Terminal]) -> None:
    terminal = watched()
    assert list(track("ab", 2, "counting")) == ["a", "b"]
    assert terminal.getvalue() == ""


def test_long_work_shows_a_bar_after_its_patience(clock: None, watched: Callable[[], Terminal]) -> None:
    terminal = watched()
    shown: list[bool] = []
    for item in track(range(8), 8, "counting"):
        shown.append("counting" in terminal.getvalue())
        assert item == len(shown) - 1
    assert shown == [False] * 3 + [True] * 5  # it looks at the clock after each item: 0.4 s, 0.8 s, 1.2 s
    assert "8/8" in terminal.getvalue()


def test_what_is_printed_meanwhile_stays_on_standard_output(
    capsys: pytest.CaptureFixture[str], clock: None, watched: Callable[[], Terminal]
) -> None:
    watched()
    for item in track(range(8), 8, "counting"):
        print("result", item)
    assert capsys.readouterr().out == "".join(f"result {item}\n" for item in range(8))


def test_patience_can_be_longer(clock: None, watched: Callable[[], Terminal]) -> None:
    terminal = watched()
    assert len(list(track(range(8), 8, "counting", patience=60))) == 8
    assert terminal.getvalue() == ""


def test_nothing_to_do(watched: Callable[[], Terminal]) -> None:
    terminal = watched()
    assert list(track([], 0, "counting")) == []
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("patience", [0.5, 60.0])
def test_the_cursor_comes_back_whatever_happens(patience: float, clock: None, watched: Callable[[], Terminal]) -> None:
    """Interrupted, failed or left alone: a bar that was shown is taken away, and one that was not stays away."""
    terminal = watched()
    with pytest.raises(KeyboardInterrupt):
        for item in track(range(9), 9, "counting", patience):
            if item == 5:
                raise KeyboardInterrupt
    hidden, back = terminal.getvalue().count("\x1b[?25l"), terminal.getvalue().count("\x1b[?25h")
    assert hidden == back == (patience < 1)


def test_it_is_lazy(clock: None) -> None:
    taken = []

    def items() -> itertools.count:  # type: ignore[type-arg]
        for item in itertools.count():
            taken.append(item)
            yield item

    following = track(items(), 100, "counting")
    assert (next(following), next(following), taken) == (0, 1, [0, 1])


def test_amounts_of_bytes(clock: None, watched: Callable[[], Terminal], capsys: pytest.CaptureFixture[str]) -> None:
    terminal = watched()
    with measured(3_000_000, "reading", in_bytes=True) as advance:
        for _ in range(3):
            advance(500_000)
    shown = terminal.getvalue()
    assert "reading" in shown
    assert "1.5/3.0 MB" in shown
    assert capsys.readouterr().out == ""
