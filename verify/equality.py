"""Does a processor still compute what its definition says? Every output counts, and the worst case of the worst one.

For what has one right answer: masks, distances, projections. Outputs are compared as they are, in their own units.
"""

import numpy as np

from pipeline.types import Measurement, Subject
from verify.ladder.rungs import BETWEEN, difference, ladder, top

MEASURES = {"rewrite": "value", "convert": "value", "precision": "value", "max_difference": "value"}
NEEDS = ("outputs",)


def measure(subject: Subject) -> list[Measurement]:
    """Return the largest difference of any output, between neighbouring rungs and between the ends of the ladder.

    rewrite, convert, precision   between two neighbouring rungs
    max_difference                between the artifact and the topmost rung that was run
    """
    ladders = {tensor.name: ladder(subject.rungs, tensor.name) for tensor in subject.outputs}
    between = {name: [(output, found, *ends) for output, found in ladders.items()] for name, ends in BETWEEN.items()}
    between["max_difference"] = [(output, found, top(found), "declared") for output, found in ladders.items()]
    return [
        _worst([_of_output(name, output, found, first, second) for output, found, first, second in cases])
        for name, cases in between.items()
    ]


def _of_output(name: str, output: str, found: dict, first: str, second: str) -> Measurement:
    measured = difference(name, "value", found, first, second)
    note = measured.note if measured.value is None else f"{output}, {measured.note}"
    return Measurement(name, measured.value, "value", note, {**measured.detail, "output": output})


def _worst(measured: list[Measurement]) -> Measurement:
    """Return the largest measurement; one that could not be made outranks all that could."""
    return max(measured, key=lambda m: (m.value is None, m.value is not None and np.isnan(m.value), m.value or 0))
