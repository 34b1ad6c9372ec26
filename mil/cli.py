"""The command line: `python -m mil COMMAND …`, one module of `mil/commands/` per command."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from mil.errors import MilError

# One line per command; its module is imported when it is the one that runs.
COMMANDS = {
    "info": "what a program is made of and what it would cost",
    "run": "run a program on arrays from files",
    "trace": "every operation's result: type, shape, range, what is not a number",
    "diff": "the same inputs through two programs or modes: where the results part",
    "compile": "write a package as a compiled bundle, .mlmodelc",
    "decompile": "write a compiled bundle as the package that it came from",
    "merge": "write several packages as the functions of one, their weights shared",
    "verify": "check a compiled bundle, and that it comes from a package",
    "ops": "the operations that can be run, and those that cannot",
}

USAGE, ENVIRONMENT, INTERRUPTED = 2, 4, 130


class Command(Protocol):
    """What a module of `mil/commands/` has; `run` returns the exit status."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 2 for bad input or usage, 4 where the system refuses."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="python -m mil", description="Core ML programs without a Mac.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    module: Command | None = None
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            module = importlib.import_module(f"mil.commands.{name}")
            module.add_arguments(sub)
    arguments = parser.parse_args(argv)
    assert module is not None
    return _guarded(module, arguments)


def _guarded(module: Command, arguments: argparse.Namespace) -> int:
    try:
        return module.run(arguments)
    except MilError as error:
        print(f"mil {arguments.command}: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # whoever reads us has seen enough; say nothing more, not even on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"mil {arguments.command}: {error}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        return INTERRUPTED
