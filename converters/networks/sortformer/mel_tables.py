"""The tables of a mel spectrogram that follow from their definitions; no torch needed."""

import numpy as np

from converters.networks.sortformer.layout import FFT, RATE_HZ


def hann(samples: int) -> np.ndarray:
    """Return the symmetric Hann window, float32."""
    return np.hanning(samples).astype(np.float32)


def slaney_filters(mels: int) -> np.ndarray:
    """Return triangular bands (mel, 257), equally spaced in mel up to half the rate, each of unit area, float32.

    The mel scale is linear up to 1 kHz, with 200/3 Hz to one mel, and from there on 27 mels are a factor of 6.4.
    Source: Slaney 1998, Auditory Toolbox.
    """
    linear, step = 200.0 / 3, np.log(6.4) / 27
    top = 1000 / linear + np.log(RATE_HZ / 2 / 1000) / step
    mel = np.linspace(0.0, top, mels + 2)
    edge = np.where(mel < 15, mel * linear, 1000 * np.exp(step * (mel - 15)))[:, np.newaxis]  # (edge, 1)
    frequency = np.linspace(0.0, RATE_HZ / 2, FFT // 2 + 1)
    rising = (frequency - edge[:-2]) / (edge[1:-1] - edge[:-2])
    falling = (edge[2:] - frequency) / (edge[2:] - edge[1:-1])
    return (np.maximum(0, np.minimum(rising, falling)) * (2 / (edge[2:] - edge[:-2]))).astype(np.float32)
