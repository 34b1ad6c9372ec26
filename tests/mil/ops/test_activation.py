"""Activation functions agree with coremltools, onnxruntime and numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.errors import MilError
from mil.ops import activation
from tests.mil.ops.opinions import (
    EDGES,
    EMPTY,
    FINITE,
    Opinion,
    Row,
    agree,
    ask_ours,
    assert_covered,
    coremltools,
    declared_operations,
    numpy,
    onnxruntime_node,
    onnxruntime_run,
)

OPERATIONS = declared_operations("activation")
NORMAL = np.random.default_rng(0).standard_normal((2, 3, 4, 5), np.float32)
# softmax's own sums are what a row is about; infinities are asked about apart
WIDE = np.float32([[-104, 0, 88, 65504], [1, 1, 1, 1], [-65504, -65504, -65504, -65504]])


def per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (x.ndim - 2))


def exact_gelu(x: np.ndarray, mode: str = "EXACT") -> np.ndarray:
    """The three formulas, in float64."""
    x = x.astype(np.float64)
    if mode == "EXACT":
        return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / (1 + np.exp(-1.702 * x))


def stable_softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x.astype(np.float64))


def softmax_loop(x: np.ndarray, axis: int = -1) -> np.ndarray:
    rows = np.moveaxis(x.astype(np.float64), axis, -1)
    result = np.empty_like(rows)
    for place in np.ndindex(rows.shape[:-1]):
        top = max(rows[place], default=0.0)
        powers = [math.exp(value - top) for value in rows[place]]
        result[place] = np.divide(powers, sum(powers))
    return np.moveaxis(result, -1, axis)


def onnx_gelu(x: np.ndarray, mode: str = "EXACT") -> np.ndarray:
    if mode == "SIGMOID_APPROXIMATION":
        return onnxruntime_run("QuickGelu", [x], "com.microsoft", alpha=1.702)
    return onnxruntime_run("Gelu", [x], approximate="none" if mode == "EXACT" else "tanh")


OPINIONS = {
    "clamped_relu": (
        coremltools("clamped_relu"),
        numpy(lambda x, alpha, beta: np.minimum(np.where(x >= 0, x, np.float32(alpha) * x), np.float32(beta))),
    ),
    "elu": (coremltools("elu"), onnxruntime_node("Elu", "x", alpha=lambda x, alpha: alpha)),
    "gelu": (coremltools("gelu"), numpy(exact_gelu), Opinion("onnxruntime", onnx_gelu)),
    "leaky_relu": (coremltools("leaky_relu"), onnxruntime_node("LeakyRelu", "x", alpha=lambda x, alpha: alpha)),
    "linear_activation": (
        coremltools("linear_activation"),
        numpy(lambda x, alpha, beta: x.astype(np.float64) * alpha + beta),
    ),
    "prelu": (
        coremltools("prelu"),
        Opinion("onnxruntime", lambda x, alpha: onnxruntime_run("PRelu", [x, per_channel(alpha, x)])),
    ),
    "relu": (coremltools("relu"), onnxruntime_node("Relu", "x")),
    "relu6": (
        coremltools("relu6"),
        Opinion("onnxruntime", lambda x: onnxruntime_run("Clip", [x, np.float32(0), np.float32(6)])),
    ),
    "scaled_tanh": (
        coremltools("scaled_tanh"),
        numpy(lambda x, alpha, beta: np.array([alpha * math.tanh(beta * v) for v in x.flat]).reshape(x.shape)),
    ),
    "sigmoid": (coremltools("sigmoid"), onnxruntime_node("Sigmoid", "x")),
    "sigmoid_hard": (
        coremltools("sigmoid_hard"),
        onnxruntime_node("HardSigmoid", "x", alpha=lambda x, alpha, beta: alpha, beta=lambda x, alpha, beta: beta),
    ),
    "silu": (
        onnxruntime_node("QuickGelu", "x", domain="com.microsoft", alpha=1.0),
        numpy(lambda x: x / (1 + np.exp(-x.astype(np.float64)))),
    ),
    "softplus": (coremltools("softplus"), onnxruntime_node("Softplus", "x"), numpy(stable_softplus)),
    "softplus_parametric": (
        coremltools("softplus_parametric"),
        numpy(lambda x, alpha, beta: per_channel(alpha, x) * stable_softplus(per_channel(beta, x) * x)),
    ),
    "softmax": (
        coremltools("softmax"),
        onnxruntime_node("Softmax", "x", axis=lambda x, axis=-1: axis),
        numpy(softmax_loop),
    ),
    "softsign": (coremltools("softsign"), onnxruntime_node("Softsign", "x")),
    "thresholded_relu": (
        coremltools("thresholded_relu"),
        numpy(lambda x, alpha: np.array([v if not v < alpha else 0 for v in x.flat], x.dtype).reshape(x.shape)),
    ),
}

ALONE = ("relu", "relu6", "sigmoid", "silu", "softplus", "softsign", "gelu")
WITH_ALPHA = ("elu", "leaky_relu", "thresholded_relu")
WITH_BOTH = ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")
SCALAR = np.array(-1.5, np.float32)

ROWS = (
    *(Row(name, {"x": NORMAL}, "normal") for name in ALONE),
    *(Row(name, {"x": EDGES}, "edges", rtol=1e-5) for name in ALONE),
    *(Row(name, {"x": SCALAR}, "scalar") for name in ALONE),
    *(Row(name, {"x": EMPTY}, "empty") for name in ALONE if name != "gelu"),
    Row("gelu", {"x": EMPTY}, "empty", not_asked={"coremltools": "its np.vectorize refuses an empty array"}),
    *(Row(name, {"x": EDGES, "alpha": alpha}) for name in WITH_ALPHA for alpha in (0.3, 0.0, 2.0)),
    *(Row(name, {"x": EMPTY, "alpha": 0.3}, "empty") for name in WITH_ALPHA),
    *(Row(name, {"x": EDGES, "alpha": 0.3, "beta": 0.7}) for name in WITH_BOTH),
    *(Row(name, {"x": NORMAL, "alpha": 1.25, "beta": 0.5}) for name in WITH_BOTH),
    *(Row(name, {"x": EMPTY, "alpha": 1.25, "beta": 0.5}, "empty") for name in WITH_BOTH),
    Row(
        "clamped_relu",
        {"x": FINITE, "alpha": 0.3, "beta": -0.5},
        "negative beta",
        not_asked={"coremltools": "adds beta of both branches where x is positive"},
    ),
    *(
        Row("gelu", {"x": x, "mode": mode}, f"{mode} {about}")
        for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
        for x, about in ((NORMAL, "normal"), (EDGES, "edges"))
    ),
    *(
        Row("prelu", {"x": NORMAL.reshape(shape), "alpha": np.float32(alpha)})
        for shape, alpha in (
            ((2, 3, 4, 5), [0.1, -0.2, 3]),
            ((2, 4, 15), [0.3] * 4),
            ((2, 1, 3, 4, 5), [0.25]),
        )
    ),
    Row("prelu", {"x": EDGES.reshape(1, 1, -1), "alpha": np.float32([0.25])}, "edges"),
    Row(
        "softplus_parametric",
        {"x": NORMAL, "alpha": np.float32([1, 2, -3]), "beta": np.float32([1, 0.5, -2])},
    ),
    Row(
        "softplus_parametric",
        {"x": EDGES.reshape(1, 1, -1), "alpha": np.float32([1.5]), "beta": np.float32([1])},
        "edges",
        not_asked={"coremltools": "overflows from 89 on"},
    ),
    *(Row("softmax", {"x": NORMAL, "axis": axis}) for axis in (-4, -3, -1, 0, 1, 2, 3)),
    Row("softmax", {"x": NORMAL}, "default axis"),
    Row("softmax", {"x": NORMAL[..., :1]}, "axis of one element"),
    Row("softmax", {"x": WIDE}, "far apart"),
    Row("softmax", {"x": np.float32([[-np.inf, 0, 1]])}, "one of minus infinity"),
    Row(
        "softmax",
        {"x": np.float32([[-np.inf, -np.inf], [np.nan, 1]])},
        "all of minus infinity, and NaN",
        not_asked={"numpy": "has no NaN"},
    ),
    Row("softmax", {"x": EMPTY}, "empty, along another axis"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's activation functions give is what at least one other implementation gives."""
    agree(activation, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(activation, OPERATIONS, OPINIONS, ROWS)


def test_unknown_gelu_mode_is_refused() -> None:
    """A mode that MIL does not define is an error that lists those it does."""
    with pytest.raises(MilError, match="'QUICK'; expected EXACT"):
        activation.gelu(torch.zeros(1), "QUICK")


@given(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=4), elements=st.floats(-50, 50, width=32)),
    st.data(),
)
def test_softmax_sums_to_one_and_ignores_a_shift(x: np.ndarray, data: st.DataObject) -> None:
    """Along any axis of any shape softmax sums to one, and adding a number to all of x changes nothing."""
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    (y,) = ask_ours(activation.softmax, {"x": x, "axis": axis}, torch.float64)
    np.testing.assert_allclose(y.sum(axis), 1, rtol=1e-12)
    (shifted,) = ask_ours(activation.softmax, {"x": x + np.float64(3), "axis": axis}, torch.float64)
    np.testing.assert_allclose(shifted, y, rtol=1e-9)


@given(st.floats(-700, 700))
def test_softplus_is_exact_in_float64(x: float) -> None:
    """softplus is log(1 + exp(x)) to the last digits over the whole range, not only where float32 can tell."""
    (y,) = ask_ours(activation.softplus, {"x": np.float64([x])}, torch.float64)
    np.testing.assert_allclose(y, np.logaddexp(0, x), rtol=1e-14, atol=1e-300)
