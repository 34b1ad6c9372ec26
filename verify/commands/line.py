"""The command line: `python -m verify COMMAND …`, one module of `verify/commands/` per command."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from mil.errors import MilError
from pipeline.types import QuernError

# One line per command; its module is imported when it is the one that runs.
COMMANDS = {
    "contract": "hold bundles, packages and parameter files against what the apps that load them require",
    "der": "score who spoke when, as an artifact finds it or as a file has it, against labels",
    "provenance": "say whether a release is intact: every file what its provenance says, none missing or added",
    "lint": "say which operations would leave the Neural Engine and why, and what would fail or lose precision",
    "release": "hold a new release against the old one: what it does worse, on the same recordings",
}

FOUND, USAGE, ENVIRONMENT, INTERRUPTED = 1, 2, 4, 130


class Command(Protocol):
    """What a module of `verify/commands/` has; `run` returns the exit status: 0 all good, 1 something was found."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 2 for bad input or usage, 4 where the system refuses."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="python -m verify", description="Checks that can be made by hand.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    module: Command | None = None
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            module = importlib.import_module(f"verify.commands.{name}")
            module.add_arguments(sub)
    arguments = parser.parse_args(argv)
    assert module is not None
    return _guarded(module, arguments)


def _guarded(module: Command, arguments: argparse.Namespace) -> int:
    try:
        return module.run(arguments)
    except QuernError as error:
        print(f"verify {arguments.command}: {error}", file=sys.stderr)
        return error.status
    except MilError as error:
        print(f"verify {arguments.command}: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # whoever reads us has seen enough; say nothing more, not even on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"verify {arguments.command}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        return INTERRUPTED
