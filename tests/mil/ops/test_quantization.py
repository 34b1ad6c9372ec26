"""Quantized activations against a plain loop, coremltools' value inference and onnxruntime's idea of rounding."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mil.errors import MilError
from mil.ops.quantization import dequantize, quantize

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
EDGES = [0, -0.0, 0.5, 1.5, -0.5, -1.5, 2.5, 1e6, -1e6, np.inf, -np.inf]


def values(axis_size: int) -> np.ndarray:
    """Ties, overflow and infinities among normal values: (4, axis_size, 3)."""
    drawn = np.random.default_rng(0).normal(0, 50, (4, axis_size, 3)).astype(np.float32)
    drawn.reshape(-1)[: len(EDGES)] = EDGES
    return drawn


@pytest.mark.parametrize(("dtype", "axis", "zero"), itertools.product(LIMITS, [None, 1, -2], [True, False]))
def test_quantize_is_its_formula_and_coremltools(ct: Any, dtype: str, axis: int | None, zero: bool) -> None:
    """clip(round(x / scale) + zero point), halves to even, for all or per channel."""
    x = values(5)
    scale = np.float32(0.5) if axis is None else np.float32([0.5, 1, 2, 0.25, 3])
    point = np.array(3 if axis is None else [1, 2, 3, 4, 5], dtype) if zero else None
    low, high = LIMITS[dtype]
    expected = np.empty(x.shape, dtype)
    for place in np.ndindex(x.shape):
        channel = place[1] if axis is not None else ()
        step = np.rint(np.float64(x[place]) / scale[channel]) + (0 if point is None else point[channel])
        expected[place] = min(max(step, low), high)
    arguments = [torch.from_numpy(x), None if point is None else torch.as_tensor(point.astype(np.int32))]
    found = quantize(*arguments, torch.as_tensor(scale), axis, dtype)
    np.testing.assert_array_equal(found.numpy(), expected)
    from coremltools.converters.mil.mil import types
    from coremltools.optimize import _utils

    spread = (lambda vector: vector) if axis is None else (lambda vector: vector.reshape(1, 5, 1))
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(x)
        theirs = _utils.quantize_by_scale_and_zp(
            np.where(finite, x, 0),
            spread(scale),
            None if point is None else spread(point),
            types.string_to_builtin(dtype),
        )
    np.testing.assert_array_equal(found.numpy()[finite], theirs[finite])


@pytest.mark.parametrize(("dtype", "axis", "zero"), itertools.product(LIMITS, [None, 1], [True, False]))
def test_dequantize_is_its_formula_and_coremltools(ct: Any, dtype: str, axis: int | None, zero: bool) -> None:
    """scale · (q − zero point)."""
    low, high = LIMITS[dtype]
    q = np.random.default_rng(1).integers(low, high + 1, (4, 5, 3)).astype(dtype)
    scale = np.float32(0.5) if axis is None else np.float32([0.5, 1, 2, 0.25, 3])
    point = np.array(3 if axis is None else [1, 2, 3, 4, 5], dtype) if zero else None
    expected = np.empty(q.shape)
    for place in np.ndindex(q.shape):
        channel = place[1] if axis is not None else ()
        expected[place] = scale[channel] * (float(q[place]) - (0 if point is None else float(point[channel])))
    held = [torch.as_tensor(array.astype(np.int32)) if array is not None else None for array in (q, point)]
    found = dequantize(held[0], held[1], torch.as_tensor(scale), axis)
    np.testing.assert_array_equal(found.numpy(), expected)
    from coremltools.optimize import _utils

    spread = (lambda vector: vector) if axis is None else (lambda vector: vector.reshape(1, 5, 1))
    theirs = _utils.dequantize_by_scale_and_zp(q, spread(scale), None if point is None else spread(point))
    np.testing.assert_array_equal(found.numpy(), theirs)


def test_what_is_not_a_number_becomes_the_zero_point() -> None:
    """There is no nan among integers."""
    found = quantize(torch.tensor([torch.nan]), torch.tensor(7), torch.tensor(1.0), None, "int8")
    assert found.tolist() == [7]


@pytest.mark.parametrize(
    ("scale", "axis", "dtype", "said"),
    [
        (torch.ones(3), None, "int8", "needs an axis"),
        (torch.ones(3), 5, "int8", "needs an axis"),
        (torch.ones(4), 0, "int8", "4 scales or zero points for 3 indices"),
        (torch.tensor(1.0), None, "int4", "expected int8 or uint8"),
    ],
)
def test_what_does_not_fit_is_refused(scale: torch.Tensor, axis: int | None, dtype: str, said: str) -> None:
    """One sentence each."""
    with pytest.raises(MilError, match=said):
        quantize(torch.zeros(3), None, scale, axis, dtype)
