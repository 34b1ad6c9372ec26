"""`decompile BUNDLE --out PACKAGE`: the package that a bundle was compiled from."""

import argparse
import sys
from pathlib import Path

from mil.decompile import decompile_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="a .mlmodelc")
    parser.add_argument("--out", type=Path, required=True, metavar="PACKAGE", help="the .mlpackage to write")


def run(arguments: argparse.Namespace) -> int:
    written = decompile_bundle(arguments.bundle, arguments.out)
    for note in written.notes:
        print(f"note: {note}", file=sys.stderr)
    print(written.path)
    return 0
