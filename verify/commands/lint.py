"""`lint PATH…`: which operations would leave the Neural Engine and why, what would fail, what would lose precision."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from mil.program import load
from pipeline.types import QuernError
from verify.linting.document import as_json, as_sarif
from verify.linting.lint import Choices, Report, lint
from verify.linting.page import page
from verify.linting.rule import LEVELS
from verify.linting.table import RULES, unknown
from verify.linting.text import closing, heading, plain, severity, tables

NEVER = "never"
_BY_HAND = "asked for on the command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a .mlpackage, .mlmodelc or .mlmodel")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, as JSON")
    form.add_argument("--sarif", action="store_true", help="as SARIF 2.1.0, for code hosts")
    form.add_argument("--rules", action="store_true", help="only list the rules")
    form.add_argument("--markdown", action="store_true", help="only write the page docs/lint.md")
    parser.add_argument("--all", action="store_true", help="name every operation")
    parser.add_argument("--waive", metavar="RULE", action="append", default=[], help="let a rule count for nothing")
    parser.add_argument(
        "--require", metavar="RULE", action="append", default=[], help="count a rule's findings as errors"
    )
    parser.add_argument(
        "--fail-on",
        choices=(*LEVELS, NEVER),
        default="error",
        help="the least level that makes the exit status 1 (error)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report and return 1 where there is a finding of the level that fails, or of a worse one."""
    if arguments.markdown or arguments.rules:
        print(page() if arguments.markdown else _rules(), end="")
        return 0
    if not arguments.paths:
        raise QuernError("expected the PATH of a model, found none")
    for sentence in unknown([*arguments.waive, *arguments.require]):
        raise QuernError(sentence)
    choices = Choices(dict.fromkeys(arguments.waive, _BY_HAND), dict.fromkeys(arguments.require, _BY_HAND))
    reports = {path: lint(load(Path(path)), choices) for path in arguments.paths}
    _print(reports, arguments)
    failing = () if arguments.fail_on == NEVER else LEVELS[: LEVELS.index(arguments.fail_on) + 1]
    return int(any(finding.level in failing for report in reports.values() for finding in report.findings))


def _print(reports: Mapping[str, Report], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps([as_json(path, report) for path, report in reports.items()], indent=2))
    elif arguments.sarif:
        print(json.dumps(as_sarif(reports), indent=2))
    elif sys.stdout.isatty() and not arguments.all:
        _print_tables(reports)
    else:
        print("\n\n".join("\n".join(plain(path, report, arguments.all)) for path, report in reports.items()))


def _print_tables(reports: Mapping[str, Report]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for path, report in reports.items():
        console.print(path, style="bold", markup=False)
        for summary in report.functions:
            console.print(heading(summary), markup=False)
        for table in tables(report):
            console.print(table)
        for line in closing(report):
            console.print(line.strip(), markup=False)


def _rules() -> str:
    """Return the rules in aligned columns."""
    rows = [(rule.id, severity(rule), rule.confidence) for rule in RULES]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    columns = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    about = [rule.title + (f" [not decided: {rule.undecidable}]" if rule.undecidable else "") for rule in RULES]
    return "".join(f"{left}  {right}\n" for left, right in zip(columns, about, strict=True))
