"""Recordings of any length, a block at a time, so that hours of audio need no more memory than a minute."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diarization.audio import kernel_reach, read_mono, resampled
from pipeline.types import QuernError

BLOCK_S = 60


@dataclass(frozen=True)
class Window:
    """Samples (sample,) float32 from `start` on, in samples; padded with zeros where the recording ends before."""

    start: int
    samples: np.ndarray


def blocks(path: Path, rate_hz: int) -> Iterator[np.ndarray]:
    """Yield a recording (sample,) float32 at a rate, a minute at a time, its channels averaged.

    Together the blocks are what `resampled` makes of the whole: each is resampled with as many neighbours as the
    interpolation reaches. Raises QuernError for a file that cannot be read, or holds none or not only finite samples.
    """
    found = False
    with _opened(path) as file:
        for block in _resampled_blocks(file, rate_hz):
            if not np.isfinite(block).all():
                raise QuernError(f"{path}: holds samples that are not finite numbers")
            found = True
            yield block
    if not found:
        raise QuernError(f"{path}: holds no samples")


def duration_s(path: Path) -> float:
    """Return how long a recording is, by its header, in seconds; raises QuernError for a file that cannot be read."""
    with _opened(path) as file:
        return file.frames / file.samplerate


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import soundfile

    try:
        with path.open("rb"), soundfile.SoundFile(path) as file:  # for the system's reason, which soundfile keeps back
            yield file
    except OSError as error:
        raise QuernError(f"{path}: cannot read the recording: {error.strerror or error}") from None
    except soundfile.LibsndfileError as error:
        raise QuernError(f"{path}: not an audio file that can be read, or damaged: {error.error_string}") from None


def _resampled_blocks(file: Any, rate_hz: int) -> Iterator[np.ndarray]:
    size = BLOCK_S * file.samplerate
    step = file.samplerate // math.gcd(file.samplerate, rate_hz)  # inputs after which the phases of the kernel repeat
    margin = -(-kernel_reach(file.samplerate, rate_hz) // step) * step
    skipped = margin * rate_hz // file.samplerate
    held, ended = np.zeros(margin, np.float32), False  # what lies before, and what has no neighbours yet
    while not ended:
        new = read_mono(file, size)
        ended = len(new) < size
        held = np.concatenate([held, new, np.zeros(margin if ended else 0, np.float32)])
        own = len(held) - 2 * margin
        if own > 0:
            count = -(-own * rate_hz // file.samplerate)
            yield resampled(held, file.samplerate, rate_hz)[skipped : skipped + count]
            held = held[own:]


def windows(blocks: Iterator[np.ndarray], length: int, hop: int) -> Iterator[Window]:
    """Yield windows of `length` samples, `hop` samples apart, until one reaches the end of the recording."""
    held, start, ended = np.zeros(0, np.float32), 0, False
    while True:
        while len(held) <= length and not ended:
            block = next(blocks, None)
            ended = block is None
            held = held if block is None else np.concatenate([held, block])
        yield Window(start, np.pad(held[:length], (0, max(0, length - len(held)))))
        if len(held) <= length:
            return
        held, start = held[hop:], start + hop
