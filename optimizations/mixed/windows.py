"""The windows of its input that a convolution multiplies by its weight."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Windows:
    """How windows lie along the spatial axes, as operation `conv` says it; without `pad`, none is added.

    kernel, strides, dilations   one number for each spatial axis
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pad_type: str
    pad: tuple[int, ...] | None


def rows(windows: Windows, x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for each item of x (n, C, *D), its windows (position, C · kernel), laid out as the rows of the weight."""
    import torch

    from mil.ops.windows import padded, padding

    extents = [(k - 1) * d + 1 for k, d in zip(windows.kernel, windows.dilations, strict=True)]
    pad = None if windows.pad is None else list(windows.pad)
    pads = padding(windows.pad_type, pad, x.shape[2:], extents, list(windows.strides))
    for item in x:
        cut = padded(torch.from_numpy(item[np.newaxis]), pads, 0.0)[0]  # (C, *D)
        for axis, (extent, stride) in enumerate(zip(extents, windows.strides, strict=True), 1):
            cut = cut.unfold(axis, extent, stride)  # (C, *position, *window)
        every = [slice(None)] * (1 + len(extents)) + [slice(None, None, dilation) for dilation in windows.dilations]
        taken = cut.numpy()[tuple(every)]
        turned = np.moveaxis(taken, 0, len(windows.kernel))  # (*position, C, *kernel)
        yield turned.reshape(-1, item.shape[0] * int(np.prod(windows.kernel)))
