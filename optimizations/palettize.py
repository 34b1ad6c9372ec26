"""Palettes for large weights: each value becomes an index of a few bits into a table of the best few values.

Given

    const (fp16 or fp32, of rank 2 or more, with more than `weight_threshold` elements) → operation

Result

    constexpr_lut_to_dense (indices, lut) → operation

under the same name and type, so that nothing else in the program changes. Core ML decodes it when it loads the model
or while it runs. Weights, their threshold and the form of the operations are those of coremltools' palettize_weights;
the palettes have the least squared error there is (`palettes/kmeans.py`).

It is safe because it is checked: every weight is decoded again from the package that was written and held against its
original, and the differences are returned. It comes after every pass that changes weights, since weights in palettes
can no longer be folded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from optimizations.weights.exclusion import check
from pipeline.types import Memo

WIDTHS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Options:
    """What a variant may set.

    nbits               width of an index: 1, 2, 3, 4, 6 or 8; a palette has 2^nbits entries. 3 needs iOS 18
    granularity         "per_tensor", or "per_grouped_channel" with a palette for each `group_size` neighbouring
                        output channels, which needs iOS 18
    group_size          divides the number of output channels; a weight where it does not is left as it is
    per_channel_scale   divide each output channel by its largest magnitude first; needs iOS 26
    weight_threshold    weights of as many elements or fewer are left as they are
    exclude             weights to leave as they are: those that an operation of the given type uses, such as
                        "gather"; all that an output of the given name is made of; "fbank", the filters of a
                        spectral front end, known by the logarithm behind them; and "fp32", all that a program of mixed
                        precision keeps in single precision
    """

    nbits: int
    granularity: Literal["per_tensor", "per_grouped_channel"] = "per_tensor"
    group_size: int = 32
    per_channel_scale: bool = False
    weight_threshold: int = 2048
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.nbits not in WIDTHS:
            raise ValueError(f"nbits: expected one of {', '.join(map(str, WIDTHS))}, found {self.nbits}")
        if self.granularity not in ("per_tensor", "per_grouped_channel"):
            raise ValueError(f"granularity: expected per_tensor or per_grouped_channel, found {self.granularity}")
        if self.group_size < 1:
            raise ValueError(f"group_size: expected at least 1 channel, found {self.group_size}")
        check(self.weight_threshold, self.exclude)


def apply(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Write the package at `source` with palettes in place of its large weights to `destination`.

    Equal packages and options give equal bytes. Palettes are kept by what they depend on, the content of their
    weight, so that programs which share weights share the work.

    Returns
        weights        for each weight with a palette: its name as "function/name", shape, width, number of palettes,
                       and of the decoded values the largest and the rms difference, the rms of the originals, and the
                       cosine
        left           weights above the threshold that have no palette, and why
        weight_bytes   of the weight files before and after

    Raises QuernError for a model that is no ML program, a target that lacks what the options ask for, an exclusion
    that excludes nothing, and weights with nan or infinite values; MilError for a damaged package.
    """
    from optimizations.palettes.rewrite import rewrite

    return rewrite(source, options, memo, destination)
