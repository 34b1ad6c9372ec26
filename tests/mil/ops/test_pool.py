"""Pooling agrees with onnxruntime, torch and loops over windows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import pool
from tests.mil.ops.opinions import (
    Inputs,
    Opinion,
    Row,
    agree,
    ask_ours,
    assert_covered,
    declared_operations,
    numpy,
    onnxruntime_run,
)

OPERATIONS = declared_operations("pool")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def starts_of_windows(size: int, kernel: int, stride: int, before: int, after: int, ceil_mode: bool) -> list[int]:
    """Return where windows start in one axis of x, by the formula of coremltools' documentation."""
    free = size + before + after - kernel
    if not ceil_mode:
        number = free // stride + 1
    else:
        number = (free + stride - 1) // stride + 1
        if before + after > 0 and (number - 1) * stride >= size + (before + after) / 2:
            number -= 1
    return [n * stride - before for n in range(number)]


def pooled(
    reduce: Any,
    x: np.ndarray,
    kernel_sizes: list[int],
    pad_type: str,
    strides: Any = None,
    pad: Any = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = True,
) -> np.ndarray:
    """Return reduce(elements, how many count) of each window, element by element."""
    axes = x.ndim - 2
    strides = strides or [1] * axes
    around = []
    for axis, (size, kernel, stride) in enumerate(zip(x.shape[2:], kernel_sizes, strides, strict=True)):
        total = max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)
        halves = {"same": (total // 2, -(-total // 2)), "same_lower": (-(-total // 2), total // 2), "valid": (0, 0)}
        around.append((pad[2 * axis], pad[2 * axis + 1]) if pad_type == "custom" else halves[pad_type])
    starts = [
        starts_of_windows(size, kernel, stride, *sides, ceil_mode)
        for size, kernel, stride, sides in zip(x.shape[2:], kernel_sizes, strides, around, strict=True)
    ]
    result = np.zeros((*x.shape[:2], *map(len, starts)))
    for place in np.ndindex(result.shape):
        first = [starts[axis][place[2 + axis]] for axis in range(axes)]
        real, counted = [], 0
        for offset in np.ndindex(*kernel_sizes):
            at = [f + o for f, o in zip(first, offset, strict=True)]
            inside = all(0 <= a < n for a, n in zip(at, x.shape[2:], strict=True))
            real += [float(x[(*place[:2], *at)])] if inside else []
            spread = zip(at, x.shape[2:], around, strict=True)
            counted += inside or (not exclude_padding_from_average and all(-b <= a < n + c for a, n, (b, c) in spread))
        result[place] = reduce(real, counted)
    return result


def mean(elements: list[float], counted: int) -> float:
    return float(np.divide(sum(elements), counted))


def largest(elements: list[float], _: int) -> float:
    return math.nan if any(map(math.isnan, elements)) else max(elements, default=-math.inf)


def length(elements: list[float], _: int) -> float:
    return math.sqrt(sum(element**2 for element in elements))


def avg_loop(exclude_padding_from_average: bool = False, **inputs: Any) -> np.ndarray:
    return pooled(mean, exclude_padding_from_average=exclude_padding_from_average, **inputs)


def onnx(op_type: str, **fixed: Any) -> Opinion:
    def answer(
        x: np.ndarray, kernel_sizes: Any, pad_type: str, strides: Any = None, pad: Any = None, **more: Any
    ) -> Any:
        auto = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID", "custom": "NOTSET"}
        counts_padding = not more.get("exclude_padding_from_average", False)
        return onnxruntime_run(
            op_type,
            [x],
            kernel_shape=kernel_sizes,
            strides=strides,
            auto_pad=auto[pad_type],
            pads=pad[::2] + pad[1::2] if pad_type == "custom" else None,
            ceil_mode=int(more.get("ceil_mode", False)),
            count_include_pad=int(counts_padding) if op_type == "AveragePool" else None,
            **fixed,
        )

    return Opinion("onnxruntime", answer)


OPINIONS = {
    "avg_pool": [numpy(avg_loop), onnx("AveragePool")],
    "l2_pool": [numpy(lambda **inputs: pooled(length, **inputs)), onnx("LpPool", p=2)],
    "max_pool": [numpy(lambda **inputs: pooled(largest, **inputs)), onnx("MaxPool")],
}
AUTO = {"onnxruntime": "never counts what it pads by itself"}
WIDE = {"onnxruntime": "refuses pads as wide as a window"}
BEGUN = {"onnxruntime": "counts windows of ceil_mode otherwise"}
X1, X2, X3 = normal(2, 3, 11), normal(2, 3, 7, 6), normal(1, 2, 4, 5, 3)
CASES: list[tuple[str, dict[str, str], Inputs]] = [
    ("1-D", {}, {"x": X1, "kernel_sizes": [3], "pad_type": "valid"}),
    ("2-D, stride", {}, {"x": X2, "kernel_sizes": [3, 2], "strides": [2, 1], "pad_type": "valid"}),
    ("same, odd element", AUTO, {"x": X2, "kernel_sizes": [2, 4], "pad_type": "same"}),
    ("same_lower, stride", AUTO, {"x": X1, "kernel_sizes": [4], "strides": [2], "pad_type": "same_lower"}),
    ("custom, even", {}, {"x": X2, "kernel_sizes": [3, 4], "pad_type": "custom", "pad": [1, 1, 2, 2]}),
    ("custom, uneven", {}, {"x": X2, "kernel_sizes": [3, 4], "pad_type": "custom", "pad": [0, 2, 3, 1]}),
    ("custom, wider than half a window", {}, {"x": X1, "kernel_sizes": [3], "pad_type": "custom", "pad": [2, 2]}),
    ("custom, as wide as a window", WIDE, {"x": X1, "kernel_sizes": [2], "pad_type": "custom", "pad": [2, 2]}),
    ("ceil_mode", {}, {"x": X1, "kernel_sizes": [3], "strides": [3], "pad_type": "valid", "ceil_mode": True}),
    (
        "ceil_mode, padded",
        {},
        {
            "x": X2,
            "kernel_sizes": [3, 2],
            "strides": [2, 3],
            "pad_type": "custom",
            "pad": [1, 1, 1, 1],
            "ceil_mode": True,
        },
    ),
    (
        "ceil_mode, a window begins behind the elements",
        BEGUN,
        {"x": X1, "kernel_sizes": [2], "strides": [5], "pad_type": "custom", "pad": [1, 1], "ceil_mode": True},
    ),
    ("infinity", {}, {"x": np.float32([[[1, np.inf, 65504, -65504, -1]]]), "kernel_sizes": [2], "pad_type": "valid"}),
    ("one place", {}, {"x": normal(1, 1, 1), "kernel_sizes": [1], "pad_type": "valid"}),
    (
        "no batch",
        {"onnxruntime": "refuses an empty batch"},
        {"x": normal(0, 3, 5), "kernel_sizes": [2], "pad_type": "same"},
    ),
]
THREE: Inputs = {
    "x": X3,
    "kernel_sizes": [2, 3, 1],
    "strides": [1, 2, 3],
    "pad_type": "custom",
    "pad": [1, 0, 0, 1, 0, 0],
}
ROWS = [
    Row(operation, inputs, about, 1e-5, 1e-5, not_asked if operation == "avg_pool" or "onnx" not in about else {})
    for operation in OPINIONS
    for about, not_asked, inputs in CASES
]
ROWS += [
    Row("avg_pool", inputs | {"exclude_padding_from_average": True}, f"{about}, without padding", 1e-5, 1e-5, not_asked)
    for about, not_asked, inputs in CASES
]
ROWS += [Row(operation, THREE, "3-D", 1e-5, 1e-5) for operation in ("avg_pool", "max_pool")]
ROWS += [
    Row(
        "max_pool",
        {"x": np.float32([[[1, np.nan, 2, -np.inf, -np.inf]]]), "kernel_sizes": [2], "pad_type": "valid"},
        "nan and -inf",
        not_asked={"onnxruntime": "passes over nan"},
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What a pooling gives is what the loop over its windows and onnxruntime give."""
    agree(pool, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(pool, OPERATIONS, OPINIONS, ROWS)


@st.composite
def geometries(draw: st.DrawFn) -> Inputs:
    axes = draw(st.integers(1, 2))
    kernel, strides, extra = (draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes)) for _ in range(3))
    ceil_mode = draw(st.booleans())
    pad = draw(st.lists(st.integers(0, 4), min_size=2 * axes, max_size=2 * axes))
    return {
        "x": normal(1, 2, *(k + e - 1 for k, e in zip(kernel, extra, strict=True))),
        "kernel_sizes": kernel,
        "strides": strides,
        "pad_type": draw(
            st.sampled_from(["valid", "custom"] if ceil_mode else ["valid", "same", "same_lower", "custom"])
        ),
        "pad": [side for side in pad[:axes] for _ in range(2)] if ceil_mode else pad,
        "ceil_mode": ceil_mode,
    }


@pytest.mark.parametrize("operation", ["avg_pool", "l2_pool", "max_pool"])
@settings(max_examples=50, deadline=None)
@given(inputs=geometries(), excluded=st.booleans())
def test_any_geometry_agrees_with_the_loop(operation: str, inputs: Inputs, excluded: bool) -> None:
    """Windows, strides, padding and ceil_mode mean what the loop says, in every combination."""
    inputs = inputs | ({"exclude_padding_from_average": excluded} if operation == "avg_pool" else {})
    (ours,) = ask_ours(vars(pool)[operation], inputs, torch.float64)
    with np.errstate(all="ignore"):
        loop = OPINIONS[operation][0].answer(**inputs)
    np.testing.assert_allclose(ours, loop, rtol=1e-9, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(inputs=geometries())
def test_ceil_mode_agrees_with_torch_where_torch_can(inputs: Inputs) -> None:
    """MIL's ceil_mode is torch's, for strides within a window and pads within half of one."""
    sides = inputs["pad"][::2] if inputs["pad_type"] == "custom" else [0] * len(inputs["kernel_sizes"])
    kernels = zip(inputs["kernel_sizes"], inputs["strides"], sides, strict=True)
    if not inputs["ceil_mode"] or any(stride > kernel or side > kernel // 2 for kernel, stride, side in kernels):
        return
    x = torch.from_numpy(inputs["x"])
    theirs = {3: torch.nn.functional.avg_pool1d, 4: torch.nn.functional.avg_pool2d}[x.ndim]
    (ours,) = ask_ours(pool.avg_pool, inputs | {"exclude_padding_from_average": False})
    expected = theirs(x, inputs["kernel_sizes"], inputs["strides"], sides, ceil_mode=True, count_include_pad=True)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5, atol=1e-6)


X = torch.zeros(1, 2, 5)
REFUSED: list[tuple[str, Any]] = [
    ("spatial axes", lambda: pool.max_pool(torch.zeros(5), [2], None, "valid")),
    ("one or two spatial axes", lambda: pool.l2_pool(torch.zeros(1, 1, 2, 2, 2), [1, 1, 1], None, "valid")),
    ("kernel_sizes", lambda: pool.max_pool(X, [2, 2], None, "valid")),
    ("kernel_sizes", lambda: pool.max_pool(X, [0], None, "valid")),
    ("strides", lambda: pool.max_pool(X, [2], [0], "valid")),
    ("pad_type", lambda: pool.max_pool(X, [2], None, "full")),
    ("to fit", lambda: pool.max_pool(X, [6], None, "valid")),
    ("equal pads", lambda: pool.max_pool(X, [2], None, "custom", [0, 1], True)),
    ("bytes", lambda: pool.avg_pool(None, X, [2], None, "custom", [10**12, 0])),
    ("bytes", lambda: pool.max_pool(X, [2], None, "custom", [10**12, 0])),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Shapes, windows and padding that no pooling has are one sentence."""
    with pytest.raises(MilError, match=said):
        call()
