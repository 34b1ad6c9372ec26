"""Who speaks when: the pyannote segmentation network for MLX, in one file to drop into a project.

    network = load("pyannote_segmentation.mlx")     # the folder with config.json and weights.safetensors
    log_probs = network(audio)                      # (batch, sample) at 16 kHz -> (batch, frame, class)

A frame lasts 17 ms. The seven classes are sets of speakers: nobody, 1, 2, 3, 1 and 2, 1 and 3, 2 and 3.
Needs mlx alone. On the command line it prints the turns in a 16-bit mono recording of 16 kHz, window by window of ten
seconds; the numbers of the speakers hold within a window:

    python model.py talk.wav
"""

import json
import signal
import sys
import wave
from itertools import pairwise
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn

RATE_HZ = 16_000
FRAME_STEP_S = 270 / RATE_HZ  # strides of SincNet: 10 · 3 · 3 · 3
SPEAKERS = ("", "1", "2", "3", "1+2", "1+3", "2+3")


class Normalisation(nn.Module):
    """Normalisation over time, of each channel by itself; in single precision, whatever comes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = mx.ones((width,)), mx.zeros((width,))

    def __call__(self, signal: mx.array) -> mx.array:
        """Return a signal (batch, time, channel), normalised."""
        signal = signal.astype(mx.float32)
        centred = signal - mean_over_time(signal)
        return self.weight * centred * mx.rsqrt(mean_over_time(mx.square(centred)) + 1e-5) + self.bias


def mean_over_time(signal: mx.array) -> mx.array:
    """Return means (batch, 1, channel) of a signal (batch, time, channel).

    Added up in two steps: one by one, as processors do it, 160,000 samples would lose the fourth digit.
    """
    batch, length, channels = signal.shape
    parts = mx.pad(signal, [(0, 0), (0, -length % 256), (0, 0)]).reshape(batch, -1, 256, channels)
    return parts.sum(axis=2).sum(axis=1, keepdims=True) / length


class SincNet(nn.Module):
    """Three convolutions with pooling; the first one's kernels are band-pass filters."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm = Normalisation(1)
        self.conv = [nn.Conv1d(1, 80, 251, stride=10), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)]
        self.norm = [Normalisation(width) for width in (80, 60, 60)]
        self.pool = nn.MaxPool1d(3, stride=3)

    def __call__(self, audio: mx.array) -> mx.array:
        """Return features (batch, frame, 60) of audio (batch, sample, 1), which is filtered as it comes, unrounded."""
        signal = self.wav_norm(audio)
        for i, (conv, norm) in enumerate(zip(self.conv, self.norm, strict=True)):
            filtered = mx.abs(conv(signal)) if i == 0 else conv(signal)
            signal = nn.leaky_relu(norm(self.pool(filtered)).astype(conv.weight.dtype))
        return signal


class Direction(nn.Module):
    """One direction of an LSTM layer; its gates and cell in single precision, for a cell adds up hundreds of frames."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(features, 4 * hidden)  # its bias is the sum of torch's two
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)

    def __call__(self, features: mx.array) -> mx.array:
        """Return states (batch, frame, hidden) of features (batch, frame, feature)."""
        gates, states = self.input(features), []
        state = mx.zeros_like(gates[:, 0, : gates.shape[-1] // 4])
        cell = state.astype(mx.float32)
        for frame in range(gates.shape[1]):
            summed = (gates[:, frame] + self.recurrent(state)).astype(mx.float32)
            let_in, forget, new, out = mx.split(summed, 4, axis=-1)
            cell = mx.sigmoid(forget) * cell + mx.sigmoid(let_in) * mx.tanh(new)
            state = (mx.sigmoid(out) * mx.tanh(cell)).astype(gates.dtype)
            states.append(state)
        return mx.stack(states, axis=1)


class BidirectionalLayer(nn.Module):
    """An LSTM layer that reads its input forwards and backwards."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.forward, self.backward = Direction(features, hidden), Direction(features, hidden)

    def __call__(self, features: mx.array) -> mx.array:
        backwards = self.backward(features[:, ::-1])[:, ::-1]
        return mx.concatenate([self.forward(features), backwards], axis=-1)


class PyanNet(nn.Module):
    """Who speaks in each frame, as log probabilities of sets of speakers; any batch, any length."""

    def __init__(
        self, lstm_layers: int, lstm_hidden: int, linear_layers: int, linear_hidden: int, classes: int
    ) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = [BidirectionalLayer(2 * lstm_hidden if i else 60, lstm_hidden) for i in range(lstm_layers)]
        widths = [2 * lstm_hidden, *[linear_hidden] * linear_layers]
        self.linear = [nn.Linear(*pair) for pair in pairwise(widths)]
        self.classifier = nn.Linear(widths[-1], classes)

    def __call__(self, audio: mx.array) -> mx.array:
        """Return log probabilities (batch, frame, class), single precision, of audio (batch, sample)."""
        features = self.sincnet(audio[..., None])
        for layer in self.lstm:
            features = layer(features)
        for linear in self.linear:
            features = nn.leaky_relu(linear(features))
        scores = self.classifier(features).astype(mx.float32)
        return scores - mx.logsumexp(scores, axis=-1, keepdims=True)


def build(config: dict) -> PyanNet:
    """Return the network that a config.json describes, its layers quantized where it says so, without weights."""
    network = PyanNet(**config["network"])
    if config["quantization"]:
        quantize(network, **config["quantization"])
    return network


def quantize(network: PyanNet, bits: int, group_size: int) -> None:
    """Quantize the linear layers, the LSTM's among them, whose rows divide into groups: all but the first layer's."""
    nn.quantize(
        network,
        group_size,
        bits,
        class_predicate=lambda _, layer: isinstance(layer, nn.Linear) and layer.weight.shape[-1] % group_size == 0,
    )


def load(folder: str | Path, weights: str = "weights.safetensors") -> PyanNet:
    """Return the network of a folder; its weights are in weights.safetensors and, the same, in weights.npz."""
    network = build(json.loads((Path(folder) / "config.json").read_text()))
    network.load_weights(str(Path(folder) / weights))
    return network


def turns(classes: list[int], start_s: float) -> list[tuple[float, float, str]]:
    """Return when each set of speakers talks, (from, to, speakers) in seconds, of the class of each frame."""
    found, begin = [], 0
    for frame in range(1, len(classes) + 1):
        if frame == len(classes) or classes[frame] != classes[begin]:
            if SPEAKERS[classes[begin]]:
                found.append((start_s + begin * FRAME_STEP_S, start_s + frame * FRAME_STEP_S, SPEAKERS[classes[begin]]))
            begin = frame
    return found


def read_audio(path: str) -> mx.array:
    """Return the samples of a recording, within ±1; ends the program, in a sentence, for one that it cannot read."""
    try:
        with wave.open(path) as file:
            kind = file.getframerate(), file.getnchannels(), file.getsampwidth()
            samples = memoryview(file.readframes(file.getnframes()))
    except (OSError, EOFError, wave.Error) as error:
        sys.exit(f"{path}: cannot be read as WAV: {error}")
    if kind != (RATE_HZ, 1, 2):
        sys.exit(f"{path}: {kind[0]} Hz, {kind[1]} channels, {8 * kind[2]} bits; expected {RATE_HZ} Hz, mono, 16 bits")
    return mx.array(samples.cast("h").tolist(), mx.float32) / 32768


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python model.py talk.wav")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop, as `head` does
    audio = read_audio(sys.argv[1])
    network = load(Path(__file__).parent)
    window = 10 * RATE_HZ
    for start in range(0, len(audio), window):
        part = audio[start : start + window]
        log_probs = network(mx.pad(part, (0, window - len(part)))[None])[0]  # (frame, class)
        classes = cast(list[int], log_probs.argmax(-1).tolist())
        for begin_s, end_s, speakers in turns(classes, start / RATE_HZ):
            print(f"{begin_s:8.2f} {end_s:8.2f}  {speakers}", flush=True)


if __name__ == "__main__":
    main()
