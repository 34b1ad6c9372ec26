"""A weight as integers and scales, symmetric around zero."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Integers:
    """What a program holds in place of a weight.

    data     shape of the weight, int8; from −(2^(nbits − 1) − 1) to its opposite
    scales   (…) of the weight's rank and type, one for each block: each size divides the weight's
    """

    data: np.ndarray
    scales: np.ndarray

    def values(self) -> np.ndarray:
        """Return the weight that these stand for, in the weight's type, as Core ML multiplies them."""
        return self.data.astype(self.scales.dtype) * spread(self.scales, self.data.shape)


def make(weight: np.ndarray, nbits: int, blocks: tuple[int, ...]) -> Integers:
    """Return a weight, fp16 or fp32, as integers whose largest in each block stands for the block's largest value.

    blocks   how many blocks lie along each axis

    Scales are rounded up, so that no value lies beyond the largest integer. Raises ValueError for values that are nan
    or infinite.
    """
    if not np.isfinite(weight).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(weight))} of {weight.size} values are nan or infinite")
    most = (1 << (nbits - 1)) - 1
    scales = _rounded_up(_largest(weight, blocks) / most, weight.dtype)
    wide = spread(scales, weight.shape).astype(np.float64)
    data = np.rint(weight / np.where(wide == 0, 1, wide))
    assert np.abs(data).max(initial=0) <= most
    return Integers(data.astype(np.int8), scales)


def _largest(weight: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Return the largest magnitude in each block: of shape `blocks`, float64."""
    split = [part for size, count in zip(weight.shape, blocks, strict=True) for part in (count, size // count)]
    inside = tuple(range(1, 2 * weight.ndim, 2))
    return np.abs(weight.reshape(split)).max(axis=inside).astype(np.float64)


def _rounded_up(scales: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the least numbers of a type that are not less."""
    nearest = scales.astype(dtype)
    return np.where(nearest < scales, np.nextafter(nearest, dtype.type(np.inf)), nearest)


def spread(scales: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return one scale for each value, from one for each block."""
    for axis, size in enumerate(shape):
        scales = np.repeat(scales, size // scales.shape[axis], axis)
    return scales


def most_rms(found: Integers) -> float:
    """Return how large the rms error can be: half a step, and the rounding of the product, everywhere."""
    steps = spread(found.scales, found.data.shape).astype(np.float64)
    rounding = np.finfo(found.scales.dtype).eps * np.abs(found.data.astype(np.float64))
    return float(np.sqrt(np.mean((steps * (0.5 + rounding)) ** 2)))
