"""Palette entries chosen so that the *products* of a weight with its features have the least error.

With features x of covariance H, an error E of the weight changes its products by E x, whose variance is tr(E H Eᵀ).
The nearest entry for each value is best only where H is diagonal. Columns are therefore fixed one after another, and
the error of each is made up for by the columns not fixed yet, as well as H allows (Hassibi & Stork 1993, "Second order
derivatives for network pruning: optimal brain surgeon"; Frantar et al. 2023, "GPTQ"). Then each value is looked at
once more with all others fixed: tr(E H Eᵀ) is a parabola in it, and the entry nearest to its minimum is the best.
"""

import numpy as np

from optimizations.mixed.moments import Moments
from optimizations.palettes.kmeans import nearest

# Share of the mean variance that is added to every feature's: other recordings have other moments.
DAMPING = 0.1
# How many columns are fixed before the rest of the matrix hears of it; for speed alone.
_BLOCK = 32


def compensated(weight: np.ndarray, entries: np.ndarray, moments: Moments) -> np.ndarray:
    """Return for each value of a weight (output, feature) the index of its entry, uint8.

    entries   (count,) ascending and distinct
    """
    covariance = _damped(moments.covariance)
    order = np.argsort(-np.diag(covariance), kind="stable")
    ordered, matrix = weight.astype(np.float64)[:, order], covariance[np.ix_(order, order)]
    indices = _fixed_in_turn(ordered, entries, matrix)
    indices = _looked_at_again(ordered, entries, matrix, indices)
    return indices[:, np.argsort(order)]


def _damped(covariance: np.ndarray) -> np.ndarray:
    mean = max(float(np.mean(np.diag(covariance))), np.finfo(np.float32).tiny)
    return covariance / mean + DAMPING * np.eye(len(covariance))


def _fixed_in_turn(weight: np.ndarray, entries: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return indices column by column; the rows of `upper`, H⁻¹ = upperᵀ upper, say how errors are made up for."""
    upper = np.linalg.cholesky(np.linalg.inv(matrix)).T
    left, values = weight.copy(), entries.astype(np.float64)
    indices = np.empty(weight.shape, np.uint8)
    for start in range(0, weight.shape[1], _BLOCK):
        block = range(start, min(start + _BLOCK, weight.shape[1]))
        errors = np.empty((len(weight), len(block)))
        for j in block:
            indices[:, j] = nearest(left[:, j].astype(np.float32), entries)
            errors[:, j - start] = (left[:, j] - values[indices[:, j]]) / upper[j, j]
            left[:, j + 1 : block.stop] -= np.outer(errors[:, j - start], upper[j, j + 1 : block.stop])
        left[:, block.stop :] -= errors @ upper[start : block.stop, block.stop :]
    return indices


def _looked_at_again(weight: np.ndarray, entries: np.ndarray, matrix: np.ndarray, indices: np.ndarray) -> np.ndarray:
    values = entries.astype(np.float64)
    found, slopes = indices.copy(), (values[indices] - weight) @ matrix
    for j in range(weight.shape[1]):
        now = values[found[:, j]]
        found[:, j] = nearest((now - slopes[:, j] / matrix[j, j]).astype(np.float32), entries)
        slopes += np.outer(values[found[:, j]] - now, matrix[j])
    return found
