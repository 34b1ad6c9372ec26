"""`verify BUNDLE [--package PACKAGE]`: is a bundle whole, and does it come from this package?"""

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path

from mil.check_bundle import FAIL, NOT_RUN, PASS, check_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="a .mlmodelc")
    parser.add_argument("--package", type=Path, help="the .mlpackage that it should come from")
    parser.add_argument("--json", action="store_true", help="the checks as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Return 1 where a check failed; a check that has not run is no failure, and no success."""
    checks = check_bundle(arguments.bundle, arguments.package)
    outcomes = Counter(check.outcome for check in checks)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.name.ljust(width)}  {check.outcome.ljust(len(NOT_RUN))}  {check.note}".rstrip())
        print(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in (PASS, FAIL, NOT_RUN)))
    return 1 if outcomes[FAIL] else 0
