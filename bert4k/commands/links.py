"""`bert4k link`: texts with their mentions in colour, and what each means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bert4k.commands.common import print_json, printable
from bert4k.linking.linker import Linked, Linker

if TYPE_CHECKING:
    from rich.text import Text

LINKED, NIL = "bold white on dark_green", "bold white on grey37"
SHOWN = 60  # characters of a description


def link(run: Path, texts: Sequence[str], knowledge_base: Path | None = None, changed: bool = False, as_json: bool = False) -> None:
    """Print the texts with their links, for people or as JSON lines. Colours go to terminals only; elsewhere mentions stand in [ ]."""
    from rich.console import Console

    found = Linker.load(run, knowledge_base, changed).link(texts)
    if as_json:
        for text, own in zip(texts, found, strict=True):
            print_json(values(text, own))
        return
    console = Console(soft_wrap=True, highlight=False)
    for text, own in zip(texts, found, strict=True):
        console.print(marked(printable(text), own, brackets=not console.is_terminal))
        for line in told(own):
            print(printable(line))


def values(text: str, links: Sequence[Linked]) -> dict[str, Any]:
    """A text and its links for programs; a mention that is NIL has the id null."""
    return {
        "text": text,
        "links": [
            {
                "start": each.start,
                "end": each.end,
                "mention": each.surface,
                "id": each.id,
                "name": each.entity.name if each.entity else None,
                "type": each.type,
                "score": round(each.score, 4),
            }
            for each in links
        ],
    }


def marked(text: str, links: Sequence[Linked], brackets: bool) -> Text:
    """A text with its mentions in colour, or also in brackets."""
    from rich.text import Text

    shown, at = Text(), 0
    for each in links:
        if each.start < at:  # within another mention, which is marked already
            continue
        shown.append(text[at : each.start])
        mention = text[each.start : each.end]
        shown.append(f"[{mention}]" if brackets else mention, NIL if each.id is None else LINKED)
        at = each.end
    return shown.append(text[at:])


def told(links: Sequence[Linked]) -> Iterator[str]:
    """A line for each mention: place, mention, id, name, score, types and description, with tabs between them."""
    for each in links:
        place = f"  {each.start}-{each.end}\t{each.surface}"
        if each.entity is None:
            yield f"{place}\tNIL\t\t{each.score:.3f}" + (f"\t{each.type}" if each.type else "")
            continue
        about = " ".join(("、".join(each.entity.types), " ".join(each.entity.description.split())[:SHOWN])).strip()
        yield f"{place}\t{each.id}\t{each.entity.name}\t{each.score:.3f}\t{about}"
