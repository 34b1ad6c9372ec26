"""What does the artifact's precision cost in diarization error, and how large is the error at all?

The windows of each recording, as the ladder's rungs have them, are put together to who spoke when, without embeddings:
speakers are linked where windows overlap. The artifact is held against the program in single precision, and both
against the labels, RTTM files beside the recordings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import Measurement, Subject
from verify.ladder.rungs import Values, ladder, rows

if TYPE_CHECKING:
    from pyannote.core import Annotation

    from verify.scoring.diarization import Score

MEASURES = {"divergence": "points", "error": "points", "cost": "points"}
NEEDS = ("outputs", "recordings")


def measure(subject: Subject) -> list[Measurement]:
    """Return diarization error rates in points, a hundredth each, with no collar and overlapped speech included.

    divergence   of the artifact, with what single precision makes of the recordings for the truth
    error        of the artifact, against the labels
    cost         how much that is more than the error of single precision
    """
    tensor = next(t for t in subject.outputs if "class" in t.axes)
    rungs = rows(ladder(subject.rungs, tensor.name), rank=2)
    declared, exact = rungs["declared"], rungs["float32"]
    if isinstance(declared, str) or isinstance(exact, str):
        reason = declared if isinstance(declared, str) else str(exact)
        return [Measurement(name, None, unit, reason) for name, unit in MEASURES.items()]
    from verify.scoring.diarization import Rules, labels_beside, score, together, whole

    lengths = {path.stem: _length_s(path) for path in subject.recordings}
    ours, theirs = (_annotations(values, lengths) for values in (declared, exact))
    rules = Rules()
    apart = {name: score(theirs[name], ours[name], whole(lengths[name]), rules) for name in ours}
    labels = {name: found for name, found in labels_beside(subject.recordings).items() if name in ours}
    shown = {"turns": _turns({"labels": labels, "fp32": theirs, "artifact": ours})}
    divergence = Measurement(
        "divergence", _points(together(apart.values())), "points", "", {"recordings": _by_recording(apart), **shown}
    )
    if subject.weights == "synthetic":
        return [divergence, *(Measurement(name, None, "points", "synthetic weights") for name in ("error", "cost"))]
    if not labels:
        return [divergence, *(Measurement(name, None, "points", "no labels") for name in ("error", "cost"))]
    errors, before = (
        {name: score(labels[name], found[name], whole(lengths[name]), rules) for name in labels}
        for found in (ours, theirs)
    )
    return [divergence, _error(errors), _cost(errors, before)]


def _annotations(values: Values, lengths: Mapping[str, float]) -> dict[str, "Annotation"]:
    """Return who spoke when in each recording, of windows that are named "<recording>@<start>s"."""
    from diarization.offline import from_windows
    from diarization.turns import Shaping, annotation

    windows: dict[str, list[tuple[float, np.ndarray]]] = {}
    for name, log_probs in values.items():
        recording, _, start = name.rpartition("@")
        windows.setdefault(recording, []).append((float(start.removesuffix("s")), log_probs))
    ordered = {name: sorted(found, key=lambda window: window[0]) for name, found in windows.items()}
    return {name: annotation(from_windows(found, lengths[name], Shaping()), name) for name, found in ordered.items()}


def _turns(voices: Mapping[str, Mapping[str, "Annotation"]]) -> dict[str, dict[str, list]]:
    """Return the turns of each recording, as start, end and speaker, for pictures."""
    found: dict[str, dict[str, list]] = {}
    for voice, recordings in voices.items():
        for name, annotation in recordings.items():
            turns = [
                (round(segment.start, 3), round(segment.end, 3), str(speaker))
                for segment, _, speaker in annotation.itertracks(yield_label=True)
            ]
            found.setdefault(name, {})[voice] = turns
    return found


def _length_s(path: Path) -> float:
    import soundfile

    return float(soundfile.info(path).duration)


def _points(score: "Score") -> float:
    return 100 * score.error


def _error(errors: Mapping[str, "Score"]) -> Measurement:
    from verify.scoring.diarization import together

    all_of_it = together(errors.values())
    parts = (f"{100 * part / all_of_it.total_s:.1f} {name}" for name, part in _parts(all_of_it).items())
    return Measurement("error", _points(all_of_it), "points", ", ".join(parts), _by_recording(errors))


def _cost(errors: Mapping[str, "Score"], before: Mapping[str, "Score"]) -> Measurement:
    from verify.scoring.diarization import interval, together

    cost = _points(together(errors.values())) - _points(together(before.values()))
    low, high = interval([_points(errors[name]) - _points(before[name]) for name in errors])
    note = f"mean over {len(errors)} recordings between {low:+.2f} and {high:+.2f} (95 %)"
    return Measurement("cost", cost, "points", note, {"low": low, "high": high})


def _parts(score: "Score") -> dict[str, float]:
    return {"missed": score.missed_s, "false alarm": score.false_alarm_s, "confused": score.confused_s}


def _by_recording(scores: Mapping[str, "Score"]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "error": _points(one),
            **_parts(one),
            "total": one.total_s,
            "jaccard": 100 * one.jaccard,
            "speakers": one.speakers,
            "boundary_s": one.boundary_s if np.isfinite(one.boundary_s) else -1.0,
        }
        for name, one in scores.items()
    }
