"""Fourier matrices, windows and mel filters made exact again, where compression or rounding has moved them.

Given

    const, constexpr_lut_to_dense, constexpr_affine_dequantize or constexpr_blockwise_shift_scale → operation

whose values are those of a formula as far as the way they are stored can tell: the exact value of each lies where
storing it would have given what is stored (in a palette, nearest to the entry that it has)

Result

    const (computed in float64, rounded to the type that the program declares) → operation

under the same name and type. Such matrices are no weights: nobody learned them, and the logarithm behind them turns a
small error of a quiet band into a large one. Palettes of 8 bits cost up to 2.6 in the log-mel of speech.

It is safe because a constant that was trained away from its formula, by more than storing it explains, stays as it is,
as does one that two different formulas explain. It undoes part of what compression saved: a Fourier matrix of
512 × 512 is 1 MB in single precision. It comes after every pass that compresses weights; a variant that is compressed
here keeps its constants exact with `exclude: [fbank]` and does not need it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.types import Memo

KINDS = ("fourier", "window", "mel")


@dataclass(frozen=True)
class Options:
    """What a variant may set.

    kinds   which constants to look for: "fourier", "window", "mel"
    """

    kinds: tuple[str, ...] = KINDS

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, found {list(self.kinds)}")


def apply(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Write the package at `source` with exact analytic constants to `destination`.

    Equal packages and options give equal bytes on one machine; sines are those of its C library, so the last bit of
    a value may differ on another. Nothing is worth recalling, so `memo` is not used.

    Returns
        restored   for each constant: name, shape, how it was stored, formula, and the largest and rms difference
        left       each constant of a fitting shape that stays, its cosine with the nearest formula, and why
        counts     operations that are no constants, and slices, before and after

    Raises QuernError for a model that is no ML program; MilError for a damaged package.
    """
    from optimizations.analytic.restoration import restore
    from optimizations.programs.rewriting import rewritten

    return rewritten(source, lambda graph, edits: restore(graph, edits, options), destination)
