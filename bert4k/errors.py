"""The exceptions of bert4k. Each message says what was found, what was expected and what to do.

All are subclasses of `Error`, which is a `ValueError`: `except ValueError` catches them in code
that knows nothing of this library, and the command line prints them as one paragraph.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class Error(ValueError):
    """Anything that bert4k refuses to do, with the reason and the remedy."""


class CheckpointError(Error):
    """A checkpoint that cannot be read, is damaged, or does not fit the model."""


class ConfigError(Error):
    """A configuration, mask or argument that is not understood or contradicts itself."""


class VocabularyError(Error):
    """A vocabulary that is damaged or does not fit the model."""


class DataError(Error):
    """Input data (texts, token ids, batches) that the model cannot take."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` may have been meant for, if one is near."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest known name, or `""` when none is near."""
    close = nearest(name, known)
    return f" Did you mean '{close}'?" if close else ""
