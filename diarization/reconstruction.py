"""From speakers of windows to speakers of the recording: what windows say where they overlap is averaged."""

from collections.abc import Mapping, Sequence

import numpy as np

from diarization.linking import NOBODY
from diarization.local import LocalSpeakers
from diarization.turns import Track

_STRETCH = 1 << 14  # frames whose speakers are looked at together


def reconstructed(windows: Sequence[LocalSpeakers], labels: Sequence[np.ndarray]) -> list[Track]:
    """Return every speaker of the recording, from the first of their windows to the last.

    labels   for each window the number of each of its speakers (speaker,) int, NOBODY for none

    In each frame as many speak as the windows that cover it say on average, rounded, and those are the speakers whose
    mean probability over these windows is highest.
    """
    frames = max((window.end for window in windows), default=0)
    covered, speaking = np.zeros(frames, np.float32), np.zeros(frames, np.float32)
    for window in windows:
        covered[window.first : window.end] += 1
        speaking[window.first : window.end] += window.active.sum(axis=1)
    covered = np.maximum(covered, 1)
    tracks = [_track(speaker, where, windows, covered) for speaker, where in _whereabouts(labels).items()]
    _activate(tracks, np.round(speaking / covered).astype(int))
    return tracks


def _whereabouts(labels: Sequence[np.ndarray]) -> Mapping[int, list[tuple[int, int]]]:
    """Return for each speaker the windows, and the local speakers in them, that they are."""
    found: dict[int, list[tuple[int, int]]] = {}
    for i, of_window in enumerate(labels):
        for local, speaker in enumerate(of_window):
            if speaker != NOBODY:
                found.setdefault(int(speaker), []).append((i, local))
    return dict(sorted(found.items()))


def _track(
    speaker: int, where: Sequence[tuple[int, int]], windows: Sequence[LocalSpeakers], covered: np.ndarray
) -> Track:
    first, end = windows[where[0][0]].first, max(windows[i].end for i, _ in where)
    total = np.zeros(end - first, np.float32)
    for i, local in where:
        total[windows[i].first - first : windows[i].end - first] += windows[i].probability[:, local]
    return Track(speaker, first, np.zeros(len(total), bool), total / covered[first:end])


def _activate(tracks: Sequence[Track], count: np.ndarray) -> None:
    """Let as many speakers speak in each frame as `count` (frame,) says, the most probable first."""
    for start in range(0, len(count), _STRETCH):
        stretch = slice(start, min(start + _STRETCH, len(count)))
        present = [track for track in tracks if _overlap(track, stretch).stop > _overlap(track, stretch).start]
        dense = np.zeros((stretch.stop - start, len(present)), np.float32)  # (frame, speaker)
        for column, track in enumerate(present):
            shared = _overlap(track, stretch)
            dense[shared.start - start : shared.stop - start, column] = track.probability[_inside(track, shared)]
        ranks = (-dense).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        chosen = (ranks < count[stretch, np.newaxis]) & (dense > 0)
        for column, track in enumerate(present):
            shared = _overlap(track, stretch)
            track.active[_inside(track, shared)] = chosen[shared.start - start : shared.stop - start, column]


def _overlap(track: Track, stretch: slice) -> slice:
    return slice(max(track.first, stretch.start), min(track.first + len(track.active), stretch.stop))


def _inside(track: Track, shared: slice) -> slice:
    return slice(shared.start - track.first, shared.stop - track.first)
