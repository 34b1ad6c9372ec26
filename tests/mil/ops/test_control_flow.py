"""Choosing between values agrees with coremltools and onnxruntime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.ops import control_flow
from tests.mil.ops.opinions import (
    EDGES,
    Row,
    agree,
    ask_ours,
    assert_covered,
    coremltools,
    declared_operations,
    onnxruntime_node,
)

OPERATIONS = {"select": declared_operations("control_flow")["select"]}
OPINIONS = {"select": (coremltools("select"), onnxruntime_node("Where", "cond", "a", "b"))}
TRUTH = np.array([[True], [False]])

ROWS = (
    Row("select", {"cond": EDGES > 0, "a": EDGES, "b": -EDGES}, "edges"),
    Row("select", {"cond": TRUTH, "a": np.float32([1, 2, np.nan]), "b": np.float32(np.zeros((4, 1, 1)))}),
    Row("select", {"cond": TRUTH, "a": np.int32([1, 2]), "b": np.int32([[3], [4]])}, "integers"),
    Row("select", {"cond": TRUTH, "a": TRUTH, "b": ~TRUTH}, "booleans", not_asked={"onnxruntime": "has none of them"}),
    Row("select", {"cond": np.array(False), "a": np.float32([1, 2]), "b": np.float32([3, 4])}, "one condition"),
    Row("select", {"cond": np.zeros((0, 2), bool), "a": np.float32([1, 2]), "b": np.float32([3, 4])}, "empty"),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """select gives what coremltools and onnxruntime give."""
    agree(control_flow, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """select is declared as coremltools declares it, and judged by two opinions."""
    assert_covered(control_flow, OPERATIONS, OPINIONS, ROWS)


@given(arrays.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0), st.data())
def test_any_three_shapes_that_broadcast_do_so(shapes: arrays.BroadcastableShapes, data: st.DataObject) -> None:
    """Shape and values are numpy.where's for any three shapes that broadcast."""
    kinds = (np.bool_, np.float32, np.float32)
    cond, a, b = (data.draw(arrays.arrays(kind, shape)) for kind, shape in zip(kinds, shapes.input_shapes, strict=True))
    (ours,) = ask_ours(control_flow.select, {"cond": cond, "a": a, "b": b})
    np.testing.assert_array_equal(ours, np.where(cond, a, b))
