"""Rearranging, reshaping and slicing agree with coremltools, onnxruntime and numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import tensor_transformation
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

OPERATIONS = declared_operations("tensor_transformation")
RANDOM = np.random.default_rng(0)
MOST = 2**31 - 1


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def counted(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


def space_to_batch_loop(x: np.ndarray, block_shape: Any, paddings: Any) -> np.ndarray:
    bh, bw = block_shape
    padded = np.pad(x, [(0, 0), (0, 0), tuple(paddings[:2]), tuple(paddings[2:])])
    return np.concatenate([padded[:, :, i::bh, j::bw] for i in range(bh) for j in range(bw)])


def batch_to_space_loop(x: np.ndarray, block_shape: Any, crops: Any) -> np.ndarray:
    (bh, bw), (n, c, h, w) = block_shape, x.shape
    n //= bh * bw
    result = np.empty((n, c, h * bh, w * bw), x.dtype)
    for block in range(bh * bw):
        result[:, :, block // bw :: bh, block % bw :: bw] = x[block * n : (block + 1) * n]
    return result[:, :, crops[0] : h * bh - crops[1], crops[2] : w * bw - crops[3]]


def space_to_batch_onnx(x: np.ndarray, block_shape: Any, paddings: Any) -> Any:
    """With the batch as channels, blocks of space are what SpaceToDepth gathers."""
    assert block_shape[0] == block_shape[1]
    padded = np.pad(x, [(0, 0), (0, 0), tuple(paddings[:2]), tuple(paddings[2:])])
    (found,) = onnxruntime_run("SpaceToDepth", [padded.transpose(1, 0, 2, 3).copy()], blocksize=block_shape[0])
    return found.transpose(1, 0, 2, 3)


def batch_to_space_onnx(x: np.ndarray, block_shape: Any, crops: Any) -> Any:
    assert block_shape[0] == block_shape[1]
    (found,) = onnxruntime_run("DepthToSpace", [x.transpose(1, 0, 2, 3).copy()], blocksize=block_shape[0])
    _, _, h, w = found.shape
    return found.transpose(1, 0, 2, 3)[:, :, crops[0] : h - crops[1], crops[2] : w - crops[3]]


def depth_to_space_loop(x: np.ndarray, block_size: int) -> np.ndarray:
    n, c, h, w = x.shape
    b, out = block_size, c // block_size**2
    result = np.empty((n, out, h * b, w * b), x.dtype)
    for i, j in np.ndindex(b, b):
        result[:, :, i::b, j::b] = x[:, (i * b + j) * out : (i * b + j + 1) * out]
    return result


def space_to_depth_loop(x: np.ndarray, block_size: int) -> np.ndarray:
    b = block_size
    return np.concatenate([x[:, :, i::b, j::b] for i in range(b) for j in range(b)], 1)


def pixel_shuffle_loop(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    n, c, h, w = x.shape
    f = upscale_factor
    result = np.empty((n, c // f**2, h * f, w * f), x.dtype)
    for i, j in np.ndindex(f, f):
        result[:, :, i::f, j::f] = x[:, i * f + j :: f * f]
    return result


def pixel_unshuffle_loop(x: np.ndarray, downscale_factor: int) -> np.ndarray:
    n, c, h, w = x.shape
    f = downscale_factor
    result = np.empty((n, c * f * f, h // f, w // f), x.dtype)
    for i, j in np.ndindex(f, f):
        result[:, i * f + j :: f * f] = x[:, :, i::f, j::f]
    return result


def reshape_numpy(x: np.ndarray, shape: Any) -> np.ndarray:
    from_end = dict(enumerate(reversed(x.shape)))
    place = reversed(range(len(shape)))
    return x.reshape([from_end.get(p, 1) if size == 0 else size for size, p in zip(shape, place, strict=True)])


def reshape_like_numpy(x: Any, ref_tensors: Any, begins: Any, ends: Any, end_masks: Any) -> np.ndarray:
    shape: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += ref.shape[begin:] if mask else ref.shape[begin:end]
    return x.reshape(shape)


def reshape_like_onnx(x: Any, ref_tensors: Any, begins: Any, ends: Any, end_masks: Any) -> Any:
    parts = [
        onnxruntime_run("Shape", [ref], start=begin, end=None if mask else end)[0]
        for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True)
    ]
    return onnxruntime_run("Reshape", [x, np.concatenate(parts)], allowzero=1)


def reverse_sequence_loop(x: Any, lengths: Any, seq_axis: int = 0, batch_axis: int = 0) -> np.ndarray:
    rows = np.moveaxis(x, (batch_axis, seq_axis), (0, 1)).copy()
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(rows, (0, 1), (batch_axis, seq_axis))


def reverse_sequence_onnx(x: Any, lengths: Any, seq_axis: int = 0, batch_axis: int = 0) -> Any:
    """ONNX reverses the first two axes only."""
    rows = np.moveaxis(x, (batch_axis, seq_axis), (0, 1)).copy()
    given = [rows, lengths.astype(np.int64)]
    (found,) = onnxruntime_run("ReverseSequence", given, batch_axis=0, time_axis=1)
    return np.moveaxis(found, (0, 1), (batch_axis, seq_axis))


def slice_axes(x: Any, begin: Any, end: Any, stride: Any, begin_mask: Any, end_mask: Any) -> list[list[int]]:
    """Return the places taken along each axis, counted one by one."""
    taken = []
    for axis, size in enumerate(x.shape):
        step = stride[axis] if stride else 1
        first, last = begin[axis], end[axis]
        first, last = (value + size if value < 0 else value for value in (first, last))
        if step > 0:
            place = 0 if begin_mask and begin_mask[axis] else max(first, 0)
            stop = size if end_mask and end_mask[axis] else min(last, size)
        else:
            place = size - 1 if begin_mask and begin_mask[axis] else min(first, size - 1)
            stop = -1 if end_mask and end_mask[axis] else max(last, -1)
        taken.append([p for p in range(place, stop, step) if 0 <= p < size])
    return taken


def slice_loop(
    x: Any,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> np.ndarray:
    squeezed = squeeze_mask or [False] * x.ndim
    taken = slice_axes(x, begin, end, stride, begin_mask, end_mask)
    taken = [
        [0 if begin_mask and begin_mask[axis] else begin[axis]] if squeezed[axis] else places
        for axis, places in enumerate(taken)
    ]
    for axis, places in enumerate(taken):
        x = np.take(x, np.array(places, int), axis)
    return x.reshape([n for n, gone in zip(x.shape, squeezed, strict=True) if not gone])


def slice_onnx(
    x: Any, begin: Any, end: Any, stride: Any = None, begin_mask: Any = None, end_mask: Any = None, **_: Any
) -> Any:
    """Masked ends lie farther than any axis reaches."""
    steps = stride or [1] * x.ndim
    ends = [[*(begin_mask or [False] * x.ndim)], [*(end_mask or [False] * x.ndim)]]
    begins = [(0 if s > 0 else MOST) if m else b for b, s, m in zip(begin, steps, ends[0], strict=True)]
    lasts = [(MOST if s > 0 else -MOST) if m else e for e, s, m in zip(end, steps, ends[1], strict=True)]
    given = [np.array(values, np.int64) for values in (begins, lasts, range(x.ndim), steps)]
    return onnxruntime_run("Slice", [x, *given])


def slice_update_loop(x: Any, update: Any, **where: Any) -> np.ndarray:
    """The number of each element says where a slice of the numbers writes."""
    numbers = slice_loop(np.arange(x.size).reshape(x.shape), **where)
    result = x.copy().reshape(-1)
    result[numbers.reshape(-1)] = update.reshape(-1)
    return result.reshape(x.shape)


def slice_by_size_onnx(x: Any, begin: Any, size: Any) -> Any:
    begins = [b + n if b < 0 else b for b, n in zip(begin, x.shape, strict=True)]
    return slice_onnx(x, begins, [MOST if s == -1 else b + s for b, s in zip(begins, size, strict=True)])


def slice_by_size_numpy(x: Any, begin: Any, size: Any) -> np.ndarray:
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        places = np.arange(x.shape[axis])[first:]
        x = np.take(x, places if count == -1 else places[:count], axis)
    return x


def windows_loop(x: Any, axis: int, size: int, stride: int = 1) -> np.ndarray:
    axis %= x.ndim
    starts = range(0, x.shape[axis] - size + 1, stride)
    return np.stack([np.take(x, range(start, start + size), axis) for start in starts], axis)


def windows_torch(x: Any, axis: int, size: int, stride: int = 1) -> np.ndarray:
    """By im2col, which copies columns of an image."""
    rows = torch.from_numpy(np.moveaxis(x, axis, -1).astype(np.float32).copy())
    image = rows.reshape(-1, 1, 1, rows.shape[-1])
    columns = torch.nn.functional.unfold(image, (1, size), stride=(1, stride))  # (rest, size, windows)
    found = columns.transpose(1, 2).reshape(*rows.shape[:-1], -1, size).numpy()
    return np.moveaxis(found, (-2, -1), (axis % x.ndim, axis % x.ndim + 1)).astype(x.dtype)


def squeeze_numpy(x: Any, axes: Any = None) -> np.ndarray:
    gone = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    return x.reshape([n for axis, n in enumerate(x.shape) if axis not in gone or n != 1])


def transpose_loop(x: Any, perm: Any) -> np.ndarray:
    result = np.empty([x.shape[axis] for axis in perm], x.dtype)
    for place in np.ndindex(x.shape):
        result[tuple(place[axis] for axis in perm)] = x[place]
    return result


def expand_dims_numpy(x: Any, axes: Any) -> np.ndarray:
    return np.expand_dims(x, tuple(axes))


def on_axes(op_type: str) -> Opinion:
    def answer(x: Any, axes: Any = None) -> Any:
        return onnxruntime_run(op_type, [x] if axes is None else [x, np.array(axes, np.int64)])

    return Opinion("onnxruntime", answer)


def reverse_onnx(x: Any, axes: Any = None) -> Any:
    axes = list(range(x.ndim)) if axes is None else axes
    ends = [-MOST] * len(axes), axes, [-1] * len(axes)
    return onnxruntime_run("Slice", [x, *(np.array(v, np.int64) for v in ([-1] * len(axes), *ends))])


OPINIONS = {
    "batch_to_space": [numpy(batch_to_space_loop), Opinion("onnxruntime", batch_to_space_onnx)],
    "space_to_batch": [numpy(space_to_batch_loop), Opinion("onnxruntime", space_to_batch_onnx)],
    "depth_to_space": [
        numpy(depth_to_space_loop),
        onnxruntime_node("DepthToSpace", "x", blocksize=lambda **inputs: inputs["block_size"]),
    ],
    "space_to_depth": [
        numpy(space_to_depth_loop),
        onnxruntime_node("SpaceToDepth", "x", blocksize=lambda **inputs: inputs["block_size"]),
    ],
    "pixel_shuffle": [
        numpy(pixel_shuffle_loop),
        onnxruntime_node("DepthToSpace", "x", blocksize=lambda **inputs: inputs["upscale_factor"], mode="CRD"),
    ],
    "pixel_unshuffle": [
        numpy(pixel_unshuffle_loop),
        Opinion("torch", lambda x, downscale_factor: torch.pixel_unshuffle(torch.from_numpy(x), downscale_factor)),
    ],
    "expand_dims": [numpy(expand_dims_numpy), coremltools("expand_dims"), on_axes("Unsqueeze")],
    "squeeze": [numpy(squeeze_numpy), coremltools("squeeze"), on_axes("Squeeze")],
    "reshape": [
        numpy(reshape_numpy),
        coremltools("reshape"),
        Opinion("onnxruntime", lambda x, shape: onnxruntime_run("Reshape", [x, np.array(shape, np.int64)])),
    ],
    "reshape_like": [numpy(reshape_like_numpy), Opinion("onnxruntime", reshape_like_onnx)],
    "reverse": [
        numpy(lambda x, axes=None: np.flip(x, axes if axes is None else tuple(axes))),
        coremltools("reverse"),
        Opinion("onnxruntime", reverse_onnx),
    ],
    "reverse_sequence": [numpy(reverse_sequence_loop), Opinion("onnxruntime", reverse_sequence_onnx)],
    "slice_by_index": [numpy(slice_loop), coremltools("slice_by_index"), Opinion("onnxruntime", slice_onnx)],
    "slice_by_size": [
        numpy(slice_by_size_numpy),
        coremltools("slice_by_size"),
        Opinion("onnxruntime", slice_by_size_onnx),
    ],
    "slice_update": [numpy(slice_update_loop), coremltools("slice_update")],
    "sliding_windows": [numpy(windows_loop), Opinion("torch", windows_torch)],
    "transpose": [
        numpy(transpose_loop),
        coremltools("transpose"),
        onnxruntime_node("Transpose", "x", perm=lambda **inputs: [axis % inputs["x"].ndim for axis in inputs["perm"]]),
    ],
}
UNKNOWN = {"coremltools": "infers no value of an empty tensor"}
ZERO_ELSEWHERE = {"onnxruntime": "counts 0 from the front"}
SQUARE = {"onnxruntime": "has square blocks only"}
SQUEEZED = {"onnxruntime": "drops no axis"}
X4, ODD = normal(2, 8, 4, 6), np.float32([[np.nan, np.inf, -np.inf], [65504, -0.0, 5.96e-8]])
COUNT, BOOL = counted(2, 3, 4), counted(2, 3, 4) % 3 == 0


def row(operation: str, about: str, not_asked: dict[str, str] | None = None, **inputs: Any) -> Row:
    return Row(operation, inputs, about, rtol=0, atol=0, not_asked=not_asked or {})


ROWS = [
    row("batch_to_space", "blocks of 2, cropped", x=normal(8, 3, 2, 3), block_shape=[2, 2], crops=[0, 1, 2, 1]),
    row("batch_to_space", "other blocks", SQUARE, x=normal(6, 1, 2, 2), block_shape=[2, 3], crops=[0, 0, 0, 0]),
    row("space_to_batch", "blocks of 2, padded", x=X4[:, :3, :3, :5].copy(), block_shape=[2, 2], paddings=[1, 0, 1, 2]),
    row("space_to_batch", "other blocks", SQUARE, x=X4, block_shape=[2, 3], paddings=[0, 0, 0, 0]),
    row("depth_to_space", "blocks of 2", x=X4, block_size=2),
    row("depth_to_space", "blocks of 1", x=X4, block_size=1),
    row("space_to_depth", "blocks of 2", x=X4, block_size=2),
    row("space_to_depth", "one place", x=normal(1, 1, 2, 2), block_size=2),
    row("pixel_shuffle", "blocks of 2", x=X4, upscale_factor=2),
    row("pixel_shuffle", "no batch", {"onnxruntime": "refuses an empty batch"}, x=normal(0, 4, 1, 1), upscale_factor=2),
    row("pixel_unshuffle", "blocks of 2", x=X4, downscale_factor=2),
    row("expand_dims", "both ends", x=COUNT, axes=[0, -1]),
    row("expand_dims", "unordered, negative", x=ODD, axes=[-2, 0, 2]),
    row("expand_dims", "scalar", x=np.array(3.5, np.float32), axes=[0]),
    row("expand_dims", "empty", UNKNOWN, x=normal(0, 3), axes=[1]),
    row("squeeze", "all", x=normal(1, 3, 1, 2)),
    row("squeeze", "some, negative", x=normal(1, 3, 1, 2, 1), axes=[-1, 0]),
    row(
        "squeeze",
        "a longer axis is left alone",
        {"coremltools": "leaves it to numpy, which refuses", "onnxruntime": "refuses"},
        x=normal(1, 3, 2),
        axes=[0, 1],
    ),
    row("squeeze", "to a scalar", {"coremltools": "takes its first element"}, x=normal(1, 1), axes=[0, 1]),
    row("reshape", "-1", x=COUNT, shape=[4, -1]),
    row("reshape", "0 and -1", x=COUNT, shape=[0, -1, 0]),
    row("reshape", "0 counts from the end", ZERO_ELSEWHERE, x=normal(2, 50), shape=[1, 0, -1, 0]),
    row("reshape", "0 in fewer axes", ZERO_ELSEWHERE, x=COUNT, shape=[-1, 0]),
    row("reshape", "to a scalar", {"coremltools": "has no shape without sizes"}, x=normal(1, 1), shape=[]),
    row("reshape", "bool", x=BOOL, shape=[24]),
    row("reshape", "empty", UNKNOWN, x=normal(2, 0, 3), shape=[2, 0, 3]),
    row(
        "reshape_like",
        "parts of two",
        x=normal(60, 3),
        ref_tensors=[normal(2, 3, 4), normal(1, 5, 6)],
        begins=[0, 1],
        ends=[2, 0],
        end_masks=[False, True],
    ),
    row(
        "reshape_like", "negative", x=normal(12), ref_tensors=[normal(2, 3, 4)], begins=[-2], ends=[0], end_masks=[True]
    ),
    row("reverse", "all", x=ODD),
    row("reverse", "some, negative", x=COUNT, axes=[0, -1]),
    row("reverse", "empty", UNKNOWN, x=normal(2, 0), axes=[0]),
    row("reverse_sequence", "time first", x=COUNT, lengths=np.int32([0, 2, 1]), seq_axis=0, batch_axis=1),
    row("reverse_sequence", "batch first", x=normal(3, 5, 2), lengths=np.int32([5, 1, 3]), seq_axis=1, batch_axis=0),
    row(
        "reverse_sequence", "negative axes", x=normal(2, 3, 4), lengths=np.int32([4, 2, 0]), seq_axis=-1, batch_axis=-2
    ),
    row("slice_by_index", "plain", x=COUNT, begin=[0, 1, 1], end=[1, 3, 3]),
    row("slice_by_index", "negative ends", x=COUNT, begin=[0, -2, -3], end=[2, 3, -1]),
    row("slice_by_index", "beyond the axis", x=COUNT, begin=[0, 0, -9], end=[5, 3, 9]),
    row("slice_by_index", "stride", x=COUNT, begin=[0, 0, 0], end=[2, 3, 4], stride=[1, 2, 3]),
    row("slice_by_index", "backwards", x=COUNT, begin=[1, 2, 3], end=[0, 0, 1], stride=[-1, -2, -1]),
    row(
        "slice_by_index",
        "backwards to the beginning",
        x=COUNT,
        begin=[0, 0, -1],
        end=[2, 3, 0],
        stride=[1, 1, -2],
        end_mask=[False, False, True],
    ),
    row(
        "slice_by_index",
        "masks",
        x=COUNT,
        begin=[9, 1, 9],
        end=[9, 9, -9],
        begin_mask=[True, False, True],
        end_mask=[True, True, True],
    ),
    row(
        "slice_by_index",
        "backwards, masked",
        x=COUNT,
        begin=[9, 9, 2],
        end=[9, 9, 9],
        stride=[-1, -2, -1],
        begin_mask=[True, True, False],
        end_mask=[True, True, True],
    ),
    row(
        "slice_by_index",
        "squeezed",
        SQUEEZED,
        x=COUNT,
        begin=[-1, 1, 0],
        end=[9, 3, 9],
        squeeze_mask=[True, False, True],
    ),
    row(
        "slice_by_index",
        "squeezed and backwards",
        SQUEEZED,
        x=COUNT,
        begin=[1, 0, 3],
        end=[0, 0, 0],
        stride=[1, 1, -1],
        end_mask=[False, True, True],
        squeeze_mask=[True, False, False],
    ),
    row(
        "slice_by_index",
        "squeezed and masked",
        SQUEEZED,
        x=COUNT,
        begin=[1, 0, 3],
        end=[0, 3, 4],
        begin_mask=[True, False, False],
        squeeze_mask=[True, False, False],
    ),
    row("slice_by_index", "to a scalar", SQUEEZED, x=ODD, begin=[1, -1], end=[0, 0], squeeze_mask=[True, True]),
    row("slice_by_index", "nothing left", UNKNOWN, x=COUNT, begin=[0, 2, 0], end=[2, 2, 4]),
    row("slice_by_index", "bool", x=BOOL, begin=[0, 0, 1], end=[2, 1, 4], stride=[1, 1, 2]),
    row("slice_by_size", "plain", x=COUNT, begin=[0, 1, 1], size=[2, 1, 3]),
    row("slice_by_size", "the rest, negative", x=COUNT, begin=[-1, 0, -3], size=[1, -1, 2]),
    row("slice_by_size", "none", {"coremltools": "takes 0 for the rest"}, x=COUNT, begin=[0, 3, 0], size=[2, 0, 4]),
    row("slice_update", "plain", x=COUNT, update=-counted(1, 2, 2), begin=[0, 1, 1], end=[1, 3, 3]),
    row(
        "slice_update",
        "backwards, stride",
        x=normal(2, 3, 4),
        update=normal(2, 2, 2),
        begin=[1, 0, 3],
        end=[0, 3, 0],
        stride=[-1, 2, -2],
        end_mask=[True, False, False],
    ),
    row(
        "slice_update",
        "squeezed",
        x=normal(2, 3, 4),
        update=normal(3, 2),
        begin=[-1, 0, 3],
        end=[0, 0, 1],
        stride=[1, 1, -1],
        end_mask=[False, True, False],
        squeeze_mask=[True, False, False],
    ),
    row("slice_update", "bool", x=BOOL, update=~BOOL[:, :, :1], begin=[0, 0, 3], end=[2, 3, 4]),
    row(
        "slice_update",
        "all",
        x=ODD,
        update=ODD[::-1].copy(),
        begin=[0, 0],
        end=[0, 0],
        begin_mask=[True, True],
        end_mask=[True, True],
    ),
    row("sliding_windows", "last axis", x=normal(2, 7), axis=-1, size=3),
    row("sliding_windows", "middle axis, stride", x=normal(2, 7, 3), axis=1, size=2, stride=3),
    row("sliding_windows", "integers, one window", x=COUNT, axis=0, size=2, stride=5),
    row("transpose", "three axes", x=COUNT, perm=[2, 0, 1]),
    row("transpose", "negative", x=normal(2, 3, 4, 5), perm=[0, -1, 1, -2]),
    row("transpose", "empty", UNKNOWN, x=normal(2, 0, 3), perm=[1, 2, 0]),
    row("transpose", "bool", x=BOOL, perm=[1, 0, 2]),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """Elements land where numpy, onnxruntime and coremltools put them, bit for bit."""
    agree(tensor_transformation, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(tensor_transformation, OPERATIONS, OPINIONS, ROWS)


@st.composite
def slices(draw: st.DrawFn) -> Inputs:
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    masks = st.none() | st.lists(st.booleans(), min_size=len(shape), max_size=len(shape))
    places = st.lists(st.integers(-7, 7), min_size=len(shape), max_size=len(shape))
    return {
        "x": counted(*shape),
        "begin": draw(places),
        "end": draw(places),
        "stride": [step or 1 for step in draw(places)],
        "begin_mask": draw(masks),
        "end_mask": draw(masks),
    }


@settings(max_examples=300, deadline=None)
@given(slices())
def test_any_slice_is_numpys(inputs: Inputs) -> None:
    """Beginnings, ends, strides of both signs and masks mean what numpy's slices mean, in every combination."""
    ends = [
        [None if mask and mask[axis] else place for axis, place in enumerate(inputs[name])]
        for name, mask in (("begin", inputs["begin_mask"]), ("end", inputs["end_mask"]))
    ]
    expected = inputs["x"][tuple(slice(*three) for three in zip(*ends, inputs["stride"], strict=True))]
    (ours,) = ask_ours(tensor_transformation.slice_by_index, inputs)
    np.testing.assert_array_equal(ours, expected)
    (same,) = ask_ours(tensor_transformation.slice_update, inputs | {"update": expected.copy()})
    np.testing.assert_array_equal(same, inputs["x"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_blocks_go_there_and_back(height: int, width: int, sizes: list[int]) -> None:
    """space_to_depth, pixel_unshuffle and space_to_batch are undone by their counterparts."""
    n, c, h, w = sizes
    x = torch.from_numpy(normal(n, c, h * height, w * width))
    square = torch.from_numpy(normal(n, c, h * height, w * height))
    ops = tensor_transformation
    assert torch.equal(ops.depth_to_space(ops.space_to_depth(square, height), height), square)
    assert torch.equal(ops.pixel_shuffle(ops.pixel_unshuffle(square, height), height), square)
    edges = [height, 0, 0, width]
    assert torch.equal(ops.batch_to_space(ops.space_to_batch(x, [height, width], edges), [height, width], edges), x)


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(4)))
def test_transposing_there_and_back_changes_nothing(perm: list[int]) -> None:
    """A permutation is undone by its inverse, and neither copies."""
    x = torch.from_numpy(normal(2, 3, 4, 5))
    there = tensor_transformation.transpose(x, perm)
    back = tensor_transformation.transpose(there, [perm.index(axis) for axis in range(4)])
    assert torch.equal(back, x)
    assert back.data_ptr() == x.data_ptr()


def test_slices_and_windows_are_views() -> None:
    """Cutting forwards copies nothing, however large the tensor is."""
    x = torch.zeros(4, 6)
    ops = tensor_transformation
    for part in (
        ops.slice_by_index(x, [0, 0], [4, 6], [2, 1]),
        ops.slice_by_size(x, [0, 0], [2, -1]),
        ops.sliding_windows(x, 1, 3),
        ops.squeeze(ops.expand_dims(x, [0])),
    ):
        assert part.data_ptr() == x.data_ptr()


X, X_4D, OPS = torch.zeros(3, 4), torch.zeros(2, 4, 4, 6), tensor_transformation
REFUSED: list[tuple[str, Any]] = [
    ("12 elements", lambda: OPS.reshape(X, [5, -1])),
    ("12 elements", lambda: OPS.reshape(X, [-1, -1])),
    ("12 elements", lambda: OPS.reshape(X, [3, -2])),
    ("12 elements", lambda: OPS.reshape(X, [2**31 - 1] * 3)),
    ("12 elements", lambda: OPS.reshape_like(X, [X], [0], [1], [False])),
    ("as many begins", lambda: OPS.reshape_like(X, [X], [0, 1], [1], [False])),
    ("each axis", lambda: OPS.transpose(X, [0, 0])),
    ("each axis", lambda: OPS.transpose(X, [0])),
    ("each axis", lambda: OPS.transpose(X, [0, 2])),
    ("rank 3", lambda: OPS.expand_dims(X, [3])),
    ("an axis", lambda: OPS.squeeze(X, [2])),
    ("once", lambda: OPS.reverse(X, [0, -2])),
    ("once", lambda: OPS.reverse_sequence(X, torch.tensor([1, 1, 1]))),
    ("lengths from 0 to 4", lambda: OPS.reverse_sequence(X, torch.tensor([1, 5, 1]), 1, 0)),
    ("for 2 axes", lambda: OPS.slice_by_index(X, [0], [1])),
    ("other than 0", lambda: OPS.slice_by_index(X, [0, 0], [1, 1], [0, 1])),
    ("an element of 3 to squeeze, found 3", lambda: OPS.slice_by_index(X, [3, 0], [1, 1], squeeze_mask=[True, False])),
    (r"an update of \[1, 4\]", lambda: OPS.slice_update(X, X, [0, 0], [1, 4])),
    ("a part of x", lambda: OPS.slice_by_size(X, [0, 2], [3, 3])),
    ("a part of x", lambda: OPS.slice_by_size(X, [-4, 0], [1, 1])),
    ("windows that fit", lambda: OPS.sliding_windows(X, 0, 4)),
    ("windows that fit", lambda: OPS.sliding_windows(X, 0, 1, 0)),
    ("bytes", lambda: OPS.sliding_windows(torch.zeros(1).expand(10**6), 0, 5 * 10**5)),
    ("blocks of 3", lambda: OPS.depth_to_space(X_4D, 3)),
    ("blocks of 0", lambda: OPS.space_to_depth(X_4D, 0)),
    ("blocks of 4", lambda: OPS.pixel_unshuffle(X_4D, 4)),
    ("blocks of 2", lambda: OPS.pixel_shuffle(X, 2)),
    ("divided by 4", lambda: OPS.batch_to_space(X_4D, [2, 2], [0, 0, 0, 0])),
    (r"blocks of \[3, 2\]", lambda: OPS.space_to_batch(X_4D, [3, 2], [0, 0, 0, 0])),
    ("edges of 0 or more", lambda: OPS.space_to_batch(X_4D, [2, 2], [0, 0, -1, 0])),
    ("sizes of 0 or more", lambda: OPS.batch_to_space(X_4D[:1], [1, 1], [9, 0, 0, 0])),
    ("bytes", lambda: OPS.space_to_batch(X_4D, [2, 2], [0, 0, 10**12, 0])),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Axes, sizes and places that a tensor does not have are one sentence."""
    with pytest.raises(MilError, match=said):
        call()
