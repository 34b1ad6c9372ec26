"""Decoded weights held against their originals."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from optimizations.weights.codes import singles
from optimizations.weights.compiled import compiled

_SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Difference:
    """How far decoded values are from the original ones.

    max, rms       of the difference
    original_rms   of the originals
    cosine         of the two as vectors; 1 where both are 0
    """

    max: float
    rms: float
    original_rms: float
    cosine: float


def difference(original: np.ndarray, decoded: np.ndarray) -> Difference:
    """Return how far decoded values, of the same shape, are from the original ones."""
    largest, squares, original_squares, decoded_squares, products = _moments(
        singles(original).reshape(-1), singles(decoded).reshape(-1)
    )
    lengths = math.sqrt(original_squares) * math.sqrt(decoded_squares)
    return Difference(
        largest,
        math.sqrt(squares / original.size),
        math.sqrt(original_squares / original.size),
        products / lengths if lengths else float(original_squares == decoded_squares),
    )


@compiled
def _moments(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, float, float]:
    largest = squares = x_squares = y_squares = products = 0.0
    for i in range(x.size):
        a, b = np.float64(x[i]), np.float64(y[i])
        largest = max(largest, abs(a - b))
        squares += (a - b) * (a - b)
        x_squares += a * a
        y_squares += b * b
        products += a * b
    return largest, squares, x_squares, y_squares, products


def shortened(found: Difference) -> dict[str, float]:
    """Return a difference for people: six digits are enough, and do not pretend to more."""
    return {name: float(f"{number:.{_SIGNIFICANT_DIGITS}g}") for name, number in asdict(found).items()}
