"""What is reported: one row for each thing that is compared, and the limits that decide."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from pipeline.types import Outcome


@dataclass(frozen=True)
class Limits:
    """How much worse the new release may be.

    argmax          least share of frames whose likeliest class is the same
    worst_window    the same in the window where it is lowest
    agreement       least share of decisions (p > 0.5) and of flags that are the same
    cosine          least cosine between two embeddings
    relative        largest rms difference of an output, as a share of its rms value
    der             most points of diarization error that may be added
    size_factor     by how much the weights may grow
    memory_factor   by how much the activations that are live at once may grow
    lint            levels whose new findings count: "error", or "warning" for errors and warnings, or "never"
    """

    argmax: float = 0.99
    worst_window: float = 0.9
    agreement: float = 0.99
    cosine: float = 0.99
    relative: float = 0.1
    der: float = 1.0
    size_factor: float = 1.02
    memory_factor: float = 1.1
    lint: str = "error"


# Largest |log Σ p| of a frame of log probabilities: half precision leaves 5e-3, a second softmax 1 and more.
NORMALISED = 0.02


@dataclass(frozen=True)
class Row:
    """One comparison.

    old, new   what was found in each; `new` alone where it is a measure of how far they are apart
    limit      what decides; empty where the row is information
    outcome    None where the row is information
    notes      what was found, a sentence each
    """

    model: str
    check: str
    old: float | None
    new: float | None
    unit: str
    limit: str = ""
    outcome: Outcome | None = None
    notes: tuple[str, ...] = ()


def counted(model: str, check: str, old: Collection[str], new: Collection[str]) -> Row:
    """Return the row of findings, which fails where the new release has one that the old one has not."""
    added = tuple(sorted(set(new) - set(old)))
    outcome: Outcome = "fail" if added else "pass"
    return Row(model, check, len(old), len(new), "findings", "no new ones", outcome, added)


def grown(model: str, check: str, old: float | str, new: float | str, unit: str, factor: float) -> Row:
    """Return the row of a cost that may grow by a factor; a cost that could not be found is told as its reason."""
    if isinstance(new, str):
        outcome: Outcome = "not run" if isinstance(old, str) else "fail"
        return Row(model, check, None if isinstance(old, str) else old, None, unit, f"≤ × {factor:g}", outcome, (new,))
    if isinstance(old, str):
        return Row(model, check, None, new, unit, f"≤ × {factor:g}", "not run", (f"of the old release: {old}",))
    outcome = "pass" if new <= old * factor else "fail"
    return Row(model, check, old, new, unit, f"≤ {old * factor:.4g}", outcome)


def bounded(row: Row, least: float | None = None, most: float | None = None) -> Row:
    """Return a row held against a bound; what is no finite number is outside of any, what is not there is not run."""
    limit = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
    if row.new is None:
        outcome: Outcome = "not run"
    else:
        inside = (least is None or row.new >= least) and (most is None or row.new <= most)
        outcome = "pass" if inside and math.isfinite(row.new) else "fail"
    return Row(row.model, row.check, row.old, row.new, row.unit, limit, outcome, row.notes)
