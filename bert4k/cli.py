"""The command line: `bert4k COMMAND ...`. What each command takes and does stands in `bert4k.commands`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import bert4k
from bert4k.commands import checkpoints, drawing, finding, generating, learning, reading
from bert4k.errors import Error

# In the order of --help.
COMMANDS = {
    each.name: each
    for each in (
        *(generating.generate, generating.fill, generating.infill, reading.score, reading.embed),
        *(drawing.mask, drawing.attention),
        *(checkpoints.list_, checkpoints.download, checkpoints.inspect, checkpoints.verify, checkpoints.convert),
        *(learning.vocabulary, learning.pretrain, learning.train, learning.evaluate, learning.predict),
        *(finding.search, finding.ask, finding.link),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 after an error that is the user's to mend."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    asked = COMMANDS.get(given[0]) if given else None
    if asked and not asked.arguments:
        options = argparse.Namespace(command=asked.name, run=asked.run, arguments=given[1:])
    else:
        options = (parser := _parser()).parse_args(given)
    if not hasattr(options, "run"):
        parser.print_help()
        return 0
    try:
        options.run(options)
    except Error as error:
        print(f"bert4k {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "bert4k", description="One pretrained transformer, many machines: the attention mask decides what it is."
    )
    parser.add_argument("--version", action="version", version=f"bert4k {bert4k.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for each in COMMANDS.values():
        each.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
