"""Numbers by their codes: fp16, of which there are 65536, and indices.

A table of all of them is read several times as fast as numpy converts, indexes or tests one by one.
"""

from functools import cache

import numpy as np

from optimizations.weights.compiled import compiled


def looked_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the element of a table, (n,), at each place: as `table[places]`, without a look at bounds.

    places   any shape, of unsigned integers below n
    """
    raw = table.view(f"u{table.itemsize}")  # numba has no fp16
    return _looked_up(raw, np.ascontiguousarray(places).reshape(-1)).view(table.dtype).reshape(places.shape)


@cache
def half_values() -> np.ndarray:
    """Return the value of each code of fp16, (65536,) float64, read-only."""
    return _table(np.float64)


@cache
def _half_singles() -> np.ndarray:
    return _table(np.float32)


def _table(wide: type[np.floating]) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # what is not a number is not made one
        values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(wide)
    values.setflags(write=False)
    return values


def codes(values: np.ndarray) -> np.ndarray:
    """Return the codes of fp16 numbers, uint16 of the same shape."""
    return np.ascontiguousarray(values).view(np.uint16)


def singles(values: np.ndarray) -> np.ndarray:
    """Return fp16 or fp32 numbers as fp32."""
    return looked_up(_half_singles(), codes(values)) if values.dtype == np.float16 else values.astype(np.float32)


def all_finite(values: np.ndarray) -> bool:
    """Return whether no number, fp16 or fp32, is nan or infinite."""
    if values.dtype == np.float16:
        return not _is_any_special(codes(values).reshape(-1))
    return bool(np.isfinite(values).all())


@compiled
def _looked_up(table: np.ndarray, places: np.ndarray) -> np.ndarray:
    found = np.empty(places.size, table.dtype)
    for i in range(places.size):
        found[i] = table[places[i]]
    return found


@compiled
def _is_any_special(halves: np.ndarray) -> bool:
    """Return whether a code has the exponent of nan and infinity."""
    found = False
    for i in range(halves.size):
        found |= (halves[i] & 0x7C00) == 0x7C00
    return found
