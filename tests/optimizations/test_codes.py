"""Tables of fp16 numbers against numpy's own conversion, on every number there is."""

import numpy as np
import pytest

from optimizations.weights.codes import all_finite, codes, looked_up, singles

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_half_widens_as_numpy_has_it() -> None:
    """Bit for bit where it is a number; nan stays nan; fp32 stays as it is; any layout will do."""
    found = singles(EVERY.reshape(256, 256).T)
    expected = EVERY.reshape(256, 256).T.astype(np.float32)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(singles(expected), expected, equal_nan=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_number_that_is_not_finite_is_found(value: float, dtype: type) -> None:
    """Wherever it stands; the largest numbers are finite, and so is nothing at all."""
    limit = np.finfo(dtype).max
    values = np.array([[limit, -limit, 0], [1, -0.0, 2]], dtype)
    assert all_finite(values)
    assert all_finite(values[:0])
    values[1, 1] = value
    assert not all_finite(values.T)


def test_a_table_is_read_as_numpy_reads_it() -> None:
    """In every type of palettes and indices."""
    places = np.random.default_rng(0).integers(0, 200, (7, 30), np.uint8)
    for dtype in (np.float16, np.float32, np.uint8):
        table = np.arange(200).astype(dtype)
        found = looked_up(table, places)
        assert found.dtype == dtype
        assert np.array_equal(found, table[places])
    assert codes(EVERY[:3]).tolist() == [0, 1, 2]
