"""The options that name a program's inputs, for the commands that run it."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mil.errors import MilError
from mil.interface import Feature, drawn
from mil.program import Program

PRECISIONS = ("declared", "float32", "float64")


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --input, --seed and --function."""
    parser.add_argument(
        "--input", action="append", default=[], metavar="NAME=FILE", help="an input from a .npy or .npz file; repeat"
    )
    parser.add_argument("--seed", type=int, help="draw the inputs that are not given, from this seed")
    parser.add_argument("--function", help="which function; the default one where not given")


def gathered(program: Program, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Return the inputs that the options name; raises MilError for a file that holds no such array."""
    given = dict(pair for text in arguments.input for pair in _read(text))
    if arguments.seed is None:
        return given
    generator = np.random.default_rng(arguments.seed)
    wanted = program.inputs(arguments.function)
    return {feature.name: drawn(feature, generator) for feature in wanted if feature.name not in given} | given


def wanted_text(features: Iterable[Feature]) -> str:
    """Return what a program is called with, as the options that would say so."""
    return "\n".join(f"  --input {feature.name}=FILE   {feature}" for feature in features)


def _read(text: str) -> Iterable[tuple[str, np.ndarray]]:
    name, separator, path = text.partition("=")
    if not separator:
        raise MilError(f"--input {text}: expected NAME=FILE")
    found = _loaded(Path(path))
    if isinstance(found, np.ndarray):
        return [(name, found)]
    if name not in found:
        raise MilError(f"--input {text}: the file holds {', '.join(found) or 'nothing'}")
    return [(name, found[name])]


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise MilError(f"{path}: not a .npy or .npz file: {error}") from None
