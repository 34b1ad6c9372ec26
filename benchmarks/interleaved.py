"""Contenders in turns, and what their times say: medians and quotients of medians, each with an interval.

In a round every contender runs twice, in one order and then in the other (ABBA), so that what a machine does slowly
falls on all alike.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_DRAWS = 2000


class Estimate(NamedTuple):
    """A value and the ends of its interval: 19 of 20 samples of the rounds, drawn with replacement, give one inside."""

    value: float
    low: float
    high: float


def abba(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the time that each takes in each round, in seconds: the mean of two runs. One round before them warms up.

    clock   what is read before and behind each run
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        spent = dict.fromkeys(contenders, 0.0)
        for name in [*contenders, *reversed(list(contenders))]:
            start = clock()
            contenders[name]()
            spent[name] += (clock() - start) / 2
        if turn:
            for name, seconds in spent.items():
                times[name].append(seconds)
    return times


def median(times: Sequence[float]) -> Estimate:
    """Return the median of the times of all rounds."""
    return _estimate(np.array(times)[np.newaxis])


def quotient(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Return the quotient of two medians; what a round did to both contenders stays together when rounds are drawn."""
    return _estimate(np.array([numerators, denominators]))


def _estimate(times: np.ndarray) -> Estimate:
    """Return the first row's median, divided by the second row's if there is one; times (contender, round).

    Percentile bootstrap: Efron & Tibshirani 1993, chapter 13.
    """
    rounds = times.shape[1]
    drawn = times[:, np.random.default_rng(0).integers(0, rounds, (_DRAWS, rounds))]  # (contender, draw, round)
    low, high = np.quantile(_divided(np.median(drawn, axis=-1)), [0.025, 0.975])
    return Estimate(float(_divided(np.median(times, axis=-1))), float(low), float(high))


def _divided(medians: np.ndarray) -> np.ndarray:
    return medians[0] / medians[1] if len(medians) > 1 else medians[0]
