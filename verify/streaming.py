"""Does a streaming artifact still decide what upstream decides, chunk after chunk, with its own memory fed back?

An error of one chunk is in what the next is given, so whole recordings are compared, and whether they drift apart.
Where a recording is too costly, single calls in recorded states are. The output that is compared is the one with a
speaker axis, (frame, speaker); a recording is told from a single call by the counts of its memory that stand beside it.
"""

from collections.abc import Mapping

import numpy as np

from diarization.streaming.examples import COMPRESSIONS, SILENCE_FRAMES
from pipeline.types import Measurement, Subject
from verify.ladder.rungs import Values, climbed, difference, ladder, pair, top

MEASURES = {
    "rewrite": "probability",
    "convert": "probability",
    "precision": "probability",
    "max_difference": "probability",
    "agreement": "share of decisions",
    "agreement_worst": "share of decisions",
    "argmax": "share of frames",
    "growth": "probability",
    "compressions": "compressions",
    "silence": "frames",
}
NEEDS = ("outputs",)

_THRESHOLD = 0.5
_WINDOW = 125  # frames: 10 s


def measure(subject: Subject) -> list[Measurement]:
    """Return the differences between neighbouring rungs, and the agreement of the last with the topmost.

    rewrite, convert, precision   largest |Δp| between two neighbouring rungs
    max_difference                largest |Δp| between the ends of the ladder
    agreement, agreement_worst    share of the decisions "this speaker talks in this frame", p > 0.5, that are the same:
                                  of all, and of the 10 s where it is lowest
    argmax                        share of the frames where one speaker talks alone, by the topmost rung, in which he
                                  is still the most probable
    growth                        mean |Δp| in the last third of a recording less that in its first third; the largest
                                  of all recordings. A bounded error gives about zero, however large it is
    compressions, silence         how often the artifact compressed its cache in a recording, and how many frames of
                                  silence it had collected at its end; the least of all recordings
    """
    tensor = next(t for t in subject.outputs if "speaker" in t.axes)
    preds = ladder(subject.rungs, tensor.name)
    ends = difference("max_difference", "probability", preds, top(preds), "declared")
    found = [*climbed("probability", preds), ends]
    compared = pair(preds, top(preds), "declared")
    counts = {name: ladder(subject.rungs, name)["declared"] for name in (COMPRESSIONS, SILENCE_FRAMES)}
    recordings = counts[COMPRESSIONS]
    if isinstance(compared, str):
        names = ("agreement", "agreement_worst", "argmax", "growth")
        found += [Measurement(name, None, MEASURES[name], compared) for name in names]
    else:
        found += [*_agreements(*compared, top(preds)), _growth(*compared, recordings)]
    return [*found, _least("compressions", counts[COMPRESSIONS]), _least("silence", counts[SILENCE_FRAMES])]


def _agreements(one: Values, other: Values, against: str) -> list[Measurement]:
    same = {example: _same_decisions(one[example], other[example]) for example in one}
    windows = {
        f"{example}[{start}:{start + _WINDOW}]": equal[start : start + _WINDOW]
        for example, equal in same.items()
        for start in range(0, len(equal), _WINDOW)
    }
    worst = min(windows, key=lambda window: windows[window].mean())
    everything = np.concatenate(list(same.values()))
    detail = {"against": against, "decisions": everything.size, "differing": int((~everything).sum())}
    return [
        Measurement("agreement", float(everything.mean()), "share of decisions", f"against {against}", detail),
        Measurement(
            "agreement_worst", float(windows[worst].mean()), "share of decisions", f"frames {worst}", {"window": worst}
        ),
        _argmax(one, other, against),
    ]


def _same_decisions(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return where two decide the same (frame, speaker); what is no number, or not there, decides nothing."""
    if one.shape != other.shape:
        return np.zeros(one.shape, bool)
    return ((one > _THRESHOLD) == (other > _THRESHOLD)) & np.isfinite(other)


def _argmax(one: Values, other: Values, against: str) -> Measurement:
    frames = agreeing = 0
    for example, preds in one.items():
        alone = (preds > _THRESHOLD).sum(axis=-1) == 1
        frames += int(alone.sum())
        if other[example].shape == preds.shape:
            same = (preds.argmax(-1) == other[example].argmax(-1)) & np.isfinite(other[example]).all(-1)
            agreeing += int((same & alone).sum())
    if not frames:
        return Measurement("argmax", None, "share of frames", "nobody talks alone in any frame")
    detail = {"against": against, "frames": frames, "differing": frames - agreeing}
    return Measurement("argmax", agreeing / frames, "share of frames", f"against {against}", detail)


def _growth(one: Values, other: Values, recordings: Values | str) -> Measurement:
    if isinstance(recordings, str):
        return Measurement("growth", None, "probability", "no whole recording was run")
    thirds = {name: _thirds(one[name], other[name]) for name in recordings}
    grown = {name: last - first for name, (first, last) in thirds.items()}
    worst = max(grown, key=lambda name: (np.isnan(grown[name]), grown[name]))
    first, last = thirds[worst]
    detail = {"recording": worst, "first_third": first, "last_third": last, "frames": len(one[worst])}
    return Measurement("growth", grown[worst], "probability", worst, detail)


def _thirds(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the mean difference in the first third of the frames, and in the last."""
    if one.shape != other.shape:
        return 0.0, float("inf")
    error = np.abs(one - other)
    third = max(1, len(error) // 3)
    return float(error[:third].mean()), float(error[-third:].mean())


def _least(name: str, counts: Mapping[str, np.ndarray] | str) -> Measurement:
    if isinstance(counts, str):
        return Measurement(name, None, MEASURES[name], "no whole recording was run")
    at_end = {example: int(count[-1]) for example, count in counts.items()}
    least = min(at_end, key=lambda example: at_end[example])
    return Measurement(name, at_end[least], MEASURES[name], least, at_end)
