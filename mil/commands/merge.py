"""`merge NAME=PACKAGE … --out PACKAGE`: several programs as the functions of one package, weights shared."""

import argparse
from pathlib import Path

from mil.errors import MilError
from mil.merge import merge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "packages", nargs="+", metavar="NAME=PACKAGE", help="a function and the .mlpackage that it is made of"
    )
    parser.add_argument("--default", metavar="NAME", help="the function meant where none is named; else the first")
    parser.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="the .mlpackage to write")


def run(arguments: argparse.Namespace) -> int:
    packages = dict(_named(each) for each in arguments.packages)
    merge(packages, arguments.default or next(iter(packages)), arguments.out)
    print(arguments.out)
    return 0


def _named(written: str) -> tuple[str, Path]:
    name, equals, path = written.partition("=")
    if not (name and equals and path):
        raise MilError(f"{written!r}: expected NAME=PACKAGE")
    return name, Path(path)
