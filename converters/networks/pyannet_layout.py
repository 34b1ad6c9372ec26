"""What PyanNet's tensors are called, what shapes they have, and how long its output is; no torch needed."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

RATE_HZ = 16_000

# Every stage of SincNet that shortens the signal: (kernel, stride), convolutions and pools in turn.
STAGES = ((251, 10), (3, 3), (5, 1), (3, 3), (5, 1), (3, 3))
FILTERS, CHANNELS, KERNEL = 80, 60, 5
LOW_HZ = "sincnet.conv1d.0.filterbank.low_hz_"
BAND_HZ = "sincnet.conv1d.0.filterbank.band_hz_"

# Buffers that older checkpoints carry and that follow from the architecture.
CONSTANTS = {"sincnet.conv1d.0.filterbank.window_": (125,), "sincnet.conv1d.0.filterbank.n_": (1, 125)}


@dataclass(frozen=True)
class Sizes:
    """The sizes in which two PyanNets may differ; the defaults are those of pyannote/segmentation-3.0."""

    lstm_layers: int = 4
    lstm_hidden: int = 128
    bidirectional: bool = True
    linear_layers: int = 2
    linear_hidden: int = 128
    classes: int = 7

    @property
    def lstm_out(self) -> int:
        return self.lstm_hidden * (2 if self.bidirectional else 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """The lengths of the feature vectors from the LSTM on, up to what the classifier sees."""
        return (self.lstm_out, *[self.linear_hidden] * self.linear_layers)


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> Sizes:
    """Return the sizes that the tensors' names and shapes tell of; what they do not tell is left at its default.

    The answer is a guess until the tensors are held against `parameter_shapes` of it.
    """
    default = Sizes()
    layers = 1 + max(_numbers(r"lstm\.\w+_l(\d+)(?:_reverse)?", shapes), default=default.lstm_layers - 1)
    return Sizes(
        lstm_layers=layers,
        lstm_hidden=_length(shapes, "lstm.weight_hh_l0", 1, default.lstm_hidden),
        bidirectional=any(name.startswith("lstm.") and name.endswith("_reverse") for name in shapes),
        linear_layers=1 + max(_numbers(r"linear\.(\d+)\.(?:weight|bias)", shapes), default=-1),
        linear_hidden=_length(shapes, "linear.0.weight", 0, default.linear_hidden),
        classes=_length(shapes, "classifier.weight", 0, default.classes),
    )


def _numbers(pattern: str, names: Iterable[str]) -> list[int]:
    # Three digits at most: a name is not ours, and must not make us build a million layers.
    return [int(match[1]) for name in names if (match := re.fullmatch(pattern, name)) and len(match[1]) <= 3]


def _length(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int, default: int) -> int:
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) > axis else default


def parameter_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every trained tensor, as pyannote.audio's checkpoints have them."""
    shapes: dict[str, tuple[int, ...]] = {"sincnet.wav_norm1d.weight": (1,), "sincnet.wav_norm1d.bias": (1,)}
    shapes |= {LOW_HZ: (FILTERS // 2, 1), BAND_HZ: (FILTERS // 2, 1)}
    channels = (FILTERS, CHANNELS, CHANNELS)
    for i, width in enumerate(channels):
        if i > 0:
            shapes |= _affine(f"sincnet.conv1d.{i}", (width, channels[i - 1], KERNEL))
        shapes |= {f"sincnet.norm1d.{i}.weight": (width,), f"sincnet.norm1d.{i}.bias": (width,)}
    shapes |= _lstm_shapes(sizes)
    for i, (before, after) in enumerate(pairwise(sizes.widths)):
        shapes |= _affine(f"linear.{i}", (after, before))
    return shapes | _affine("classifier", (sizes.classes, sizes.widths[-1]))


def _affine(name: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _lstm_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    gates = 4 * sizes.lstm_hidden
    for layer in range(sizes.lstm_layers):
        for end in ("", "_reverse") if sizes.bidirectional else ("",):
            shapes[f"lstm.weight_ih_l{layer}{end}"] = (gates, CHANNELS if layer == 0 else sizes.lstm_out)
            shapes[f"lstm.weight_hh_l{layer}{end}"] = (gates, sizes.lstm_hidden)
            shapes |= {f"lstm.bias_{side}_l{layer}{end}": (gates,) for side in ("ih", "hh")}
    return shapes


def frame_count(samples: int) -> int:
    """Return how many frames the network makes of that many samples; 0 where the window is too short for one."""
    length = samples
    for kernel, stride in STAGES:
        length = (length - kernel) // stride + 1
    return max(length, 0)
