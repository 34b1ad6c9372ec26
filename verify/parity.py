"""Does the artifact still say what upstream says? Measured as a ladder, so that a failure says where it came in.

    upstream -> network -> float32 -> declared

`upstream` is the original implementation, `network` our rewrite of it, `float32` the converted program run in
single precision, `declared` the artifact with its own precision and palettes. Every rung is held against the one
before, and the last against the topmost that is there.

The outputs that are compared are those with a class axis. Where their unit is log probability, differences are
differences of probability.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.types import Measurement, Subject, Tensor

RUNGS = ("upstream", "network", "float32", "declared")
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

Windows = dict[str, np.ndarray]  # name of the window → (frame, class)


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
    rungs = {name: _windows(subject.rungs[name], tensor) for name in RUNGS}
    between = [
        _difference("rewrite", rungs, "upstream", "network", tensor),
        _difference("convert", rungs, "network", "float32", tensor),
        _difference("precision", rungs, "float32", "declared", tensor),
    ]
    top = next((name for name in RUNGS if isinstance(rungs[name], dict)), "declared")
    ends = [_difference("max_difference", rungs, top, "declared", tensor), *_agreement(rungs, top)]
    return [*between, *ends, _normalised(rungs["declared"], tensor)]


def _windows(rung: Path | str, tensor: Tensor) -> Windows | str:
    """Return the outputs of a rung, one window each, or the reason why there are none.

    An example of several windows bears their names, joined by commas; a window that fills up a batch comes twice.
    """
    if isinstance(rung, str):
        return rung
    from pipeline.tensors import read_tensors

    found: Windows = {}
    for name, array in read_tensors(rung).items():
        example, _, output = name.rpartition("/")
        if output == tensor.name:
            rows = array.reshape(-1, *array.shape[-2:]).astype(np.float64)
            found |= dict(zip(example.split(","), rows, strict=True))
    return found or "no examples were run"


def _difference(name: str, rungs: Mapping[str, Windows | str], first: str, second: str, tensor: Tensor) -> Measurement:
    one, other = rungs[first], rungs[second]
    if isinstance(one, str) or isinstance(other, str):
        reason = one if isinstance(one, str) else str(other)
        return Measurement(name, None, "probability", reason)
    by_window = {w: float(np.abs(_probability(one[w], tensor) - _probability(other[w], tensor)).max()) for w in one}
    worst = max(by_window, key=lambda window: by_window[window])
    return Measurement(
        name, by_window[worst], "probability", f"worst window {worst}", {"from": first, "to": second, "window": worst}
    )


def _probability(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    return np.exp(values) if tensor.unit == "log probability" else values


def _agreement(rungs: Mapping[str, Windows | str], top: str) -> list[Measurement]:
    one, other = rungs[top], rungs["declared"]
    names = ("argmax", "argmax_worst_window")
    if isinstance(one, str) or isinstance(other, str) or top == "declared":
        reason = other if isinstance(other, str) else "nothing to compare with"
        return [Measurement(name, None, "share of frames", reason) for name in names]
    same = {window: one[window].argmax(-1) == other[window].argmax(-1) for window in one}
    frames = sum(len(equal) for equal in same.values())
    agreeing = sum(int(equal.sum()) for equal in same.values())
    worst = min(same, key=lambda window: same[window].mean())
    detail = {"against": top, "frames": frames, "differing": frames - agreeing, "windows": len(same)}
    return [
        Measurement("argmax", agreeing / frames, "share of frames", f"against {top}", detail),
        Measurement(
            "argmax_worst_window",
            float(same[worst].mean()),
            "share of frames",
            f"window {worst}",
            {"against": top, "window": worst, "frames": len(same[worst]), "differing": int((~same[worst]).sum())},
        ),
    ]


def _normalised(declared: Windows | str, tensor: Tensor) -> Measurement:
    if isinstance(declared, str):
        return Measurement("normalised", None, "nat", declared)
    if tensor.unit != "log probability":
        return Measurement("normalised", None, "nat", f"outputs are {tensor.unit}")
    by_window = {window: float(np.abs(np.logaddexp.reduce(v, axis=-1)).max()) for window, v in declared.items()}
    worst = max(by_window, key=lambda window: by_window[window])
    return Measurement("normalised", by_window[worst], "nat", f"worst window {worst}", {"window": worst})
