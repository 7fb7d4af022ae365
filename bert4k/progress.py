"""A progress bar for long work, on standard error, that short work never shows."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], total: int, description: str, patience: float = 1.0) -> Iterator[Item]:
    """`items`, with a bar once they have taken longer than `patience` seconds, when standard error is a terminal."""
    with measured(total, description, patience) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def measured(total: int | None, description: str, patience: float = 1.0, *, in_bytes: bool = False) -> Iterator[Callable[[int], object]]:
    """A function to tell how much more of `total` is done, which moves the bar of `track`.

    `in_bytes` shows amounts as bytes, with the bytes of a second; a total of None is not known.
    """
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    amounts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
    columns = (TextColumn("{task.description}"), BarColumn(), *amounts, TimeRemainingColumn())
    # Left to itself, rich would send what is printed meanwhile to the bar's console: results belong on standard output.
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = progress.add_task(description, total=total)
    started = time.monotonic()
    shown = False

    def advance(amount: int) -> None:
        nonlocal shown
        progress.advance(task, amount)
        if not shown and time.monotonic() - started > patience:
            progress.start()
            shown = True

    try:
        yield advance
    finally:
        if shown:
            progress.stop()
