"""Log mel spectrograms of recordings of any length, a block at a time."""

from collections.abc import Iterable, Iterator

import numpy as np

from converters.networks.sortformer.layout import HOP
from converters.networks.sortformer.mel import log_mel

_REACH = 2  # frames that the window of a frame reaches into, on either side


def mel_blocks(blocks: Iterable[np.ndarray], mels: int) -> Iterator[np.ndarray]:
    """Yield the log mel power (mel frame, mel) of samples (sample,) as they come; together it is that of the whole.

    As many samples at the end as are no whole hop are left out.
    """
    held, known = np.zeros(0, np.float32), 0  # from `known` frames before the next one to be yielded
    for block in blocks:
        held = np.concatenate([held, block])
        ready = len(held) // HOP - _REACH
        if ready > known:
            yield _frames(held, known, ready, mels)
            kept = max(0, ready - _REACH)
            held, known = held[kept * HOP :], ready - kept
    if len(held) // HOP > known:
        yield _frames(held[: len(held) // HOP * HOP], known, len(held) // HOP, mels)


def _frames(held: np.ndarray, first: int, end: int, mels: int) -> np.ndarray:
    return np.ascontiguousarray(log_mel(held[np.newaxis], mels).T[first:end])
