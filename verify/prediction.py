"""Does Core ML on a Mac give what the interpreter gives, on each choice of compute units?

Weights have been seen to compute something else on a GPU or Neural Engine than on the CPU (coremltools#2114, #2716).
Inputs are seeded draws, the same on every machine.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mil.compute_units import COMPUTE_UNITS
from pipeline.types import Arrays, Measurement, Subject
from verify.device.machine import cannot_say

MEASURES = {"difference": "share of rms"}
NEEDS = ("bundle",)


def measure(subject: Subject) -> list[Measurement]:
    """Return how far the output that differs most is from the interpreter's, on the worst choice of compute units.

    As rms(device − interpreter) / rms(interpreter), of the default function; the detail has every output.
    """
    if reason := cannot_say(subject.bundle):
        return [Measurement("difference", None, "share of rms", reason)]
    assert subject.bundle
    import mil
    from verify.releases.inputs import draw

    program = mil.load(subject.bundle)
    inputs = draw(program.inputs())
    return [worst(program.run(inputs), _by_units(subject.bundle, inputs))]


def _by_units(bundle: Path, inputs: Arrays) -> dict[str, Arrays]:
    """Return what Core ML puts out, by compute units; those that refuse the model, `placement.loads` names."""
    from verify.device.calls import load

    found: dict[str, Arrays] = {}
    for name, units in COMPUTE_UNITS.items():
        try:
            found[name] = load(bundle, units).predict(inputs)
        except (RuntimeError, ValueError):
            continue
    return found


def worst(expected: Arrays, by_units: Mapping[str, Arrays]) -> Measurement:
    """Return the largest difference of any output on any compute units; what is no number counts as infinite."""
    from verify.scoring.relative import relative

    apart = {
        f"{units}/{name}": relative(values.astype(np.float64), np.asarray(found[name], np.float64))
        for units, found in by_units.items()
        for name, values in expected.items()
    }
    if not apart:
        return Measurement("difference", None, "share of rms", "it loads nowhere")
    place = max(apart, key=lambda name: math.inf if math.isnan(apart[name]) else apart[name])
    return Measurement("difference", apart[place], "share of rms", f"worst: {place}", {"by_output": apart})
