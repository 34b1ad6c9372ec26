"""The ladder that a network climbs from its upstream to the artifact, and how far two of its rungs are apart.

    upstream -> network -> float32 -> declared

`upstream` is the original implementation, `network` our rewrite of it, `float32` the converted program run in single
precision, `declared` the artifact with its own precision and palettes.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.types import Measurement

RUNGS = ("upstream", "network", "float32", "declared")
BETWEEN = {"rewrite": RUNGS[:2], "convert": RUNGS[1:3], "precision": RUNGS[2:]}

Values = dict[str, np.ndarray]  # name of what was run → its values
Ladder = Mapping[str, Values | str]  # rung → its values, or the reason why there are none


def ladder(rungs: Mapping[str, Path | str], output: str) -> dict[str, Values | str]:
    """Return one output of every rung, float64, by example."""
    return {name: _values(rungs[name], output) for name in RUNGS}


def _values(rung: Path | str, output: str) -> Values | str:
    if isinstance(rung, str):
        return rung
    from pipeline.tensors import read_tensors

    named = {name.rpartition("/"): array for name, array in read_tensors(rung).items()}
    found = {example: array.astype(np.float64) for (example, _, of), array in named.items() if of == output}
    return found or "no examples were run"


def rows(ladder: Ladder, rank: int) -> dict[str, Values | str]:
    """Return a ladder whose examples are taken apart into rows of `rank` axes.

    The names of the rows are those in the name of the example, joined by commas, where it has as many; otherwise they
    are numbered.
    """
    return {name: found if isinstance(found, str) else _taken_apart(found, rank) for name, found in ladder.items()}


def _taken_apart(values: Values, rank: int) -> Values:
    found: Values = {}
    for example, array in values.items():
        parts = array.reshape(-1, *array.shape[array.ndim - rank :])
        names = example.split(",")
        if len(names) != len(parts):
            names = [f"{example}[{i}]" for i in range(len(parts))]
        found |= dict(zip(names, parts, strict=True))
    return found


def top(ladder: Ladder) -> str:
    """Return the topmost rung that was run: what the artifact is held against; "declared" if there is no other."""
    return next((name for name in RUNGS if not isinstance(ladder[name], str)), RUNGS[-1])


def pair(ladder: Ladder, first: str, second: str) -> tuple[Values, Values] | str:
    """Return two rungs, or the reason why they cannot be compared."""
    one, other = ladder[first], ladder[second]
    if isinstance(one, str):
        return one
    if isinstance(other, str):
        return other
    return "nothing to compare with" if first == second else (one, other)


def difference(name: str, unit: str, ladder: Ladder, first: str, second: str) -> Measurement:
    """Return the largest absolute difference between two rungs, and where it is."""
    found = pair(ladder, first, second)
    if isinstance(found, str):
        return Measurement(name, None, unit, found)
    one, other = found
    by_example = {example: _largest(one[example], other[example]) for example in one}
    worst = worst_of(by_example)
    detail = {"from": first, "to": second, "window": worst}
    return Measurement(name, by_example[worst], unit, f"worst window {worst}", detail)


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    """Return max |one − other|; where both are the same infinity or both no number, they are equal."""
    if one.shape != other.shape:
        return float("inf")
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    return float(np.abs(np.where(same, 0, one) - np.where(same, 0, other)).max(initial=0))


def worst_of(by_example: Mapping[str, float]) -> str:
    """Return where a value is largest; what is no number is larger than any."""
    return max(by_example, key=lambda example: (np.isnan(by_example[example]), by_example[example]))


def climbed(unit: str, ladder: Ladder) -> list[Measurement]:
    """Return the differences between neighbouring rungs: rewrite, convert, precision."""
    return [difference(name, unit, ladder, *ends) for name, ends in BETWEEN.items()]
