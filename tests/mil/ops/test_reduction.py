"""Reductions agree with coremltools, onnxruntime and numpy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.ops import reduction
from tests.mil.ops.opinions import (
    EDGES,
    EMPTY,
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

OPERATIONS = declared_operations("reduction")
RANDOM = np.random.default_rng(5)
X = RANDOM.uniform(0.2, 2, (2, 3, 4, 5)).astype(np.float32)
SIGNED = (X - 1).astype(np.float32)
INTEGERS = RANDOM.integers(1, 5, (2, 3, 4)).astype(np.int32)
TIES = np.float32([[1, 3, 3, 0, 0], [2, 2, 2, 2, 2]])

ONNX_NAMES = {
    "reduce_l1_norm": "ReduceL1",
    "reduce_l2_norm": "ReduceL2",
    "reduce_log_sum": "ReduceLogSum",
    "reduce_log_sum_exp": "ReduceLogSumExp",
    "reduce_max": "ReduceMax",
    "reduce_mean": "ReduceMean",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
    "reduce_sum_square": "ReduceSumSquare",
}
ALONG_AXES = tuple(ONNX_NAMES)
ARG = ("reduce_argmax", "reduce_argmin")
FORMULAS = {
    "reduce_l1_norm": lambda v: math.fsum(map(abs, v)),
    "reduce_l2_norm": lambda v: math.sqrt(math.fsum(a * a for a in v)),
    "reduce_log_sum": lambda v: math.log(math.fsum(v)),
    "reduce_log_sum_exp": lambda v: math.log(math.fsum(map(math.exp, v))),
    "reduce_max": max,
    "reduce_mean": lambda v: math.fsum(v) / len(v),
    "reduce_min": min,
    "reduce_prod": math.prod,
    "reduce_sum": math.fsum,
    "reduce_sum_square": lambda v: math.fsum(a * a for a in v),
}


def loop(operation: str) -> Opinion:
    """The opinion of Python's own sums, correctly rounded; of integers what is left when the fraction is cut off."""

    def answer(x: np.ndarray, axes: list[int] | None = None, keep_dims: bool = False) -> np.ndarray:
        axes = list(range(x.ndim)) if axes is None else sorted(axis % x.ndim for axis in axes)
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = np.transpose(x, kept + axes)
        result = np.empty(rows.shape[: len(kept)], np.int64 if x.dtype.kind == "i" else np.float64)
        for place in np.ndindex(result.shape):
            result[place] = FORMULAS[operation](rows[place].ravel().tolist())
        return np.expand_dims(result, axes) if keep_dims else result

    return numpy(answer)


def onnx_reduction(operation: str) -> Opinion:
    def answer(x: np.ndarray, axes: list[int] | None = None, keep_dims: bool = False) -> np.ndarray:
        given = [x] if axes is None else [x, np.array(axes, np.int64)]
        return onnxruntime_run(
            ONNX_NAMES[operation], given, keepdims=int(keep_dims), noop_with_empty_axes=int(axes is not None)
        )

    return Opinion("onnxruntime", answer)


def onnx_arg(operation: str) -> Opinion:
    return onnxruntime_node(
        {"reduce_argmax": "ArgMax", "reduce_argmin": "ArgMin"}[operation],
        "x",
        axis=lambda axis=-1, **_: axis,
        keepdims=lambda keep_dims=False, **_: int(keep_dims),
        select_last_index=0,
    )


OPINIONS = {
    **{name: (coremltools(name), onnx_reduction(name), loop(name)) for name in ALONG_AXES},
    **{name: (coremltools(name), onnx_arg(name)) for name in ARG},
}
AXES = ([0], [-1], [1, 2], [-1, 0], [3, 1, -2], [0, 1, 2, 3], None)
NOT_ONNX = {"onnxruntime": "has no kernel for integers"}
INFINITE = {"numpy": "has no infinities or NaN"}
# (2, 0, 3) along its first axis leaves nothing, and along its second leaves what a reduction of nothing is.
OF_NOTHING = ("reduce_l1_norm", "reduce_l2_norm", "reduce_prod", "reduce_sum", "reduce_sum_square")

ROWS = (
    *(
        Row(name, {"x": X, "axes": axes, "keep_dims": keep} if axes else {"x": X, "keep_dims": keep})
        for name in ALONG_AXES
        for axes in AXES
        for keep in (False, True)
    ),
    *(Row(name, {"x": X}, "defaults") for name in (*ALONG_AXES, *ARG)),
    *(Row(name, {"x": SIGNED, "axes": [1, -1]}, "both signs") for name in ALONG_AXES if name != "reduce_log_sum"),
    *(Row(name, {"x": X[:1, :, :1], "axes": [0, 2]}, "axes of one element") for name in ALONG_AXES),
    *(
        Row(name, {"x": X, "axes": []}, "no axes", not_asked={"coremltools": "takes no empty list"})
        for name in ALONG_AXES
    ),
    *(Row(name, {"x": INTEGERS, "axes": [-1]}, "integers") for name in ("reduce_max", "reduce_min", "reduce_sum")),
    *(
        Row(name, {"x": INTEGERS * sign, "axes": [1, 2]}, f"integers times {sign}", not_asked=NOT_ONNX)
        for name in ALONG_AXES
        for sign in (1, -1)
        if sign == 1 or name != "reduce_log_sum"
    ),
    *(
        Row(name, {"x": EDGES[:, None] * np.ones(2, np.float32), "axes": [1]}, "edges", 1e-4, not_asked=INFINITE)
        for name in ALONG_AXES
        if name != "reduce_log_sum_exp"
    ),
    Row(
        "reduce_log_sum_exp",
        {"x": np.float32([[65504, 65504], [-65504, 1], [-np.inf, 0]]), "axes": [1]},
        "extremes",
        not_asked={"numpy": "overflows"},
    ),
    *(Row(name, {"x": EMPTY, "axes": [1]}, "of nothing", not_asked=INFINITE) for name in OF_NOTHING),
    *(Row(name, {"x": EMPTY, "axes": [0]}, "leaving nothing") for name in ALONG_AXES),
    *(
        Row(name, {"x": x, "axis": axis, "keep_dims": keep})
        for name in ARG
        for x in (X, SIGNED, INTEGERS)
        for axis in (0, -1, 1, -2)
        for keep in (False, True)
    ),
    *(Row(name, {"x": TIES, "axis": 1}, "the first of equals") for name in ARG),
    *(Row(name, {"x": TIES, "axis": 1, "output_dtype": "uint16"}, "as uint16") for name in ARG),
    *(Row(name, {"x": X[:, :1], "axis": 1}, "axis of one element") for name in ARG),
    *(Row(name, {"x": np.float32([[-np.inf, np.inf, 0]])}, "infinities") for name in ARG),
    *(
        Row(name, {"x": np.float32([[1, np.nan, 3, np.nan]])}, "NaN", not_asked={"onnxruntime": "looks past NaN"})
        for name in ARG
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's reductions give is what at least one other implementation gives."""
    agree(reduction, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(reduction, OPERATIONS, OPINIONS, ROWS)


def test_log_sum_exp_of_nothing_but_minus_infinity_is_that() -> None:
    """log Σ exp(−inf) is −inf; subtracting the maximum first, as it is often written, would give NaN."""
    (ours,) = ask_ours(reduction.reduce_log_sum_exp, {"x": np.float32([-np.inf, -np.inf])})
    assert ours == -np.inf


def test_scalars_reduce_to_themselves() -> None:
    """A tensor of rank 0 has no axis: each reduction of it is that of one element."""
    x = np.array(-2.0, np.float32)
    found = {name: float(ask_ours(vars(reduction)[name], {"x": x})[0]) for name in ALONG_AXES}
    assert found.pop("reduce_log_sum") != found["reduce_sum"]
    assert found == dict.fromkeys(found, -2.0) | {
        "reduce_l1_norm": 2.0,
        "reduce_l2_norm": 2.0,
        "reduce_sum_square": 4.0,
    }


@pytest.mark.parametrize("name", ALONG_AXES)
def test_an_axis_that_is_not_there_is_an_error(name: str) -> None:
    """An axis beyond the rank is refused, not counted round."""
    with pytest.raises(IndexError):
        ask_ours(vars(reduction)[name], {"x": X, "axes": [4]})


PLAIN = {"reduce_sum": np.sum, "reduce_max": np.max, "reduce_min": np.min, "reduce_mean": np.mean}


@given(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=4, max_side=4), elements=st.floats(-100, 100, width=32)),
    st.sampled_from(sorted(PLAIN)),
    st.booleans(),
    st.data(),
)
def test_any_axes_of_any_shape_reduce_as_in_numpy(x: np.ndarray, name: str, keep: bool, data: st.DataObject) -> None:
    """Any set of axes, counted from either end, gives numpy's shape and values in float64."""
    axes = data.draw(st.permutations(range(x.ndim)))[: data.draw(st.integers(1, x.ndim))]
    signed = [axis - x.ndim if data.draw(st.booleans()) else axis for axis in axes]
    inputs = {"x": x, "axes": signed, "keep_dims": keep}
    (ours,) = ask_ours(vars(reduction)[name], inputs)
    np.testing.assert_allclose(ours, PLAIN[name](x, axis=tuple(signed), keepdims=keep), rtol=1e-5, atol=1e-4)
