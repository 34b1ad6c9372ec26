"""Diarization error, as the field counts it, with pyannote.metrics.

DER = (missed + false alarm + confused seconds) / seconds of reference speech, speakers matched so that it is least;
seconds in which several speak count once for each. Source: NIST Rich Transcription 2009 evaluation plan, section 6.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.types import QuernError

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline


@dataclass(frozen=True)
class Rules:
    """How errors are counted.

    collar_s       seconds around each reference boundary, half on either side, that are left out
    skip_overlap   whether to leave out where several speak
    """

    collar_s: float = 0.0
    skip_overlap: bool = False


@dataclass(frozen=True)
class Score:
    """What is wrong with a hypothesis, in seconds, of `total_s` seconds of reference speech.

    jaccard      Jaccard error rate, 0 to 1
    speakers     how many more speakers than the reference has
    boundary_s   mean distance of a reference boundary from the nearest of the hypothesis; nan where that has none
    """

    total_s: float
    missed_s: float
    false_alarm_s: float
    confused_s: float
    jaccard: float
    speakers: int
    boundary_s: float

    @property
    def error_s(self) -> float:
        return self.missed_s + self.false_alarm_s + self.confused_s

    @property
    def error(self) -> float:
        """The diarization error rate; of no reference speech it is 0 if there is no error, and else infinite."""
        if self.total_s:
            return self.error_s / self.total_s
        return float("inf") if self.error_s else 0.0


def score(reference: "Annotation", hypothesis: "Annotation", scored: "Timeline", rules: Rules) -> Score:
    """Return how far a hypothesis is from a reference, in the stretches of the recording that are scored."""
    from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

    counted = {"collar": rules.collar_s, "skip_overlap": rules.skip_overlap}
    parts: Mapping[str, Any] = DiarizationErrorRate(**counted)(reference, hypothesis, uem=scored, detailed=True)
    jaccard = JaccardErrorRate(**counted)(reference, hypothesis, uem=scored)
    return Score(
        total_s=float(parts["total"]),
        missed_s=float(parts["missed detection"]),
        false_alarm_s=float(parts["false alarm"]),
        confused_s=float(parts["confusion"]),
        jaccard=float(jaccard),
        speakers=len(hypothesis.labels()) - len(reference.labels()),
        boundary_s=_boundary_s(reference, hypothesis),
    )


def _boundary_s(reference: "Annotation", hypothesis: "Annotation") -> float:
    ours, theirs = (
        np.array([edge for segment in found.itersegments() for edge in (segment.start, segment.end)])
        for found in (hypothesis, reference)
    )
    if not len(ours) or not len(theirs):
        return float("nan")
    return float(np.abs(theirs[:, np.newaxis] - ours).min(axis=1).mean())


def together(scores: Iterable[Score]) -> Score:
    """Return the score of several recordings: seconds add up, and so do speakers too many or too few; else the mean."""
    found = list(scores)
    finite = [each.boundary_s for each in found if np.isfinite(each.boundary_s)]
    return Score(
        total_s=sum(each.total_s for each in found),
        missed_s=sum(each.missed_s for each in found),
        false_alarm_s=sum(each.false_alarm_s for each in found),
        confused_s=sum(each.confused_s for each in found),
        jaccard=float(np.mean([each.jaccard for each in found])),
        speakers=sum(abs(each.speakers) for each in found),
        boundary_s=float(np.mean(finite)) if finite else float("nan"),
    )


def interval(differences: Sequence[float], level: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of differences that are paired by recording.

    The percentiles of the mean over seeded draws with replacement. Source: Efron & Tibshirani 1993, chapter 13.
    """
    values = np.asarray(differences, float)
    drawn = np.random.default_rng(0).choice(values, (draws, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def read_rttm(path: Path) -> dict[str, "Annotation"]:
    """Return who speaks when in each recording of an RTTM file; raises QuernError for a line that is not RTTM."""
    from pyannote.core import Annotation, Segment

    found: dict[str, Annotation] = {}
    for number, fields in _lines(path):
        if fields[0] != "SPEAKER":
            continue
        try:
            start, duration = float(fields[3]), float(fields[4])
            recording, speaker = fields[1], fields[7]
        except (IndexError, ValueError):
            raise QuernError(
                f"{path}:{number}: expected `SPEAKER <recording> 1 <start> <duration> <NA> <NA> <speaker> …`, found "
                f"`{' '.join(fields)}`"
            ) from None
        found.setdefault(recording, Annotation(uri=recording))[Segment(start, start + duration), number] = speaker
    return found


def read_uem(path: Path) -> dict[str, "Timeline"]:
    """Return which stretches of each recording are scored; raises QuernError for a line that is not UEM."""
    from pyannote.core import Segment, Timeline

    found: dict[str, Timeline] = {}
    for number, fields in _lines(path):
        try:
            recording, start, end = fields[0], float(fields[2]), float(fields[3])
        except (IndexError, ValueError):
            line = " ".join(fields)
            raise QuernError(f"{path}:{number}: expected `<recording> 1 <start> <end>`, found `{line}`") from None
        found.setdefault(recording, Timeline(uri=recording)).add(Segment(start, end))
    return found


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuernError(f"{path}: cannot be read as text: {error}") from None
    split = ((number, line.split()) for number, line in enumerate(lines, 1) if not line.startswith(";;"))
    return [(number, fields) for number, fields in split if fields]


def labels_beside(audio: Iterable[Path]) -> dict[str, "Annotation"]:
    """Return the labels that lie beside recordings, in any RTTM file of their folders, by recording."""
    folders = dict.fromkeys(path.parent for path in audio)
    found: dict[str, Annotation] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.rttm")):
            found |= read_rttm(path)
    return found


def whole(length_s: float) -> "Timeline":
    """Return the stretch that is a whole recording."""
    from pyannote.core import Segment, Timeline

    return Timeline([Segment(0, length_s)])
