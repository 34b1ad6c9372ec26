"""Recordings: read from audio files, and brought to the rate that a network wants."""

import hashlib
import io
import math
from pathlib import Path

import numpy as np

from pipeline.types import QuernError, Recording

_BLOCK = 1 << 20
_ZERO_CROSSINGS = 32  # of the interpolation kernel, on either side
_KAISER_BETA = 12.0  # stop band about 118 dB down
_ROLL_OFF = 0.95  # where the pass band ends, as a part of the lower of the two Nyquist frequencies


def read_recording(path: Path) -> Recording:
    """Return a recording with its channels averaged, at the rate it was made at.

    Reads what libsndfile reads (WAV, FLAC, Ogg, MP3 …). The digest is the sha256 of the file.
    Raises QuernError for a file that cannot be read, holds no samples, or holds samples that are not finite.
    """
    import soundfile

    try:
        content = path.read_bytes()
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate_hz, samples = file.samplerate, _mono(file)
    except OSError as error:
        raise QuernError(f"{path}: cannot read the recording: {error.strerror or error}") from None
    except soundfile.LibsndfileError as error:
        raise QuernError(f"{path}: not an audio file that can be read, or damaged: {error.error_string}") from None
    if samples.size == 0:
        raise QuernError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise QuernError(f"{path}: {np.sum(~np.isfinite(samples))} of {samples.size} samples are not finite numbers")
    return Recording(path.stem, samples, rate_hz, hashlib.sha256(content).hexdigest())


def _mono(file: "soundfile.SoundFile") -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    """Return the mean of the channels (sample,) float32, read in blocks: a header's length is only a claim."""
    blocks = [np.zeros(0, np.float32)]
    while len(block := read_mono(file, _BLOCK)):
        blocks.append(block)
    return np.concatenate(blocks)


def read_mono(file: "soundfile.SoundFile", count: int) -> np.ndarray:  # type: ignore[name-defined]  # noqa: F821
    """Return the mean of the channels of the next samples (sample,) float32, at most `count`, fewer at the end."""
    block = file.read(count, dtype="float32", always_2d=True)  # (sample, channel)
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def resampled(samples: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """Return the samples (sample,) float32 at another rate; the same array where it is the same rate.

    Band-limited interpolation with a Kaiser-windowed sinc: output n lies at input position n·rate/wanted and is the sum
    of the inputs around it, weighted by the kernel at their distances. The positions repeat their fractional parts
    every wanted/gcd outputs, so each of those phases is one matrix product. Source: Smith, "Digital audio resampling".
    """
    if rate_hz == wanted_hz:
        return samples
    divisor = math.gcd(rate_hz, wanted_hz)
    up, down = wanted_hz // divisor, rate_hz // divisor
    cutoff = _cutoff(rate_hz, wanted_hz)
    reach = kernel_reach(rate_hz, wanted_hz)
    count = -(-len(samples) * up // down)
    padded = np.pad(samples.astype(np.float64), (reach, reach + down + 1))
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)  # (position, tap)
    output = np.empty(count, np.float32)
    for phase in range(min(up, count)):
        whole, part = divmod(phase * down, up)
        taps = _kernel(np.arange(-reach, reach + 1) - part / up, cutoff, reach)
        outputs = len(range(phase, count, up))
        output[phase::up] = neighbours[whole::down][:outputs] @ taps
    return output


def kernel_reach(rate_hz: int, wanted_hz: int) -> int:
    """Return how many samples on either side `resampled` looks at; none where the rate is the same."""
    return 0 if rate_hz == wanted_hz else math.ceil(_ZERO_CROSSINGS / _cutoff(rate_hz, wanted_hz))


def _cutoff(rate_hz: int, wanted_hz: int) -> float:
    """Return where the pass band ends, relative to the input's Nyquist frequency."""
    return _ROLL_OFF * min(1.0, wanted_hz / rate_hz)


def _kernel(distance: np.ndarray, cutoff: float, reach: int) -> np.ndarray:
    """Return the windowed sinc at distances in input samples; it is zero where `reach` is exceeded."""
    inside = np.sqrt(np.clip(1 - (distance / reach) ** 2, 0, None))
    window = np.i0(_KAISER_BETA * inside) / np.i0(_KAISER_BETA) * (np.abs(distance) <= reach)
    return cutoff * np.sinc(cutoff * distance) * window
