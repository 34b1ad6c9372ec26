"""PyanNet on ggml, built from a GGUF file of architecture `pyannet`: SincNet, LSTM, linear layers, log-softmax."""

from collections.abc import Mapping

from ggml import ggml

from converters.ggml.file import GgufFile
from converters.ggml.graph import Graph, Session, Tensor, extents
from converters.ggml.weights import Weights
from converters.gguf_layouts import pyannet as layout
from converters.networks.pyannet_layout import STAGES, Sizes, frame_count, sizes_of
from pipeline.types import Arrays, QuernError

OUTPUTS = {"log_probs": "segments"}

_EPSILON = 1e-5  # of instance normalisation
_SLOPE = 0.01  # of leaky ReLU


def check(file: GgufFile) -> None:
    """Raise QuernError unless a file holds a whole PyanNet."""
    sizes = sizes_of(file.shapes)  # the tensors that tell of them have the names that a checkpoint gives them
    file.check(layout.keys(sizes), layout.shapes(sizes), ("F32", "F16"))


def session(file: GgufFile, shapes: Mapping[str, tuple[int, ...]], widened: bool, every_layer: bool) -> Session:
    """Return the network for audio of one shape, (batch, 1, sample).

    widened       half-precision weights are widened first and all is computed in single precision; else convolutions
                  and linear layers multiply as ggml does, with both factors in half precision and sums in single,
                  and only the first convolution and the LSTM are widened
    every_layer   the session returns the result of each layer, by name, and not the last one, "log_probs", alone

    Raises QuernError for audio of another rank, or too short for two frames.
    """
    shape, sizes = shapes.get("audio", ()), sizes_of(file.shapes)
    if len(shape) != 3 or shape[1] != 1 or shape[0] < 1 or frame_count(shape[2]) < 2:
        raise QuernError(
            f"{file.path}: audio of shape {list(shape)}; expected [batch, 1, samples], two frames at least"
        )
    frames = frame_count(shape[2])
    graph = Graph(capacity=512 + 24 * sizes.lstm_layers * frames)
    audio = graph.input(shape)
    layers = _layers(graph, Weights(graph, file.tensors, widened), sizes, audio)
    results = layers if every_layer else {"log_probs": layers["log_probs"]}
    for tensor in results.values():
        graph.output(tensor)
    return Session(graph, {"audio": audio}, results, keep=file)


def results(session: Session, arrays: Arrays) -> Arrays:
    """Return what a session puts out: (batch, channel, frame) for SincNet, (batch, frame, feature) behind."""
    found = session.run(arrays)
    return {name: a[0] if name.startswith("sincnet") else a[0].swapaxes(0, 1) for name, a in found.items()}


def _layers(graph: Graph, weights: Weights, sizes: Sizes, audio: Tensor) -> dict[str, Tensor]:
    layers: dict[str, Tensor] = {}
    signal = _normalised(graph, weights, audio, "sincnet.wav_norm")  # (sample, channel, batch), innermost axis first
    for i in range(3):
        signal = layers[f"sincnet.{i}"] = _sincnet_stage(graph, weights, signal, i)
    features = graph.cont(graph.permute(signal, 2, 0, 1, 3))  # (channel, batch, frame)
    for i in range(sizes.lstm_layers):
        features = layers[f"lstm.{i}"] = _lstm_layer(graph, weights, sizes, features, i)
    for i in range(sizes.linear_layers):
        features = graph.leaky_relu(_linear(graph, weights, features, f"linear.{i}"), _SLOPE, False)
        layers[f"linear.{i}"] = features
    scores = layers["classifier"] = _linear(graph, weights, features, "classifier")
    return layers | {"log_probs": _log_softmax(graph, scores)}


def _normalised(graph: Graph, weights: Weights, signal: Tensor, name: str) -> Tensor:
    """Return each channel of (frame, channel, batch) with its own mean and variance removed, scaled and shifted."""
    scale, shift = (graph.reshape_2d(weights[f"{name}.{part}"], 1, extents(signal)[1]) for part in ("weight", "bias"))
    return graph.add(graph.mul(graph.norm(signal, _EPSILON), scale), shift)


def _sincnet_stage(graph: Graph, weights: Weights, signal: Tensor, i: int) -> Tensor:
    (_, stride), (pool, pool_stride) = STAGES[2 * i], STAGES[2 * i + 1]
    kernel = f"sincnet.{i}.conv.weight"
    # The waveform stands on an offset several times as large as it is, and half precision would keep little else.
    filtered = _convolution(graph, weights[kernel] if i else weights.single(kernel), signal, stride)
    filtered = graph.abs(filtered) if i == 0 else graph.add(filtered, weights[f"sincnet.{i}.conv.bias"])
    by_channel = graph.cont(graph.transpose(filtered))  # (frame, channel, batch)
    pooled = graph.pool_1d(by_channel, ggml.GGML_OP_POOL_MAX, pool, pool_stride, 0)
    return graph.leaky_relu(_normalised(graph, weights, pooled, f"sincnet.{i}.norm"), _SLOPE, False)


def _convolution(graph: Graph, kernel: Tensor, signal: Tensor, stride: int) -> Tensor:
    """Return a signal (frame, channel, batch), convolved, as (filter, frame, batch).

    As ggml's own conv_1d does it, whose columns are always in half precision and which is wrong for batches.
    """
    taps, channels, filters, _ = extents(kernel)
    columns = graph.im2col(kernel, signal, stride, 0, 0, 0, 1, 0, False, kernel.contents.type)
    return graph.mul_mat(graph.reshape_2d(kernel, taps * channels, filters), columns)


def _linear(graph: Graph, weights: Weights, features: Tensor, name: str) -> Tensor:
    return graph.add(graph.mul_mat(weights[f"{name}.weight"], features), weights[f"{name}.bias"])


def _lstm_layer(graph: Graph, weights: Weights, sizes: Sizes, features: Tensor, layer: int) -> Tensor:
    """Return (hidden, batch, frame) of features (feature, batch, frame); both directions step together.

    At step s the forward direction is at frame s and the backward one at frame n − 1 − s. Laid out one after the
    other, these two lie a fixed distance apart, (n + n − 1 − 2s) frames: one view spans both, and nothing is reversed.
    """
    ends = [f"_l{layer}{end}" for end in (("", "_reverse") if sizes.bidirectional else ("",))]
    inputs = _joined(graph, [_lstm_input(graph, weights, features, end) for end in ends], 3)
    recurrent = _joined(graph, [weights.single(f"lstm.weight_hh{end}") for end in ends], 2)
    hidden, (_, batch, frames, _) = sizes.lstm_hidden, extents(features)
    states = graph.new_tensor_4d(ggml.GGML_TYPE_F32, hidden, batch, frames, len(ends))
    state = cell = None
    for step in range(frames):
        reach = 2 * frames - 1 - 2 * step  # from the frame of one direction to that of the other
        row, frame = inputs.contents.nb[1], inputs.contents.nb[2]
        gates = graph.view_3d(inputs, 4 * hidden, batch, len(ends), row, reach * frame, step * frame)
        if state is not None:
            gates = graph.add(graph.mul_mat(recurrent, state), gates)
        state, cell = _lstm_step(graph, gates, cell, hidden)
        row, frame = states.contents.nb[1], states.contents.nb[2]
        states = graph.set_inplace(states, state, row, reach * frame, 0, step * frame)
        graph.schedule(states)
    return _joined(graph, [_direction(graph, states, i) for i in range(len(ends))], 0)


def _lstm_input(graph: Graph, weights: Weights, features: Tensor, end: str) -> Tensor:
    """Return what the input adds to each gate, (4 · hidden, batch, frame), both biases included."""
    bias = graph.add(weights[f"lstm.bias_ih{end}"], weights[f"lstm.bias_hh{end}"])
    return graph.add(graph.mul_mat(weights.single(f"lstm.weight_ih{end}"), features), bias)


def _lstm_step(graph: Graph, gates: Tensor, cell: Tensor | None, hidden: int) -> tuple[Tensor, Tensor]:
    """Return the next state and cell, (hidden, batch, direction), from gates in torch's order: in, forget, new, out."""
    opened = graph.sigmoid(gates)
    let_in, forget, out = (_gate(graph, opened, i, hidden) for i in (0, 1, 3))
    added = graph.mul(graph.tanh(_gate(graph, gates, 2, hidden)), let_in)
    cell = added if cell is None else graph.add(graph.mul(cell, forget), added)
    return graph.mul(graph.tanh(cell), out), cell


def _gate(graph: Graph, gates: Tensor, i: int, hidden: int) -> Tensor:
    _, batch, directions, _ = extents(gates)
    size, row, reach, _ = gates.contents.nb
    return graph.view_3d(gates, hidden, batch, directions, row, reach, i * hidden * size)


def _direction(graph: Graph, states: Tensor, i: int) -> Tensor:
    hidden, batch, frames, _ = extents(states)
    _, row, frame, direction = states.contents.nb
    return graph.view_3d(states, hidden, batch, frames, row, frame, i * direction)


def _joined(graph: Graph, parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else graph.concat(*parts, axis)


def _log_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return scores (class, …) less the logarithm of the sum of their exponentials; the largest is taken out first."""
    classes = extents(scores)[0]
    shifted = graph.sub(scores, graph.pool_1d(scores, ggml.GGML_OP_POOL_MAX, classes, classes, 0))
    return graph.sub(shifted, graph.log(graph.sum_rows(graph.exp(shifted))))
