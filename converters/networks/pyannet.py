"""PyanNet, written so that it exports: waveform → SincNet → bidirectional LSTM → linear layers → log probabilities.

The network of Bredin & Laurent 2021 ("End-to-end speaker segmentation for overlap-aware resegmentation"), in the shapes
that pyannote.audio trains it in, and with the tensor names that its checkpoints have.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.pyannet_layout import (
    BAND_HZ,
    CHANNELS,
    FILTERS,
    KERNEL,
    LOW_HZ,
    RATE_HZ,
    STAGES,
    Sizes,
    sizes_of,
)

_LEAST_LOW_HZ = _LEAST_BAND_HZ = 50.0


def sinc_filters(low_hz: np.ndarray, band_hz: np.ndarray) -> np.ndarray:
    """Return the band-pass filters of a parametric sinc filterbank.

    low_hz    (n, 1) float32, lower cut-offs as trained: |low_hz| Hz above 50 Hz
    band_hz   (n, 1) float32, bandwidths as trained: |band_hz| Hz above 50 Hz, less where that would pass half the rate
    returns   (2n, 1, 251) float32: n even filters, then their n odd partners

    With θ = 2πt, a band from f₁ to f₂ has the impulse response (sin f₂θ − sin f₁θ) / (f₂ − f₁)θ, which is 1 at t = 0;
    its odd partner is (cos f₁θ − cos f₂θ) / (f₂ − f₁)θ, 0 there. A Hamming window tapers both.
    The network was trained with phases fθ of hundreds of radians in float32, whose rounding is part of its filters: so
    the phases are rounded as they were then, and all that follows is float64, rounded once at the end.
    Source: Ravanelli & Bengio 2018; Pariente et al. 2020, section 2.
    """
    half = STAGES[0][0] // 2
    low = np.float32(_LEAST_LOW_HZ) + np.abs(low_hz)  # (n, 1)
    high = np.clip(low + np.float32(_LEAST_BAND_HZ) + np.abs(band_hz), None, np.float32(RATE_HZ / 2))
    angle = np.float32(2 * np.pi) * (np.arange(1, half + 1, dtype=np.float32) / np.float32(RATE_HZ))  # (tap,), t > 0
    low_phase, high_phase = (low * angle).astype(np.float64), (high * angle).astype(np.float64)  # (n, tap)
    scale = np.hamming(2 * half + 1)[half + 1 :] / ((high - low).astype(np.float64) * angle)
    even = (np.sin(high_phase) - np.sin(low_phase)) * scale
    odd = (np.cos(low_phase) - np.cos(high_phase)) * scale
    centre = np.ones_like(low)
    whole = [np.hstack([even[:, ::-1], centre, even]), np.hstack([-odd[:, ::-1], 0 * centre, odd])]
    return np.concatenate(whole).astype(np.float32)[:, np.newaxis, :]


class SincNet(nn.Module):
    """Three convolutions with pooling; the first one's kernels are fixed band-pass filters."""

    def __init__(self) -> None:
        super().__init__()
        kernel, stride = STAGES[0]
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList(
            [
                nn.Conv1d(1, FILTERS, kernel, stride=stride),
                nn.Conv1d(FILTERS, CHANNELS, KERNEL),
                nn.Conv1d(CHANNELS, CHANNELS, KERNEL),
            ]
        )
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(width, affine=True) for width in (FILTERS, CHANNELS, CHANNELS)])

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return features (batch, 60, frame) of audio (batch, 1, sample)."""
        filtered = torch.abs(self.conv1d[0](self.wav_norm1d(audio)))
        features = self._pooled(filtered, 0)
        for i in (1, 2):
            features = self._pooled(self.conv1d[i](features), i)
        return features

    def _pooled(self, signal: torch.Tensor, i: int) -> torch.Tensor:
        return F.leaky_relu(self.norm1d[i](F.max_pool1d(signal, 3, stride=3)))


class PyanNet(nn.Module):
    """Who speaks in each frame of a window, as log probabilities of speaker sets; any batch, any window length."""

    half_precision = True

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(
            CHANNELS,
            sizes.lstm_hidden,
            num_layers=sizes.lstm_layers,
            bidirectional=sizes.bidirectional,
            batch_first=True,
        )
        self.linear = nn.ModuleList([nn.Linear(*pair) for pair in pairwise(sizes.widths)])
        self.classifier = nn.Linear(sizes.widths[-1], sizes.classes)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Return log probabilities (batch, frame, class) of audio (batch, 1, sample)."""
        features, _ = self.lstm(self.sincnet(audio).transpose(1, 2))  # (batch, frame, feature)
        for linear in self.linear:
            features = F.leaky_relu(linear(features))
        return _log_softmax(self.classifier(features))


def _log_softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the log-softmax over the last axis, in steps that half precision survives.

    Converted as it is, torch's log_softmax becomes log(softmax): a probability below 6e-8 rounds to zero there.
    The largest score goes first, so that exp cannot overflow and likely classes keep their digits.
    """
    shifted = scores - scores.amax(dim=-1, keepdim=True)
    return shifted - torch.logsumexp(shifted, dim=-1, keepdim=True)


def pyannet(state: Mapping[str, np.ndarray]) -> PyanNet:
    """Return the network with these trained tensors, in evaluation mode.

    state   exactly the tensors of `parameter_shapes(sizes_of(…))`
    """
    network = PyanNet(sizes_of({name: tensor.shape for name, tensor in state.items()}))
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items() if name not in (LOW_HZ, BAND_HZ)}
    network.load_state_dict(tensors | _first_convolution(state))
    return network.eval().requires_grad_(False)


def _first_convolution(state: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the tensors of the first convolution, which takes over the offset that upstream adds to the waveform.

    A convolution turns a constant offset into a constant for each filter. Added before it, the offset is larger than
    most of the signal, of which half precision then keeps two or three digits.
    """
    filters = sinc_filters(state[LOW_HZ], state[BAND_HZ])
    offset = state["sincnet.wav_norm1d.bias"]
    bias = (filters.astype(np.float64).sum(axis=(1, 2)) * offset).astype(np.float32)  # (filter,)
    return {
        "sincnet.wav_norm1d.bias": torch.zeros(1),
        "sincnet.conv1d.0.weight": torch.from_numpy(filters),
        "sincnet.conv1d.0.bias": torch.from_numpy(bias),
    }
