"""The largest result an operation may make, so that a hostile size is refused and never allocated."""

import math
from collections.abc import Sequence

import torch

from mil.errors import MilError

LARGEST_RESULT_BYTES = 4 << 30  # far above any activation of a phone's network, within what a desktop can hold


def check_size(shape: Sequence[int], dtype: torch.dtype) -> None:
    """Raise MilError if a result of this shape would have a negative size or more than LARGEST_RESULT_BYTES."""
    if any(size < 0 for size in shape):
        raise MilError(f"expected sizes of 0 or more, found a result of shape {list(shape)}")
    if math.prod(shape) * dtype.itemsize > LARGEST_RESULT_BYTES:
        raise MilError(
            f"expected a result of at most {LARGEST_RESULT_BYTES:,} bytes, "
            f"found shape {list(shape)} of {dtype.itemsize}-byte elements"
        )
