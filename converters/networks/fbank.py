"""Kaldi's log-mel filter bank as a network of two convolutions: 80 bands, 25 ms frames, 10 ms apart, mean removed.

What Kaldi does to a frame before it takes magnitudes is linear: remove the mean, pre-emphasise, taper, pad, transform.
So one convolution does all of it. Source: Kaldi's feature-window.cc, mel-computations.cc and feature-fbank.cc, with the
options that WeSpeaker and pyannote.audio set: no dither, no energy, Hamming window, frames only where they are whole.
"""

import numpy as np
import torch
from torch import nn

from converters.networks.wespeaker_layout import FRAME_SAMPLES, HOP_SAMPLES, MEL_BANDS, RATE_HZ

FFT_SIZE = 512
SAMPLE_SCALE = 2.0**15  # the features are those of 16-bit samples, the audio is within ±1
PRE_EMPHASIS = 0.97
LOWEST_HZ = 20.0
LOG_FLOOR = float(np.finfo(np.float32).eps)

_BINS = np.arange(1, FFT_SIZE // 2)  # the lowest bin lies below the first band, and Kaldi leaves out the highest


def spectrum_kernels() -> np.ndarray:
    """Return the kernels that turn audio within ±1 into the spectrum of Kaldi's frames.

    returns   (510, 1, 400) float32: for bins 1 to 255 of 512 the real parts, then the imaginary parts

    A kernel is a row of F·W·P·M, made in float64 and rounded once: M removes the frame's mean, P is the pre-emphasis
    (the first sample is taken for the one before it), W the symmetric Hamming window, F the Fourier transform.
    """
    # Phases are whole multiples of 2π/512, and the index into one period is exact.
    period = 2 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE
    places = np.outer(_BINS, np.arange(FRAME_SAMPLES)) % FFT_SIZE
    transform = np.concatenate([np.cos(period)[places], -np.sin(period)[places]])  # (510, 400)
    tapered = transform * np.hamming(FRAME_SAMPLES)
    emphasised = tapered.copy()
    emphasised[:, :-1] -= PRE_EMPHASIS * tapered[:, 1:]
    emphasised[:, 0] -= PRE_EMPHASIS * tapered[:, 0]
    centred = emphasised - emphasised.mean(axis=1, keepdims=True)
    return (SAMPLE_SCALE * centred).astype(np.float32)[:, np.newaxis, :]


def mel_filters() -> np.ndarray:
    """Return the weights of each frequency bin in each band.

    returns   (80, 255) float32 for bins 1 to 255 of 512; triangles that overlap by half on the scale
              mel(f) = 1127 ln(1 + f / 700), from 20 Hz to half the rate, with 1 at their top
    """
    edges = np.linspace(_mel(LOWEST_HZ), _mel(RATE_HZ / 2), MEL_BANDS + 2)[:, np.newaxis]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    mel = _mel(_BINS * RATE_HZ / FFT_SIZE)
    rising, falling = (mel - low) / (centre - low), (high - mel) / (high - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hz: float | np.ndarray) -> np.ndarray:
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


class FBank(nn.Module):
    """Log-mel features of audio at 16 kHz; without trained weights.

    It needs single precision: in half, the powers of speech overflow and log-mel values are off by up to 2.
    """

    floor: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        kernels, filters = torch.from_numpy(spectrum_kernels()), torch.from_numpy(mel_filters())
        self.spectrum = nn.Conv1d(1, len(kernels), FRAME_SAMPLES, stride=HOP_SAMPLES, bias=False)
        self.spectrum.weight = nn.Parameter(kernels, requires_grad=False)
        # A band's power is the weighted sum of the squares of real and imaginary parts.
        self.mel = nn.Conv1d(len(kernels), MEL_BANDS, 1, bias=False)
        self.mel.weight = nn.Parameter(torch.cat([filters, filters], dim=1)[:, :, None], requires_grad=False)
        self.register_buffer("floor", torch.tensor(LOG_FLOOR), persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return features (batch, 1, 80, frame) of audio (batch, 1, sample) within ±1, without each band's mean."""
        power = self.mel(torch.square(self.spectrum(audio)))  # (batch, band, frame)
        log_power = torch.log(torch.maximum(power, self.floor)).unsqueeze(1)
        return log_power - log_power.mean(dim=-1, keepdim=True)
