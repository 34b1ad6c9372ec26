"""The widths of all weights: measured one weight at a time, allocated together."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimizations.mixed.allocation import Assignment, Choice, front, held_bytes
from optimizations.mixed.outputs import Loss
from optimizations.mixed_palette import WHOLE, Options
from optimizations.weights.selection import Large
from pipeline.types import Example, QuernError

# Runs on each variation of a recording that moments are taken from.
WINDOWS_PER_VARIATION = 1
# Of the windows that moments are taken from, every so many is searched on, over and over.
SEARCHED_EVERY = 3
# A cost is a power of 2 to a quarter: nearer than that, windows of speech do not tell costs apart.
_STEPS_PER_OCTAVE = 4

Costs = Mapping[str, Mapping[int, float]]  # weight → width → divergence with this weight alone at this width


@dataclass(frozen=True)
class Found:
    """The assignment that was chosen, and the front that it was chosen from."""

    chosen: Assignment
    curve: tuple[Assignment, ...]


def by_recording(begin: Callable[[], Iterable[Example]], count: int) -> list[Example]:
    """Return `count` examples of each recording, spread over it; an example is of the recording that it starts in.

    begin   begins the examples; it is called twice, so that only what is chosen is kept
    """
    parts: dict[str, list[int]] = {}
    for place, example in enumerate(begin()):
        parts.setdefault(example.name.partition(",")[0].rpartition("@")[0], []).append(place)
    chosen = {place for part in parts.values() for place in _spread_out(part, count)}
    return [example for place, example in enumerate(begin()) if place in chosen]


def _spread_out(places: Sequence[int], count: int) -> list[int]:
    """Return `count` of the places, from the middles of as many equal parts."""
    count = min(count, len(places))
    return [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]


def measured(
    large: Sequence[Large], widths: Sequence[int], loss_of: Callable[[Mapping[str, int]], Loss]
) -> dict[str, dict[int, float]]:
    """Return what the outputs lose with each weight alone at each width."""
    return {each.label: {width: loss_of({each.label: width}).divergence for width in widths} for each in large}


def save(costs: Costs, folder: Path) -> None:
    (folder / "costs.json").write_text(json.dumps(costs))


def load(folder: Path) -> dict[str, dict[int, float]]:
    costs = json.loads((folder / "costs.json").read_text())
    return {name: {int(width): cost for width, cost in each.items()} for name, each in costs.items()}


def rounded(cost: float) -> float:
    """Return the nearest power of 2 to a quarter; zero, and what rounding made negative, stay zero."""
    if cost <= 0:
        return 0.0
    return float(2.0 ** (round(_STEPS_PER_OCTAVE * math.log2(cost)) / _STEPS_PER_OCTAVE))


def find(
    large: Sequence[Large],
    costs: Costs,
    rest_bytes: int,
    options: Options,
    agreement: Callable[[Mapping[str, int]], float | None],
) -> Found:
    """Return the assignment that the options ask for.

    rest_bytes   what the weight files hold beside these weights
    agreement    share of frames whose most probable class stays, under an assignment

    Raises QuernError where no assignment is small or good enough.
    """
    curve = front({each.label: _choices(each, costs[each.label]) for each in large})
    curve = [Assignment(each.widths, each.size_bytes + rest_bytes, each.cost) for each in curve]
    if options.size_mb is None:
        return Found(_good_enough(curve, options.argmax_agreement or 1.0, agreement), tuple(curve))
    fitting = [each for each in curve if each.size_bytes <= options.size_mb * 1e6]
    if not fitting:
        least = curve[0].size_bytes / 1e6
        raise QuernError(f"size_mb: {options.size_mb:g} is too small; the narrowest widths come to {least:.3f} MB")
    return Found(fitting[-1], tuple(curve))


def _choices(large: Large, costs: Mapping[int, float]) -> list[Choice]:
    bytes_each = np.dtype(large.type.element.numpy).itemsize
    sizes = {width: held_bytes(large.size, width, bytes_each, WHOLE) for width in (*costs, WHOLE)}
    return [Choice(width, size, rounded(costs.get(width, 0.0))) for width, size in sorted(sizes.items())]


def _good_enough(
    curve: Sequence[Assignment], least: float, agreement: Callable[[Mapping[str, int]], float | None]
) -> Assignment:
    """Return the smallest assignment that agrees enough, by bisection: more bytes are taken to agree no less."""
    low, high = 0, len(curve) - 1
    last = agreement(curve[high].widths)
    if last is None:
        raise QuernError("argmax_agreement: no output of this network has a class axis; set size_mb instead")
    if last < least:
        raise QuernError(f"argmax_agreement: {least:g} cannot be had; with all weights whole it is {last:.5f}")
    while low < high:
        middle = (low + high) // 2
        if (agreement(curve[middle].widths) or 0.0) >= least:
            high = middle
        else:
            low = middle + 1
    return curve[high]
