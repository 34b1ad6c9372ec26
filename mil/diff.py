"""Two programs, or two modes of one, side by side: where their results part."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mil.program import Program
from mil.trace import Traced, trace


@dataclass(frozen=True)
class Difference:
    """How far one value of the first program is from the value of the same name in the second.

    largest    the largest absolute difference; infinite where only one of the two is finite, or the shapes differ
    relative   that, by the largest magnitude in the first program
    snr_db     the power of the first over the power of the difference; infinite where they are equal
    """

    layer: str
    operation: str
    name: str
    shape: tuple[int, ...]
    largest: float
    relative: float
    snr_db: float


@dataclass(frozen=True)
class Side:
    """A program, how to run it and on what."""

    program: Program
    inputs: Mapping[str, Any]
    precision: str = "declared"
    function: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The differences of all values that the two have in common, in the order of the first program."""

    differences: tuple[Difference, ...]
    only_first: int
    only_second: int

    def parting(self, tolerance: float) -> Difference | None:
        """Return the first value whose relative difference is above the tolerance."""
        return next((found for found in self.differences if found.relative > tolerance), None)

    def worst(self, count: int) -> list[Difference]:
        """Return the values that differ most, relatively."""
        return sorted(self.differences, key=lambda found: found.relative, reverse=True)[:count]


def compare(first: Side, second: Side) -> Comparison:
    """Run both sides in step and compare every value whose name both programs have.

    What one side has computed is kept only until the other has computed it too.
    """
    shared = _names(first) & _names(second)
    walks = _numbered(first), _numbered(second)
    waiting: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    counts = [0, 0]
    found: dict[int, Difference] = {}
    running = {0, 1}
    while running:
        for side in sorted(running):
            try:
                key, order, traced, array = next(walks[side])
            except StopIteration:
                running.discard(side)
                continue
            counts[side] += 1
            if traced.name not in shared:
                continue
            entry = (order, traced, array)
            if key not in waiting[1 - side]:
                waiting[side][key] = entry
                continue
            other = waiting[1 - side].pop(key)
            (place, description, a), (_, _, b) = (entry, other) if side == 0 else (other, entry)
            found[place] = _difference(description, a, b)
    matched = len(found)
    return Comparison(tuple(found[place] for place in sorted(found)), counts[0] - matched, counts[1] - matched)


def _numbered(side: Side) -> Iterator[tuple[tuple[str, int], int, Traced, np.ndarray]]:
    """Yield every traced value with its name and how often that name came before, and its place in the order."""
    times: Counter[str] = Counter()
    walked = trace(side.program, side.inputs, side.precision, side.function)
    for order, (traced, array) in enumerate(walked):
        yield (traced.name, times[traced.name]), order, traced, array
        times[traced.name] += 1


def _names(side: Side) -> set[str]:
    return side.program.value_names(side.function)


def _difference(traced: Traced, a: np.ndarray, b: np.ndarray) -> Difference:
    largest, relative, snr_db = _distance(a, b)
    return Difference(traced.layer, traced.operation, traced.name, traced.shape, largest, relative, snr_db)


def _distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    if a.shape != b.shape:
        return math.inf, math.inf, -math.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0, 0.0, math.inf
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    if not np.isfinite(apart).all():
        return math.inf, math.inf, -math.inf
    signal = np.where(np.isfinite(a), a, 0.0)
    largest, magnitude = float(apart.max()), float(np.abs(signal).max())
    power, noise = float(np.square(signal).sum()), float(np.square(apart).sum())
    snr_db = 10 * math.log10(power / noise) if power and noise else -math.inf
    return largest, largest / magnitude if magnitude else math.inf, snr_db
