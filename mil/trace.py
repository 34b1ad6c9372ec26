"""Every result of a program while it runs, in numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.program import Program


@dataclass(frozen=True)
class Traced:
    """One result of one operation.

    dtype          the declared one
    low, high      the smallest and largest value that is a number; None where there is none
    nans, infinities   how many values are not finite
    """

    layer: str
    operation: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    nans: int
    infinities: int


def trace(
    program: Program,
    inputs: Mapping[str, Any],
    precision: str = "declared",
    function: str | None = None,
) -> Iterator[tuple[Traced, np.ndarray]]:
    """Run a program and yield each tensor it computes, described and as it is held; in a loop, each time round."""
    import torch

    for step, results, values in program.walk(inputs, precision, function):
        for result, value in zip(results, values, strict=True):
            if isinstance(value, torch.Tensor) and result.type is not None:
                array = value.detach().numpy()
                yield _described(step.layer, step.operation, result.name, result.type.element.name, array), array


def _described(layer: str, operation: str, name: str, dtype: str, array: np.ndarray) -> Traced:
    floats = array.dtype.kind == "f"
    nans = int(np.isnan(array).sum()) if floats else 0
    infinities = int(np.isinf(array).sum()) if floats else 0
    numbers = array[~np.isnan(array)] if nans else array
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (None, None)
    return Traced(layer, operation, name, dtype, array.shape, low, high, nans, infinities)
