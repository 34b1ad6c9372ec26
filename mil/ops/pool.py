"""Pooling over one, two or three spatial axes."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Bool, Ints, Str, Tensor
from mil.ops.windows import Pads, padded, padded_sizes, padding, per_axis

_AVG_POOL = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
_MAX_POOL = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def avg_pool(
    exclude_padding_from_average: Bool | None,
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None,
    pad_type: Str,
    pad: Ints | None = None,
    ceil_mode: Bool = False,
) -> Tensor:
    """Return the mean of each window of x (n, C, *D); see `_windows` for where windows lie.

    exclude_padding_from_average  divide by the number of elements of x in the window; else, and by default, padding
                                  counts as well. What only `ceil_mode` adds never counts. A window without any is NaN.
    """
    where = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    means = _AVG_POOL[x.ndim](padded(x, where.reach, 0.0), kernel_sizes, where.strides)
    counted = [(0, 0)] * len(kernel_sizes) if exclude_padding_from_average else where.pads
    if counted == where.reach:
        return means
    for axis, (size, kernel, stride) in enumerate(zip(x.shape[2:], kernel_sizes, where.strides, strict=True)):
        starts = torch.arange(means.shape[2 + axis], dtype=x.dtype) * stride - where.reach[axis][0]
        before, after = counted[axis]
        numbers = (starts + kernel).clamp(max=size + after) - starts.clamp(min=-before)
        means = means * (kernel / numbers.clamp(min=0)).view(-1, *[1] * (len(kernel_sizes) - 1 - axis))
    return means


def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None,
    pad_type: Str,
    pad: Ints | None = None,
    ceil_mode: Bool = False,
) -> Tensor:
    """Return the square root of the sum of squares of each window of x (n, C, *D); see `_windows`.

    Raises MilError for three spatial axes, which MIL does not allow here.
    """
    if x.ndim == 5:
        raise MilError(f"expected one or two spatial axes, found x {list(x.shape)}")
    where = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    squares = padded(x, where.reach, 0.0).square()
    return (_AVG_POOL[x.ndim](squares, kernel_sizes, where.strides) * math.prod(kernel_sizes)).sqrt()


def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None,
    pad_type: Str,
    pad: Ints | None = None,
    ceil_mode: Bool = False,
) -> Tensor:
    """Return the largest element of each window of x (n, C, *D); see `_windows`. Padding is -inf."""
    where = _windows(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    # torch pads by itself, without a copy, where it is as much on both sides and at most half a window
    sides = [before for (before, after), k in zip(where.reach, kernel_sizes, strict=True) if before == after <= k // 2]
    if len(sides) < len(kernel_sizes):
        x, sides = padded(x, where.reach, float("-inf")), [0] * len(kernel_sizes)
    return _MAX_POOL[x.ndim](x, kernel_sizes, where.strides, sides)


@dataclass(frozen=True)
class _Windows:
    """Where the windows of a pooling lie.

    strides  one per spatial axis
    pads     what the operation pads
    reach    the same, but with `ceil_mode` just up to the end of the last window
    """

    strides: Ints
    pads: Pads
    reach: Pads


def _windows(
    x: Tensor, kernel_sizes: Ints, strides: Ints | None, pad_type: str, pad: Ints | None, ceil: bool
) -> _Windows:
    """Return where windows lie: strides are 1 by default, padding as `mil.ops.windows.padding` counts.

    With `ceil_mode` the number of windows is rounded up instead of down, less one that would begin behind the
    elements and the padding before them. Raises MilError where the inputs do not fit, for pads of different size
    before and after with `ceil_mode`, and for no window at all.
    """
    axes = x.ndim - 2
    if x.ndim not in _MAX_POOL:
        raise MilError(f"expected x (n, C, 1 to 3 spatial axes), found {list(x.shape)}")
    kernel_sizes = per_axis("kernel_sizes", kernel_sizes, axes)
    strides = per_axis("strides", strides, axes)
    pads = padding(pad_type.lower(), pad, x.shape[2:], kernel_sizes, strides)
    if ceil and any(before != after for before, after in pads):
        raise MilError(f"expected equal pads before and after with ceil_mode, found {pads}")
    free = [n - k for n, k in zip(padded_sizes(x.shape[2:], pads), kernel_sizes, strict=True)]
    if min(free) < 0:
        raise MilError(f"expected windows {kernel_sizes} to fit x {list(x.shape)} padded by {pads}")
    if not ceil:
        return _Windows(strides, pads, pads)
    lasts = [-(-n // s) * s for n, s in zip(free, strides, strict=True)]
    begun = [
        last - s if before and last >= size + before else last
        for last, s, size, (before, _) in zip(lasts, strides, x.shape[2:], pads, strict=True)
    ]
    reach = [(b, a + last - n) for (b, a), last, n in zip(pads, begun, free, strict=True)]
    return _Windows(strides, pads, reach)
