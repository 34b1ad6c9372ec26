"""Normalisations agree with coremltools, onnxruntime and plain loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mil.ops import normalization
from tests.mil.ops.opinions import (
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

OPERATIONS = declared_operations("normalization")
RANDOM = np.random.default_rng(4)
Array = np.ndarray


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(normal(*shape)) + np.float32(0.1)


def per_channel(values: Array | None, x: Array, default: float) -> Array:
    values = np.full(x.shape[1], default) if values is None else values.astype(np.float64)
    return values.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm(x: Array, mean: Array, variance: Array, gamma=None, beta=None, epsilon: float = 1e-5) -> Array:
    centred = x.astype(np.float64) - per_channel(mean, x, 0)
    scaled = centred / np.sqrt(per_channel(variance, x, 1) + epsilon)
    return scaled * per_channel(gamma, x, 1) + per_channel(beta, x, 0)


def onnx_batch_norm(x: Array, mean: Array, variance: Array, gamma=None, beta=None, epsilon: float = 1e-5) -> Array:
    scale, shift = np.ones_like(mean) if gamma is None else gamma, np.zeros_like(mean) if beta is None else beta
    return onnxruntime_run("BatchNormalization", [x, scale, shift, mean, variance], epsilon=epsilon)


def instance_norm(x: Array, gamma=None, beta=None, epsilon: float = 1e-5) -> Array:
    result = np.empty(x.shape)
    for place in np.ndindex(x.shape[:2]):
        values = x[place].astype(np.float64)
        centred = values - values.sum() / values.size
        result[place] = centred / np.sqrt((centred**2).sum() / values.size + epsilon)
    return result * per_channel(gamma, x, 1) + per_channel(beta, x, 0)


def onnx_instance_norm(x: Array, gamma=None, beta=None, epsilon: float = 1e-5) -> Array:
    ones = np.ones(x.shape[1], np.float32)
    scale, shift = ones if gamma is None else gamma, 0 * ones if beta is None else beta
    return onnxruntime_run("InstanceNormalization", [x, scale, shift], epsilon=epsilon)


def l2_norm(x: Array, epsilon: float = 1e-6) -> Array:
    result = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-3]):
        values = x[place].astype(np.float64)
        result[place] = values / np.sqrt((values**2).sum() + epsilon)
    return result


def layer_norm(x: Array, axes=None, gamma=None, beta=None, epsilon: float = 1e-5) -> Array:
    axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    behind = [axis for axis in range(x.ndim) if axis not in axes] + sorted(axes)
    moved = np.transpose(x, behind).astype(np.float64)
    inner = [x.shape[axis] for axis in sorted(axes)]
    result = np.empty(moved.shape)
    for place in np.ndindex(moved.shape[: x.ndim - len(inner)]):
        centred = moved[place] - moved[place].sum() / moved[place].size
        scaled = centred / np.sqrt((centred**2).sum() / centred.size + epsilon)
        result[place] = scaled * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    return np.transpose(result, np.argsort(behind))


def local_response_norm(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    result = np.empty(x.shape)
    for channel in range(x.shape[1]):
        window = range(max(0, channel - size // 2), min(x.shape[1], channel + (size - 1) // 2 + 1))
        total = sum(x[:, near].astype(np.float64) ** 2 for near in window)
        result[:, channel] = x[:, channel] / (k + alpha / size * total) ** beta
    return result


LRN = onnxruntime_node(
    "LRN",
    "x",
    size=lambda size, **_: size,
    alpha=lambda alpha=1e-4, **_: alpha,
    beta=lambda beta=0.75, **_: beta,
    bias=lambda k=1.0, **_: k,
)
OPINIONS = {
    "batch_norm": (numpy(batch_norm), Opinion("onnxruntime", onnx_batch_norm)),
    "instance_norm": (numpy(instance_norm), Opinion("onnxruntime", onnx_instance_norm)),
    "l2_norm": (coremltools("l2_norm"), numpy(l2_norm)),
    "layer_norm": (coremltools("layer_norm"), numpy(layer_norm)),
    "local_response_norm": (numpy(local_response_norm), LRN),
}
X, IMAGE = normal(2, 3, 17), normal(2, 3, 5, 4)
WITH_NAN = X.copy()
WITH_NAN[0, 0, 3], WITH_NAN[1, 2, 0] = np.nan, np.inf
LARGE = (X * 100 + 60000).astype(np.float16).astype(np.float32)
STATISTICS = {"mean": normal(3), "variance": positive(3)}
AFFINE = {"gamma": normal(3), "beta": normal(3)}
EVEN = {"onnxruntime": "of an even size it takes the channel after, MIL the one before"}
NOT_EMPTY = {"onnxruntime": "refuses an empty tensor"}

ROWS = (
    *(
        Row("batch_norm", {"x": x, **STATISTICS, **extra})
        for x in (X, IMAGE, normal(1, 3, 2, 2, 2), normal(2, 3, 1))
        for extra in ({}, AFFINE, {"epsilon": 0.1, "gamma": AFFINE["gamma"]}, {"beta": AFFINE["beta"]})
    ),
    Row("batch_norm", {"x": WITH_NAN, **STATISTICS}, "NaN and infinity"),
    Row("batch_norm", {"x": LARGE, "mean": LARGE.mean((0, 2)), "variance": LARGE.var((0, 2))}, "large", atol=1e-3),
    Row("batch_norm", {"x": X, "mean": normal(3), "variance": np.zeros(3, np.float32)}, "no variance"),
    Row("batch_norm", {"x": normal(0, 3, 4), **STATISTICS}, "empty", not_asked=NOT_EMPTY),
    *(
        Row("instance_norm", {"x": x, **extra}, atol=1e-5)
        for x in (X, IMAGE, normal(1, 3, 400))
        for extra in ({}, AFFINE, {"epsilon": 0.1, "gamma": AFFINE["gamma"]}, {"beta": AFFINE["beta"]})
    ),
    Row("instance_norm", {"x": WITH_NAN, **AFFINE}, "NaN and infinity"),
    Row("instance_norm", {"x": LARGE, **AFFINE}, "large", atol=1e-3),
    Row("instance_norm", {"x": np.ones((1, 3, 4), np.float32), **AFFINE}, "no variance"),
    Row("instance_norm", {"x": normal(2, 3, 1), **AFFINE}, "one element"),
    Row("instance_norm", {"x": normal(0, 3, 4), **AFFINE}, "no batch", not_asked=NOT_EMPTY),
    Row("instance_norm", {"x": normal(2, 3, 0), **AFFINE}, "no elements", not_asked=NOT_EMPTY),
    *(Row("l2_norm", {"x": x, **e}) for x in (X, IMAGE, normal(2, 2, 3, 4, 5)) for e in ({}, {"epsilon": 0.5})),
    Row("l2_norm", {"x": np.zeros((1, 2, 2), np.float32)}, "zeros"),
    Row("l2_norm", {"x": np.float32([[[65504, -65504, 6e-8]]])}, "extremes"),
    Row("l2_norm", {"x": WITH_NAN}, "NaN and infinity"),
    Row("l2_norm", {"x": normal(2, 0, 3)}, "empty"),
    *(
        Row("layer_norm", {"x": IMAGE, "axes": axes, "gamma": normal(*shape), "beta": normal(*shape)})
        for axes, shape in (
            ([-1], (4,)),
            ([2, 3], (5, 4)),
            ([-1, -2], (5, 4)),
            ([1], (3,)),
            ([3, 1], (3, 4)),
            ([0, -2], (2, 5)),
            ([0, 1, 2, 3], (2, 3, 5, 4)),
        )
    ),
    *(Row("layer_norm", {"x": IMAGE, "axes": axes}, f"plain {axes}") for axes in ([-1], [1], [0, 2])),
    Row("layer_norm", {"x": X, "axes": [1], "gamma": normal(3)}, "gamma alone"),
    Row(
        "layer_norm", {"x": X, "axes": [-1], "beta": normal(17)}, "beta alone", not_asked={"coremltools": "needs both"}
    ),
    Row("layer_norm", {"x": X, "epsilon": 0.3}, "all axes", not_asked={"coremltools": "cannot build its own default"}),
    Row("layer_norm", {"x": LARGE, "axes": [-1]}, "large", atol=2e-3),
    Row("layer_norm", {"x": WITH_NAN, "axes": [-1]}, "NaN and infinity"),
    Row("layer_norm", {"x": WITH_NAN, "axes": [1]}, "NaN and infinity, inner axis"),
    Row("layer_norm", {"x": normal(3, 1), "axes": [-1]}, "one element"),
    Row("layer_norm", {"x": normal(0, 4), "axes": [-1]}, "empty"),
    *(
        Row("local_response_norm", {"x": x, "size": size, **extra}, not_asked={} if size % 2 else EVEN)
        for x in (IMAGE, normal(1, 6, 3, 2))
        for size in (1, 2, 3, 4, 5)
        for extra in ({}, {"alpha": 0.5, "beta": 1.5, "k": 2.0})
    ),
    *(
        Row("local_response_norm", {"x": x, "size": 3, "alpha": 0.2}, not_asked={"onnxruntime": "needs rank 4"})
        for x in (X, normal(1, 4, 2, 2, 2), normal(2, 3, 0), WITH_NAN)
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What MIL's normalisations give is what at least one other implementation gives."""
    agree(normalization, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(normalization, OPERATIONS, OPINIONS, ROWS)


@given(arrays.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_layer_norm_over_any_axes_is_the_loop(shape: tuple[int, ...], data: st.DataObject) -> None:
    """Any set of axes in any order, counted from either end, with gamma and beta, in float64 to its last digits."""
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))]
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    inner = [shape[axis] for axis in sorted(axes)]
    inputs = {"x": normal(*shape).astype(np.float64), "axes": signed, "gamma": normal(*inner), "beta": normal(*inner)}
    (ours,) = ask_ours(normalization.layer_norm, inputs, torch.float64)
    np.testing.assert_allclose(ours, layer_norm(**inputs), rtol=1e-9, atol=1e-9)
