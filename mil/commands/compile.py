"""`compile PACKAGE --out DIR`: a compiled bundle, as coremlcompiler would write it."""

import argparse
import sys
from pathlib import Path

from mil.compile import OWN_STAMP, apple_stamp, compile_package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", type=Path, help="a .mlpackage or .mlmodel")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where NAME.mlmodelc is written")
    parser.add_argument(
        "--stamp",
        metavar="MIL,COREMLC",
        help="versions of Apple's compiler to write in place of our own name, to compare with its output",
    )


def run(arguments: argparse.Namespace) -> int:
    stamp = apple_stamp(arguments.stamp) if arguments.stamp else OWN_STAMP
    written = compile_package(arguments.package, arguments.out, stamp)
    for note in written.notes:
        print(f"note: {note}", file=sys.stderr)
    print(written.path)
    return 0
