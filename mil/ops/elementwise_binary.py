"""Operations on two tensors that broadcast, as in numpy: coremltools' `iOS15/elementwise_binary.py`.

Integers divide as numpy has them, where others stop the process: by zero gives zero, and −2³¹ / −1 wraps.
"""

from collections.abc import Callable

import numpy as np
import torch

from mil.ops.arguments import Tensor


def add(x: Tensor, y: Tensor) -> Tensor:
    """x + y."""
    return x + y


def equal(x: Tensor, y: Tensor) -> Tensor:
    """x = y, as bool."""
    return x == y


def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """The largest whole number not above x / y."""
    if x.is_floating_point() or y.is_floating_point():
        return torch.floor_divide(x, y)
    return _of_integers(np.floor_divide, x, y)


def greater(x: Tensor, y: Tensor) -> Tensor:
    """x > y, as bool."""
    return x > y


def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    """x ≥ y, as bool."""
    return x >= y


def less(x: Tensor, y: Tensor) -> Tensor:
    """x < y, as bool."""
    return x < y


def less_equal(x: Tensor, y: Tensor) -> Tensor:
    """x ≤ y, as bool."""
    return x <= y


def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """True where both are."""
    return torch.logical_and(x, y)


def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """True where either is."""
    return torch.logical_or(x, y)


def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """True where exactly one is."""
    return torch.logical_xor(x, y)


def maximum(x: Tensor, y: Tensor) -> Tensor:
    """The larger of the two; NaN where either is."""
    return torch.maximum(x, y)


def minimum(x: Tensor, y: Tensor) -> Tensor:
    """The smaller of the two; NaN where either is."""
    return torch.minimum(x, y)


def mod(x: Tensor, y: Tensor) -> Tensor:
    """What floor_div leaves of x; it has the sign of y."""
    if x.is_floating_point() or y.is_floating_point():
        return torch.remainder(x, y)
    return _of_integers(np.remainder, x, y)


def mul(x: Tensor, y: Tensor) -> Tensor:
    """x·y."""
    return x * y


def not_equal(x: Tensor, y: Tensor) -> Tensor:
    """x ≠ y, as bool."""
    return x != y


def real_div(x: Tensor, y: Tensor) -> Tensor:
    """x / y; the quotient of integers is an integer, cut off towards zero.

    Source: coremltools' own test of integers on an ML Program, `test_real_div_int_builder_to_backend`.
    """
    if x.is_floating_point() or y.is_floating_point():
        return x / y
    return _of_integers(_quotient, x, y)


def pow(x: Tensor, y: Tensor) -> Tensor:
    """x to the power of y; a negative power of an integer is cut off towards zero."""
    return torch.pow(x, y)


def sub(x: Tensor, y: Tensor) -> Tensor:
    """x − y."""
    return x - y


def _of_integers(operation: Callable, x: Tensor, y: Tensor) -> Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.asarray(operation(x.numpy(), y.numpy())))


def _quotient(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    floor, rest = np.divmod(x, y)
    return floor + ((rest != 0) & (floor < 0))
