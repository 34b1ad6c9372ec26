"""Axes of a tensor, which MIL counts from the end where they are negative."""

from mil.errors import MilError
from mil.ops.arguments import Ints, Tensor


def axis_of(axis: int, x: Tensor) -> int:
    """Return the axis counted from 0; raises MilError where x has none like it."""
    if not -x.ndim <= axis < x.ndim:
        raise MilError(f"expected an axis of {list(x.shape)}, found {axis}")
    return axis % x.ndim


def axes_of(axes: Ints, x: Tensor) -> Ints:
    """Return the axes counted from 0; raises MilError where x lacks one, or where one is named twice."""
    counted = [axis_of(axis, x) for axis in axes]
    if len(set(counted)) != len(counted):
        raise MilError(f"expected each axis of {list(x.shape)} once at most, found {axes}")
    return counted
