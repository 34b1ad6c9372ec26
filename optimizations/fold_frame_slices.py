"""Frames cut by one convolution, where a program cuts them one slice at a time.

Given

    slice_by_index (x, begin 0) ┐
    slice_by_index (x, begin s) ├→ [expand_dims, squeeze, reshape →] stack or concat
    slice_by_index (x, begin 2s)┘

with as many elements each, from one tensor, at a constant stride

Result

    reshape → conv (identity kernel, stride s) [→ transpose] → reshape

under the same name and type. A network that was traced while it unrolled its framing has one slice for each frame: a
thousand for ten seconds of audio, each a dispatch of its own on a device.

It is exact: each output is one product with 1, and sums of products with 0. Two things can differ, and do in no sane
signal: negative zero becomes zero, and an infinite or nan sample spoils every frame that touches it, not only its own
place. A kernel starts where the first slice does and ends where no further frame fits, with zeros around its ones;
where the slices take but a small part of the axis, one slice is left that cuts out this part.

It comes before passes that compress weights: those may put the kernel's zeros and ones into a palette, which holds
them exactly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.types import Memo


@dataclass(frozen=True)
class Options:
    """What a variant may set.

    fewest           of how many slices a group consists, at least, to be worth a convolution
    largest_kernel   the most elements that a kernel may have
    """

    fewest: int = 8
    largest_kernel: int = 1 << 22

    def __post_init__(self) -> None:
        if self.fewest < 2:
            raise ValueError(f"fewest: expected at least 2 slices, found {self.fewest}")
        if self.largest_kernel < 1:
            raise ValueError(f"largest_kernel: expected at least 1 element, found {self.largest_kernel}")


def apply(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Write the package at `source` with its groups of slices folded to `destination`.

    Equal packages and options give equal bytes. Nothing is worth recalling, so `memo` is not used.

    Returns
        folded   for each group: the name of the stack or concat, source, slices, length, stride, kernel
        left     each stack or concat of slices that stays, and why
        counts   operations that are no constants, and slices, before and after

    Raises QuernError for a model that is no ML program; MilError for a damaged package.
    """
    from optimizations.programs.frames import fold
    from optimizations.programs.rewriting import rewritten

    return rewritten(source, lambda graph, edits: fold(graph, edits, options), destination)
