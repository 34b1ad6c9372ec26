"""Does each function of an artifact do what its part does, and is what they share stored once?"""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.types import Arrays, Measurement, Subject

MEASURES = {"differing": "functions", "size_ratio": "times the largest part"}
NEEDS = ("package", "functions")

SEED = 0
LENGTH = 8


def measure(subject: Subject) -> list[Measurement]:
    """Return how many functions differ from their parts, and how large the whole is beside the largest part.

    differing    functions that are missing, or of which any output differs in any bit from that of their part, on
                 seeded noise; integers, which are lengths, are 8
    size_ratio   bytes of the whole over bytes of the largest part
    """
    assert subject.package, "the check names it among its needs"
    if not subject.functions:
        return [Measurement(name, None, unit, "an artifact of one function") for name, unit in MEASURES.items()]
    found = {name: _difference(subject.package, name, part) for name, part in subject.functions.items()}
    wrong = {name: reason for name, reason in found.items() if reason}
    note = "; ".join(f"{name}: {reason}" for name, reason in wrong.items()) or f"{len(found)} functions"
    ratio = _size(subject.package) / max(_size(part) for part in subject.functions.values())
    return [
        Measurement("differing", len(wrong), "functions", note, {"functions": sorted(found)}),
        Measurement("size_ratio", ratio, "times the largest part", f"{len(found)} functions"),
    ]


def _difference(package: Path, function: str, part: Path) -> str:
    """Return what sets a function apart from its part; empty where nothing does."""
    import mil

    whole, alone = mil.load(package), mil.load(part)
    if function not in whole.functions:
        return "missing"
    arrays = _noise(alone)
    expected, found = alone.run(arrays), whole.run(arrays, function=function)
    differing = [
        name
        for name in expected
        if name not in found or not np.array_equal(expected[name], found[name], equal_nan=True)
    ]
    return f"{', '.join(differing)} differ" if differing else ""


def _noise(program: Any) -> Arrays:
    from mil.interface import drawn

    generator = np.random.default_rng(SEED)
    arrays = {feature.name: drawn(feature, generator) for feature in program.inputs()}
    return {name: array if array.dtype.kind == "f" else np.full_like(array, LENGTH) for name, array in arrays.items()}


def _size(package: Path) -> int:
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
