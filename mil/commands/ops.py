"""`ops`: what the interpreter covers of what coremltools registers."""

import argparse
import json

from mil.ops import registered
from mil.ops.catalogue import CATALOGUE, EXECUTOR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as the page docs/operations.md")
    form.add_argument("--json", action="store_true", help="as JSON")


def run(arguments: argparse.Namespace) -> int:
    covered = set(registered()) | EXECUTOR
    if arguments.json:
        found = {family: {name: name in covered for name in names} for family, names in CATALOGUE.items()}
        print(json.dumps(found, indent=2))
    else:
        print(page(covered), end="")
    return 0


def page(covered: set[str]) -> str:
    """Return the table of operations by family as a page of Markdown."""
    total = sum(len(names) for names in CATALOGUE.values())
    have = sum(name in covered for names in CATALOGUE.values() for name in names)
    lines = [
        "# Operations",
        "",
        f"The interpreter runs {have} of the {total} operations that coremltools 9.0 can put into a saved program.",
        "Written by `python -m mil ops --markdown`; each family is a file of `mil/ops/`.",
        "",
        "| family | covered | operations | missing |",
        "|---|---|---|---|",
    ]
    for family, names in CATALOGUE.items():
        there = [name for name in names if name in covered]
        missing = ", ".join(f"`{name}`" for name in names if name not in covered) or "–"
        shown = ", ".join(f"`{name}`" for name in there)
        lines.append(f"| {family} | {len(there)} / {len(names)} | {shown} | {missing} |")
    return "\n".join(lines) + "\n"
