"""What a voice sounds like: the WeSpeaker ResNet34 speaker embeddings for MLX, in one file to drop into a project.

    network = load("wespeaker.mlx")        # the folder with config.json and weights.safetensors
    embeddings = network(audio, masks)     # (batch, sample) at 16 kHz, (batch, mask, frame) -> (batch, mask, 256)

A mask says how much each frame of the audio counts, from 0 to 1, in as many frames as it has; the segmentation network
makes such. The audio is looked at once, however many masks there are. Needs mlx alone.
"""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

BLOCKS, WIDTHS = (3, 4, 6, 3), (32, 64, 128, 256)  # of the stages of ResNet34
LOG_FLOOR = 2.0**-23  # float32's epsilon, as Kaldi has it
TINY = 1e-8


class FBank(nn.Module):
    """Kaldi's log-mel features: 80 bands, frames of 25 ms, 10 ms apart, each band without its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 510, 400, stride=160, bias=False)  # real parts, then imaginary ones
        self.mel = nn.Conv1d(510, 80, 1, bias=False)

    def __call__(self, audio: mx.array) -> mx.array:
        """Return features (batch, frame, band) of audio (batch, sample) within ±1."""
        power = self.mel(mx.square(self.spectrum(audio[..., None])))
        log_power = mx.log(mx.maximum(power, LOG_FLOOR))
        return log_power - log_power.mean(axis=1, keepdims=True)


class Block(nn.Module):
    """Two convolutions beside a shortcut; batch normalisation is folded into them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(before, width, 1, stride=stride) if before != width else nn.Identity()

    def __call__(self, features: mx.array) -> mx.array:
        return nn.relu(self.conv2(nn.relu(self.conv1(features))) + self.shortcut(features))


class Trunk(nn.Module):
    """What depends on the audio alone: ResNet34 over bands and frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 3, padding=1)
        self.blocks = []
        before = WIDTHS[0]
        for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
            for i in range(blocks):
                self.blocks.append(Block(before, width, stride=2 if stage and i == 0 else 1))
                before = width

    def __call__(self, features: mx.array) -> mx.array:
        """Return features (batch, frame, 2560) of log-mel features (batch, frame, band), an eighth as many frames."""
        image = features.swapaxes(1, 2)[..., None].astype(self.conv1.weight.dtype)  # (batch, band, frame, channel)
        image = nn.relu(self.conv1(image))
        for block in self.blocks:
            image = block(image)
        return image.transpose(0, 2, 3, 1).flatten(2).astype(mx.float32)


def statistics(features: mx.array, masks: mx.array) -> mx.array:
    """Return weighted means and standard deviations (batch, mask, 5120); a mask without weight gives zeros.

    features   (batch, frame, 2560)
    masks      (batch, mask, frame), of another number of frames, of which the nearest are taken
    """
    frames, length = features.shape[1], masks.shape[2]
    nearest = mx.floor(mx.arange(frames, dtype=mx.float32) * (length / frames)).astype(mx.int32)
    weights = masks[..., nearest]  # (batch, mask, frame)
    total = weights.sum(axis=-1, keepdims=True) + TINY
    mean = weights @ features / total
    off = mx.square(features[:, None] - mean[:, :, None])  # (batch, mask, frame, feature)
    scatter = (weights[..., None] * off).sum(axis=2)
    effective = total - mx.square(weights).sum(axis=-1, keepdims=True) / total + TINY
    return mx.concatenate([mean, mx.sqrt(mx.maximum(scatter / effective, 0))], axis=-1)


class WeSpeaker(nn.Module):
    """Embeddings of the voices that masks pick out of audio."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = FBank()
        self.trunk = Trunk()
        self.seg_1 = nn.Linear(2 * WIDTHS[-1] * 10, 256)

    def __call__(self, audio: mx.array, masks: mx.array) -> mx.array:
        """Return embeddings (batch, mask, 256) of audio (batch, sample) under masks (batch, mask, frame)."""
        return self.seg_1(statistics(self.trunk(self.fbank(audio)), masks))


def build(config: dict) -> WeSpeaker:
    """Return the network that a config.json describes, its last layer quantized where it says so, without weights."""
    network = WeSpeaker(**config["network"])
    if config["quantization"]:
        quantize(network, **config["quantization"])
    return network


def quantize(network: WeSpeaker, bits: int, group_size: int) -> None:
    """Quantize the linear layer, a fifth of all weights; MLX quantizes no convolutions."""
    nn.quantize(network, group_size, bits)


def load(folder: str | Path, weights: str = "weights.safetensors") -> WeSpeaker:
    """Return the network of a folder; its weights are in weights.safetensors and, the same, in weights.npz."""
    network = build(json.loads((Path(folder) / "config.json").read_text()))
    network.load_weights(str(Path(folder) / weights))
    return network
