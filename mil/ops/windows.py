"""How windows lie along the spatial axes of a convolution or a pooling."""

from collections.abc import Sequence

import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Ints, Tensor
from mil.ops.limits import check_size

Pads = list[tuple[int, int]]  # elements before and after each spatial axis


def per_axis(name: str, values: Ints | None, axes: int) -> Ints:
    """Return one positive number per spatial axis, 1 where none are given; raises MilError for anything else."""
    if values is None:
        return [1] * axes
    if len(values) != axes or min(values) < 1:
        raise MilError(f"expected {axes} numbers of 1 or more in {name}, found {values}")
    return values


def padding(pad_type: str, pad: Ints | None, sizes: Sequence[int], extents: Ints, strides: Ints) -> Pads:
    """Return how many elements to add before and after each spatial axis.

    sizes, extents  of the input and of a window (dilation included), per axis
    "valid" adds none; "custom" what `pad` says, before and after each axis in turn; "same" and "same_lower" what makes
    ceil(size / stride) windows fit, the odd element after ("same") or before ("same_lower").

    Raises MilError for another pad_type or a `pad` of the wrong length or sign.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(extents)
    if pad_type == "custom":
        return _pairs(pad or [0] * 2 * len(extents), len(extents))
    if pad_type not in ("same", "same_lower"):
        raise MilError(f'expected pad_type valid, same, same_lower or custom, found "{pad_type}"')
    missing = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in zip(sizes, extents, strides, strict=True)]
    halves = [(m // 2, m - m // 2) for m in missing]
    return halves if pad_type == "same" else [(more, less) for less, more in halves]


def _pairs(pad: Ints, axes: int) -> Pads:
    if len(pad) != 2 * axes or min(pad) < 0:
        raise MilError(f"expected {2 * axes} numbers of 0 or more in pad, found {pad}")
    return list(zip(pad[::2], pad[1::2], strict=True))


def padded_sizes(sizes: Sequence[int], pads: Pads) -> Ints:
    """Return the sizes of the spatial axes with what is added before and after; below 0 is cut."""
    return [size + before + after for size, (before, after) in zip(sizes, pads, strict=True)]


def padded(x: Tensor, pads: Pads, value: float) -> Tensor:
    """Return x (n, C, *D) with its spatial axes lengthened by `value`, or cut where the numbers are below 0."""
    sizes = padded_sizes(x.shape[2:], pads)
    check_size([*x.shape[:2], *sizes], x.dtype)
    added = [max(side, 0) for pair in reversed(pads) for side in pair]
    x = F.pad(x, added, value=value) if any(added) else x
    for axis, ((before, _), size) in enumerate(zip(pads, sizes, strict=True), 2):
        x = x if x.shape[axis] == size else x.narrow(axis, max(-before, 0), size)
    return x
