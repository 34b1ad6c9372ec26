"""Log mel spectrograms as NeMo's AudioToMelSpectrogramPreprocessor makes them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer.counting import count, counting
from converters.networks.sortformer.layout import FFT, HOP, Sizes
from converters.networks.sortformer.mel_tables import hann, slaney_filters

_EMPHASIS = 0.97
_LEAST_POWER = 2.0**-24  # added to the power before the logarithm


class MelSpectrogram(nn.Module):
    """Pre-emphasis, short-time Fourier transform, power, mel bands, logarithm; each linear part is a convolution."""

    places: torch.Tensor  # (sample,)
    ends: torch.Tensor  # (frame,), the first sample behind each frame

    def __init__(self, sizes: Sizes, samples: int) -> None:
        super().__init__()
        self.emphasis = nn.Conv1d(1, 1, 2, bias=False)
        self.fourier = nn.Conv1d(1, 2 * (FFT // 2 + 1), sizes.window, stride=HOP, bias=False)
        self.bands = nn.Conv1d(2 * (FFT // 2 + 1), sizes.mels, 1)
        self.register_buffer("places", counting(samples), persistent=False)
        self.register_buffer("ends", (counting(samples // HOP) + 1) * HOP, persistent=False)
        before = sizes.window // 2  # a frame is centred on the first of its 160 samples
        self.margin = (before, sizes.window - before - HOP)

    def forward(self, audio: torch.Tensor, audio_length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log mel power (1, mel, frame) of audio (1, sample), and how many frames are filled; the rest is 0.

        audio_length   (1,) int32, how many samples are filled
        """
        emphasised = self.emphasis(F.pad(audio.unsqueeze(1), (1, 0))) * (self.places < audio_length).to(audio.dtype)
        spectrum = self.fourier(F.pad(emphasised, self.margin))  # (1, real then imaginary, frame)
        mel = torch.log(self.bands(spectrum * spectrum))
        filled = self.ends <= audio_length
        return mel * filled.to(mel.dtype), count(filled)


def log_mel(audio: np.ndarray, mels: int) -> np.ndarray:
    """Return the log mel power (mel, frame) of audio (1, sample), all of it filled, by the published tables."""
    sizes = Sizes(mels=mels)
    network = MelSpectrogram(sizes, audio.shape[1])
    tensors = mel_tensors(hann(sizes.window), slaney_filters(mels))
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    with torch.inference_mode():
        mel, _ = network(torch.from_numpy(audio), torch.tensor([audio.shape[1]], dtype=torch.int32))
    return mel[0].numpy()


def mel_tensors(window: np.ndarray, filters: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of a MelSpectrogram's convolutions, float32.

    window    (sample,) that each frame is multiplied with
    filters   (mel, 257) share of each frequency's power in each band
    """
    sample, frequency = np.arange(len(window)), np.arange(FFT // 2 + 1)[:, np.newaxis]
    # The whole turns are taken off as integers, so that only angles below 2π are rounded.
    angle = 2 * np.pi / FFT * (frequency * sample % FFT)
    fourier = np.concatenate([np.cos(angle), np.sin(angle)]) * window  # (2 · 257, sample)
    return {
        "emphasis.weight": np.array([[[-_EMPHASIS, 1.0]]], np.float32),
        "fourier.weight": fourier.astype(np.float32)[:, np.newaxis],
        "bands.weight": np.hstack([filters, filters]).astype(np.float32)[:, :, np.newaxis],
        "bands.bias": np.full(len(filters), _LEAST_POWER, np.float32),
    }
