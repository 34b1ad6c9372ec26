"""WeSpeaker's ResNet34 on ggml, built from a GGUF file of architecture `wespeaker_resnet34`.

Audio becomes log-mel features by our filter bank, which is no part of the file; features run through the trunk once,
and are pooled under each mask.
"""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from converters.ggml.file import GgufFile
from converters.ggml.graph import Graph, Session, Tensor, extents
from converters.ggml.weights import Weights
from converters.gguf_layouts import wespeaker as layout
from converters.networks.fbank import LOG_FLOOR, mel_filters, spectrum_kernels
from converters.networks.wespeaker import nearest_frames
from converters.networks.wespeaker_layout import BLOCKS, EPSILON, FRAME_SAMPLES, HOP_SAMPLES, parameter_shapes
from pipeline.types import Arrays, QuernError

OUTPUTS = {"embeddings": "embeddings"}

_TINY = 1e-8  # what upstream adds to sums of weights


def check(file: GgufFile) -> None:
    """Raise QuernError unless a file holds a whole network."""
    file.check(layout.KEYS, parameter_shapes(), ("F32", "F16"))


def session(file: GgufFile, shapes: Mapping[str, tuple[int, ...]], widened: bool, every_layer: bool) -> Session:
    """Return the network for audio (1, 1, sample) and masks (mask, mask frame).

    widened       half-precision weights are widened first and all is computed in single precision; else convolutions
                  and the last layer multiply as ggml does, with both factors in half precision and sums in single
    every_layer   the session returns the result of each stage, by name, and not the last one, "embeddings", alone

    The filter bank and the pooling compute in single precision. Raises QuernError for inputs of other shapes.
    """
    _check_shapes(file, shapes)
    graph = Graph(capacity=2048)
    inputs = {name: graph.input(shapes[name]) for name in ("audio", "masks")}
    constants = {"spectrum": spectrum_kernels(), "mel": np.hstack([mel_filters()] * 2)}
    tensors = {name: graph.input(constant.shape) for name, constant in constants.items()}
    weights = Weights(graph, file.tensors, widened)
    layers = {"fbank": _fbank(graph, inputs["audio"], tensors)}
    layers |= _trunk(graph, weights, layers["fbank"])
    frames, bands, channels, _ = extents(layers[f"layer{len(BLOCKS)}"])
    features = graph.reshape_2d(layers[f"layer{len(BLOCKS)}"], frames, bands * channels)
    constants["nearest"] = nearest_frames(shapes["masks"][1], frames).T.copy()
    tensors["nearest"] = graph.input(constants["nearest"].shape)
    layers["statistics"] = _statistics(graph, features, graph.mul_mat(tensors["nearest"], inputs["masks"]))
    projected = graph.mul_mat(weights["resnet.seg_1.weight"], layers["statistics"])
    layers["embeddings"] = graph.add(projected, weights["resnet.seg_1.bias"])
    results = layers if every_layer else {"embeddings": layers["embeddings"]}
    for tensor in results.values():
        graph.output(tensor)
    return Session(graph, inputs | tensors, results, file, constants)


def results(session: Session, arrays: Arrays) -> Arrays:
    """Return what a session puts out: statistics and embeddings (mask, feature), before them (channel, band, frame)."""
    return {name: a[0, 0] if name in ("statistics", "embeddings") else a[0] for name, a in session.run(arrays).items()}


def _check_shapes(file: GgufFile, shapes: Mapping[str, tuple[int, ...]]) -> None:
    audio, masks = shapes.get("audio", ()), shapes.get("masks", ())
    if len(audio) != 3 or audio[:2] != (1, 1) or audio[2] < FRAME_SAMPLES + 8 * HOP_SAMPLES:
        raise QuernError(
            f"{file.path}: audio of shape {list(audio)}; expected [1, 1, samples], a tenth of a second long"
        )
    if len(masks) != 2 or min(masks) < 1:
        raise QuernError(f"{file.path}: masks of shape {list(masks)}; expected [masks, frames]")


def _fbank(graph: Graph, audio: Tensor, constants: Mapping[str, Tensor]) -> Tensor:
    """Return log-mel features, (frame, band) from the innermost axis, each band without its mean."""
    kernel = constants["spectrum"]
    taps, _, bins, _ = extents(kernel)
    columns = graph.im2col(kernel, audio, HOP_SAMPLES, 0, 0, 0, 1, 0, False, kernel.contents.type)
    spectrum = graph.mul_mat(graph.reshape_2d(kernel, taps, bins), columns)  # (bin, frame)
    power = graph.mul_mat(constants["mel"], graph.sqr(spectrum))
    by_band = graph.cont(graph.transpose(graph.log(graph.clamp(power, LOG_FLOOR, math.inf))))
    return graph.sub(by_band, graph.mean(by_band))


def _trunk(graph: Graph, weights: Weights, features: Tensor) -> dict[str, Tensor]:
    """Return the result of the first convolution and of each stage, (frame, band, channel)."""
    block = partial(_block, graph, weights)
    found = {"conv1": graph.relu(_convolution(graph, weights, features, "resnet.conv1", "resnet.bn1", 1, 1))}
    signal = found["conv1"]
    for stage, blocks in enumerate(BLOCKS, start=1):
        for i in range(blocks):
            signal = block(signal, f"resnet.layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1)
        found[f"layer{stage}"] = signal
    return found


def _block(graph: Graph, weights: Weights, signal: Tensor, name: str, stride: int) -> Tensor:
    changed = graph.relu(_convolution(graph, weights, signal, f"{name}.conv1", f"{name}.bn1", stride, 1))
    changed = _convolution(graph, weights, changed, f"{name}.conv2", f"{name}.bn2", 1, 1)
    if stride > 1:
        signal = _convolution(graph, weights, signal, f"{name}.shortcut.0", f"{name}.shortcut.1", stride, 0)
    return graph.relu(graph.add(changed, signal))


def _convolution(
    graph: Graph, weights: Weights, signal: Tensor, name: str, norm: str, stride: int, padding: int
) -> Tensor:
    """Return a signal (frame, band, channel), convolved and normalised as the batches of the training were."""
    found = graph.conv_2d(weights[f"{name}.weight"], signal, stride, stride, padding, padding, 1, 1)
    scale, bias, mean, variance = (weights[f"{norm}.{p}"] for p in ("weight", "bias", "running_mean", "running_var"))
    scale = graph.div(scale, graph.sqrt(graph.scale_bias(variance, 1.0, EPSILON)))
    shift = graph.sub(bias, graph.mul(mean, scale))
    by_channel = [graph.reshape_3d(values, 1, 1, extents(values)[0]) for values in (scale, shift)]
    return graph.add(graph.mul(found, by_channel[0]), by_channel[1])


def _statistics(graph: Graph, features: Tensor, weights: Tensor) -> Tensor:
    """Return weighted means and standard deviations, (2 · feature, mask), with upstream's guards.

    features   (frame, feature)
    weights    (frame, mask), from 0 to 1
    """
    frames, count = extents(features)[:2]
    masks = extents(weights)[1]
    total = graph.scale_bias(graph.sum_rows(weights), 1.0, _TINY)  # (1, mask)
    mean = graph.div(graph.mul_mat(features, weights), total)  # (feature, mask)
    spread = graph.repeat_4d(features, frames, count, masks, 1)
    off = graph.sub(spread, graph.reshape_3d(mean, 1, count, masks))
    weighted = graph.mul(graph.sqr(off), graph.reshape_3d(weights, frames, 1, masks))
    scatter = graph.reshape_2d(graph.sum_rows(weighted), count, masks)
    effective = graph.sub(total, graph.div(graph.sum_rows(graph.sqr(weights)), total))
    variance = graph.div(scatter, graph.scale_bias(effective, 1.0, _TINY))
    return graph.concat(mean, graph.sqrt(graph.relu(variance)), 0)
