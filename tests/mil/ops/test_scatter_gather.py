"""Gathering and scattering agree with coremltools, onnxruntime and loops over places."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import scatter_gather
from tests.mil.ops.opinions import (
    Inputs,
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

OPERATIONS = declared_operations("scatter_gather")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def ints(*values: Any) -> np.ndarray:
    return np.array(values[0] if len(values) == 1 else values, np.int32)


def gather_loop(x: np.ndarray, indices: np.ndarray, axis: int = 0, batch_dims: int = 0, **_: Any) -> np.ndarray:
    axis %= x.ndim
    result = np.empty((*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :]), x.dtype)
    for place in np.ndindex(result.shape):
        middle = place[axis : axis + indices.ndim - batch_dims]
        index = indices[(*place[:batch_dims], *middle)]
        result[place] = x[(*place[:axis], index, *place[axis + len(middle) :])]
    return result


def along_axis_loop(x: np.ndarray, indices: np.ndarray, axis: int = 0, **_: Any) -> np.ndarray:
    axis %= x.ndim
    result = np.empty(indices.shape, x.dtype)
    for place in np.ndindex(indices.shape):
        result[place] = x[(*place[:axis], indices[place], *place[axis + 1 :])]
    return result


def gather_nd_loop(x: np.ndarray, indices: np.ndarray, batch_dims: int = 0, **_: Any) -> np.ndarray:
    result = np.empty((*indices.shape[:-1], *x.shape[batch_dims + indices.shape[-1] :]), x.dtype)
    for place in np.ndindex(indices.shape[:-1]):
        result[place] = x[(*place[:batch_dims], *indices[place])]
    return result


COMBINE = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new if old.dtype.kind == "f" else np.trunc(old / new).astype(old.dtype),
    "max": np.maximum,
    "min": np.minimum,
}


def scatter_loop(
    data: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int = 0, mode: str = "add", **_: Any
) -> np.ndarray:
    axis %= data.ndim
    result = data.copy()
    for place in np.ndindex(indices.shape):
        at = (*[slice(None)] * axis, indices[place])
        result[at] = COMBINE[mode](result[at], updates[(*[slice(None)] * axis, *place)])
    return result


def scatter_along_axis_loop(
    data: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int = 0, mode: str = "add", **_: Any
) -> np.ndarray:
    axis %= data.ndim
    result = data.copy()
    for place in np.ndindex(indices.shape):
        at = (*place[:axis], indices[place], *place[axis + 1 :])
        result[at] = COMBINE[mode](result[at], updates[place])
    return result


def scatter_nd_loop(
    data: np.ndarray, indices: np.ndarray, updates: np.ndarray, mode: str = "add", **_: Any
) -> np.ndarray:
    result = data.copy()
    for place in np.ndindex(indices.shape[:-1]):
        at = tuple(indices[place])
        result[at] = COMBINE[mode](result[at], updates[place])
    return result


REDUCTIONS = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def scatter_elements(data: Any, indices: Any, updates: Any, axis: int = 0, mode: str = "add", **_: Any) -> Any:
    return onnxruntime_run("ScatterElements", [data, indices, updates], axis=axis, reduction=REDUCTIONS[mode])


def scatter_of_slices(data: Any, indices: Any, updates: Any, axis: int = 0, mode: str = "add", **_: Any) -> Any:
    """A slice's index is that of all of its elements."""
    axis %= data.ndim
    shape = [-1 if n == axis else 1 for n in range(data.ndim)]
    spread = np.broadcast_to(indices.reshape(shape), updates.shape).copy()
    return scatter_elements(data, spread, updates, axis, mode)


def scatter_nd_onnx(data: Any, indices: Any, updates: Any, mode: str = "add", **_: Any) -> Any:
    given = [data, indices.astype(np.int64), updates]
    return onnxruntime_run("ScatterND", given, reduction=REDUCTIONS[mode])


def gather_nd_onnx(x: Any, indices: Any, batch_dims: int = 0, **_: Any) -> Any:
    return onnxruntime_run("GatherND", [x, indices.astype(np.int64)], batch_dims=batch_dims)


OPINIONS = {
    "gather": [
        numpy(gather_loop),
        coremltools("gather"),
        onnxruntime_node("Gather", "x", "indices", axis=lambda **inputs: inputs.get("axis", 0)),
    ],
    "gather_along_axis": [
        numpy(along_axis_loop),
        coremltools("gather_along_axis"),
        onnxruntime_node("GatherElements", "x", "indices", axis=lambda **inputs: inputs.get("axis", 0)),
    ],
    "gather_nd": [numpy(gather_nd_loop), Opinion("onnxruntime", gather_nd_onnx)],
    "scatter": [numpy(scatter_loop), Opinion("onnxruntime", scatter_of_slices)],
    "scatter_along_axis": [
        numpy(scatter_along_axis_loop),
        Opinion("onnxruntime", scatter_elements),
        coremltools("scatter_along_axis"),
    ],
    "scatter_nd": [numpy(scatter_nd_loop), Opinion("onnxruntime", scatter_nd_onnx)],
}
BATCHED = {"onnxruntime": "has no batch axes here"}
UNKNOWN = {"coremltools": "infers no value of an empty result"}
UPDATES_ONLY = {"coremltools": "infers mode update whatever the mode is"}
NO_SUCH_MODE = {"onnxruntime": "has no such reduction"}
X1, X3 = normal(5), normal(2, 3, 4)
ODD = np.float32([[np.nan, np.inf, -np.inf], [65504, -65504, 5.96e-8]])
COUNTS = RANDOM.integers(-9, 9, (4, 3)).astype(np.int32)


def row(operation: str, about: str, not_asked: dict[str, str] | None = None, **inputs: Any) -> Row:
    return Row(operation, inputs, about, rtol=1e-4, atol=1e-6, not_asked=not_asked or {})


ROWS = [
    row("gather", "vector", x=X1, indices=ints(3, 0, 0)),
    row("gather", "scalar index", x=X3, indices=ints(1), axis=1),
    row("gather", "matrix of indices, middle axis", x=X3, indices=ints([0, 2], [1, 1]), axis=1),
    row("gather", "negative axis and indices", x=X3, indices=ints(-1, 0, -4), axis=-1),
    row("gather", "no index", UNKNOWN, x=X3, indices=np.zeros((0,), np.int32), axis=2),
    row("gather", "empty x, no index", UNKNOWN, x=normal(0, 3), indices=np.zeros((2, 0), np.int32), axis=0),
    row("gather", "batch", BATCHED, x=X3, indices=ints([0, 2, 1], [1, 1, 0]), axis=1, batch_dims=1),
    row(
        "gather", "batch, later axis", BATCHED, x=normal(2, 3, 4, 2), indices=ints([0, 3], [1, 1]), axis=2, batch_dims=1
    ),
    row(
        "gather", "two batch axes", BATCHED, x=X3, indices=ints([[0], [3], [2]], [[1], [0], [1]]), axis=2, batch_dims=2
    ),
    row("gather", "validated", x=X3, indices=ints(0, 1), validate_indices=True),
    row("gather", "nan and extremes", x=ODD, indices=ints(1, 0, 1)),
    row("gather", "integers", x=COUNTS, indices=ints(2, 2), axis=1),
    row("gather_along_axis", "first axis", x=X3, indices=ints(RANDOM.integers(0, 2, (5, 3, 4)))),
    row(
        "gather_along_axis", "negative axis and indices", x=X3, indices=ints(RANDOM.integers(-4, 4, (2, 3, 6))), axis=-1
    ),
    row("gather_along_axis", "no index", UNKNOWN, x=X3, indices=np.zeros((2, 0, 4), np.int32), axis=1),
    row("gather_along_axis", "nan and extremes", x=ODD, indices=ints([2, 0], [1, 1]), axis=1),
    row("gather_nd", "elements", x=X3, indices=ints([0, 0, 0], [1, 2, 3])),
    row("gather_nd", "slices, negative", x=X3, indices=ints([[0, 0], [1, -1]], [[1, 1], [0, 2]])),
    row("gather_nd", "one index", x=X3, indices=ints([1])),
    row("gather_nd", "no depth", {"onnxruntime": "needs a depth"}, x=X3, indices=np.zeros((2, 0), np.int32)),
    row("gather_nd", "batch", x=X3, indices=ints([[0], [2]], [[1], [1]]), batch_dims=1),
    row("gather_nd", "batch, whole depth", x=X3, indices=ints([[0, 1]], [[1, 3]]), batch_dims=1),
    row("gather_nd", "two batch axes", x=X3, indices=ints([[0], [3], [2]], [[1], [0], [1]]), batch_dims=2),
    row("gather_nd", "none", {"onnxruntime": "crashes on no index"}, x=X3, indices=np.zeros((0, 2), np.int32)),
    row("scatter", "by default adds", data=X3, indices=ints(1, 0, 1), updates=normal(3, 3, 4)),
    row(
        "scatter",
        "last axis, negative index",
        data=X3,
        indices=ints(-1, 0),
        updates=normal(2, 3, 2),
        axis=-1,
        mode="update",
    ),
    row("scatter", "no index", data=X3, indices=np.zeros((0,), np.int32), updates=normal(2, 0, 4), axis=1),
    row(
        "scatter",
        "matrix of indices",
        {"onnxruntime": "has one index per slice"},
        data=X1,
        indices=ints([0, 1], [4, 4]),
        updates=normal(2, 2),
    ),
    row("scatter_nd", "elements", data=X3, indices=ints([0, 0, 0], [1, 2, 3], [1, 2, 3]), updates=normal(3)),
    row(
        "scatter_nd", "slices, negative", data=X3, indices=ints([[0, 0], [1, -1]]), updates=normal(2, 4), mode="update"
    ),
    row(
        "scatter_nd",
        "no depth",
        {"onnxruntime": "needs a depth"},
        data=X1,
        indices=np.zeros((2, 0), np.int32),
        updates=normal(2, 5),
    ),
    row(
        "scatter_along_axis",
        "update, negative",
        data=X3,
        indices=ints(np.stack([np.full((3, 4), 1), np.full((3, 4), -2)])),
        updates=normal(2, 3, 4),
        axis=0,
        mode="update",
    ),
    row(
        "scatter_along_axis",
        "no index",
        UNKNOWN | UPDATES_ONLY,
        data=X3,
        indices=np.zeros((2, 0, 4), np.int32),
        updates=normal(2, 0, 4),
        axis=1,
    ),
]
for mode in COMBINE:
    absent = {} if mode in REDUCTIONS else NO_SUCH_MODE
    absent_too = absent | ({} if mode == "update" else UPDATES_ONLY)
    places, changes = ints(3, 0, 3), np.float32([[2, -3, 4], [0.5, 1, -8], [-2, 4, 0.25]])
    for values, by in ((normal(4, 3), changes), (COUNTS, np.where(changes > 0, 3, -2).astype(np.int32))):
        about = f"{mode} {values.dtype}, an index twice"
        ROWS += [
            row("scatter", about, absent, data=values, indices=places, updates=by, mode=mode),
            row("scatter_nd", about, absent, data=values, indices=places.reshape(3, 1), updates=by, mode=mode),
            row(
                "scatter_along_axis",
                about,
                absent_too,
                data=values,
                indices=np.stack([places] * 3, 1),
                updates=by,
                axis=-2,
                mode=mode,
            ),
        ]
ROWS += [
    row(
        operation,
        "max with nan and infinity",
        {"onnxruntime": "passes over nan"} | UPDATES_ONLY,
        data=ODD[0].copy(),
        indices=ints(places),
        updates=np.float32([1, np.nan, -1]),
        mode="max",
    )
    for operation, places in (
        ("scatter", [0, 1, 2]),
        ("scatter_along_axis", [0, 1, 2]),
        ("scatter_nd", [[0], [1], [2]]),
    )
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What is read or written at computed places is what loops, onnxruntime and coremltools read or write."""
    agree(scatter_gather, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(scatter_gather, OPERATIONS, OPINIONS, ROWS)


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def gathers(draw: st.DrawFn) -> Inputs:
    shape = draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    batch_dims = draw(st.integers(0, axis))
    outer = shape[:batch_dims] + draw(st.lists(st.integers(0, 3), max_size=2))
    indices = RANDOM.integers(-shape[axis], shape[axis], outer).astype(np.int32)
    axis = draw(st.sampled_from([axis, axis - len(shape)]))
    return {"x": normal(*shape), "indices": np.asarray(indices), "axis": axis, "batch_dims": batch_dims}


@settings(max_examples=100, deadline=None)
@given(gathers())
def test_any_gather_agrees_with_the_loop(inputs: Inputs) -> None:
    """Axes, batch axes and ranks of indices mean what the loop says, in every combination."""
    (ours,) = ask_ours(scatter_gather.gather, inputs)
    np.testing.assert_array_equal(ours, gather_loop(**inputs))


@settings(max_examples=100, deadline=None)
@given(shapes, st.data())
def test_gathering_undoes_an_update_in_different_places(shape: list[int], data: st.DataObject) -> None:
    """What scatter_nd and scatter write in different places, gather_nd and gather find there."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    places = RANDOM.permutation(shape[axis])[: data.draw(st.integers(0, shape[axis]))].astype(np.int32)
    values, updates = normal(*shape), normal(*shape[:axis], len(places), *shape[axis + 1 :])
    written = {"data": values, "indices": places, "updates": updates, "axis": axis, "mode": "update"}
    (there,) = ask_ours(scatter_gather.scatter, written)
    (back,) = ask_ours(scatter_gather.gather, {"x": there, "indices": places, "axis": axis})
    np.testing.assert_array_equal(back, updates)
    untouched = np.delete(np.arange(shape[axis]), places)
    np.testing.assert_array_equal(np.take(there, untouched, axis), np.take(values, untouched, axis))


X = torch.zeros(3, 4)


def at(*indices: Any) -> torch.Tensor:
    return torch.tensor(indices, dtype=torch.int32)


REFUSED: list[tuple[str, Any]] = [
    ("indices from -3 to 2, found 3", lambda: scatter_gather.gather(X, at(0, 3))),
    ("indices from -3 to 2, found -4", lambda: scatter_gather.gather(X, at(0, -4))),
    ("indices from 0 to 2, found -1", lambda: scatter_gather.gather(X, at(-1), validate_indices=True)),
    ("indices from -3 to 2, found 3", lambda: scatter_gather.gather_along_axis(X, at([0, 0, 0, 3]))),
    ("indices from -4 to 3, found 4", lambda: scatter_gather.gather_nd(X, at([0, 4]))),
    ("indices from 0 to 3, found -4", lambda: scatter_gather.gather_nd(X, at([0, -4]), validate_indices=True)),
    ("indices from -3 to 2, found 9", lambda: scatter_gather.scatter(X, at(9), X[:1])),
    ("indices from -3 to 2, found 9", lambda: scatter_gather.scatter_along_axis(X, at([0, 0, 0, 9]), X[:1])),
    ("indices from 0 to 2, found -1", lambda: scatter_gather.scatter_nd(X, at([-1]), X[:1], validate_indices=True)),
    ("an axis", lambda: scatter_gather.gather(X, at(0), axis=2)),
    ("batch axes", lambda: scatter_gather.gather(X, at([0, 0]), axis=0, batch_dims=1)),
    ("batch axes", lambda: scatter_gather.gather(X, at([0, 0]), axis=1, batch_dims=1)),
    ("batch axes", lambda: scatter_gather.gather_nd(X, at([0]), batch_dims=2)),
    ("last axis of indices", lambda: scatter_gather.gather_nd(X, at([0, 0, 0]))),
    ("last axis of indices", lambda: scatter_gather.scatter_nd(X, at([0, 0, 0]), X)),
    ("of the shape", lambda: scatter_gather.gather_along_axis(X, at([0, 0, 0]))),
    ("updates of shape", lambda: scatter_gather.scatter(X, at(0), X)),
    ("updates of shape", lambda: scatter_gather.scatter_nd(X, at([0]), X)),
    ("updates of shape", lambda: scatter_gather.scatter_along_axis(X, at([0, 0, 0, 0]), X)),
    ("mode update", lambda: scatter_gather.scatter(X, at(0), X[:1], mode="xor")),
    ("other than 0", lambda: scatter_gather.scatter(X.int(), at(0), X[:1].int(), mode="div")),
    ("bytes", lambda: scatter_gather.gather(torch.zeros(1, 10**6), torch.zeros(10**5, dtype=torch.int32))),
    ("bytes", lambda: scatter_gather.gather_nd(torch.zeros(1, 10**6), torch.zeros(10**5, 1, dtype=torch.int32))),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Places outside a tensor, shapes that do not fit and results that no memory holds are one sentence."""
    with pytest.raises(MilError, match=said):
        call()
