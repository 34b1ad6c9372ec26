"""Matrix products agree with coremltools, onnxruntime and plain loops."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.ops import linear
from tests.mil.ops.opinions import (
    Opinion,
    Row,
    agree,
    ask_ours,
    assert_covered,
    coremltools,
    declared_operations,
    numpy,
    onnxruntime_run,
)

OPERATIONS = declared_operations("linear")
RANDOM = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def integers(*shape: int) -> np.ndarray:
    return RANDOM.integers(-9, 9, shape).astype(np.int32)


def linear_loop(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    rows = x.reshape(-1, x.shape[-1])
    sums = [[sum(a * b for a, b in zip(row, w, strict=True)) for w in weight.tolist()] for row in rows.tolist()]
    result = np.array(sums, x.dtype).reshape(*x.shape[:-1], len(weight))
    return result if bias is None else result + bias


def onnx_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    (product,) = onnxruntime_run("MatMul", [x, weight.T])
    return product if bias is None else onnxruntime_run("Add", [product, bias])


def onnx_matmul(x: np.ndarray, y: np.ndarray, transpose_x: bool = False, transpose_y: bool = False) -> np.ndarray:
    return onnxruntime_run("MatMul", [np.swapaxes(x, -1, -2) if transpose_x else x, turned(y) if transpose_y else y])


def turned(y: np.ndarray) -> np.ndarray:
    return np.swapaxes(y, -1, -2) if y.ndim > 1 else y


def onnx_einsum(values: Sequence[np.ndarray], equation: str) -> np.ndarray:
    return onnxruntime_run("Einsum", values, equation=equation)


def einsum_loop(values: Sequence[np.ndarray], equation: str) -> np.ndarray:
    """The one contraction that MIL has: (…, c, h, w) with (…, w, h, u) over w."""
    x, y = (value if value.ndim == 4 else value[None] for value in values)
    batch, rows = max(len(x), len(y)), max(x.shape[2], y.shape[2])
    x, y = np.broadcast_to(x, (batch, *x.shape[1:])), np.broadcast_to(y, (batch, *y.shape[1:]))
    result = np.zeros((batch, x.shape[1], rows, y.shape[3]))
    for b, c, h, u in np.ndindex(result.shape):
        result[b, c, h, u] = np.sum(x[b, c, min(h, x.shape[2] - 1)] * y[b, :, min(h, y.shape[2] - 1), u])
    return result if values[0].ndim == 4 else result[0]


OPINIONS = {
    "linear": (coremltools("linear"), Opinion("onnxruntime", onnx_linear), numpy(linear_loop)),
    "matmul": (coremltools("matmul"), Opinion("onnxruntime", onnx_matmul)),
    "einsum": (coremltools("einsum"), Opinion("onnxruntime", onnx_einsum), numpy(einsum_loop)),
}
NO_VECTOR = "takes no vector on the right"

ROWS = (
    *(
        Row("linear", {"x": normal(*shape, 5), "weight": normal(3, 5), "bias": normal(3)})
        for shape in ((), (2,), (2, 4), (1, 2, 3, 2), (0, 4))
    ),
    Row("linear", {"x": normal(2, 4, 5), "weight": normal(3, 5)}, "no bias"),
    Row("linear", {"x": normal(2, 1), "weight": normal(1, 1), "bias": normal(1)}, "one by one"),
    Row("linear", {"x": integers(2, 5), "weight": integers(3, 5), "bias": integers(3)}, "integers"),
    Row("linear", {"x": np.float32([[65504, 65504], [np.nan, 1]]), "weight": np.float32([[65504, 1]])}, "extremes"),
    *(
        Row("matmul", {"x": normal(*a), "y": normal(*b)})
        for a, b in (
            ((4, 3), (3, 2)),
            ((10, 4, 3), (5, 10, 3, 2)),
            ((4,), (10, 4, 3)),
            ((4,), (4, 3)),
            ((2, 1, 1, 3), (4, 3, 1)),
            ((2, 0, 3), (3, 4)),
        )
    ),
    Row("matmul", {"x": normal(2, 4, 0), "y": normal(0, 3)}, "sums of nothing"),
    *(
        Row("matmul", {"x": normal(*a), "y": normal(4)}, f"{a} by a vector", not_asked={"coremltools": NO_VECTOR})
        for a in ((4,), (2, 4), (3, 2, 4))
    ),
    *(
        Row(
            "matmul",
            {
                "x": normal(2, 5, 3) if tx else normal(2, 3, 5),
                "y": normal(4, 5) if ty else normal(5, 4),
                "transpose_x": tx,
                "transpose_y": ty,
            },
            f"transposed {tx} {ty}",
        )
        for tx in (False, True)
        for ty in (False, True)
    ),
    Row(
        "matmul",
        {"x": normal(3, 4), "y": normal(4), "transpose_y": True},
        "a vector does not transpose",
        not_asked={"coremltools": NO_VECTOR},
    ),
    Row("matmul", {"x": integers(2, 3, 4), "y": integers(4, 2)}, "integers"),
    *(
        Row("einsum", {"values": [normal(*a), normal(*b)], "equation": equation}, f"{equation} {a} {b}")
        for equation, a, b in (
            ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
            ("bcij,bjik->bcik", (1, 3, 4, 5), (2, 5, 4, 6)),
            ("nchw,nwhu->nchu", (2, 3, 1, 5), (2, 5, 4, 1)),
            ("chw,whr->chr", (3, 4, 5), (5, 4, 2)),
            ("chw,whr->chr", (3, 4, 5), (5, 1, 2)),
            ("chw,whr->chr", (0, 4, 5), (5, 4, 2)),
        )
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's products give is what at least one other implementation gives."""
    agree(linear, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(linear, OPERATIONS, OPINIONS, ROWS)


SIZES = st.integers(0, 4)


@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.sampled_from([((), ()), ((2,), (2,)), ((3, 1), (2,)), ((), (2, 2)), ((1,), (0,))]),
    st.booleans(),
    st.booleans(),
)
def test_product_of_any_matrices_is_einsum_of_them(
    sizes: tuple[int, int, int], batches: tuple[tuple[int, ...], tuple[int, ...]], tx: bool, ty: bool
) -> None:
    """matmul is Σₖ x[…, i, k]·y[…, k, j] for any sizes, zero among them, either operand transposed or not."""
    rows, inner, columns = sizes
    x, y = normal(*batches[0], rows, inner), normal(*batches[1], inner, columns)
    inputs = {"x": turned(x) if tx else x, "y": turned(y) if ty else y, "transpose_x": tx, "transpose_y": ty}
    (ours,) = ask_ours(linear.matmul, inputs)
    np.testing.assert_allclose(ours, np.einsum("...ik,...kj->...ij", x, y), rtol=1e-5, atol=1e-6)
