"""Making, joining, sorting and selecting agree with coremltools, onnxruntime and numpy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.errors import MilError
from mil.ops import tensor_operation
from tests.mil.ops.opinions import (
    EDGES,
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

OPERATIONS = declared_operations("tensor_operation")
RANDOM = np.random.default_rng(0)
ZERO, ONE = np.int32([0, 1])


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def int64(values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def order(x: np.ndarray, axis: int, ascending: bool) -> np.ndarray:
    """Return places sorted by value, equals by place."""
    rows = np.moveaxis(x, axis, -1)
    result = np.empty(rows.shape, np.int32)
    for place in np.ndindex(rows.shape[:-1]):
        row = rows[place].tolist()
        result[place] = sorted(range(len(row)), key=lambda n: (row[n] if ascending else -row[n], n))
    return np.moveaxis(result, -1, axis)


def argsort_loop(x: Any, axis: int = -1, ascending: bool = False) -> np.ndarray:
    return order(x, axis, ascending)


def argsort_onnx(x: Any, axis: int = -1, ascending: bool = False) -> Any:
    return topk_onnx(x, -1, axis, ascending)[1]


def topk_loop(
    x: Any, k: int = 1, axis: int = -1, ascending: bool = False, return_indices: bool = True, **_: Any
) -> Any:
    places = order(x, axis, ascending)
    places = np.take(places, range(x.shape[axis] if k == -1 else k), axis)
    values = np.take_along_axis(x, places, axis)
    return (values, places) if return_indices else values


def topk_onnx(
    x: Any, k: int = 1, axis: int = -1, ascending: bool = False, return_indices: bool = True, **_: Any
) -> Any:
    given = [x, int64([x.shape[axis] if k == -1 else k])]
    found = onnxruntime_run("TopK", given, outputs=2, axis=axis, largest=int(not ascending))
    return found if return_indices else found[0]


def band_loop(x: Any, lower: int = -1, upper: int = -1) -> np.ndarray:
    result = np.zeros_like(x)
    for m, n in np.ndindex(x.shape[-2:]):
        if (lower < 0 or m - n <= lower) and (upper < 0 or n - m <= upper):
            result[..., m, n] = x[..., m, n]
    return result


def band_onnx(x: Any, lower: int = -1, upper: int = -1) -> Any:
    if lower >= 0:
        (x,) = onnxruntime_run("Trilu", [x, int64(-lower)], upper=1)
    if upper >= 0:
        (x,) = onnxruntime_run("Trilu", [x, int64(upper)], upper=0)
    return x


def concat_numpy(values: Any, axis: int, interleave: bool = False) -> np.ndarray:
    if values[0].ndim == 0:
        return np.array(values)
    if not interleave:
        return np.concatenate(values, axis)
    slices = [np.take(value, [n], axis) for n in range(values[0].shape[axis]) for value in values]
    return np.concatenate(slices, axis)


def cumsum_loop(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> np.ndarray:
    rows = np.moveaxis(x, axis, 0)
    rows = rows[::-1] if reverse else rows
    total = np.zeros(rows.shape[1:], x.dtype)
    sums = np.empty_like(rows)
    for n, row in enumerate(rows):
        sums[n] = total if exclusive else total + row
        total = total + row
    return np.moveaxis(sums[::-1] if reverse else sums, 0, axis)


def cumsum_onnx(x: Any, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    return onnxruntime_run("CumSum", [x, int64(axis)], exclusive=int(exclusive), reverse=int(reverse))


def fill_numpy(shape: Any, value: Any = None) -> np.ndarray:
    return np.full(shape, np.float32(0) if value is None else value)


def fill_onnx(shape: Any, value: Any = None) -> Any:
    return onnxruntime_run("Expand", [np.asarray(np.float32(0) if value is None else value), int64(shape)])


def flatten_onnx(x: Any, axis: int = 1) -> Any:
    return onnxruntime_run("Flatten", [x], axis=axis)


def overlap(a: Any, b: Any) -> float:
    """Return intersection over union of two boxes given by centre and size."""
    sides = [
        max(0.0, min(a[n] + a[n + 2] / 2, b[n] + b[n + 2] / 2) - max(a[n] - a[n + 2] / 2, b[n] - b[n + 2] / 2))
        for n in range(2)
    ]
    shared, areas = sides[0] * sides[1], (a[2] * a[3], b[2] * b[3])
    return shared / (sum(areas) - shared) if min(areas) > 0 else 0.0


def nms_result(boxes: Any, scores: Any, max_boxes: int, taken: list[list[int]]) -> Any:
    n = len(boxes)
    kept_boxes, kept_scores = np.zeros((n, 4, max_boxes)), np.zeros((n, scores.shape[1], max_boxes))
    indices = np.full((n, max_boxes), -1)
    for item, places in enumerate(taken):
        kept_boxes[item, :, : len(places)] = boxes[item][:, places]
        kept_scores[item, :, : len(places)] = scores[item][:, places]
        indices[item, : len(places)] = places
    return kept_boxes, kept_scores, indices


def nms_loop(boxes: Any, scores: Any, iou_threshold: float, max_boxes: int, per_class_suppression: bool = False) -> Any:
    taken: list[list[int]] = []
    for corners, values in zip(boxes.astype(float), scores.astype(float), strict=True):
        best, classes, chosen = values.max(0), values.argmax(0), []
        for candidate in sorted(range(len(best)), key=lambda n: (-best[n], n)):
            rivals = [c for c in chosen if not per_class_suppression or classes[c] == classes[candidate]]
            if all(overlap(corners[:, candidate], corners[:, c]) <= iou_threshold for c in rivals):
                chosen.append(candidate)
        taken.append(chosen[:max_boxes])
    return nms_result(boxes, scores, max_boxes, taken)


def nms_onnx(boxes: Any, scores: Any, iou_threshold: float, max_boxes: int, per_class_suppression: bool = False) -> Any:
    """ONNX judges every class by itself: each box is entered under its best one, or all under one."""
    best, low = scores.max(1), scores.min() - 1
    classes = np.eye(scores.shape[1])[scores.argmax(1)].transpose(0, 2, 1) == 1
    entered = np.where(classes, scores, low) if per_class_suppression else best[:, None]
    (found,) = onnxruntime_run(
        "NonMaxSuppression",
        [
            boxes.transpose(0, 2, 1).copy(),
            entered.astype(np.float32),
            int64([boxes.shape[2]]),
            np.float32([iou_threshold]),
            np.float32([low + 0.5]),
        ],
        center_point_box=1,
    )
    taken = [
        sorted((int(box) for batch, _, box in found if batch == item), key=lambda n: -best[item, n])[:max_boxes]
        for item in range(len(boxes))
    ]
    return nms_result(boxes, scores, max_boxes, taken)


def one_hot_loop(
    indices: Any, one_hot_vector_size: int, axis: int = -1, on_value: Any = ONE, off_value: Any = ZERO
) -> np.ndarray:
    result = np.full((*indices.shape, one_hot_vector_size), off_value)
    for place in np.ndindex(indices.shape):
        if 0 <= indices[place] < one_hot_vector_size:
            result[(*place, indices[place])] = on_value
    return np.moveaxis(result, -1, axis)


def one_hot_onnx(
    indices: Any, one_hot_vector_size: int, axis: int = -1, on_value: Any = ONE, off_value: Any = ZERO
) -> Any:
    values = np.array([off_value, on_value])
    values = int64(values) if values.dtype.kind == "i" else values
    return onnxruntime_run("OneHot", [int64(indices), int64([one_hot_vector_size]), values], axis=axis)


def pad_loop(x: Any, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> np.ndarray:
    axes = len(pad) // 2
    sides = [(0, 0)] * (x.ndim - axes) + [(pad[2 * n], pad[2 * n + 1]) for n in range(axes)]
    result = np.full([n + sum(side) for n, side in zip(x.shape, sides, strict=True)], constant_val, x.dtype)
    for place in np.ndindex(result.shape):
        at = [p - before for p, (before, _) in zip(place, sides, strict=True)]
        if mode == "replicate":
            at = [min(max(a, 0), n - 1) for a, n in zip(at, x.shape, strict=True)]
        elif mode == "reflect":
            at = [-a if a < 0 else 2 * (n - 1) - a if a >= n else a for a, n in zip(at, x.shape, strict=True)]
        if all(0 <= a < n for a, n in zip(at, x.shape, strict=True)):
            result[place] = x[tuple(at)]
    return result


def pad_onnx(x: Any, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> Any:
    none = [0] * (x.ndim - len(pad) // 2)
    given = [x, int64(none + pad[::2] + none + pad[1::2]), np.asarray(constant_val, x.dtype)]
    return onnxruntime_run("Pad", given, mode={"replicate": "edge"}.get(mode, mode))


def range_loop(end: Any, start: Any, step: Any) -> np.ndarray:
    values, n = [], 0
    while (start + n * step < end) if step > 0 else (start + n * step > end):
        values.append(start + n * step)
        n += 1
    return np.array(values, start.dtype)


def split_numpy(x: Any, axis: int, num_splits: Any = None, split_sizes: Any = None) -> Any:
    sizes = split_sizes or [x.shape[axis] // num_splits] * num_splits
    ends = np.cumsum(sizes)
    return [np.take(x, range(end - size, end), axis) for size, end in zip(sizes, ends, strict=True)]


def split_onnx(x: Any, axis: int, num_splits: Any = None, split_sizes: Any = None) -> Any:
    sizes = split_sizes or [x.shape[axis] // num_splits] * num_splits
    return onnxruntime_run("Split", [x, int64(sizes)], outputs=len(sizes), axis=axis)


def stack_numpy(values: Any, axis: int) -> np.ndarray:
    result = np.empty((*values[0].shape, len(values)), values[0].dtype)
    for n, value in enumerate(values):
        result[..., n] = value
    return np.moveaxis(result, -1, axis)


def concat_onnx(values: Any, axis: int, **_: Any) -> Any:
    return onnxruntime_run("Concat", values, axis=axis)


def tile_onnx(x: Any, reps: Any) -> Any:
    return onnxruntime_run("Tile", [x, int64(reps)])


OPINIONS = {
    "argsort": [numpy(argsort_loop), coremltools("argsort"), Opinion("onnxruntime", argsort_onnx)],
    "band_part": [numpy(band_loop), coremltools("band_part"), Opinion("onnxruntime", band_onnx)],
    "concat": [numpy(concat_numpy), coremltools("concat"), Opinion("onnxruntime", concat_onnx)],
    "cumsum": [numpy(cumsum_loop), coremltools("cumsum"), Opinion("onnxruntime", cumsum_onnx)],
    "fill": [numpy(fill_numpy), coremltools("fill"), Opinion("onnxruntime", fill_onnx)],
    "fill_like": [numpy(lambda ref_tensor, **v: fill_numpy(ref_tensor.shape, **v)), coremltools("fill_like")],
    "flatten2d": [
        numpy(lambda x, axis=1: x.reshape(math.prod(x.shape[:axis]), -1)),
        coremltools("flatten2d"),
        Opinion("onnxruntime", flatten_onnx),
    ],
    "identity": [numpy(lambda x: x), coremltools("identity"), onnxruntime_node("Identity", "x")],
    "non_maximum_suppression": [numpy(nms_loop), Opinion("onnxruntime", nms_onnx)],
    "non_zero": [
        numpy(lambda x: np.array([place for place in np.ndindex(x.shape) if x[place]]).reshape(-1, x.ndim).astype(int)),
        coremltools("non_zero"),
        Opinion("onnxruntime", lambda x: onnxruntime_run("NonZero", [x])[0].T),
    ],
    "one_hot": [numpy(one_hot_loop), Opinion("onnxruntime", one_hot_onnx)],
    "pad": [numpy(pad_loop), coremltools("pad"), Opinion("onnxruntime", pad_onnx)],
    "range_1d": [
        numpy(range_loop),
        coremltools("range_1d"),
        onnxruntime_node("Range", "start", "end", "step"),
    ],
    "shape": [numpy(lambda x: np.array(x.shape, int)), coremltools("shape"), onnxruntime_node("Shape", "x")],
    "split": [numpy(split_numpy), coremltools("split"), Opinion("onnxruntime", split_onnx)],
    "stack": [numpy(stack_numpy), coremltools("stack")],
    "tile": [numpy(lambda x, reps: np.tile(x, reps)), coremltools("tile"), Opinion("onnxruntime", tile_onnx)],
    "topk": [numpy(topk_loop), coremltools("topk"), Opinion("onnxruntime", topk_onnx)],
}
UNKNOWN = {"coremltools": "infers no value of an empty tensor"}
IN_ORDER = {"coremltools": "infers what interleave false gives"}
BROKEN = {"coremltools": "stumbles over its own zeros"}
NO_SUCH_TYPE = {"onnxruntime": "has no kernel for the type"}
NO_SIZES = {"coremltools": "multiplies no sizes to a float"}
UNSTABLE = {"coremltools": "sorts equals as numpy happens to"}
X3, X4 = normal(2, 3, 4), normal(2, 3, 4, 5)
TIES, COUNTS = np.float32([[3, 1, 3, 2], [0, -0.0, 5, 5]]), RANDOM.integers(-9, 9, (3, 4)).astype(np.int32)
INFINITE, BOOL = np.float32([[1, np.inf, -np.inf], [65504, -65504, 5.96e-8]]), COUNTS > 0
ODD = np.float32([[np.nan, np.inf, 1], [-np.inf, np.nan, 2], [3, 4, np.inf]])
BOXES = np.float32(RANDOM.uniform([5, 5, 2, 2], [15, 15, 9, 9], (2, 12, 4))).transpose(0, 2, 1).copy()
SCORES = normal(2, 3, 12)
FLAT = BOXES.copy()
FLAT[:, 2, ::2] = 0


def scalar(value: Any, dtype: Any) -> np.ndarray:
    return np.array(value, dtype)


def row(operation: str, about: str, not_asked: dict[str, str] | None = None, **inputs: Any) -> Row:
    return Row(operation, inputs, about, rtol=1e-5, atol=1e-6, not_asked=not_asked or {})


def counting(start: Any, end: Any, step: Any, dtype: Any) -> dict[str, np.ndarray]:
    return {"start": scalar(start, dtype), "end": scalar(end, dtype), "step": scalar(step, dtype)}


ROWS = [
    row("argsort", "falling, last axis", x=X3),
    row("argsort", "rising, first axis", x=X3, axis=0, ascending=True),
    row("argsort", "equals", UNSTABLE, x=TIES),
    row("argsort", "infinity", x=INFINITE, axis=-2),
    row("argsort", "integers", UNSTABLE, x=COUNTS, axis=1, ascending=True),
    row("argsort", "one element", x=normal(1, 1)),
    row("band_part", "upper triangle", x=X3, lower=0),
    row("band_part", "lower triangle", x=X3, upper=0),
    row("band_part", "band", x=normal(5, 5), lower=1, upper=2),
    row("band_part", "everything", x=X3),
    row(
        "band_part", "nan and infinity outside are gone", {"coremltools": "multiplies with 0"}, x=ODD, lower=0, upper=0
    ),
    row("band_part", "bool", {"coremltools": "multiplies"}, x=BOOL, lower=0),
    row("concat", "last axis", values=[normal(2, 3), normal(2, 1)], axis=-1),
    row("concat", "three, one empty", UNKNOWN, values=[normal(1, 3), normal(0, 3), normal(2, 3)], axis=0),
    row("concat", "one", values=[X3], axis=1),
    row(
        "concat",
        "scalars",
        {"onnxruntime": "joins no scalars"},
        values=[scalar(1.5, np.float32), scalar(2, np.float32)],
        axis=0,
    ),
    row(
        "concat",
        "interleaved",
        IN_ORDER | {"onnxruntime": "cannot interleave"},
        values=[X3, -X3, 2 * X3],
        axis=1,
        interleave=True,
    ),
    row(
        "concat",
        "interleaved, last axis",
        IN_ORDER | {"onnxruntime": "cannot interleave"},
        values=[COUNTS, -COUNTS],
        axis=-1,
        interleave=True,
    ),
    row("concat", "bool", values=[BOOL, ~BOOL], axis=1),
    row("cumsum", "first axis", x=X3),
    row("cumsum", "last axis, reverse", x=X3, axis=-1, reverse=True),
    row("cumsum", "exclusive", BROKEN, x=X3, axis=1, exclusive=True),
    row("cumsum", "exclusive, reverse", BROKEN, x=X3, axis=2, exclusive=True, reverse=True),
    row("cumsum", "integers that wrap", x=np.int32([2**31 - 1, 1, 5])),
    row("cumsum", "infinity stays out of an exclusive sum", BROKEN, x=np.float32([1, np.inf]), exclusive=True),
    row("cumsum", "empty", UNKNOWN | BROKEN, x=normal(0, 3), exclusive=True),
    row("fill", "zeros by default", shape=[2, 3]),
    row("fill", "floats", shape=[1, 4], value=scalar(-2.5, np.float32)),
    row("fill", "integers", shape=[3], value=scalar(7, np.int32)),
    row("fill", "bool", shape=[2, 2], value=scalar(True, bool)),
    row("fill", "no axis", {"coremltools": "has no shape without sizes"}, shape=[], value=scalar(3, np.int32)),
    row("fill", "none", UNKNOWN, shape=[2, 0], value=scalar(3, np.int32)),
    row("fill_like", "zeros by default", ref_tensor=COUNTS),
    row("fill_like", "bool", ref_tensor=X3, value=scalar(True, bool)),
    row("flatten2d", "default", x=X4),
    row("flatten2d", "negative", x=X4, axis=-1),
    row("flatten2d", "vector, negative", NO_SIZES, x=normal(3), axis=-1),
    row("flatten2d", "vector", NO_SIZES, x=normal(3)),
    row("flatten2d", "nothing before", NO_SIZES, x=X3, axis=0),
    row("identity", "floats", x=ODD),
    row("identity", "scalar", x=scalar(2, np.int32)),
    row("non_maximum_suppression", "across classes", boxes=BOXES, scores=SCORES, iou_threshold=0.2, max_boxes=12),
    row(
        "non_maximum_suppression",
        "per class",
        boxes=BOXES,
        scores=SCORES,
        iou_threshold=0.1,
        max_boxes=12,
        per_class_suppression=True,
    ),
    row("non_maximum_suppression", "the best three", boxes=BOXES, scores=SCORES, iou_threshold=0.3, max_boxes=3),
    row(
        "non_maximum_suppression",
        "more room than boxes",
        boxes=BOXES,
        scores=SCORES[:, :1].copy(),
        iou_threshold=0.9,
        max_boxes=20,
    ),
    row("non_maximum_suppression", "boxes without area", boxes=FLAT, scores=SCORES, iou_threshold=0.0, max_boxes=12),
    row(
        "non_maximum_suppression",
        "no boxes",
        {"onnxruntime": "needs a box"},
        boxes=normal(1, 4, 0),
        scores=normal(1, 2, 0),
        iou_threshold=0.5,
        max_boxes=2,
    ),
    row("non_zero", "floats", x=np.float32([[0, 1, -0.0], [np.nan, 0, np.inf]])),
    row("non_zero", "bool", x=BOOL),
    row("non_zero", "none", UNKNOWN, x=np.zeros((2, 3), np.int32)),
    row("one_hot", "default", indices=np.int32([0, 2, 1]), one_hot_vector_size=4),
    row(
        "one_hot",
        "first axis, floats",
        indices=np.int32([[0, 2], [1, 1]]),
        one_hot_vector_size=3,
        axis=0,
        on_value=scalar(2.5, np.float32),
        off_value=scalar(-1, np.float32),
    ),
    row(
        "one_hot",
        "negative axis, bool",
        NO_SUCH_TYPE,
        indices=np.int32([[0, 2]]),
        one_hot_vector_size=3,
        axis=-2,
        on_value=scalar(True, bool),
        off_value=scalar(False, bool),
    ),
    row(
        "one_hot",
        "out of range",
        {"onnxruntime": "counts negative ones from the end"},
        indices=np.int32([-1, 3, 1]),
        one_hot_vector_size=3,
    ),
    row("one_hot", "scalar", {"onnxruntime": "needs an axis"}, indices=scalar(1, np.int32), one_hot_vector_size=3),
    row("pad", "constant, last axes", x=X3, pad=[1, 0, 2, 3], constant_val=-1.5),
    row("pad", "constant, all axes of five", x=normal(1, 2, 1, 2, 1), pad=[0, 1, 1, 0, 0, 0, 2, 0, 0, 1]),
    row("pad", "reflect, one axis", x=X3, pad=[3, 2], mode="reflect"),
    row("pad", "reflect, every axis", x=X4, pad=[1, 1, 2, 0, 0, 3, 4, 2], mode="reflect"),
    row("pad", "replicate, every axis", x=X4, pad=[1, 1, 2, 0, 0, 5, 4, 2], mode="replicate"),
    row("pad", "replicate, one element", x=normal(1), pad=[2, 1], mode="replicate"),
    row("pad", "replicate, nan and infinity", x=ODD, pad=[1, 1, 1, 1], mode="replicate"),
    row("pad", "nothing", x=X3, pad=[0, 0], mode="reflect"),
    row("pad", "empty, constant", UNKNOWN, x=normal(2, 0), pad=[1, 2], constant_val=4.0),
    row("pad", "-inf", x=X3, pad=[0, 1], constant_val=-math.inf),
    row("range_1d", "integers", **counting(3, 11, 3, np.int32)),
    row("range_1d", "backwards", **counting(5, -1, -2, np.int32)),
    row("range_1d", "floats", **counting(0.5, 3, 0.25, np.float32)),
    row("range_1d", "exact beyond float32", **counting(2**30, 2**30 + 5, 1, np.int32)),
    row("range_1d", "away from the end", UNKNOWN, **counting(5, 1, 1, np.int32)),
    row("shape", "floats", x=X4),
    row("shape", "empty, bool", x=np.zeros((0, 5), bool)),
    row("split", "equal", x=normal(2, 6), axis=-1, num_splits=3),
    row("split", "sizes", x=X3, axis=1, split_sizes=[2, 1]),
    row("split", "sizes and number", x=X4, axis=-2, num_splits=2, split_sizes=[1, 3]),
    row("split", "one", x=X3, axis=0, num_splits=1),
    row("split", "one empty", x=X3, axis=2, split_sizes=[4, 0], not_asked=UNKNOWN),
    row("split", "bool", x=BOOL, axis=0, num_splits=3),
    row("stack", "last axis", values=[X3, -X3], axis=-1),
    row("stack", "middle", values=[COUNTS, -COUNTS, COUNTS], axis=1),
    row("stack", "scalars", values=[scalar(1.5, np.float32), scalar(2, np.float32)], axis=0),
    row("tile", "each axis", x=X3, reps=[2, 1, 3]),
    row("tile", "ones only", x=normal(1, 3, 1), reps=[4, 1, 2]),
    row("tile", "bool", x=BOOL, reps=[1, 2]),
    row("topk", "the largest", x=X3),
    row("topk", "the smallest two, first axis", x=normal(5, 3), k=2, axis=0, ascending=True),
    row("topk", "equals", UNSTABLE, x=TIES, k=3),
    row("topk", "all", x=X3, k=-1, not_asked={"coremltools": "leaves out the last"}),
    row("topk", "values only", {"coremltools": "sets no index type then"}, x=X3, k=2, return_indices=False),
    row("topk", "unsorted, uint16", x=X3, k=2, sort=False, output_indices_dtype="uint16"),
    row("topk", "integers, infinity", x=INFINITE, k=3),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What these operations give is what coremltools, onnxruntime and loops give."""
    agree(tensor_operation, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(tensor_operation, OPERATIONS, OPINIONS, ROWS)


def test_nan_sorts_as_the_largest() -> None:
    """Sorting has a place for NaN: first when falling, last when rising, whoever asks."""
    x = torch.tensor([1.0, math.nan, math.inf, -2.0])
    assert tensor_operation.argsort(x).tolist() == [1, 2, 0, 3]
    assert tensor_operation.topk(x, 4, ascending=True)[1].tolist() == [3, 0, 2, 1]


def test_cumsum_rounds_its_running_sum_where_the_mode_rounds() -> None:
    """In fp16, 2048 + 1 is 2048 again at every step, however many ones follow; integers are never rounded."""
    x = torch.tensor([[2048.0, 1, 1, 1, 1]])

    def half(value: torch.Tensor) -> torch.Tensor:
        return value.half().float()

    assert tensor_operation.cumsum(x, -1, rounding=half).tolist() == [[2048.0] * 5]
    backwards = tensor_operation.cumsum(x, -1, exclusive=True, reverse=True, rounding=half)
    assert backwards.tolist() == [[4.0, 3.0, 2.0, 1.0, 0.0]]
    assert tensor_operation.cumsum(x.int(), -1, rounding=half).tolist() == [[2048, 2049, 2050, 2051, 2052]]
    assert tensor_operation.cumsum(x[:, :0], -1, rounding=half).shape == (1, 0)


def test_what_needs_no_copy_is_a_view() -> None:
    """Parts of a split, a single tensor joined and repeated axes of size 1 share the memory of x."""
    x = torch.zeros(1, 6)
    shared = [
        *tensor_operation.split(x, 3, None, 1)[:1],
        tensor_operation.concat([x], 0),
        tensor_operation.tile(x, [1000, 1]),
        tensor_operation.flatten2d(x),
    ]
    assert all(part.data_ptr() == x.data_ptr() for part in shared)


@settings(max_examples=100, deadline=None)
@given(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=3), elements=st.sampled_from(EDGES[:22].tolist())), st.data()
)
def test_topk_is_the_beginning_of_a_sort(x: np.ndarray, data: st.DataObject) -> None:
    """The k largest are the first k of argsort, and their places say where they stood, for any ties."""
    axis, ascending = data.draw(st.integers(-x.ndim, x.ndim - 1)), data.draw(st.booleans())
    k = data.draw(st.integers(1, x.shape[axis]))
    values, places = ask_ours(tensor_operation.topk, {"x": x, "k": k, "axis": axis, "ascending": ascending})
    np.testing.assert_array_equal(values, np.take_along_axis(x, places, axis))
    (whole,) = ask_ours(tensor_operation.argsort, {"x": x, "axis": axis, "ascending": ascending})
    np.testing.assert_array_equal(places, np.take(whole, range(k), axis))
    np.testing.assert_array_equal(whole, order(x, axis, ascending))


@settings(max_examples=100, deadline=None)
@given(arrays.array_shapes(max_dims=3), st.data())
def test_split_undoes_concat(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Parts of any sizes along any axis come back, interleaved or not."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    parts = [
        torch.from_numpy(normal(*(s if n == axis % len(shape) else d for n, d in enumerate(shape)))) for s in sizes
    ]
    back = tensor_operation.split(tensor_operation.concat(parts, axis), None, sizes, axis)
    pairs = zip(parts, back if isinstance(back, tuple) else (back,), strict=True)
    assert all(torch.equal(part, other) for part, other in pairs)
    whole = torch.from_numpy(normal(*shape))
    mixed = tensor_operation.concat([whole, -whole], axis, True)
    assert torch.equal(mixed.index_select(axis, torch.arange(0, mixed.shape[axis], 2)), whole)


@settings(max_examples=100, deadline=None)
@given(arrays.array_shapes(max_dims=5, max_side=4), st.sampled_from(["constant", "reflect", "replicate"]), st.data())
def test_any_padding_is_numpys(shape: tuple[int, ...], mode: str, data: st.DataObject) -> None:
    """Every mode pads any number of axes of any rank as numpy does."""
    sides = [
        (data.draw(st.integers(0, n - 1 if mode == "reflect" else 3)), data.draw(st.integers(0, n - 1)))
        for n in shape[data.draw(st.integers(0, len(shape) - 1)) :]
    ]
    x = normal(*shape)
    inputs = {"x": x, "pad": [side for pair in sides for side in pair], "mode": mode}
    (ours,) = ask_ours(tensor_operation.pad, inputs)
    whole = [(0, 0)] * (len(shape) - len(sides)) + sides
    np.testing.assert_array_equal(ours, np.pad(x, whole, "edge" if mode == "replicate" else mode))


@settings(max_examples=100, deadline=None)
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_a_range_of_integers_is_pythons(start: int, end: int, step: int) -> None:
    """Begin, end and step of either sign give Python's range."""
    (ours,) = ask_ours(tensor_operation.range_1d, counting(start, end, step, np.int32))
    assert ours.tolist() == list(range(start, end, step))


X, OPS = torch.zeros(3, 4), tensor_operation
HUGE = 10**12
REFUSED: list[tuple[str, Any]] = [
    ("an axis", lambda: OPS.argsort(X, 2)),
    ("an axis", lambda: OPS.cumsum(X, 2)),
    ("an axis", lambda: OPS.topk(X, 1, 2)),
    ("an axis", lambda: OPS.split(X, 2, None, 2)),
    ("rank 2", lambda: OPS.band_part(X[0])),
    ("join along axis 0", lambda: OPS.concat([], 0)),
    ("join along axis 0", lambda: OPS.concat([X, X[0]], 0)),
    ("join along axis 0", lambda: OPS.concat([X, torch.zeros(0)], 0)),
    ("join along axis 0", lambda: OPS.concat([X, X[:, :2]], 0)),
    ("join along axis 1", lambda: OPS.concat([X, X[:, :2]], 1, True)),
    ("join along axis 2", lambda: OPS.concat([X, X], 2)),
    ("join along axis 0", lambda: OPS.stack([X, X[:2]], 0)),
    ("join along axis 3", lambda: OPS.stack([X, X], 3)),
    ("bytes", lambda: OPS.fill([HUGE])),
    ("sizes of 0 or more", lambda: OPS.fill([2, -1])),
    ("bytes", lambda: OPS.tile(X, [HUGE, 1])),
    ("1 or more in reps", lambda: OPS.tile(X, [0, 1])),
    ("1 or more in reps", lambda: OPS.tile(X, [2])),
    ("bytes", lambda: OPS.one_hot(torch.zeros(2, dtype=torch.int32), HUGE)),
    ("sizes of 0 or more", lambda: OPS.one_hot(torch.zeros(2, dtype=torch.int32), -1)),
    ("a new axis", lambda: OPS.one_hot(torch.zeros(2, dtype=torch.int32), 2, 2)),
    ("bytes", lambda: OPS.pad(X, [0, HUGE])),
    ("bytes", lambda: OPS.pad(X, [HUGE, 0], "replicate")),
    ("pairs", lambda: OPS.pad(X, [1])),
    ("pairs", lambda: OPS.pad(X, [-1, 0])),
    ("pairs", lambda: OPS.pad(X, [0] * 6)),
    ("to reflect 4 and 0 elements from, found 4", lambda: OPS.pad(X, [4, 0], "reflect")),
    ("to replicate", lambda: OPS.pad(X[:, :0], [1, 0], "replicate")),
    ("mode constant", lambda: OPS.pad(X, [1, 0], "symmetric")),
    ("mode constant", lambda: OPS.pad(X, [0, 0], "symmetric")),
    ("bytes", lambda: OPS.range_1d(torch.tensor(HUGE), torch.tensor(0), torch.tensor(1))),
    ("other than 0", lambda: OPS.range_1d(torch.tensor(5), torch.tensor(0), torch.tensor(0))),
    ("finite", lambda: OPS.range_1d(torch.tensor(math.inf), torch.tensor(0.0), torch.tensor(1.0))),
    ("finite", lambda: OPS.range_1d(torch.tensor(1.0), torch.tensor(math.nan), torch.tensor(1.0))),
    ("finite", lambda: OPS.range_1d(torch.tensor(3e38), torch.tensor(-3e38), torch.tensor(1.0))),
    ("divide 4 elements", lambda: OPS.split(X, 3, None, 1)),
    ("divide 4 elements", lambda: OPS.split(X, None, None, 1)),
    ("add up to 4", lambda: OPS.split(X, None, [2, 3], 1)),
    ("add up to 4", lambda: OPS.split(X, None, [5, -1], 1)),
    ("add up to 4", lambda: OPS.split(X, 3, [2, 2], 1)),
    ("k of at most 4", lambda: OPS.topk(X, 5)),
    ("boxes", lambda: OPS.non_maximum_suppression(X, X, 0.5, 3)),
    ("bytes", lambda: OPS.non_maximum_suppression(torch.zeros(1, 4, 2), torch.zeros(1, 1, 2), 0.5, HUGE)),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Axes, sizes and ranges that cannot be are one sentence, before anything is allocated."""
    with pytest.raises(MilError, match=said):
        call()
