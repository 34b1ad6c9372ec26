"""Recordings made into others, for passes that have to hear more than the few recordings there are.

What a network's layers see depends on voices, rooms and microphones. Weights that are fitted to the features of three
recordings fit the fourth badly; fitted to features of varied recordings, they fit it better.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.types import Recording

_SPEEDS = (0.85, 1.18)
_COLOUR_DB, _TILT_DB, _COLOUR_POINTS = 12.0, 15.0, 8
_OTHER_DB = (0.0, 15.0)  # how far below another voice lies
_QUIET_DB = (0.0, 60.0)  # how far below a stretch falls
_NOISE_DB = (20.0, 70.0)  # how far below white noise lies

# The same of variations that stay near; how many of these are the recording itself, and how long they are at most.
_AS_IT_IS, _LONGEST_S = 0.5, 120.0
_NEAR_SPEEDS = (0.93, 1.07)
_NEAR_COLOUR_DB, _NEAR_TILT_DB = 4.0, 5.0
_NEAR_NOISE_DB = (15.0, 60.0)
_NEAR_GAIN_DB = (-10.0, 6.0)


def varied(recordings: Sequence[Recording], count: int) -> list[Recording]:
    """Return `count` variations of each recording, always the same, named "sample~0", "sample~1" …

    Each plays at another speed, in another colour, over white noise; every second one has another recording, or its
    own past, mixed in, and every third a stretch that is quieter.
    """
    generator = np.random.default_rng(0)
    return [
        replace(recording, name=f"{recording.name}~{i}", samples=_varied(place, recordings, i, generator))
        for i in range(count)
        for place, recording in enumerate(recordings)
    ]


def near(recording: Recording, number: int) -> Recording:
    """Return the `number`-th variation of a recording that stays near it, always the same, named "sample~3".

    Half of them are the recording itself, from another moment of its first second on. The others begin anywhere, at a
    speed and a loudness near its own; some in another colour, some over white noise. What is fine-tuned is to hear what
    will be heard: on variations that are far away networks waver, and learn to. Of a long recording it is a part.
    """
    generator = np.random.default_rng(number)
    samples = _part(recording.samples, generator, int(_LONGEST_S * recording.rate_hz))
    if generator.random() < _AS_IT_IS:
        samples = np.roll(samples, -int(generator.integers(recording.rate_hz)))
    else:
        samples = _near(samples, generator)
    return replace(recording, name=f"{recording.name}~{number}", samples=samples)


def _part(samples: np.ndarray, generator: np.random.Generator, most: int) -> np.ndarray:
    if samples.size <= most:
        return samples
    start = int(generator.integers(samples.size - most + 1))
    return samples[start : start + most]


def _near(samples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    samples = np.roll(samples, int(generator.integers(samples.size)))
    samples = _faster(samples, generator, _NEAR_SPEEDS)
    if generator.random() < 0.5:
        samples = _coloured(samples, generator, _NEAR_COLOUR_DB, _NEAR_TILT_DB)
    if generator.random() < 0.3:
        rms = float(np.sqrt(np.mean(samples**2)))
        samples = samples + rms * _below(generator, _NEAR_NOISE_DB) * generator.standard_normal(samples.size)
    return (samples * 10 ** (generator.uniform(*_NEAR_GAIN_DB) / 20)).astype(np.float32)


def _varied(place: int, recordings: Sequence[Recording], i: int, generator: np.random.Generator) -> np.ndarray:
    samples = _level(_coloured(_faster(recordings[place].samples, generator), generator))
    number = i + place
    if number % 2:
        other = recordings[(place + 1 + i // 2) % len(recordings)].samples
        moved = np.resize(np.roll(other, int(generator.integers(len(other)))), samples.size)
        samples = samples + _below(generator, _OTHER_DB) * _level(_coloured(moved, generator))
    if number % 3 == 0:
        start, end = np.sort(generator.integers(samples.size + 1, size=2))
        samples[start:end] *= _below(generator, _QUIET_DB)
    noise = generator.standard_normal(samples.size)
    return _level(samples + _below(generator, _NOISE_DB) * noise).astype(np.float32) / np.float32(16)


def _faster(samples: np.ndarray, generator: np.random.Generator, speeds: tuple[float, float] = _SPEEDS) -> np.ndarray:
    size = max(2, round(samples.size / generator.uniform(*speeds)))
    return np.interp(np.linspace(0, samples.size - 1, size), np.arange(samples.size), samples)


def _coloured(
    samples: np.ndarray, generator: np.random.Generator, colour_db: float = _COLOUR_DB, tilt_db: float = _TILT_DB
) -> np.ndarray:
    spectrum = np.fft.rfft(samples)
    points = np.linspace(0, 1, _COLOUR_POINTS)
    gains_db = generator.uniform(-colour_db, colour_db, points.size) + generator.uniform(-tilt_db, tilt_db) * points
    along = np.interp(np.linspace(0, 1, spectrum.size), points**1.5, gains_db)  # finer where voices are
    return np.fft.irfft(spectrum * 10 ** (along / 20), samples.size)


def _level(samples: np.ndarray) -> np.ndarray:
    """Return samples whose root of the mean square is 1; silence stays."""
    rms = float(np.sqrt(np.mean(samples**2)))
    return samples / rms if rms > 0 else samples


def _below(generator: np.random.Generator, decibels: tuple[float, float]) -> float:
    return float(10 ** (-generator.uniform(*decibels) / 20))
