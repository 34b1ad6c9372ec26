"""Slices as convolutions: what is left of `slice_by_index` when the frames are folded.

Given

    slice_by_index (x, fixed bounds, one axis cut)

Result

    reshape → conv (kernel with a single 1) → reshape

or, where the slice takes every axis whole and only drops some of one element, a single reshape; under the same name
and type. A part of n of the L elements of an axis is a convolution with L − n + 1 taps, all 0 but one: cheap where a
slice drops a few elements, or takes one of a few, and declined beyond `most_taps`.

It is exact: each output is one product with 1, and sums of products with 0. Negative zero becomes zero, and infinite
or nan values spoil the outputs that their kernel touches. Slices of integers and of computed bounds stay.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.types import Memo


@dataclass(frozen=True)
class Options:
    """What a variant may set.

    most_taps   how long a kernel may be, which is one more than the elements that a slice drops
    """

    most_taps: int = 64

    def __post_init__(self) -> None:
        if self.most_taps < 1:
            raise ValueError(f"most_taps: expected at least 1, found {self.most_taps}")


def apply(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Write the package at `source` without those slices that have an exact equivalent to `destination`.

    Equal packages and options give equal bytes. Nothing is worth recalling, so `memo` is not used.

    Returns
        replaced   each slice that is gone: its name, source, and what it is now
        left       each slice that stays, and why
        counts     operations that are no constants, and slices, before and after

    Raises QuernError for a model that is no ML program; MilError for a damaged package.
    """
    from optimizations.programs.parts import replace
    from optimizations.programs.rewriting import rewritten

    return rewritten(source, lambda graph, edits: replace(graph, edits, options), destination)
