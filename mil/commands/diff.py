"""`diff A [B] --input NAME=FILE …`: where two programs, or two modes of one, part."""

import argparse
import dataclasses

from mil.commands.inputs import PRECISIONS, add_input_arguments, gathered
from mil.diff import Comparison, Difference, Side, compare
from mil.program import load
from mil.text import json_text, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="a .mlpackage, .mlmodelc or .mlmodel")
    parser.add_argument("second", nargs="?", help="another; the first again where not given")
    add_input_arguments(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="declared", help="of the first (declared)")
    parser.add_argument("--other-precision", choices=PRECISIONS, help="of the second (that of the first)")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative difference that counts (0.001)")
    parser.add_argument("--worst", type=int, default=10, help="how many of the worst to show (10)")
    parser.add_argument("--json", action="store_true", help="every difference, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Return 1 where the results part, as `diff` does."""
    program = load(arguments.first)
    other = program if arguments.second is None else load(arguments.second)
    inputs = gathered(program, arguments)
    first = Side(program, inputs, arguments.precision, arguments.function)
    second = Side(other, inputs, arguments.other_precision or arguments.precision, arguments.function)
    found = compare(first, second)
    parting = found.parting(arguments.tolerance)
    if arguments.json:
        summary = {"parting": None if parting is None else parting.name, **dataclasses.asdict(found)}
        print(json_text(summary, indent=2))
    else:
        print(_text(found, parting, arguments.tolerance, arguments.worst))
    return 0 if parting is None else 1


def _text(found: Comparison, parting: Difference | None, tolerance: float, worst: int) -> str:
    compared = len(found.differences)
    lines = [f"{compared} values compared, {found.only_first} only in the first, {found.only_second} in the second"]
    if parting is None:
        lines.append(f"no value differs by more than {tolerance:g} of its magnitude")
    else:
        lines.append(
            f"they part at op `{parting.operation}` ({parting.layer}): {parting.relative:.3g} of its magnitude"
        )
    rows = [
        (each.name, each.operation, f"{each.largest:.3g}", f"{each.relative:.3g}", f"{each.snr_db:.1f}")
        for each in found.worst(worst)
    ]
    return "\n".join([*lines, "", table(("worst", "operation", "largest", "relative", "SNR dB"), rows)])
