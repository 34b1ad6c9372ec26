"""Recurrent layers: coremltools' `iOS18/recurrent.py`.

The formulas are those of its docstrings; where they are silent, those of its own tests against Core ML: `reverse`
gives its results in the order it computes them, `bidirectional` in the order of time; a GRU applies its reset gate
before the recurrent product unless `reset_after`; `clip` bounds the cell state; the output gate's peephole sees the
new cell state; `scaled_tanh` is tanh, and `hard_sigmoid` is 0.2 x + 0.5 between 0 and 1.

    x           (step, batch, input)      initial states  (batch, direction · hidden)
    weight_ih   (gate · hidden, input)    weight_hh       (gate · hidden, hidden)
    results     (step or 1, batch, direction · hidden), then the last states, (batch, direction · hidden)
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import torch
import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Bool, Float, Rounding, Str, Tensor, exact

# Input-hidden weights, hidden-hidden weights, bias.
Weights: TypeAlias = tuple[Tensor, Tensor, Tensor | None]
# Steps from which the compiled loop is worth importing numba for; below, the same arithmetic by torch.
_WORTH_COMPILING = 32
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "sigmoid_hard": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "tanh": torch.tanh,
}


def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    direction: Str = "forward",
    output_sequence: Bool = False,
    recurrent_activation: Str = "sigmoid",
    cell_activation: Str = "tanh",
    activation: Str = "tanh",
    clip: Float | None = None,
    *,
    rounding: Rounding = exact,
) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory; gates in the order input, forget, output, cell. States are rounded at each step."""
    weights = [(weight_ih, weight_hh, bias)]
    if direction == "bidirectional":
        if weight_ih_back is None or weight_hh_back is None:
            raise MilError("a bidirectional layer needs weight_ih_back and weight_hh_back")
        weights.append((weight_ih_back, weight_hh_back, bias_back))
    _check(x, weights, direction, gates=4)
    h, c = _by_direction(initial_h, len(weights)), _by_direction(initial_c, len(weights))
    names = (recurrent_activation, cell_activation, activation)
    if names != ("sigmoid", "tanh", "tanh") or peephole is not None or peephole_back is not None or clip is not None:
        projected, recurrent = _projected(x, weights, direction)
        peepholes = _peepholes([peephole, peephole_back][: len(weights)], recurrent)
        sequence, h, c = _general_lstm_steps(projected, recurrent, h, c, peepholes, names, clip, rounding)
    elif rounding.dtype is None and x.numel():  # torch's own refuses an empty sequence
        sequence, h, c = _torch_lstm(x, weights, direction, h, c)
    elif rounding.dtype is torch.float16 and x.dtype is torch.float32 and len(x) >= _WORTH_COMPILING:
        sequence, h, c = _compiled_lstm_steps(*_projected(x, weights, direction), h, c)
    else:
        sequence, h, c = _lstm_steps(*_projected(x, weights, direction), h, c, rounding)
    return _results(sequence, output_sequence, direction, h, c)


def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: Str = "forward",
    output_sequence: Bool = False,
    recurrent_activation: Str = "sigmoid",
    activation: Str = "tanh",
    reset_after: Bool = False,
    input_bias: Tensor | None = None,
    *,
    rounding: Rounding = exact,
) -> tuple[Tensor, Tensor]:
    """Gated recurrent unit; gates in the order reset, output, update. The state is rounded at each step.

    reset_after   whether the reset gate acts on the recurrent product and its bias (as in torch), or on the state
    """
    _check_single(direction)
    outside = bias if input_bias is None else input_bias + bias if bias is not None else input_bias
    inside = None
    if reset_after:  # the bias of the output gate belongs to the recurrent product, which the reset gate scales
        outside, inside = input_bias, bias
    weights = [(weight_ih, weight_hh, outside)]
    _check(x, weights, direction, gates=3)
    (projected,), (recurrent,) = _projected(x, weights, direction)
    gate, out = _activation(recurrent_activation), _activation(activation)
    size = weight_hh.shape[1]
    h, sequence = initial_h, []
    for step in projected:
        if reset_after:
            product = h @ recurrent if inside is None else torch.addmm(inside, h, recurrent)
            r, z = gate(step[:, :size] + product[:, :size]), gate(step[:, 2 * size :] + product[:, 2 * size :])
            o = out(step[:, size : 2 * size] + r * product[:, size : 2 * size])
        else:
            r = gate(step[:, :size] + h @ recurrent[:, :size])
            z = gate(step[:, 2 * size :] + h @ recurrent[:, 2 * size :])
            o = out(step[:, size : 2 * size] + (r * h) @ recurrent[:, size : 2 * size])
        h = rounding((1 - z) * o + z * h)
        sequence.append(h)
    return _single_results(sequence, initial_h, output_sequence)


def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    direction: Str = "forward",
    output_sequence: Bool = False,
    activation: Str = "tanh",
    *,
    rounding: Rounding = exact,
) -> tuple[Tensor, Tensor]:
    """Plain recurrent layer: h ← activation(W_ih x + W_hh h + b), rounded at each step."""
    _check_single(direction)
    weights = [(weight_ih, weight_hh, bias)]
    _check(x, weights, direction, gates=1)
    (projected,), (recurrent,) = _projected(x, weights, direction)
    out = _activation(activation)
    h, sequence = initial_h, []
    for step in projected:
        h = rounding(out(torch.addmm(step, h, recurrent)))
        sequence.append(h)
    return _single_results(sequence, initial_h, output_sequence)


def _check(x: Tensor, weights: list[Weights], direction: str, gates: int) -> None:
    if direction not in ("forward", "reverse", "bidirectional"):
        raise MilError(f"direction: expected forward, reverse or bidirectional, found {direction}")
    if x.dim() != 3:
        raise MilError(f"expected x of rank 3 (step, batch, input), found a shape of {list(x.shape)}")
    for weight_ih, weight_hh, _ in weights:
        hidden = weight_hh.shape[-1]
        if weight_hh.shape != (gates * hidden, hidden) or weight_ih.shape != (gates * hidden, x.shape[2]):
            raise MilError(
                f"weights of shapes {list(weight_ih.shape)} and {list(weight_hh.shape)} do not fit {x.shape[2]} inputs "
                f"and {gates} gates"
            )


def _projected(x: Tensor, weights: list[Weights], direction: str) -> tuple[Tensor, Tensor]:
    """Return what does not depend on the state, in the order of computation, and the transposed recurrent weights.

    returns   (direction, step, batch, gate · hidden), (direction, hidden, gate · hidden)
    """
    projected = [F.linear(x, weight_ih, bias) for weight_ih, _, bias in weights]
    if direction != "forward":  # the last, whether it is the second of two or the only one, runs from the end
        projected[-1] = projected[-1].flip(0)
    return torch.stack(projected), torch.stack([weight_hh.t() for _, weight_hh, _ in weights])


def _by_direction(state: Tensor, directions: int) -> Tensor:
    """Return (batch, direction · hidden) as (direction, batch, hidden)."""
    return state.reshape(state.shape[0], directions, -1).transpose(0, 1)


def _torch_lstm(
    x: Tensor, weights: list[Weights], direction: str, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_lstm_steps` without rounding, by torch's own kernel, whose gates are input, forget, cell, output."""
    flat = []
    for weight_ih, weight_hh, bias in weights:
        zero = weight_ih.new_zeros(len(weight_ih))
        flat += [_ifzo(weight_ih), _ifzo(weight_hh), zero if bias is None else _ifzo(bias), zero]
    entered = x.flip(0) if direction == "reverse" else x
    both = len(weights) == 2
    states = (h.contiguous(), c.contiguous())
    sequence, h, c = torch.lstm(entered, states, flat, True, 1, 0.0, False, both, False)
    if not both:
        return sequence.unsqueeze(0), h, c
    forward, backward = sequence.chunk(2, dim=2)
    return torch.stack((forward, backward.flip(0))), h, c


def _ifzo(rows: Tensor) -> Tensor:
    i, f, o, z = rows.chunk(4)
    return torch.cat((i, f, z, o))


def _compiled_lstm_steps(projected: Tensor, recurrent: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_lstm_steps` with fp16 states: each direction and batch entry is a call of the compiled loop."""
    try:
        from mil.ops.lstm_kernel import lstm_steps_fp16
    except ImportError:
        raise MilError("rounding an LSTM's state at each step needs numba: pip install numba") from None
    directions, steps, batch, _ = projected.shape
    h, c = h.clone(memory_format=torch.contiguous_format), c.clone(memory_format=torch.contiguous_format)
    sequence = h.new_empty(directions, batch, steps, h.shape[2])
    columns, rows = projected.transpose(1, 2).contiguous(), recurrent.contiguous()

    def run(place: tuple[int, int]) -> None:
        parts = (columns[place], rows[place[0]], h[place], c[place], sequence[place])
        lstm_steps_fp16(*(part.numpy() for part in parts))

    places = [(direction, entry) for direction in range(directions) for entry in range(batch)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # the loop holds no lock
        deque(threads.map(run, places), maxlen=0)
    return sequence.transpose(1, 2), h, c


def _lstm_steps(
    projected: Tensor, recurrent: Tensor, h: Tensor, c: Tensor, rounding: Rounding
) -> tuple[Tensor, Tensor, Tensor]:
    """Return every step's state, (direction, step, batch, hidden), and the last h and c."""
    size = h.shape[2]
    steps = []
    for step in projected.unbind(1):
        gates = torch.baddbmm(step, h, recurrent)
        i, f, o = torch.sigmoid(gates[:, :, : 3 * size]).chunk(3, dim=2)
        c = rounding(f * c + i * torch.tanh(gates[:, :, 3 * size :]))
        h = rounding(o * torch.tanh(c))
        steps.append(h)
    return (torch.stack(steps, 1) if steps else h.new_empty(len(h), 0, *h.shape[1:])), h, c


def _general_lstm_steps(
    projected: Tensor,
    recurrent: Tensor,
    h: Tensor,
    c: Tensor,
    peepholes: Tensor,
    names: tuple[str, str, str],
    clip: float | None,
    rounding: Rounding,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `_lstm_steps`, with any activations, peepholes (direction, 1, 3 · hidden) and a bound on the cell state."""
    gate, cell, out = (_activation(name) for name in names)
    for_input, for_forget, for_output = peepholes.chunk(3, dim=2)
    steps = []
    for step in projected.unbind(1):
        i, f, o, z = torch.baddbmm(step, h, recurrent).chunk(4, dim=2)
        c = gate(f + for_forget * c) * c + gate(i + for_input * c) * cell(z)
        c = rounding(c if clip is None else c.clamp(-clip, clip))
        h = rounding(gate(o + for_output * c) * out(c))
        steps.append(h)
    return (torch.stack(steps, 1) if steps else h.new_empty(len(h), 0, *h.shape[1:])), h, c


def _peepholes(given: list[Tensor | None], recurrent: Tensor) -> Tensor:
    size = recurrent.shape[1]
    rows = [recurrent.new_zeros(3 * size) if row is None else row for row in given]
    return torch.stack(rows).unsqueeze(1)


def _results(
    sequence: Tensor, output_sequence: bool, direction: str, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    last_h, last_c = _side_by_side(h), _side_by_side(c)
    if not output_sequence:
        return last_h.unsqueeze(0), last_h, last_c
    if direction == "bidirectional":
        return torch.cat((sequence[0], sequence[1].flip(0)), dim=-1), last_h, last_c
    return sequence[0], last_h, last_c


def _single_results(sequence: list[Tensor], initial: Tensor, output_sequence: bool) -> tuple[Tensor, Tensor]:
    last = sequence[-1] if sequence else initial
    if not output_sequence:
        return last.unsqueeze(0), last
    return torch.stack(sequence) if sequence else initial.new_empty(0, *initial.shape), last


def _side_by_side(state: Tensor) -> Tensor:
    """Return (direction, batch, hidden) as (batch, direction · hidden)."""
    return state.transpose(0, 1).reshape(state.shape[1], -1)


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name.lower() not in _ACTIVATIONS:
        raise MilError(f"activation {name}: expected one of {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name.lower()]


def _check_single(direction: str) -> None:
    if direction not in ("forward", "reverse"):
        raise MilError(f"direction: expected forward or reverse, found {direction}")
