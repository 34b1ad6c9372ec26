"""What weights see: means and second moments of their features on real inputs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mil.program import Program
from optimizations.mixed.layers import Features
from optimizations.mixed.outputs import Run
from optimizations.mixed.windows import rows as windows_of
from pipeline.types import Arrays, Example, called


@dataclass(frozen=True)
class Moments:
    """Of features x: E[x], (n,), and E[(x − E[x]) (x − E[x])ᵀ], (n, n); both float64."""

    mean: np.ndarray
    covariance: np.ndarray


class _Sums:
    """Sums of x and x xᵀ over rows that come one block after another."""

    def __init__(self, count: int) -> None:
        self.rows = 0
        self.first, self.second = np.zeros(count), np.zeros((count, count))

    def add(self, rows: np.ndarray) -> None:
        self.rows += len(rows)
        self.first += rows.sum(axis=0)
        self.second += rows.T @ rows

    def moments(self) -> Moments:
        mean = self.first / self.rows
        return Moments(mean, self.second / self.rows - np.outer(mean, mean))


def collect(
    program: Program, function: str, examples: Iterable[Example], wanted: Sequence[Features], whole: Run = called
) -> dict[Features, Moments]:
    """Return the moments of features over all examples; of those that the program never computes, none.

    Arithmetic is single precision: what is compressed is to be near the network, not near its rounding.
    """
    import torch

    sums: dict[Features, _Sums] = {}
    by_value = {each.value: [one for one in wanted if one.value == each.value] for each in wanted}

    def listening(inputs: Arrays) -> Arrays:
        walk = program.walk(inputs, "float32", function)
        for _, results, values in walk:
            for result, value in zip(results, values, strict=True):
                _add(by_value.get(result.name, ()), value, sums)
        return program.released(walk.outputs, "float32", function)

    with torch.inference_mode():
        for example in examples:
            whole(listening, example.inputs)
    return {features: found.moments() for features, found in sums.items() if found.rows}


def _add(wanted: Iterable[Features], value: object, sums: dict[Features, _Sums]) -> None:
    for features in wanted:
        for rows in _rows(features, np.asarray(value, np.float64)):
            sums.setdefault(features, _Sums(features.count)).add(rows)


def _rows(features: Features, value: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the features as rows; none where the value is not laid out so: a layer that gives its last state only.

    The very first state is no value of the program; one step of hundreds is not missed.
    """
    if features.windows is not None:
        yield from windows_of(features.windows, value)
    elif value.ndim >= 2 and value.shape[-1] >= features.first + features.count:
        if features.side != "input":
            value = value[:-1] if features.side == "before" else value[1:]
        yield value[..., features.first : features.first + features.count].reshape(-1, features.count)
