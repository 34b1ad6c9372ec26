"""WeSpeaker's ResNet34, written so that it exports: audio → log-mel features → trunk → statistics → embedding.

The network of Wang et al. 2023 ("WeSpeaker: a research and production oriented speaker embedding learning toolkit") as
pyannote.audio runs it, with that package's tensor names. What depends on the audio alone runs once, and is then pooled
for as many masks as there are.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from converters.networks.fbank import FBank
from converters.networks.wespeaker_layout import (
    BLOCKS,
    DIMENSION,
    EPSILON,
    FEATURES,
    FRAMES,
    MASK_FRAMES,
    STATISTICS,
    WIDTHS,
    convolutions,
)

_TINY = 1e-8  # what upstream adds to sums of weights


class Block(nn.Module):
    """Two convolutions beside a shortcut; batch normalisation is folded into them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Sequential()
        if before != width:
            self.shortcut.append(nn.Conv2d(before, width, 1, stride=stride))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return features (batch, width, band, frame), with 1/stride of the bands and frames."""
        changed = self.conv2(torch.relu(self.conv1(features)))
        return torch.relu(changed + self.shortcut(features))


class Trunk(nn.Module):
    """What depends on the audio alone: ResNet34 over bands and frames."""

    half_precision = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 3, padding=1)
        before = WIDTHS[0]
        for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
            strides = [1 if stage == 1 else 2] + [1] * (blocks - 1)
            widths = [before] + [width] * (blocks - 1)
            blocks_of_stage = [Block(w, width, stride) for w, stride in zip(widths, strides, strict=True)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks_of_stage))
            before = width

    def forward(self, fbank_features: torch.Tensor) -> torch.Tensor:
        """Return features (batch, 2560, frame) of log-mel features (batch, 1, 80, frame), an eighth as many frames."""
        features = torch.relu(self.conv1(fbank_features))
        for stage in range(1, len(BLOCKS) + 1):
            features = self.get_submodule(f"layer{stage}")(features)
        return features.flatten(1, 2)


def nearest_frames(length: int, wanted: int) -> np.ndarray:
    """Return the matrix (length, wanted) that picks for each wanted frame the nearest one that there is.

    It is torch's interpolation in mode "nearest": frame ⌊i · length/wanted⌋, the quotient in single precision.
    """
    picked = np.floor(np.arange(wanted, dtype=np.float32) * (np.float32(length) / np.float32(wanted)))
    selection = np.zeros((length, wanted), np.float32)
    selection[np.minimum(picked, length - 1).astype(int), np.arange(wanted)] = 1
    return selection


class StatisticsPool(nn.Module):
    """Weighted mean and standard deviation over the frames.

    Upstream's formula, with its guards: a mask without weight gives zeros. Where rounding makes upstream take the root
    of a negative variance (all weight on one frame, 0.4 or 0.8 for instance), this gives 0 and upstream NaN.
    It needs single precision: in half, both guards round to zero.
    """

    selection: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("selection", torch.from_numpy(nearest_frames(MASK_FRAMES, FRAMES)), persistent=False)

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return statistics (batch, mask, 2 × feature).

        features   (batch, feature, frame)
        masks      (batch, mask, mask frame), from 0 to 1
        """
        weights = torch.matmul(masks, self.selection)  # (batch, mask, frame)
        total = weights.sum(dim=-1, keepdim=True) + _TINY
        mean = torch.matmul(weights, features.transpose(1, 2)) / total
        # Differences from the mean first, then squares: their expansion would cancel where one frame has all weight.
        squares = torch.square(features.unsqueeze(1) - mean.unsqueeze(-1))  # (batch, mask, feature, frame)
        scatter = torch.matmul(squares, weights.unsqueeze(-1)).squeeze(-1)
        effective = total - torch.square(weights).sum(dim=-1, keepdim=True) / total + _TINY
        return torch.cat([mean, torch.sqrt(torch.relu(scatter / effective))], dim=-1)


class Projection(nn.Linear):
    """The last layer: statistics → embedding."""

    half_precision = True


class WeSpeaker(nn.Module):
    """The parts; its subclasses are the programs that are made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = FBank()
        self.trunk = Trunk()
        self.pool = StatisticsPool()
        self.seg_1 = Projection(2 * FEATURES, DIMENSION)

    def features(self, audio: torch.Tensor) -> torch.Tensor:
        """Return features (batch, 2560, frame) of audio (batch, 1, sample)."""
        return self.trunk(self.fbank(audio))

    def embeddings(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Return embeddings (batch, mask, 256) of features (batch, 2560, frame) under masks (batch, mask, frame)."""
        return self.seg_1(self.pool(features, masks))


class EachWaveform(WeSpeaker):
    """waveform (3, sample), mask (3, frame) → embedding (3, 256): row i is waveform i under mask i, as upstream."""

    def forward(self, waveform: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.embeddings(self.features(waveform.unsqueeze(1)), mask.unsqueeze(1)).squeeze(1)


class FirstWaveform(WeSpeaker):
    """waveform (3, sample), mask (3, frame) → embedding (3, 256): row i is the first waveform under mask i."""

    def forward(self, waveform: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first = waveform.split(1)[0].unsqueeze(1)  # a split, not a slice: slices are what this network does without
        return self.embeddings(self.features(first), mask.unsqueeze(0)).squeeze(0)


class OneAudio(WeSpeaker):
    """audio (1, 1, sample), masks (3, frame) → embeddings (3, 256)."""

    def forward(self, audio: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return self.embeddings(self.features(audio), masks.unsqueeze(0)).squeeze(0)


class FromFBank(WeSpeaker):
    """fbank_features (1, 1, 80, frame), weights (1, frame) → embedding (1, 256) of length 1; zeros stay zeros."""

    def forward(self, fbank_features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        embedding = self.embeddings(self.trunk(fbank_features), weights.unsqueeze(1)).squeeze(1)
        length = torch.sqrt(torch.square(embedding).sum(dim=-1, keepdim=True))
        return embedding / torch.clamp(length, min=1e-12)


class ToFeatures(WeSpeaker):
    """audio (1, 1, sample) → features (1, 2560, frame), which an app may keep while it tries masks."""

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return self.features(audio)


class FromFeatures(WeSpeaker):
    """features (1, 2560, frame), masks (3, frame) → embeddings (3, 256)."""

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return self.embeddings(features, masks.unsqueeze(0)).squeeze(0)


def wespeaker(program: type[WeSpeaker], state: Mapping[str, np.ndarray]) -> WeSpeaker:
    """Return a program with these trained tensors, in evaluation mode.

    state   exactly the tensors of `parameter_shapes()`
    """
    network = program()
    tensors = {f"trunk.{name}": tensor for name, tensor in _folded(state).items()}
    tensors |= {name: state[f"resnet.{name}"] for name in ("seg_1.weight", "seg_1.bias")}
    absent, unexpected = network.load_state_dict(
        {name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=False
    )
    assert not unexpected, unexpected
    assert all(name.startswith("fbank.") for name in absent), absent  # it follows from its definition
    return network.eval().requires_grad_(False)


def _folded(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return weight and bias of each convolution, with the batch normalisation behind it folded in.

    (w·x − mean) · scale / √(variance + ε) + bias, in double precision and rounded once.
    """
    folded = {}
    for convolution, norm, _ in convolutions():
        scale, bias, mean, variance = (state[f"{norm}.{name}"].astype(np.float64) for name in STATISTICS)
        gain = scale / np.sqrt(variance + EPSILON)
        name = convolution.removeprefix("resnet.")
        weight = state[f"{convolution}.weight"] * gain[:, np.newaxis, np.newaxis, np.newaxis]
        folded[f"{name}.weight"] = weight.astype(np.float32)
        folded[f"{name}.bias"] = (bias - mean * gain).astype(np.float32)
    return folded
