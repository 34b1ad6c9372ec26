"""Convolutions agree with onnxruntime and with loops over windows."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import conv
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

OPERATIONS = declared_operations("conv")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def edges(sizes: Any, extents: Any, strides: Any, pad_type: str, pad: Any) -> list[tuple[int, int]]:
    """Return elements added before and after each axis, written from the definition of SAME padding."""
    if pad_type == "custom":
        return [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(len(sizes))]
    found = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        windows = int(np.ceil(size / stride))
        total = max(0, (windows - 1) * stride + extent - size) if pad_type != "valid" else 0
        less, more = int(np.floor(total / 2)), int(np.ceil(total / 2))
        found.append((less, more) if pad_type == "same" else (more, less))
    return found


def conv_loop(
    x: np.ndarray,
    weight: np.ndarray,
    bias: Any = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: int = 1,
) -> np.ndarray:
    axes = x.ndim - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    around = edges(x.shape[2:], extents, strides, pad_type, pad)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *around])
    counts = [(n - e) // s + 1 for n, e, s in zip(padded.shape[2:], extents, strides, strict=True)]
    result = np.zeros((x.shape[0], weight.shape[0], *counts))
    per_group = weight.shape[0] // groups
    for place in np.ndindex(*counts):
        cut = tuple(slice(p * s, p * s + e, d) for p, s, e, d in zip(place, strides, extents, dilations, strict=True))
        for out in range(weight.shape[0]):
            first = out // per_group * weight.shape[1]
            window = padded[(slice(None), slice(first, first + weight.shape[1]), *cut)]
            result[(slice(None), out, *place)] = (window * weight[out]).sum(tuple(range(1, x.ndim)))
    return result if bias is None else result + bias.reshape(-1, *[1] * axes)


def conv_onnx(**inputs: Any) -> Any:
    auto = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID", "custom": "NOTSET"}
    pad_type, pad = inputs.get("pad_type", "valid"), inputs.get("pad")
    given = [inputs["x"], inputs["weight"], *([inputs["bias"]] if inputs.get("bias") is not None else [])]
    return onnxruntime_run(
        "Conv",
        given,
        strides=inputs.get("strides"),
        dilations=inputs.get("dilations"),
        group=inputs.get("groups"),
        auto_pad=auto[pad_type],
        pads=pad[::2] + pad[1::2] if pad_type == "custom" else None,
    )


def decoded(inputs: Inputs) -> Inputs:
    names = ("quantization_type", "nbits", "quant_scale", "quant_bias")
    rest = {name: value for name, value in inputs.items() if name not in names}
    columns = (-1, *[1] * (inputs["weight"].ndim - 1))
    scale, offset = (np.reshape(inputs[name], columns).astype(np.float32) for name in ("quant_scale", "quant_bias"))
    bias = inputs.get("bias")
    bias = None if bias is None else bias.astype(np.float32)
    return rest | {"weight": inputs["weight"].astype(np.float32) * scale + offset, "bias": bias}


def transposed_loop(
    x: np.ndarray,
    weight: np.ndarray,
    bias: Any = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: int = 1,
) -> np.ndarray:
    """Add each element of x times its kernel where it belongs, then keep what the padding leaves."""
    axes = x.ndim - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    whole = [(n - 1) * s + e for n, s, e in zip(x.shape[2:], strides, extents, strict=True)]
    same = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    per_group, inputs_per_group = weight.shape[1], weight.shape[0] // groups
    room = [w + n for w, n in zip(whole, output_shape[2:] if output_shape else same, strict=True)]  # zeros behind
    result = np.zeros((x.shape[0], per_group * groups, *room))
    for channel in range(x.shape[1]):
        first = channel // inputs_per_group * per_group
        for place in np.ndindex(*x.shape[2:]):
            at = tuple(
                slice(p * s, p * s + e, d) for p, s, e, d in zip(place, strides, extents, dilations, strict=True)
            )
            values = x[(slice(None), channel, *place)].astype(np.float64).reshape(-1, 1, *[1] * axes)
            result[(slice(None), slice(first, first + per_group), *at)] += values * weight[channel]
    keep: list[slice] = []
    for axis in range(axes):
        front = pad[2 * axis] if pad_type == "custom" else 0
        size = whole[axis] - (front + pad[2 * axis + 1] if pad_type == "custom" else 0)
        size = same[axis] if pad_type == "same" else size
        size = output_shape[2 + axis] if output_shape else size
        front = max(0, whole[axis] - size) // 2 if pad_type == "same" else front
        keep.append(slice(front, front + size))
    result = result[(slice(None), slice(None), *keep)]
    return result if bias is None else result + bias.reshape(-1, *[1] * axes)


def transposed_onnx(**inputs: Any) -> Any:
    x, weight, pad_type = inputs["x"], inputs["weight"], inputs.get("pad_type", "valid")
    strides = inputs.get("strides") or [1] * (x.ndim - 2)
    pad, shape = inputs.get("pad"), inputs.get("output_shape")
    if pad_type == "same" and shape is None:
        shape = [0, 0, *(n * s for n, s in zip(x.shape[2:], strides, strict=True))]
    return onnxruntime_run(
        "ConvTranspose",
        [x, weight, *([inputs["bias"]] if inputs.get("bias") is not None else [])],
        strides=strides,
        dilations=inputs.get("dilations"),
        group=inputs.get("groups"),
        auto_pad="SAME_UPPER" if pad_type == "same" else "NOTSET",
        pads=pad[::2] + pad[1::2] if pad_type == "custom" else None,
        output_shape=shape[2:] if shape else None,
    )


def row(operation: str, about: str, not_asked: Any = (), **inputs: Any) -> Row:
    return Row(operation, inputs, about, rtol=1e-4, atol=1e-5, not_asked=dict(not_asked))


OPINIONS = {
    "conv": [numpy(conv_loop), Opinion("onnxruntime", conv_onnx)],
    "conv_quantized": [
        numpy(lambda **inputs: conv_loop(**decoded(inputs))),
        Opinion("onnxruntime", lambda **inputs: conv_onnx(**decoded(inputs))),
    ],
    "conv_transpose": [numpy(transposed_loop), Opinion("onnxruntime", transposed_onnx)],
}
DILATED = {"onnxruntime": "pads automatically only without dilation"}
SHORT = {"onnxruntime": "does not lengthen a result beyond the last kernel"}
X1, X2, X3 = normal(2, 4, 11), normal(2, 4, 7, 6), normal(1, 2, 4, 5, 3)
FAR = np.float32([[[65504, -65504, 6.1e-5, 0, 5.96e-8, 1]]])
CODES = RANDOM.integers(0, 16, (3, 4, 2, 3)).astype(np.uint8)
ROWS = [
    row("conv", "1-D", x=X1, weight=normal(3, 4, 3)),
    row("conv", "2-D, bias", x=X2, weight=normal(3, 4, 2, 3), bias=normal(3)),
    row("conv", "3-D, stride", x=X3, weight=normal(3, 2, 2, 3, 1), bias=normal(3), strides=[1, 2, 3]),
    row("conv", "same, odd element", x=X2, weight=normal(3, 4, 2, 4), strides=[1, 1], pad_type="same"),
    row("conv", "same_lower, odd element", x=X2, weight=normal(3, 4, 2, 4), strides=[1, 1], pad_type="same_lower"),
    row("conv", "same, stride beyond the kernel", x=X1, weight=normal(3, 4, 2), strides=[4], pad_type="same"),
    row("conv", "same, dilated", DILATED, x=X1, weight=normal(3, 4, 4), dilations=[2], pad_type="same"),
    row("conv", "same_lower, 1-D, stride", x=X1, weight=normal(3, 4, 4), strides=[2], pad_type="same_lower"),
    row("conv", "custom, even", x=X2, weight=normal(3, 4, 3, 3), pad_type="custom", pad=[1, 1, 2, 2]),
    row(
        "conv", "custom, uneven", x=X2, weight=normal(3, 4, 3, 3), pad_type="custom", pad=[0, 3, 2, 1], dilations=[2, 1]
    ),
    row("conv", "pad without custom is left alone", x=X1, weight=normal(3, 4, 3), pad_type="valid", pad=[2, 2]),
    row("conv", "groups", x=X2, weight=normal(6, 2, 2, 2), groups=2),
    row("conv", "depthwise, bias", x=X1, weight=normal(8, 1, 3), groups=4, bias=normal(8)),
    row("conv", "one place", x=normal(1, 1, 1), weight=normal(1, 1, 1)),
    row("conv", "no batch", {"onnxruntime": "refuses an empty batch"}, x=normal(0, 4, 11), weight=normal(3, 4, 3)),
    row("conv", "fp16 extremes", x=FAR, weight=np.float32([[[65504, 1, -65504]]])),
    row("conv", "infinity and nan", x=np.float32([[[np.inf, 1, 2, -np.inf, np.nan]]]), weight=np.float32([[[1, 2]]])),
    row(
        "conv_quantized",
        "per tensor",
        x=X2,
        weight=CODES,
        bias=None,
        quantization_type="linear",
        nbits=4,
        quant_scale=np.array(0.25, np.float32),
        quant_bias=np.array(-2, np.float32),
    ),
    row(
        "conv_quantized",
        "per channel, bias",
        x=X2,
        weight=CODES,
        bias=np.uint8([0, 255, 3]),
        quantization_type="linear",
        quant_scale=normal(3),
        quant_bias=normal(3),
        pad_type="same",
    ),
    row("conv_transpose", "1-D", x=X1, weight=normal(4, 3, 3)),
    row("conv_transpose", "2-D, bias, stride", x=X2, weight=normal(4, 3, 2, 3), bias=normal(3), strides=[2, 3]),
    row("conv_transpose", "3-D, dilated", x=X3, weight=normal(2, 3, 2, 1, 2), dilations=[2, 1, 3]),
    row("conv_transpose", "custom, even", x=X2, weight=normal(4, 3, 3, 3), pad_type="custom", pad=[1, 1, 2, 2]),
    row(
        "conv_transpose",
        "custom, uneven",
        x=X2,
        weight=normal(4, 3, 3, 3),
        bias=normal(3),
        pad_type="custom",
        pad=[0, 1, 2, 0],
    ),
    row("conv_transpose", "same, even", x=X1, weight=normal(4, 3, 4), strides=[2], pad_type="same"),
    row(
        "conv_transpose",
        "same, odd element",
        x=X1,
        weight=normal(4, 3, 3),
        strides=[2],
        pad_type="same",
        bias=normal(3),
    ),
    row(
        "conv_transpose",
        "same, stride beyond the kernel",
        SHORT,
        x=X1,
        weight=normal(4, 3, 2),
        strides=[4],
        pad_type="same",
        bias=normal(3),
    ),
    row(
        "conv_transpose",
        "output_shape, same",
        x=X1,
        weight=normal(4, 3, 3),
        strides=[2],
        pad_type="same",
        output_shape=[2, 3, 21],
    ),
    row(
        "conv_transpose",
        "output_shape beyond, valid",
        SHORT,
        x=X1,
        weight=normal(4, 3, 3),
        strides=[3],
        bias=normal(3),
        output_shape=[2, 3, 35],
    ),
    row(
        "conv_transpose",
        "output_shape, custom",
        {"onnxruntime": "sets pads aside for output_shape"},
        x=X1,
        weight=normal(4, 3, 3),
        strides=[2],
        pad_type="custom",
        pad=[1, 1],
        output_shape=[2, 3, 22],
    ),
    row("conv_transpose", "groups", x=X2, weight=normal(4, 3, 2, 2), groups=2, bias=normal(6)),
    row("conv_transpose", "one place", x=normal(1, 1, 1), weight=normal(1, 1, 1)),
]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """What a convolution gives is what the loop over its windows and onnxruntime give."""
    agree(conv, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(conv, OPERATIONS, OPINIONS, ROWS)


@st.composite
def geometries(draw: st.DrawFn) -> Inputs:
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    numbers = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    kernel, strides, dilations, extra = draw(numbers), draw(numbers), draw(numbers), draw(numbers)
    sizes = [(k - 1) * d + e for k, d, e in zip(kernel, dilations, extra, strict=True)]
    pad = draw(st.lists(st.integers(0, 3), min_size=2 * axes, max_size=2 * axes))
    return {
        "x": normal(draw(st.integers(1, 2)), 2 * groups, *sizes),
        "weight": normal(groups * draw(st.integers(1, 2)), 2, *kernel),
        "strides": strides,
        "pad_type": draw(st.sampled_from(["valid", "same", "same_lower", "custom"])),
        "pad": pad,
        "dilations": dilations,
        "groups": groups,
    }


@settings(max_examples=60, deadline=None)
@given(geometries())
def test_any_geometry_agrees_with_the_loop(inputs: Inputs) -> None:
    """Kernel, stride, dilation, groups and padding mean what the loop says, in every combination."""
    (ours,) = ask_ours(conv.conv, inputs, torch.float64)
    np.testing.assert_allclose(ours, conv_loop(**inputs), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(geometries())
def test_transposed_convolution_is_the_adjoint_of_convolution(inputs: Inputs) -> None:
    """<conv(x), y> = <x, conv_transpose(y)> for every geometry, if y's result is kept in the shape of x."""
    (there,) = ask_ours(conv.conv, inputs, torch.float64)
    y = RANDOM.standard_normal(there.shape)
    pads = edges(
        inputs["x"].shape[2:],
        [(k - 1) * d + 1 for k, d in zip(inputs["weight"].shape[2:], inputs["dilations"], strict=True)],
        inputs["strides"],
        inputs["pad_type"],
        inputs["pad"],
    )
    back = inputs | {"x": y, "pad_type": "custom", "pad": [side for pair in pads for side in pair]}
    (back_again,) = ask_ours(conv.conv_transpose, back | {"output_shape": list(inputs["x"].shape)}, torch.float64)
    np.testing.assert_allclose((there * y).sum(), (inputs["x"] * back_again).sum(), rtol=1e-6, atol=1e-6)


X, W = torch.zeros(1, 2, 5), torch.zeros(3, 2, 3)
REFUSED: list[tuple[str, Any]] = [
    ("rank", lambda: conv.conv(torch.zeros(5), torch.zeros(3))),
    ("channels", lambda: conv.conv(X, torch.zeros(3, 1, 3))),
    ("pad_type", lambda: conv.conv(X, W, pad_type="full")),
    ("2 numbers of 0 or more in pad", lambda: conv.conv(X, W, pad_type="custom", pad=[1])),
    ("2 numbers of 0 or more in pad", lambda: conv.conv(X, W, pad_type="custom", pad=[-1, 1])),
    ("1 numbers of 1 or more in strides", lambda: conv.conv(X, W, strides=[0])),
    ("dilations", lambda: conv.conv(X, W, dilations=[1, 1])),
    ("kernel", lambda: conv.conv(X, torch.zeros(3, 2, 6))),
    ("bytes", lambda: conv.conv(X, W, pad_type="custom", pad=[10**12, 10**12])),
    ("bytes", lambda: conv.conv(torch.zeros(1, 1, 10**5), torch.zeros(10**5, 1, 1))),
    ("bytes", lambda: conv.conv_transpose(X, torch.zeros(2, 3, 3), strides=[10**12])),
    ("bytes", lambda: conv.conv_transpose(X, torch.zeros(2, 3, 3), output_shape=[1, 3, 10**12])),
    ("output_shape", lambda: conv.conv_transpose(X, torch.zeros(2, 3, 3), output_shape=[1, 4, 7])),
    ("pad_type", lambda: conv.conv_transpose(X, torch.zeros(2, 3, 3), pad_type="same_lower")),
    ("lut", lambda: conv.conv_quantized(X, W.int(), None, "lut", 8, torch.ones(()), torch.ones(()))),
    ("4 bits", lambda: conv.conv_quantized(X, W.int() + 16, None, "linear", 4, torch.ones(()), torch.ones(()))),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Shapes, padding and sizes that no convolution has are one sentence, before anything is computed."""
    with pytest.raises(MilError, match=said):
        call()
