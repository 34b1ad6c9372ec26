"""Who gets how many bits: the choices with the least sum of costs that fit a size, exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizations.weights.files import SMALLEST_IN_FILE

# Sizes are counted in so many parts of the largest budget, each choice rounded up.
_PARTS = 8192
_ALIGNMENT = 64


@dataclass(frozen=True)
class Choice:
    """One way to hold a weight: what it takes in the weight file, and what the outputs lose by it."""

    width: int
    size_bytes: int
    cost: float


@dataclass(frozen=True)
class Assignment:
    """A width for each weight, and the sums of their sizes and costs."""

    widths: Mapping[str, int]
    size_bytes: int
    cost: float


def front(choices: Mapping[str, Sequence[Choice]]) -> list[Assignment]:
    """Return the best assignments, the smallest first: each larger one costs less than all before.

    A table holds, for each number of bytes, the least cost of the weights seen so far; one weight after another is
    added to it. Among equal costs the smaller size is taken, then the choice named first.
    """
    most = sum(max(choice.size_bytes for choice in each) for each in choices.values())
    unit = max(_ALIGNMENT, -(-most // _PARTS))
    parts = sum(max(-(-choice.size_bytes // unit) for choice in each) for each in choices.values())
    best = np.full(parts + 1, np.inf)
    best[0] = 0
    taken = []
    for each in choices.values():
        best, numbers = _added(best, each, unit)
        taken.append(numbers)
    found = [_walked(int(place), choices, taken, unit) for place in np.flatnonzero(np.isfinite(best))]
    return _improving(found)


def _added(best: np.ndarray, choices: Sequence[Choice], unit: int) -> tuple[np.ndarray, np.ndarray]:
    new, numbers = np.full(best.size, np.inf), np.zeros(best.size, np.int64)
    for number, choice in enumerate(choices):
        shift = -(-choice.size_bytes // unit)
        moved = np.full(best.size, np.inf)
        moved[shift:] = best[: best.size - shift] + choice.cost
        better = moved < new
        new[better], numbers[better] = moved[better], number
    return new, numbers


def _walked(place: int, choices: Mapping[str, Sequence[Choice]], taken: list[np.ndarray], unit: int) -> Assignment:
    """Return the assignment that ends at a place of the last table."""
    found: dict[str, Choice] = {}
    for (name, each), numbers in zip(reversed(list(choices.items())), reversed(taken), strict=True):
        found[name] = each[numbers[place]]
        place -= -(-found[name].size_bytes // unit)
    widths = {name: found[name].width for name in choices}
    return Assignment(widths, sum(c.size_bytes for c in found.values()), sum(c.cost for c in found.values()))


def _improving(found: list[Assignment]) -> list[Assignment]:
    kept: list[Assignment] = []
    for each in sorted(found, key=lambda one: (one.size_bytes, one.cost)):
        if not kept or each.cost < kept[-1].cost:
            kept.append(each)
    return kept


def held_bytes(count: int, width: int, element_bytes: int, whole: int) -> int:
    """Return what a weight takes in a weight file: entries and their headers start at multiples of 64."""
    if width == whole:
        return _entry(count * element_bytes)
    palette = _entry(element_bytes << width) if 1 << width >= SMALLEST_IN_FILE else 0
    return _entry(-(-count * width // 8)) + palette


def _entry(size: int) -> int:
    return _ALIGNMENT + -(-size // _ALIGNMENT) * _ALIGNMENT
