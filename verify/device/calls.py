"""A compiled model called again and again on each choice of compute units of a Mac."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mil.compute_units import COMPUTE_UNITS
from pipeline.types import Arrays, Measurement, Range, Tensor
from verify.releases.inputs import filled

if TYPE_CHECKING:
    from coremltools.models import CompiledMLModel

CALLS = 20
SEED = 0


def inputs_of(tensors: Sequence[Tensor]) -> Arrays:
    """Return inputs for timing: seeded noise, at the least length of a range; lengths say that all of it is filled."""
    generator = np.random.default_rng(SEED)
    shapes = {
        tensor.name: [size.low if isinstance(size, Range) else size for size in tensor.shape] for tensor in tensors
    }
    noise = {tensor.name: generator.standard_normal(shapes[tensor.name]).astype(tensor.dtype) for tensor in tensors}
    return filled(noise)


def load(bundle: Path, units: str) -> "CompiledMLModel":
    """Return a compiled model, loaded on compute units as coremltools calls them; macOS only."""
    import coremltools

    return coremltools.models.CompiledMLModel(str(bundle), getattr(coremltools.ComputeUnit, units))


def load_and_call(bundle: Path, units: str, inputs: Arrays) -> None:
    """Load a compiled model and call it, as an app does that has just begun."""
    load(bundle, units).predict(inputs)


def timed(bundle: Path, inputs: Arrays) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the milliseconds of each call, after one to warm up, and why there are none, by compute units.

    Each is loaded once: compiling for the Neural Engine takes minutes.
    """
    by_units: dict[str, list[float]] = {}
    refusals: dict[str, str] = {}
    for name, units in COMPUTE_UNITS.items():
        try:
            model = load(bundle, units)
            model.predict(inputs)
        except (RuntimeError, ValueError) as error:
            refusals[name] = str(error)
        else:
            by_units[name] = [_milliseconds(model, inputs) for _ in range(CALLS)]
    return by_units, refusals


def _milliseconds(model: "CompiledMLModel", inputs: Arrays) -> float:
    started = time.perf_counter()
    model.predict(inputs)
    return 1000 * (time.perf_counter() - started)


def loads(by_units: Mapping[str, Sequence[float]], refusals: Mapping[str, str]) -> Measurement:
    """Return on how many choices of compute units a model loads and answers a call."""
    note = "; ".join(f"{units}: {reason}" for units, reason in refusals.items())
    return Measurement("loads", len(by_units), "compute units", note, {"refusals": dict(refusals)})
