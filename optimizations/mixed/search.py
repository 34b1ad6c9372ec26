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
# A cost is a power of 2 to a quarter: nearer than that, windows of speech do not tell costs apart.
_STEPS_PER_OCTAVE = 4
# Exchanges of width between two weights that are tried, and what one has to lose, as a share, to be kept.
EXCHANGES = 60
_CLEARLY_LESS = 0.98

Costs = Mapping[str, Mapping[int, float]]  # weight → width → divergence with this weight alone at this width
Choices = Mapping[str, Sequence[Choice]]


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
    large: Sequence[Large],
    widths: Sequence[int],
    loss_of: Callable[[Mapping[str, int]], Loss],
    tell: Callable[[str], None],
) -> dict[str, dict[int, float]]:
    """Return what the outputs lose with each weight alone at each width."""
    found = {}
    for number, each in enumerate(large, 1):
        tell(f"weight {number} of {len(large)} at each width")
        found[each.label] = {width: loss_of({each.label: width}).typical for width in widths}
    return found


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


def choices(large: Sequence[Large], costs: Costs) -> Choices:
    """Return the widths that each weight can have, the narrowest first, with what they take and cost; whole is free."""
    return {each.label: _choices(each, costs[each.label]) for each in large}


def _choices(large: Large, costs: Mapping[int, float]) -> list[Choice]:
    bytes_each = np.dtype(large.type.element.numpy).itemsize
    sizes = {width: held_bytes(large.size, width, bytes_each, WHOLE) for width in (*costs, WHOLE)}
    return [Choice(width, size, rounded(costs.get(width, 0.0))) for width, size in sorted(sizes.items())]


def find(
    choices: Choices,
    rest_bytes: int,
    options: Options,
    agreement: Callable[[Mapping[str, int]], float | None],
) -> Found:
    """Return the assignment that the options ask for.

    rest_bytes   what the weight files hold beside these weights
    agreement    share of frames whose most probable class stays, under an assignment

    Raises QuernError where no assignment is small or good enough.
    """
    curve = front(choices)
    curve = [Assignment(each.widths, each.size_bytes + rest_bytes, each.cost) for each in curve]
    if options.size_mb is None:
        return Found(_good_enough(curve, options.argmax_agreement or 1.0, agreement), tuple(curve))
    fitting = [each for each in curve if each.size_bytes <= options.size_mb * 1e6]
    if not fitting:
        least = curve[0].size_bytes / 1e6
        raise QuernError(f"size_mb: {options.size_mb:g} is too small; the narrowest widths come to {least:.3f} MB")
    return Found(fitting[-1], tuple(curve))


def exchanged(
    choices: Choices,
    most_bytes: float,
    start: Mapping[str, int],
    divergence: Callable[[Mapping[str, int]], float],
    tell: Callable[[str], None],
) -> dict[str, int]:
    """Return widths under which the outputs lose no more than under `start`, found by exchanges between two weights.

    most_bytes   what these weights may take
    divergence   what the outputs lose under an assignment

    `start` has the least *sum* of losses by single weights, and these do not add up. So one weight gets the next width
    and another gives one up, the exchanges that cost least by that sum first; one that loses clearly less is kept.
    """
    best, least = dict(start), divergence(start)
    tried = [best]
    for number in range(1, EXCHANGES + 1):
        tell(f"exchange {number} of {EXCHANGES} between weights")
        following = (each for each in _exchanges(best, choices, most_bytes) if each not in tried)
        candidate = next(following, None)
        if candidate is None:
            break
        tried.append(candidate)
        found = divergence(candidate)
        if found < _CLEARLY_LESS * least:
            best, least = candidate, found
    return best


def _exchanges(widths: Mapping[str, int], choices: Choices, most_bytes: float) -> list[dict[str, int]]:
    """Return the assignments that are one exchange away and fit, the least sum of costs first."""
    known = {(name, choice.width): choice for name, each in choices.items() for choice in each}

    def total(candidate: Mapping[str, int], what: Callable[[Choice], float]) -> float:
        return math.fsum(what(known[named]) for named in candidate.items())

    more = [(name, _neighbour(choices[name], width, 1)) for name, width in widths.items()]
    less = [(name, _neighbour(choices[name], width, -1)) for name, width in widths.items()]
    both = [dict(widths) | {a: up, b: down} for a, up in more for b, down in less if a != b]
    fitting = [each for each in both if total(each, lambda choice: choice.size_bytes) <= most_bytes]
    return sorted(fitting, key=lambda each: total(each, lambda choice: choice.cost))


def _neighbour(choices: Sequence[Choice], width: int, step: int) -> int:
    """Return the next width in a direction, or the same where there is none."""
    known = [choice.width for choice in choices]
    return known[min(max(known.index(width) + step, 0), len(known) - 1)]


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
