"""Does the artifact still say what upstream says? Measured as a ladder, so that a failure says where it came in.

Every rung is held against the one before, and the last against the topmost that is there. The output that is compared
is the one with a class axis. Where its unit is log probability, differences are differences of probability.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.types import Measurement, Subject
from verify.ladder.rungs import Ladder, Values, climbed, difference, ladder, pair, rows, top

MEASURES = {
    "rewrite": "probability",
    "convert": "probability",
    "precision": "probability",
    "max_difference": "probability",
    "argmax": "share of frames",
    "argmax_worst_window": "share of frames",
    "normalised": "nat",
}
NEEDS = ("outputs",)


def measure(subject: Subject) -> list[Measurement]:
    """Return the differences between neighbouring rungs, and the agreement of the last with the topmost.

    rewrite, convert, precision   largest |Δp| between two neighbouring rungs
    max_difference                largest |Δp| between the ends of the ladder
    argmax, argmax_worst_window   share of frames whose most probable class is the same, over all windows and in the
                                  window where it is lowest
    normalised                    largest |log Σ p| of a frame of the artifact, where outputs are log probabilities:
                                  zero for a distribution, so a second softmax or a lost normalisation is seen
    """
    tensor = next(t for t in subject.outputs if "class" in t.axes)
    windows = rows(ladder(subject.rungs, tensor.name), rank=2)  # (frame, class)
    logs = tensor.unit == "log probability"
    probabilities = {name: _exponentials(found) if logs else found for name, found in windows.items()}
    ends = difference("max_difference", "probability", probabilities, top(windows), "declared")
    normalised = _normalised(windows) if logs else Measurement("normalised", None, "nat", f"outputs are {tensor.unit}")
    return [*climbed("probability", probabilities), ends, *_agreement(windows), normalised]


def _exponentials(values: Values | str) -> Values | str:
    return values if isinstance(values, str) else {window: np.exp(array) for window, array in values.items()}


def _agreement(windows: Ladder) -> list[Measurement]:
    against = top(windows)
    found = pair(windows, against, "declared")
    if isinstance(found, str):
        return [Measurement(name, None, "share of frames", found) for name in ("argmax", "argmax_worst_window")]
    one, other = found
    same = {window: one[window].argmax(-1) == other[window].argmax(-1) for window in one}
    return [_over_all(same, against), _in_the_worst(same, against)]


def _over_all(same: Mapping[str, np.ndarray], against: str) -> Measurement:
    frames = sum(len(equal) for equal in same.values())
    agreeing = sum(int(equal.sum()) for equal in same.values())
    detail = {"against": against, "frames": frames, "differing": frames - agreeing, "windows": len(same)}
    return Measurement("argmax", agreeing / frames, "share of frames", f"against {against}", detail)


def _in_the_worst(same: Mapping[str, np.ndarray], against: str) -> Measurement:
    worst = min(same, key=lambda window: same[window].mean())
    equal = same[worst]
    detail = {"against": against, "window": worst, "frames": len(equal), "differing": int((~equal).sum())}
    return Measurement("argmax_worst_window", float(equal.mean()), "share of frames", f"window {worst}", detail)


def _normalised(windows: Ladder) -> Measurement:
    declared = windows["declared"]
    if isinstance(declared, str):
        return Measurement("normalised", None, "nat", declared)
    by_window = {window: float(np.abs(np.logaddexp.reduce(v, axis=-1)).max()) for window, v in declared.items()}
    worst = max(by_window, key=lambda window: by_window[window])
    return Measurement("normalised", by_window[worst], "nat", f"worst window {worst}", {"window": worst})
