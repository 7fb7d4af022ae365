"""The tokens that a tokenizer puts around texts: [CLS] and [SEP], or what another vocabulary has instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Frame(NamedTuple):
    """Ids that stand before the first text, between two texts, and after the last one."""

    before: tuple[Any, ...] = ()
    between: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()

    def size(self, parts: int) -> int:
        """How many tokens are added to so many texts."""
        return len(self.before) + (parts - 1) * len(self.between) + len(self.after)

    def around(self, parts: Sequence[Sequence[Any]]) -> list[Any]:
        """One row of the parts and what is added."""
        row = [*self.before, *parts[0]]
        for part in parts[1:]:
            row += *self.between, *part
        return [*row, *self.after]

    def of(self, value: Any) -> Frame:
        """A frame of the same sizes that holds `value` everywhere: what offsets and the like have for added tokens."""
        return Frame(*((value,) * len(ids) for ids in self))
