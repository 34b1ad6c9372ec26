"""Functions as machine code."""

from collections.abc import Callable
from typing import TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable)


def compiled(function: _Function) -> _Function:
    """Compile on the first call, and keep the machine code beside the function's file for the next process.

    Without numba's `fastmath` nothing is reordered and no product and sum are fused.
    """
    return njit(cache=True)(function)
