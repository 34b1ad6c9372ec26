"""Does a processor still compute what its definition says? Every output counts, and the worst case of the worst one.

For what has one right answer: masks, distances, projections. Outputs are compared as they are, in their own units.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.types import Measurement, Subject
from verify.ladder.rungs import BETWEEN, Ladder, Values, difference, ladder, pair, top

MEASURES = {
    "rewrite": "value",
    "convert": "value",
    "precision": "value",
    "max_difference": "value",
    "agreement": "share of flags",
}
NEEDS = ("outputs",)

FLAGS = "0 or 1"


def measure(subject: Subject) -> list[Measurement]:
    """Return the largest difference of any output, between neighbouring rungs and between the ends of the ladder.

    rewrite, convert, precision   between two neighbouring rungs
    max_difference                between the artifact and the topmost rung that was run
    agreement                     share of flags that are equal at the ends of the ladder, where outputs are 0 or 1, in
                                  the output where it is lowest: one flag that flips is a difference of one
    """
    ladders = {tensor.name: ladder(subject.rungs, tensor.name) for tensor in subject.outputs}
    between = {name: [(output, found, *ends) for output, found in ladders.items()] for name, ends in BETWEEN.items()}
    between["max_difference"] = [(output, found, top(found), "declared") for output, found in ladders.items()]
    flags = [ladders[tensor.name] for tensor in subject.outputs if tensor.unit == FLAGS]
    worst = [
        _worst([_of_output(name, output, found, first, second) for output, found, first, second in cases])
        for name, cases in between.items()
    ]
    return [*worst, _agreement(flags)]


def _agreement(flags: Sequence[Ladder]) -> Measurement:
    found = [pair(ladder, top(ladder), "declared") for ladder in flags]
    reasons = [each for each in found if isinstance(each, str)]
    if reasons or not found:
        return Measurement("agreement", None, "share of flags", (reasons or ["no output is a flag"])[0])
    shares = [float(np.mean(_equal(*each))) for each in found if not isinstance(each, str)]
    return Measurement("agreement", min(shares), "share of flags", f"{len(shares)} outputs")


def _equal(one: Values, other: Values) -> np.ndarray:
    return np.concatenate([np.equal(one[example], other[example]).reshape(-1) for example in one])


def _of_output(name: str, output: str, found: dict, first: str, second: str) -> Measurement:
    measured = difference(name, "value", found, first, second)
    note = measured.note if measured.value is None else f"{output}, {measured.note}"
    return Measurement(name, measured.value, "value", note, {**measured.detail, "output": output})


def _worst(measured: list[Measurement]) -> Measurement:
    """Return the largest measurement; one that could not be made outranks all that could."""
    return max(measured, key=lambda m: (m.value is None, m.value is not None and np.isnan(m.value), m.value or 0))
