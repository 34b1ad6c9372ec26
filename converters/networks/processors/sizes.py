"""Sizes that a processor's form may set: a number, or the least and the most where the caller chooses."""

from typing import Any

from pipeline.types import Range

Size = int | tuple[int, int]


def checked_size(name: str, size: Any) -> Size:
    """Return a size, a pair as a tuple whatever YAML made of it; raises ValueError for what is no size."""
    bounds = tuple(size) if isinstance(size, list | tuple) else (size,)
    if not all(type(bound) is int and bound >= 1 for bound in bounds):
        raise ValueError(f"{name}: {size!r}; expected a whole number from 1 on, or two of them")
    if isinstance(size, list | tuple) and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"{name}: {list(size)!r}; expected two numbers, the lower one first")
    return (bounds[0], bounds[1]) if len(bounds) == 2 else bounds[0]


def axis(size: Size) -> int | Range:
    """Return the size as the length of a tensor's axis."""
    return Range(*size) if isinstance(size, tuple) else size


def lengths(size: Size) -> tuple[int, ...]:
    """Return the lengths that examples show: the only one, or the least and the most."""
    return size if isinstance(size, tuple) else (size,)
