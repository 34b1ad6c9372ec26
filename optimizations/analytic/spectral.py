"""The matrices of spectral front ends by their formulas, in float64."""

import numpy as np

_KALDI_BREAK_HZ, _KALDI_SCALE = 700.0, 1127.0  # O'Shaughnessy's mel scale, as HTK and Kaldi have it
_SLANEY_STEP_HZ = 200.0 / 3  # Slaney's Auditory Toolbox: linear below 1 kHz …
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_LOG_STEP = np.log(6.4) / 27.0  # … and 27 steps from there to 6.4 kHz


def fourier(part: str, size: int, bins: int) -> np.ndarray:
    """Return cos or sin of 2πkn/size: (bins, size) float64, rows k from 0.

    The angle is reduced as an integer, so that no digit is lost to large products.
    """
    angle = 2 * np.pi * (np.outer(np.arange(bins), np.arange(size)) % size) / size
    return np.cos(angle) if part == "cos" else np.sin(angle)


def window(shape: str, size: int, periodic: bool) -> np.ndarray:
    """Return a window: (size,) float64. hann, hamming (0.54), blackman (0.42) or povey, Kaldi's hann^0.85."""
    angle = 2 * np.pi * np.arange(size) / (size if periodic else size - 1)
    match shape:
        case "hann":
            return 0.5 - 0.5 * np.cos(angle)
        case "hamming":
            return 0.54 - 0.46 * np.cos(angle)
        case "blackman":
            return 0.42 - 0.5 * np.cos(angle) + 0.08 * np.cos(2 * angle)
        case "povey":
            return np.maximum(0.5 - 0.5 * np.cos(angle), 0) ** 0.85
    raise ValueError(f"no such window: {shape}")


def htk_mel(hz: np.ndarray | float) -> np.ndarray:
    return _KALDI_SCALE * np.log1p(np.asarray(hz, np.float64) / _KALDI_BREAK_HZ)


def htk_hz(mel: np.ndarray) -> np.ndarray:
    return _KALDI_BREAK_HZ * np.expm1(mel / _KALDI_SCALE)


def slaney_mel(hz: np.ndarray | float) -> np.ndarray:
    hz = np.asarray(hz, np.float64)
    above = np.log(np.maximum(hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.minimum(hz, _SLANEY_BREAK_HZ) / _SLANEY_STEP_HZ + above


def slaney_hz(mel: np.ndarray) -> np.ndarray:
    knee = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ
    return np.minimum(mel, knee) * _SLANEY_STEP_HZ * np.exp(_SLANEY_LOG_STEP * np.maximum(mel - knee, 0))


def kaldi_mel_filters(filters: int, bins: int, rate_hz: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Return triangles that are straight on the mel scale: (filters, bins) float64, none over the last bin.

    Source: Kaldi, feat/mel-computations.cc, and torchaudio.compliance.kaldi.get_mel_banks.
    """
    bin_mel = htk_mel(np.arange(bins) * rate_hz / (2 * (bins - 1)))
    low, high = htk_mel(low_hz), htk_mel(high_hz)
    step = (high - low) / (filters + 1)
    left = low + np.arange(filters)[:, None] * step
    found = np.maximum(0, np.minimum((bin_mel - left) / step, (left + 2 * step - bin_mel) / step))
    found[:, -1] = 0
    return found


def hz_mel_filters(
    filters: int, bins: int, rate_hz: float, low_hz: float, high_hz: float, scale: str, equal_area: bool
) -> np.ndarray:
    """Return triangles that are straight in Hz over points equally far apart in mel: (filters, bins) float64.

    scale        "htk" or "slaney"
    equal_area   divide each by half its width, Slaney's normalisation

    Source: librosa.filters.mel and torchaudio.functional.melscale_fbanks.
    """
    to_mel, to_hz = (slaney_mel, slaney_hz) if scale == "slaney" else (htk_mel, htk_hz)
    points = to_hz(np.linspace(to_mel(low_hz), to_mel(high_hz), filters + 2))
    hz = np.linspace(0, rate_hz / 2, bins)
    rising = (hz - points[:-2, None]) / np.diff(points)[:-1, None]
    falling = (points[2:, None] - hz) / np.diff(points)[1:, None]
    found = np.maximum(0, np.minimum(rising, falling))
    return found * (2 / (points[2:] - points[:-2]))[:, None] if equal_area else found
