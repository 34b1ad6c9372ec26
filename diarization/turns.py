"""Who spoke when: turns, made of activity in frames, written as RTTM."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyannote.core import Annotation


@dataclass(frozen=True)
class Turn:
    """A stretch of speech of one speaker.

    confidence   mean probability that the speaker is active in it, 0 to 1
    """

    start_s: float
    end_s: float
    speaker: str
    confidence: float = 1.0

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Track:
    """One speaker in frames from `first` on: (frame,) bool whether they speak, and with which probability (0 to 1)."""

    speaker: int
    first: int
    active: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Shaping:
    """What is made of frames.

    least_s   turns that are shorter are dropped
    gap_s     gaps in the speech of one speaker that are shorter are closed, before that
    """

    least_s: float = 0.0
    gap_s: float = 0.0


def turns(tracks: Iterable[Track], frame_s: float, shaping: Shaping) -> list[Turn]:
    """Return the turns of all speakers by start, the speakers numbered in the order in which they first speak.

    frame_s   seconds from one frame to the next; frame i lasts from i to i + 1 of them
    """
    found = []
    for track in tracks:
        for first, end in _joined(_runs(track.active), round(shaping.gap_s / frame_s)):
            start_s, end_s = ((track.first + frame) * frame_s for frame in (first, end))
            if end_s - start_s >= shaping.least_s:
                found.append((start_s, end_s, track.speaker, float(track.probability[first:end].mean())))
    found.sort()
    numbers = {speaker: i for i, speaker in enumerate(dict.fromkeys(speaker for _, _, speaker, _ in found))}
    return [Turn(start, end, f"SPEAKER_{numbers[speaker]:02d}", sure) for start, end, speaker, sure in found]


def _runs(active: np.ndarray) -> list[tuple[int, int]]:
    """Return first frame and end of every run of activity (frame,)."""
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _joined(runs: Iterable[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, end in runs:
        if joined and first - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined


def rttm(found: Iterable[Turn], recording: str) -> Iterator[str]:
    """Yield the lines of an RTTM file; the ninth field is the confidence.

    Source: NIST Rich Transcription 2009 evaluation plan, appendix A. A name with spaces would be several fields, so
    spaces become underscores.
    """
    name = "_".join(recording.split())
    for turn in found:
        yield (
            f"SPEAKER {name} 1 {turn.start_s:.3f} {turn.duration_s:.3f} <NA> <NA> "
            f"{turn.speaker} {turn.confidence:.3f} <NA>"
        )


def annotation(found: Iterable[Turn], recording: str) -> "Annotation":
    """Return the turns as pyannote.core has them, for its metrics."""
    from pyannote.core import Annotation, Segment

    made = Annotation(uri=recording)
    for track, turn in enumerate(found):
        made[Segment(turn.start_s, turn.end_s), track] = turn.speaker
    return made


def speech_s(found: Iterable[Turn]) -> dict[str, float]:
    """Return how many seconds each speaker speaks."""
    spoken: dict[str, float] = {}
    for turn in found:
        spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + turn.duration_s
    return spoken
