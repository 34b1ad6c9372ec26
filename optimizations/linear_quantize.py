"""Integers for large weights: each value becomes scale × an integer of 8 or 4 bits.

Given

    const (fp16 or fp32, of rank 2 or more, with more than `weight_threshold` elements) → operation

Result

    constexpr_affine_dequantize (int8, one scale for each output channel; iOS 16 and 17), or
    constexpr_blockwise_shift_scale (int8 or int4, one scale for each channel or block; iOS 18) → operation

under the same name and type, symmetric around zero, without zero points. Every weight is decoded again from the
package that was written and held against its original.

Try palettes of 8 bits first. They are as small, and put their entries where the values are; on every weight of
segmentation-3.0 they are closer. And the GPU compiler of macOS crashed on an int8 Sortformer, and not on its palettes
(FluidInference/mobius, issue 73).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizations.weights.exclusion import check
from pipeline.types import Memo

WIDTHS = (4, 8)


@dataclass(frozen=True)
class Options:
    """What a variant may set.

    nbits              8, or 4, which needs iOS 18
    block_size         how many neighbouring input channels of an output channel share a scale, which needs iOS 18;
                       None: all. A weight whose input channels are no multiple of it is left as it is
    weight_threshold   weights of as many elements or fewer are left as they are
    exclude            weights to leave as they are, as for `palettize`: operation types, outputs, "fbank" and "fp32"
    """

    nbits: int = 8
    block_size: int | None = None
    weight_threshold: int = 2048
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.nbits not in WIDTHS:
            raise ValueError(f"nbits: expected 4 or 8, found {self.nbits}")
        if self.block_size is not None and self.block_size < 1:
            raise ValueError(f"block_size: expected at least 1 channel, found {self.block_size}")
        check(self.weight_threshold, self.exclude)


def apply(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Write the package at `source` with integers in place of its large weights to `destination`.

    Equal packages and options give equal bytes. Nothing is worth recalling, so `memo` is not used.

    Returns what `palettize` does: for each weight its width, blocks and differences, what was left and why, and the
    bytes of the weight files.

    Raises QuernError for a model that is no ML program, a target that lacks what the options ask for, an exclusion
    that excludes nothing, and weights with nan or infinite values; MilError for a damaged package.
    """
    from optimizations.linear.rewrite import rewrite

    return rewrite(source, options, destination)
