"""Operations on each element agree with coremltools, onnxruntime and numpy."""

import math

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.errors import MilError
from mil.ops import elementwise_unary
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

OPERATIONS = declared_operations("elementwise_unary")
INTEGERS = np.int32([[0, 1, -1], [7, -8, 46340], [-46340, 2**31 - 1, -(2**31) + 1]])
SCALAR = np.array(0.75, np.float32)
SEED = np.random.default_rng(1)
NORMAL = SEED.standard_normal((2, 3, 17)).astype(np.float32)
POSITIVE = np.abs(EDGES)

ONNX_TYPES = {
    "bool": onnx.TensorProto.BOOL,
    "fp16": onnx.TensorProto.FLOAT16,
    "fp32": onnx.TensorProto.FLOAT,
    "int8": onnx.TensorProto.INT8,
    "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32,
    "uint8": onnx.TensorProto.UINT8,
    "uint16": onnx.TensorProto.UINT16,
}


def cut_off(x: np.ndarray, dtype: str) -> np.ndarray:
    """What ARM's conversion instructions make of each float: cut off towards zero, held at the ends, NaN is 0."""
    bits, least = int(dtype.strip("uint")), 0 if dtype.startswith("u") else -1
    lowest, highest = least * 2 ** (bits - 1), 2 ** (bits + least) - 1

    def one(value: float) -> int:
        if math.isnan(value):
            return 0
        return lowest if value <= lowest else highest if value >= highest else math.trunc(value)

    return np.array([one(float(value)) for value in x.flat], np.int64).reshape(x.shape)


def power_of_two(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return np.exp2(x.astype(np.float64))
    return np.array([2**v if 0 <= v < 63 else 0 for v in x.ravel().tolist()], np.int64).reshape(x.shape)


def same_name(operation: str) -> tuple[Opinion, Opinion]:
    return coremltools(operation), onnxruntime_node(operation.capitalize(), "x")


ALONE = (
    *("abs", "acos", "asin", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp"),
    *("floor", "round", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
)
OPINIONS = {
    **{name: same_name(name) for name in ALONE},
    "cast": (
        coremltools("cast"),
        onnxruntime_node("Cast", "x", to=lambda x, dtype: ONNX_TYPES[dtype]),
        numpy(cut_off),
    ),
    "clip": (coremltools("clip"), Opinion("onnxruntime", lambda **inputs: onnx_clip(**inputs))),
    "exp2": (coremltools("exp2"), numpy(power_of_two)),
    "inverse": (
        coremltools("inverse"),
        Opinion("onnxruntime", lambda x, epsilon=1e-4: onnxruntime_run("Reciprocal", [x + np.float32(epsilon)])),
    ),
    "log": (
        coremltools("log"),
        Opinion("onnxruntime", lambda x, epsilon=1e-45: onnxruntime_run("Log", [x + np.float32(epsilon)])),
    ),
    "logical_not": (coremltools("logical_not"), onnxruntime_node("Not", "x")),
    "rsqrt": (
        coremltools("rsqrt"),
        numpy(lambda x, epsilon=1e-12: 1 / np.sqrt(x.astype(np.float64) + epsilon)),
    ),
    "square": (coremltools("square"), onnxruntime_node("Mul", "x", "x")),
    "threshold": (
        coremltools("threshold"),
        Opinion("onnxruntime", lambda x, alpha: onnxruntime_run("Max", [x, x.dtype.type(alpha)])),
    ),
}


def onnx_clip(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    return onnxruntime_run("Clip", [x, np.float32(alpha), np.float32(beta)])


UNARY = (*ALONE, "exp2", "square", "inverse", "log", "rsqrt")
FLOAT_TO_INTEGER = np.float32([[0.99, -0.99, 1.5, -2.5], [7, 127, 0.0, -0.0]])
NEVER_NEGATIVE = np.abs(FLOAT_TO_INTEGER)
OVERFLOWS = "what a C cast makes of a number out of range is undefined"
NO_INTEGERS = "computes a float of an integer, of which MIL says that it is one"

ROWS = (
    *(Row(name, {"x": NORMAL}, "normal") for name in UNARY if name not in ("log", "rsqrt", "sqrt")),
    *(Row(name, {"x": EDGES}, "edges") for name in UNARY if name not in ("inverse", "log", "rsqrt")),
    *(Row(name, {"x": SCALAR}, "scalar") for name in UNARY if name != "erf"),
    *(Row(name, {"x": EMPTY}, "empty") for name in UNARY if name != "erf"),
    Row("erf", {"x": SCALAR}, "scalar", not_asked={"coremltools": "turns it into a number without a shape"}),
    Row("erf", {"x": EMPTY}, "empty", not_asked={"coremltools": "its np.vectorize refuses an empty array"}),
    *(Row(name, {"x": INTEGERS}, "integers") for name in ("abs", "sign", "square")),
    Row("square", {"x": np.int32([46341, 2**31 - 1])}, "integers that wrap"),
    Row(
        "exp2", {"x": np.int32([0, 1, 10, 30, -1, 31, 62, 63, 90])}, "integers", not_asked={"coremltools": NO_INTEGERS}
    ),
    *(Row(name, {"x": POSITIVE, "epsilon": e}) for name in ("inverse", "log", "rsqrt") for e in (1e-4, 1e-1)),
    *(Row(name, {"x": POSITIVE + np.float32(0.5)}, "away from zero") for name in ("inverse", "log", "rsqrt")),
    Row("inverse", {"x": EDGES, "epsilon": 0.0}, "edges"),
    Row("log", {"x": EDGES, "epsilon": 0.0}, "edges without epsilon"),
    Row("log", {"x": np.zeros(3, np.float32), "epsilon": float(np.float32(1e-45))}, "of nothing but epsilon"),
    Row("rsqrt", {"x": EDGES, "epsilon": 1e-12}, "edges", rtol=1e-4),
    *(Row("clip", {"x": x, "alpha": -1.25, "beta": 2.5}) for x in (EDGES, NORMAL, SCALAR, EMPTY)),
    Row("clip", {"x": EDGES, "alpha": -np.inf, "beta": 0.0}, "from minus infinity"),
    *(Row("threshold", {"x": x, "alpha": 0.5}) for x in (EDGES, NORMAL, SCALAR, EMPTY)),
    Row("threshold", {"x": INTEGERS, "alpha": -1}, "integers"),
    Row("logical_not", {"x": np.array([[True], [False]])}),
    Row("logical_not", {"x": np.zeros((0, 2), bool)}, "empty"),
    *(
        Row("cast", {"x": FLOAT_TO_INTEGER, "dtype": dtype}, not_asked={"numpy": "has this kind below"})
        for dtype in ("bool", "fp16", "fp32")
    ),
    *(Row("cast", {"x": FLOAT_TO_INTEGER, "dtype": dtype}) for dtype in ("int8", "int16", "int32")),
    *(Row("cast", {"x": NEVER_NEGATIVE, "dtype": dtype}) for dtype in ("uint8", "uint16")),
    *(
        Row(
            "cast",
            {"x": EDGES * np.float32(scale), "dtype": dtype},
            f"out of the range of {dtype}, times {scale}",
            not_asked={"coremltools": OVERFLOWS, "onnxruntime": OVERFLOWS},
        )
        for dtype in ("int8", "uint8", "int16", "uint16", "int32")
        for scale in (1, 1e5)
    ),
    *(
        Row("cast", {"x": np.int32([[0, 1], [-7, 2048]]), "dtype": dtype}, not_asked={"numpy": "is for floats"})
        for dtype in ("bool", "fp16", "fp32", "int16", "int32")
    ),
    *(
        Row("cast", {"x": np.array([True, False]), "dtype": dtype}, not_asked={"numpy": "is for floats"})
        for dtype in ("bool", "fp16", "fp32", "int8", "int32", "uint16")
    ),
    Row("cast", {"x": EDGES, "dtype": "bool"}, "edges", not_asked={"numpy": "is for integers"}),
    Row("cast", {"x": EMPTY, "dtype": "int32"}, "empty"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's operations on each element give is what at least one other implementation gives."""
    agree(elementwise_unary, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(elementwise_unary, OPERATIONS, OPINIONS, ROWS)


@pytest.mark.parametrize("dtype", ["string", "float", "int31", ""])
def test_cast_refuses_what_is_no_type_of_numbers(dtype: str) -> None:
    """A type that MIL does not have, or that holds no numbers, is an error that names it."""
    with pytest.raises(MilError, match=f"type '{dtype}'; expected"):
        elementwise_unary.cast(torch.zeros(1), dtype)


def test_cast_of_integers_to_floats_loses_nothing() -> None:
    """The neighbours of 2³¹ stay apart, though float32 cannot tell them apart: rounding is left to the executor."""
    x = np.int32([2**31 - 1, 2**31 - 2])
    (y,) = ask_ours(elementwise_unary.cast, {"x": x, "dtype": "fp32"})
    assert y.tolist() == [2**31 - 1, 2**31 - 2]


@pytest.mark.parametrize(("dtype", "ends"), [("int64", (-(2**63), 2**63 - 1024)), ("uint64", (0, 2**63 - 1024))])
def test_cast_to_64_bits_stays_within_them(dtype: str, ends: tuple[int, int]) -> None:
    """A float beyond the 64 bits that torch has becomes the last float that fits, never the other end."""
    (y,) = ask_ours(elementwise_unary.cast, {"x": np.float64([-1e30, 1e30]), "dtype": dtype}, torch.float64)
    assert tuple(y.tolist()) == ends


@given(arrays.arrays(np.float64, 5, elements=st.floats(-1e9, 1e9)))
def test_round_takes_the_nearest_and_the_even_of_two(x: np.ndarray) -> None:
    """round is at most a half away, and even where it is exactly a half away."""
    (y,) = ask_ours(elementwise_unary.round, {"x": x}, torch.float64)
    away = np.abs(y - x)
    assert (away <= 0.5).all()
    assert (y[away == 0.5] % 2 == 0).all()


@given(st.lists(st.sampled_from([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5]), min_size=1, max_size=40))
def test_halves_round_to_even(values: list[float]) -> None:
    """Ties, which random floats hardly ever are, go to the even neighbour as Python's round has it."""
    (y,) = ask_ours(elementwise_unary.round, {"x": np.float32(values)})
    assert y.tolist() == [round(value) for value in values]


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=3), elements=st.sampled_from(FINITE.tolist())))
def test_elements_do_not_depend_on_their_place(x: np.ndarray) -> None:
    """Each element of any shape gets what it gets alone: vectorised loops and their remainders agree."""
    for name in UNARY:
        function = vars(elementwise_unary)[name]
        (together,) = ask_ours(function, {"x": x})
        alone = np.array([ask_ours(function, {"x": np.float32([value])})[0][0] for value in x.flat[:3]])
        np.testing.assert_allclose(together.flat[:3], alone, rtol=1e-6)
