"""Palettes of several widths: bits go to the weights whose loss is heard, measured on real recordings.

Given

    const (fp16 or fp32, of rank 2 or more, with more than `weight_threshold` elements) → operation

Result

    constexpr_lut_to_dense (indices, lut) → operation

as `palettize` makes it, with a width for each weight, and other biases. Five things decide which:

1. Compensation. A weight that multiplies features takes, value by value, the palette entry that leaves the least
   error in its *products*, given the second moments of the features: an error in one column is made up for by the
   columns that follow (`mixed/compensation.py`). What remains of the error's mean goes into the bias.
2. Sensitivity. Each weight at each width, alone, is run on windows of what it is calibrated on; what the outputs lose
   on the three quarters of them that lose least is its cost: some windows are renumbered as a whole by next to nothing.
   A network that is run over many calls, whose outputs feed back into it, is run over all of them.
3. Allocation. The widths with the least sum of costs that fit the size, exactly (`mixed/allocation.py`).
4. Exchange. What several weights lose together is not that sum. So under a size, weights exchange width in pairs, each
   time measured with all others at theirs, and what loses less is kept (`mixed/search.py`).
5. Distillation, where `distill` says so. The program is run with its weights as inputs, so that torch differentiates
   it; entries, indices and biases are moved along the gradient of what the outputs lose (`mixed/distillation.py`).

The recordings are shared out: two of three are for calibration, every third is held out and only measured on. Moments
are taken from variations of the former, where there are any: the few recordings alone would be fitted too closely.
Gradients are taken from others, new ones for every step, that stay nearer to the recordings. The widths that were
chosen are returned, and may be written back as `assignment`: then nothing is searched.

Costs are rounded to a quarter of an octave before anything is decided, so that the last digits of a processor rarely
matter. They still can: moments and gradients are sums of floats, and a value that lies halfway between two entries may
fall to either side on another CPU. `assignment` with `compensate: false` and no distillation gives the same bytes
everywhere, from no recordings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizations.weights.exclusion import check
from pipeline.types import Calibration, Memo

WIDTHS = (1, 2, 3, 4, 6, 8)
WHOLE = 16


@dataclass(frozen=True)
class Options:
    """What a variant may set: exactly one of the first three.

    size_mb            the most that the weight files may take, in 10⁶ bytes
    argmax_agreement   the least share of frames of windows calibrated on whose most probable class stays, or of
                       events that stay on their side of ½; the smallest assignment on the curve that has it is taken
    assignment         width of each weight by name, as in the findings; 16 leaves one as it is
    widths             what may be chosen, beside leaving a weight as it is
    compensate         whether to choose entries by the features; without, each value has its nearest entry
    distill            how many steps of gradients fine-tune palettes and biases towards the outputs of the source
    weight_threshold   weights of as many elements or fewer are left as they are
    exclude            weights to leave as they are, as for `palettize`: operation types, outputs, "fbank" and "fp32"
    """

    size_mb: float | None = None
    argmax_agreement: float | None = None
    assignment: dict[str, int] = field(default_factory=dict)
    widths: tuple[int, ...] = (2, 4, 6, 8)
    compensate: bool = True
    distill: int = 0
    weight_threshold: int = 2048
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        chosen = [self.size_mb is not None, self.argmax_agreement is not None, bool(self.assignment)]
        if sum(chosen) != 1:
            raise ValueError("expected one of size_mb, argmax_agreement and assignment")
        if self.size_mb is not None and not self.size_mb > 0:
            raise ValueError(f"size_mb: expected more than 0, found {self.size_mb}")
        if self.argmax_agreement is not None and not 0 < self.argmax_agreement <= 1:
            raise ValueError(f"argmax_agreement: expected a share above 0 and up to 1, found {self.argmax_agreement}")
        if self.distill < 0:
            raise ValueError(f"distill: expected a number of steps, found {self.distill}")
        if not self.widths or not set(self.widths) <= set(WIDTHS):
            raise ValueError(f"widths: expected some of {', '.join(map(str, WIDTHS))}, found {list(self.widths)}")
        _check_assignment(self.assignment)
        check(self.weight_threshold, self.exclude)


def _check_assignment(assignment: Mapping[str, Any]) -> None:
    for name, width in assignment.items():
        if type(width) is not int or width not in (*WIDTHS, WHOLE):
            raise ValueError(f"assignment.{name}: expected one of {WIDTHS} or {WHOLE}, found {width!r}")


def apply(
    source: Path, options: Options, memo: Memo, destination: Path, calibration: Calibration | None
) -> dict[str, Any]:
    """Write the package at `source` with palettes of several widths to `destination`.

    Returns
        decided              the assignment: weight → width
        sensitivity          weight → width → cost; none where the assignment was given
        curve                the front of the search: [bytes of the weight files, sum of costs]
        measured_before      as `measured`, before distillation; none without it
        measured             for the calibration and the held-out windows: share of frames whose most probable class
                             is that of the source, over all and in the worst window, and the divergence
        weights, left, weight_bytes   as from `palettize`

    Raises QuernError as `palettize` does; for a size that even the narrowest widths exceed, an agreement that not
    even the widest have, names in `assignment` that are no large weights; and where recordings are needed and there
    are none.
    """
    from optimizations.mixed.rewrite import rewrite

    return rewrite(source, options, memo, destination, calibration)


def calibrated(options: Options) -> bool:
    """Return whether recordings decide what is written: not where widths are given and nothing is compensated."""
    return options.compensate or options.distill > 0 or not options.assignment
