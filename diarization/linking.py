"""The same speaker in neighbouring windows, found by when they speak where the windows overlap.

This needs no embeddings and knows no voices: who is silent for as long as a window comes back as somebody new.
"""

from collections.abc import Sequence

import numpy as np

from diarization.local import LocalSpeakers

LEAST_AGREEMENT = 0.3
NOBODY = -1


def linked(windows: Sequence[LocalSpeakers]) -> list[np.ndarray]:
    """Return for every window the number of each of its speakers (speaker,) int, NOBODY for those who are silent.

    A speaker is linked to the one of the window before that they share most active frames with, if those are at least
    LEAST_AGREEMENT of the frames in which either is active; each at most once.
    """
    known = 0
    labels: list[np.ndarray] = []
    for i, window in enumerate(windows):
        found = np.full(window.active.shape[1], NOBODY)
        if i:
            for one, other in _pairs(windows[i - 1], window):
                found[other] = labels[i - 1][one]
        for speaker in np.flatnonzero(window.active.any(axis=0) & (found == NOBODY)):
            found[speaker] = known
            known += 1
        labels.append(found)
    return labels


def _pairs(one: LocalSpeakers, other: LocalSpeakers) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    first, end = max(one.first, other.first), min(one.end, other.end)
    before = one.active[first - one.first : max(first, end) - one.first].astype(np.float32)
    after = other.active[first - other.first : max(first, end) - other.first].astype(np.float32)
    both = before.T @ after  # (speaker before, speaker after)
    either = before.sum(axis=0)[:, np.newaxis] + after.sum(axis=0) - both
    agreement = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if agreement[r, c] >= LEAST_AGREEMENT]
