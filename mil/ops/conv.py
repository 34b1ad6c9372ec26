"""Convolution and its transpose over one, two or three spatial axes."""

import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Int, Ints, Str, Tensor
from mil.ops.limits import check_size
from mil.ops.windows import padded, padded_sizes, padding, per_axis

_CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_CONV_TRANSPOSE = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: Str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: Int = 1,
) -> Tensor:
    """Return the cross-correlation of x (n, C_in, *D_in) with weight (C_out, C_in / groups, *K).

    strides, dilations  one per spatial axis, by default 1
    pad_type            "valid", "same", "same_lower" or "custom"; see `mil.ops.windows.padding`
    pad                 zeros before and after each spatial axis, for "custom"
    returns             (n, C_out, *D_out)
    """
    axes = _spatial_axes(x, weight, 1, groups)
    strides = per_axis("strides", strides, axes)
    dilations = per_axis("dilations", dilations, axes)
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = padding(pad_type, pad, x.shape[2:], extents, strides)
    sizes = padded_sizes(x.shape[2:], pads)
    if any(size < extent for size, extent in zip(sizes, extents, strict=True)):
        raise MilError(f"expected padded sizes of at least the kernel's {extents}, found {sizes}")
    counts = [(size - extent) // stride + 1 for size, extent, stride in zip(sizes, extents, strides, strict=True)]
    check_size([x.shape[0], weight.shape[0], *counts], x.dtype)
    even = [before for before, after in pads if before == after]
    if len(even) < axes:
        x, even = padded(x, pads, 0.0), [0] * axes
    return _CONV[x.ndim](x, weight, bias, strides, even, dilations, groups)


def conv_quantized(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    quantization_type: Str,
    nbits: Int | None,
    quant_scale: Tensor,
    quant_bias: Tensor,
    strides: Ints | None = None,
    pad_type: Str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: Int = 1,
) -> Tensor:
    """Return `conv` with the weight `weight * quant_scale + quant_bias`.

    weight                   (C_out, C_in / groups, *K)  unsigned integers below 2 ** nbits, by default 8
    quant_scale, quant_bias  one number, or one per output channel
    bias                     (C_out,)  added as it is

    Raises MilError for quantization_type "lut": the operation declares no table to look up.
    """
    if quantization_type != "linear":
        raise MilError(
            f'expected quantization_type "linear", found "{quantization_type}", '
            "for which the operation declares no table"
        )
    bits = 8 if nbits is None else nbits
    if weight.numel() and int(weight.max()) >> bits:
        raise MilError(f"expected weights of {bits} bits, found {int(weight.max())}")
    scale, offset = (_per_channel(parameter, weight) for parameter in (quant_scale, quant_bias))
    decoded = weight.to(x.dtype) * scale.to(x.dtype) + offset.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    return conv(x, decoded, bias, strides, pad_type, pad, dilations, groups)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: Str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: Int = 1,
) -> Tensor:
    """Return the transposed convolution of x (n, C_in, *D_in) with weight (C_in, C_out / groups, *K).

    With L = (D_in - 1) * stride + (K - 1) * dilation + 1, the size of the whole result:

    pad_type      "valid" keeps L; "same" keeps D_in * stride of it, cutting the odd element at the end; "custom"
                  cuts pad[2 * i] before and pad[2 * i + 1] after axis i
    output_shape  the shape to keep instead, (n, C_out, *D_out): its end is cut, or filled with zeros, to fit
    returns       (n, C_out, *D_out)
    """
    axes = _spatial_axes(x, weight, 0, 1)
    strides = per_axis("strides", strides, axes)
    dilations = per_axis("dilations", dilations, axes)
    outer = [x.shape[0], weight.shape[1] * groups]
    if output_shape is not None and (len(output_shape) != x.ndim or output_shape[:2] != outer):
        raise MilError(f"expected {x.ndim} sizes in output_shape, the first two {outer}, found {output_shape}")
    kept = None if output_shape is None else output_shape[2:]
    steps = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    whole = [n + (k - 1) * d for n, k, d in zip(steps, weight.shape[2:], dilations, strict=True)]
    cuts = _cuts(pad_type, pad, kept, whole, [n * s for n, s in zip(x.shape[2:], strides, strict=True)])
    check_size(outer + whole, x.dtype)
    even = [before for before, after in cuts if before == after >= 0]
    if len(even) == axes:
        return _CONV_TRANSPOSE[x.ndim](x, weight, bias, strides, even, 0, groups, dilations)
    result = _CONV_TRANSPOSE[x.ndim](x, weight, None, strides, 0, 0, groups, dilations)
    result = padded(result, [(-before, -after) for before, after in cuts], 0.0)
    return result if bias is None else result + bias.view(-1, *[1] * axes)


def _cuts(pad_type: str, pad: Ints | None, kept: Ints | None, whole: Ints, same: Ints) -> list[tuple[int, int]]:
    """Return how many elements to cut before and after each axis of a transposed convolution; below 0 is zeros to add.

    As TensorFlow counts for its gradient of conv: "same" cuts half, rounded down, at the front.
    """
    if pad_type not in ("valid", "same", "custom"):
        raise MilError(f'expected pad_type valid, same or custom, found "{pad_type}"')
    if pad_type == "custom":
        pads = padding(pad_type, pad, whole, whole, whole)
        fronts = [before for before, _ in pads]
        kept = kept or padded_sizes(whole, [(-before, -after) for before, after in pads])
    elif pad_type == "same":
        kept = kept or same
        fronts = [max(size - k, 0) // 2 for size, k in zip(whole, kept, strict=True)]
    else:
        kept, fronts = kept or whole, [0] * len(whole)
    return [(front, size - k - front) for size, k, front in zip(whole, kept, fronts, strict=True)]


def _spatial_axes(x: Tensor, weight: Tensor, inputs: int, groups: int) -> int:
    """Return how many spatial axes x and weight share, the weight's axis `inputs` being channels of one of x's groups.

    Raises MilError where ranks or channels do not fit.
    """
    if x.ndim not in _CONV or weight.ndim != x.ndim or x.shape[1] != weight.shape[inputs] * groups:
        raise MilError(
            "expected x (n, C_in, 1 to 3 spatial axes) and a weight of its rank and channels, "
            f"found x {list(x.shape)}, weight {list(weight.shape)} and {groups} groups"
        )
    return x.ndim - 2


def _per_channel(parameter: Tensor, weight: Tensor) -> Tensor:
    return parameter.reshape(-1, *[1] * (weight.ndim - 1))
