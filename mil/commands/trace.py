"""`trace PACKAGE --input NAME=FILE …`: every operation's results."""

import argparse
import dataclasses
import re
from pathlib import Path

import numpy as np

from mil.commands.inputs import PRECISIONS, add_input_arguments, gathered
from mil.program import load
from mil.text import json_text
from mil.trace import Traced, trace


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="a .mlpackage, .mlmodelc or .mlmodel")
    add_input_arguments(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="declared", help="how floats are rounded (declared)")
    parser.add_argument("--save", metavar="DIR", type=Path, help="write every result there, as NUMBER_NAME.npy")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    program = load(arguments.package)
    inputs = gathered(program, arguments)
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    for number, (traced, array) in enumerate(trace(program, inputs, arguments.precision, arguments.function)):
        print(json_text(dataclasses.asdict(traced)) if arguments.json else _line(traced))
        if arguments.save:
            np.save(arguments.save / f"{number:05d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', traced.name)[:200]}.npy", array)
    return 0


def _line(traced: Traced) -> str:
    shape = "×".join(map(str, traced.shape)) or "scalar"
    span = "empty" if traced.low is None else f"{traced.low:.6g} … {traced.high:.6g}"
    odd = "".join(f", {count} {what}" for count, what in ((traced.nans, "nan"), (traced.infinities, "inf")) if count)
    return f"{traced.operation:24} {traced.name:40} {traced.dtype:6} {shape:>16}  {span}{odd}"
