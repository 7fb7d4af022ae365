"""What is wrong with a file of users: the first fault stops, or all are counted, passed over, and the first of each kind shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Literal, get_args

from bert4k.errors import ConfigError, DataError

Policy = Literal["stop", "skip"]


class Problems:
    """The faults met while reading. `policy` "stop" raises the first as a `DataError`; "skip" goes on without what is at fault.

    counts: how many there were of each kind; examples: the first `shown` of each.
    """

    def __init__(self, policy: Policy = "stop", shown: int = 3) -> None:
        if policy not in get_args(Policy):
            raise ConfigError(f"Faults in data cannot be met with {policy!r}. Expected 'stop' (at the first) or 'skip' (and count).")
        self.policy, self.shown = policy, shown
        self.counts: Counter[str] = Counter()
        self.examples: defaultdict[str, list[str]] = defaultdict(list)

    def found(self, kind: str, message: str) -> None:
        """A fault of a kind, with where it is, what was found and what was expected."""
        self.counts[kind] += 1
        if self.policy == "stop":
            raise DataError(message)
        if len(self.examples[kind]) < self.shown:
            self.examples[kind].append(message)

    def __str__(self) -> str:
        """A line for each kind, with its examples below; empty where nothing was wrong."""
        return "\n".join(
            "\n".join([f"{kind}: {count:,}", *(f"  {example}" for example in self.examples[kind])])
            for kind, count in self.counts.most_common()
        )
