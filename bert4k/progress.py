"""A progress bar for long work, on standard error, that short work never shows."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], total: int, description: str, patience: float = 1.0) -> Iterator[Item]:
    """`items`, with a bar once they have taken longer than `patience` seconds, when standard error is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Left to itself, rich would send what is printed meanwhile to the bar's console: results belong on standard output.
    progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = progress.add_task(description, total=total)
    started = time.monotonic()
    shown = False
    try:
        for item in items:
            yield item
            progress.advance(task)
            if not shown and time.monotonic() - started > patience:
                progress.start()
                shown = True
    finally:
        if shown:
            progress.stop()
