"""`run PACKAGE --input NAME=FILE …`: the outputs, shown or saved."""

import argparse
from typing import Any

import numpy as np

from mil.commands.inputs import PRECISIONS, add_input_arguments, gathered, wanted_text
from mil.program import load
from mil.text import json_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="a .mlpackage, .mlmodelc or .mlmodel")
    add_input_arguments(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="declared", help="how floats are rounded (declared)")
    parser.add_argument("--output", metavar="FILE.npz", help="save the outputs there")
    parser.add_argument("--json", action="store_true", help="shape, type and range of each output, as JSON")


def run(arguments: argparse.Namespace) -> int:
    program = load(arguments.package)
    inputs = gathered(program, arguments)
    wanted = program.inputs(arguments.function)
    if wanted and not inputs:
        print(f"{arguments.package} wants:\n{wanted_text(wanted)}\nor --seed N to draw them")
        return 2
    outputs = program.run(inputs, arguments.precision, arguments.function)
    if arguments.output:
        arrays: dict[str, Any] = dict(pair for name, value in outputs.items() for pair in _arrays(name, value))
        np.savez(arguments.output, allow_pickle=False, **arrays)
    described = {name: _described(value) for name, value in outputs.items()}
    if arguments.json:
        print(json_text(described, indent=2))
        return 0
    for name, found in described.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    return 0


def _arrays(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    """Return an output as arrays: the probabilities of a classifier become two, of classes and of values."""
    if isinstance(value, dict):
        return [(f"{name}.classes", np.array(list(value))), (f"{name}.probabilities", np.array(list(value.values())))]
    return [(name, np.asarray(value))]


def _described(value: Any) -> dict[str, Any]:
    if not isinstance(value, np.ndarray):
        return {"value": value}
    found: dict[str, Any] = {"type": str(value.dtype), "shape": list(value.shape)}
    if value.size and value.dtype.kind in "fiu":
        found |= {"min": float(value.min()), "max": float(value.max()), "mean": float(value.mean(dtype=np.float64))}
    return found
