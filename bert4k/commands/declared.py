"""A command with what it takes, declared where it stands; its docstring is its help.

@command(*model_and_texts("encoder"), argument("--top-k", type=int, default=5, help="candidates for each [MASK]"))
def fill(options):
    '''Fill every [MASK] of a text.'''
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Command", "Namespace", "argument", "command", "either"]


class Argument(NamedTuple):
    """An argument, as `argparse` takes it."""

    names: tuple[str, ...]
    how: dict[str, Any]

    def add_to(self, parser: Any) -> None:
        parser.add_argument(*self.names, **self.how)


class Either(NamedTuple):
    """Arguments of which at most one may be given."""

    arguments: tuple[Argument, ...]

    def add_to(self, parser: Any) -> None:
        group = parser.add_mutually_exclusive_group()
        for each in self.arguments:
            each.add_to(group)


def argument(*names: str, **how: Any) -> Argument:
    """See `Argument`."""
    return Argument(names, how)


def either(*arguments: Argument) -> Either:
    """See `Either`."""
    return Either(arguments)


@dataclass(frozen=True)
class Command:
    """A command: what it does, with `options` that have a value for each of its arguments. Without `arguments` it reads the rest of its
    command line itself, from `options.arguments`: settings may come from a file, too."""

    run: Callable[[Namespace], None]
    arguments: tuple[Argument | Either, ...]

    @property
    def name(self) -> str:
        """As it is called: the function's, whose underscores only keep it from hiding what Python has."""
        return self.run.__name__.strip("_")

    def add_to(self, commands: Any) -> None:
        """Make its parser, among those of the other commands."""
        help = (self.run.__doc__ or "").replace("%", "%%")
        if not self.arguments:
            commands.add_parser(self.name, help=help, add_help=False)
            return
        parser = commands.add_parser(self.name, help=help, description=help, formatter_class=_Help)
        parser.set_defaults(run=self.run)
        for each in self.arguments:
            each.add_to(parser)


def command(*arguments: Argument | Either) -> Callable[[Callable[[Namespace], None]], Command]:
    """Makes a `Command` of a function."""
    return lambda run: Command(run, arguments)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells every default but those that only say that an option was not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)
