"""What processors are shown: masks, log probabilities and embeddings like those of speech, made from recordings.

They are not what a network says of the recordings, but they move as that does: with the loudness, in runs of all
lengths, by margins of all sizes. Everything else is seeded.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from converters.networks.processors.layout import CLASSES
from converters.networks.wespeaker_layout import DIMENSION, MASK_FRAMES, RATE_HZ, SAMPLES
from diarization.audio import resampled
from pipeline.types import Recording

_WORD_FRAMES = 15  # pauses up to a quarter of a second do not end a turn


def windows(recordings: Sequence[Recording], thorough: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yield named windows (1, 1, sample) of ten seconds, five seconds apart, or one if `thorough`.

    A recording shorter than a window is one window, with silence at its end.
    """
    hop = RATE_HZ if thorough else 5 * RATE_HZ
    for recording in recordings:
        samples = resampled(recording.samples, recording.rate_hz, RATE_HZ)
        samples = np.pad(samples, (0, max(0, SAMPLES - len(samples)))).astype(np.float32)
        for start in range(0, len(samples) - SAMPLES + 1, hop):
            yield f"{recording.name}@{start / RATE_HZ:g}s", samples[np.newaxis, np.newaxis, start : start + SAMPLES]


def loudness(audio: np.ndarray) -> np.ndarray:
    """Return the root mean square (frame,) of a window, 1 where it is loudest."""
    samples = audio.ravel()[: SAMPLES // MASK_FRAMES * MASK_FRAMES].reshape(MASK_FRAMES, -1).astype(np.float64)
    found = np.sqrt(np.square(samples).mean(axis=1))
    return found / max(found.max(), 1e-9)


def log_probabilities(audio: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return log probabilities (1, frame, class) of a window: loud frames hold speakers, quiet ones the empty set."""
    drawn = np.random.default_rng(seed).normal(size=(MASK_FRAMES + _WORD_FRAMES - 1, CLASSES))
    smooth = np.lib.stride_tricks.sliding_window_view(drawn, _WORD_FRAMES, axis=0).sum(axis=-1)  # (frame, class)
    silence = np.log(0.1) - np.log(loudness(audio) + 1e-3)
    scores = np.concatenate([2 * silence[:, np.newaxis], smooth[:, 1:]], axis=1)
    scores -= scores.max(axis=1, keepdims=True)
    return (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))[np.newaxis].astype(np.float32)


def masks(audio: np.ndarray, speakers: int, seed: int = 0) -> np.ndarray:
    """Return who speaks (1, frame, speaker), 0 or 1: each has turns of all lengths wherever the window is not quiet."""
    padded = np.pad(loudness(audio), (_WORD_FRAMES // 2, _WORD_FRAMES // 2))
    spoken = np.lib.stride_tricks.sliding_window_view(padded, _WORD_FRAMES).max(axis=-1) > 0.1  # (frame,)
    generator = np.random.default_rng(seed)
    turns = [_turns(generator) for _ in range(speakers)]
    return (spoken & np.stack(turns)).T[np.newaxis].astype(np.float32)


def _turns(generator: np.random.Generator) -> np.ndarray:
    lengths = generator.integers(5, 150, size=MASK_FRAMES // 5)
    return np.repeat(np.arange(len(lengths)) % 2 == generator.integers(2), lengths)[:MASK_FRAMES]


def runs(*spans: tuple[int, int]) -> np.ndarray:
    """Return one speaker's mask (frame,), 1 in the spans of frames from the first to before the second."""
    mask = np.zeros(MASK_FRAMES, np.float32)
    for first, end in spans:
        mask[first:end] = 1
    return mask


def embeddings(count: int, seed: int) -> np.ndarray:
    """Return embeddings (row, 256) of few voices, each said several times: some are close, most are not."""
    generator = np.random.default_rng(seed)
    voices = generator.normal(size=(max(1, count // 4), DIMENSION))
    said = voices[np.arange(count) % len(voices)] + 0.5 * generator.normal(size=(count, DIMENSION))
    return said.astype(np.float32)
