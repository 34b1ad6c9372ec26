"""Recurrent layers against plain loops in float64 numpy, and against torch's own layers, which share no kernel."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mil.errors import MilError
from mil.ops.arguments import Rounding
from mil.ops.recurrent import gru, lstm, rnn

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
IFOZ_OF_TORCH = [0, 1, 3, 2]
ROZ_OF_TORCH = [0, 2, 1]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(-1, 1, shape)


def tensors(**arrays: np.ndarray | None) -> dict[str, torch.Tensor | None]:
    return {name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()}


def lstm_loop(
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    w: np.ndarray,
    r: np.ndarray,
    b: np.ndarray,
    p: np.ndarray,
    names: tuple[str, str, str],
    clip: float = np.inf,
    rounded: Callable[[np.ndarray], np.ndarray] = lambda v: v,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One direction: every h, the last h, the last c."""
    gate, cell, out = (ACTIVATIONS[name] for name in names)
    pi, pf, po = np.split(p, 3)
    steps = []
    for t in range(len(x)):
        i, f, o, z = np.split(x[t] @ w.T + h @ r.T + b, 4, axis=-1)
        c_new = gate(f + pf * c) * c + gate(i + pi * c) * cell(z)
        c = rounded(np.clip(c_new, -clip, clip))
        h = rounded(gate(o + po * c) * out(c))
        steps.append(h)
    return np.stack(steps), h, c


CASES = list(itertools.product(["forward", "reverse", "bidirectional"], [True, False], [True, False]))


@pytest.mark.parametrize(("direction", "output_sequence", "plain"), CASES)
@pytest.mark.parametrize("names", [("sigmoid", "tanh", "tanh"), ("hard_sigmoid", "relu", "linear")])
def test_lstm_is_its_formula(direction: str, output_sequence: bool, plain: bool, names: tuple[str, str, str]) -> None:
    """All directions and activations, with and without bias, peepholes and clipping, to 1e-12."""
    steps, batch, size, hidden = 5, 2, 3, 4
    both = 2 if direction == "bidirectional" else 1
    x, h, c = drawn(steps, batch, size), drawn(batch, both * hidden), drawn(batch, both * hidden, seed=1)
    sides = [
        {
            "w": drawn(4 * hidden, size, seed=side),
            "r": drawn(4 * hidden, hidden, seed=side),
            "b": np.zeros(4 * hidden) if plain else drawn(4 * hidden, seed=side),
            "p": np.zeros(3 * hidden) if plain else drawn(3 * hidden, seed=side),
        }
        for side in range(both)
    ]
    clip = None if plain else 0.3
    expected = []
    for side, weights in enumerate(sides):
        backwards = direction == "reverse" or side == 1
        part = slice(side * hidden, (side + 1) * hidden)
        each = lstm_loop(
            x[::-1] if backwards else x, h[:, part], c[:, part], **weights, names=names, clip=clip or np.inf
        )
        expected.append((each[0][::-1] if side == 1 else each[0], each[1], each[2]))
    sequence, last_h, last_c = (np.concatenate(parts, axis=-1) for parts in zip(*expected, strict=True))
    arguments = tensors(x=x, initial_h=h, initial_c=c, weight_ih=sides[0]["w"], weight_hh=sides[0]["r"])
    if both == 2:
        arguments |= tensors(weight_ih_back=sides[1]["w"], weight_hh_back=sides[1]["r"])
    if not plain:
        arguments |= tensors(bias=sides[0]["b"], peephole=sides[0]["p"])
        if both == 2:
            arguments |= tensors(bias_back=sides[1]["b"], peephole_back=sides[1]["p"])
    found = lstm(
        **arguments,
        direction=direction,
        output_sequence=output_sequence,
        recurrent_activation=names[0],
        cell_activation=names[1],
        activation=names[2],
        clip=clip,
    )
    for ours, theirs in zip(found, (sequence if output_sequence else last_h[None], last_h, last_c), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12)


def reordered(rows: torch.Tensor, order: list[int]) -> torch.Tensor:
    parts = rows.detach().chunk(len(order))
    return torch.cat([parts[index] for index in order])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rounding", [Rounding(), Rounding(torch.float32)], ids=["torch's kernel", "the loop"])
def test_a_bidirectional_lstm_is_torchs(batch: int, rounding: Rounding) -> None:
    """The layer that converters meet: gates reordered, two biases added."""
    torch.manual_seed(0)
    layer = torch.nn.LSTM(6, 8, bidirectional=True)
    x, h, c = torch.randn(40, batch, 6), torch.randn(2, batch, 8), torch.randn(2, batch, 8)
    expected, (last_h, last_c) = layer(x, (h, c))
    weights = {
        f"{name}{suffix}": reordered(value, IFOZ_OF_TORCH)
        for suffix, side in (("", ""), ("_back", "_reverse"))
        for name, value in (
            ("weight_ih", getattr(layer, f"weight_ih_l0{side}")),
            ("weight_hh", getattr(layer, f"weight_hh_l0{side}")),
            ("bias", getattr(layer, f"bias_ih_l0{side}") + getattr(layer, f"bias_hh_l0{side}")),
        )
    }
    found = lstm(
        x,
        h.transpose(0, 1).reshape(batch, -1),
        c.transpose(0, 1).reshape(batch, -1),
        **weights,
        direction="bidirectional",
        output_sequence=True,
        rounding=rounding,
    )
    wanted = (expected, *(state.transpose(0, 1).reshape(batch, -1) for state in (last_h, last_c)))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def gru_loop(
    x: np.ndarray, h: np.ndarray, w: np.ndarray, r: np.ndarray, b: np.ndarray, names: tuple[str, str]
) -> np.ndarray:
    """Every h of a GRU whose reset gate acts before the recurrent product."""
    gate, out = (ACTIVATIONS[name] for name in names)
    (wr, wo, wz), (rr, ro, rz), (br, bo, bz) = (np.split(each, 3) for each in (w, r, b))
    steps = []
    for t in range(len(x)):
        reset = gate(x[t] @ wr.T + h @ rr.T + br)
        update = gate(x[t] @ wz.T + h @ rz.T + bz)
        o = out(x[t] @ wo.T + (reset * h) @ ro.T + bo)
        h = (1 - update) * o + update * h
        steps.append(h)
    return np.stack(steps)


@pytest.mark.parametrize(("direction", "output_sequence"), itertools.product(["forward", "reverse"], [True, False]))
@pytest.mark.parametrize("names", [("sigmoid", "tanh"), ("tanh", "sigmoid"), ("hard_sigmoid", "relu")])
def test_gru_is_its_formula(direction: str, output_sequence: bool, names: tuple[str, str]) -> None:
    """As coremltools' own test against Core ML states it; a second bias adds to the first."""
    x, h, w, r, b = drawn(5, 2, 3), drawn(2, 4), drawn(12, 3), drawn(12, 4), drawn(12)
    expected = gru_loop(x[::-1] if direction == "reverse" else x, h, w, r, b, names)
    given = {"recurrent_activation": names[0], "activation": names[1], "direction": direction}
    arguments = tensors(x=x, initial_h=h, weight_ih=w, weight_hh=r)
    whole = gru(**arguments, **tensors(bias=b), output_sequence=output_sequence, **given)
    parts = gru(**arguments, **tensors(bias=b / 4, input_bias=3 * b / 4), output_sequence=output_sequence, **given)
    for found in (whole, parts):
        np.testing.assert_allclose(found[0].numpy(), expected if output_sequence else expected[-1:], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[1].numpy(), expected[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_gru_with_its_reset_after_is_torchs(bias: bool) -> None:
    """torch applies the reset gate to the recurrent product and its bias."""
    torch.manual_seed(0)
    layer = torch.nn.GRU(6, 8, bias=bias).double()
    x, h = torch.randn(7, 2, 6).double(), torch.randn(1, 2, 8).double()
    expected, last = layer(x, h)
    biases = {}
    if bias:
        biases = {
            "input_bias": reordered(layer.bias_ih_l0, ROZ_OF_TORCH),
            "bias": reordered(layer.bias_hh_l0, ROZ_OF_TORCH),
        }
    found = gru(
        x,
        h[0],
        reordered(layer.weight_ih_l0, ROZ_OF_TORCH),
        reordered(layer.weight_hh_l0, ROZ_OF_TORCH),
        output_sequence=True,
        reset_after=True,
        **biases,
    )
    torch.testing.assert_close(found, (expected.detach(), last[0].detach()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("direction", "output_sequence"), itertools.product(["forward", "reverse"], [True, False]))
@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid"])
def test_rnn_is_its_formula(direction: str, output_sequence: bool, name: str) -> None:
    """h ← activation(W x + R h + b), to 1e-12."""
    x, h, w, r, b = drawn(5, 2, 3), drawn(2, 4), drawn(4, 3), drawn(4, 4), drawn(4)
    expected, state = [], h
    for step in x[::-1] if direction == "reverse" else x:
        state = ACTIVATIONS[name](step @ w.T + state @ r.T + b)
        expected.append(state)
    arguments = tensors(x=x, initial_h=h, weight_ih=w, weight_hh=r, bias=b)
    found = rnn(**arguments, direction=direction, output_sequence=output_sequence, activation=name)
    np.testing.assert_allclose(found[0].numpy(), np.stack(expected if output_sequence else expected[-1:]), atol=1e-12)
    np.testing.assert_allclose(found[1].numpy(), state, rtol=0, atol=1e-12)


def test_rnn_is_torchs() -> None:
    """A third opinion on the plain layer."""
    torch.manual_seed(0)
    layer = torch.nn.RNN(6, 8).double()
    x, h = torch.randn(7, 2, 6).double(), torch.randn(1, 2, 8).double()
    expected, last = layer(x, h)
    weights = layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach()
    bias = (layer.bias_ih_l0 + layer.bias_hh_l0).detach()
    found = rnn(x, h[0], *weights, bias, output_sequence=True)
    torch.testing.assert_close(found, (expected.detach(), last[0].detach()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [3, 200], ids=["by torch", "compiled"])
@pytest.mark.parametrize(("batch", "hidden"), [(1, 16), (3, 7)])
def test_fp16_states_are_rounded_at_each_step(steps: int, batch: int, hidden: int) -> None:
    """The loop and the compiled kernel against numpy's fp16: 99 % of states equal, none off by more than an ulp of 1.

    Sums are taken in other orders, so that a value next to a tie may round the other way; that then feeds back.
    """
    fp16 = {"x": drawn(steps, batch, 5), "h": drawn(batch, 2 * hidden), "c": drawn(batch, 2 * hidden, seed=1)}
    fp16 |= {f"w{side}": drawn(4 * hidden, 5, seed=side) for side in range(2)}
    fp16 |= {f"r{side}": drawn(4 * hidden, hidden, seed=side) / 2 for side in range(2)}
    g = {name: array.astype(np.float16).astype(np.float32) for name, array in fp16.items()}
    bias, peephole = np.zeros(4 * hidden), np.zeros(3 * hidden)
    expected = []
    for side in range(2):
        part = slice(side * hidden, (side + 1) * hidden)
        sequence, *_ = lstm_loop(
            g["x"][::-1] if side else g["x"],
            g["h"][:, part],
            g["c"][:, part],
            g[f"w{side}"],
            g[f"r{side}"],
            bias,
            peephole,
            ("sigmoid", "tanh", "tanh"),
            rounded=lambda v: v.astype(np.float16).astype(np.float64),
        )
        expected.append(sequence[::-1] if side else sequence)
    arguments = tensors(x=g["x"], initial_h=g["h"], initial_c=g["c"], weight_ih=g["w0"], weight_hh=g["r0"])
    arguments |= tensors(weight_ih_back=g["w1"], weight_hh_back=g["r1"])
    found, _, c = lstm(**arguments, direction="bidirectional", output_sequence=True, rounding=Rounding(torch.float16))
    difference = np.abs(found.numpy() - np.concatenate(expected, axis=-1))
    assert difference.max() <= 2**-10
    assert np.mean(difference == 0) > 0.9
    for state in (found, c):
        assert torch.equal(state, state.half().float())


def test_the_compiled_rounding_is_ieee() -> None:
    """Against numpy's conversion: normal, subnormal, ties, overflow, infinities, nan and the sign of zero."""
    from mil.ops.lstm_kernel import _round_to_fp16

    generator = np.random.default_rng(0)
    random = generator.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.float32([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519, 65520, 2**-14, 2**-24, 2**-25, -(2**-26)])
    ties = (np.arange(2048, dtype=np.float32) + 0.5) * np.float32(2**-11) + 1
    values = np.concatenate([random, edges, ties])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    _round_to_fp16(values, values.view(np.int32))
    np.testing.assert_array_equal(values, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(values[numbers]), np.signbit(expected[numbers]))


def test_the_compiled_tanh_is_exact_to_a_few_ulp() -> None:
    """Relative to numpy in float64, from 1e-30 to where it is 1; infinities and nan too."""
    from mil.ops.lstm_kernel import _tanh

    values = np.concatenate([np.geomspace(1e-30, 90, 50_000), -np.geomspace(1e-30, 90, 50_000), [0]])
    values = values.astype(np.float32)
    expected = np.tanh(values.astype(np.float64))
    work, scale = np.empty_like(values), np.empty_like(values)
    _tanh(values, work, scale, scale.view(np.int32))
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=0)
    odd = np.float32([np.inf, -np.inf, np.nan])
    _tanh(odd, work[:3], scale[:3], scale[:3].view(np.int32))
    np.testing.assert_allclose(odd, [1, -1, np.nan], rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 1])
def test_empty_and_single_sequences(steps: int) -> None:
    """Without a step the last state is the initial one."""
    h, c = torch.rand(2, 4), torch.rand(2, 4)
    x = torch.rand(steps, 2, 3)
    for rounding in (Rounding(), Rounding(torch.float16)):
        sequence, last_h, last_c = lstm(
            x, h, c, torch.rand(16, 3), torch.rand(16, 4), output_sequence=True, rounding=rounding
        )
        assert sequence.shape == (steps, 2, 4)
        if steps == 0:
            torch.testing.assert_close((last_h, last_c), (h, c))
    assert gru(x, h, torch.rand(12, 3), torch.rand(12, 4), output_sequence=True)[0].shape == (steps, 2, 4)
    assert rnn(x, h, torch.rand(4, 3), torch.rand(4, 4), output_sequence=True)[0].shape == (steps, 2, 4)


def test_nan_reaches_every_later_state() -> None:
    """The compiled loop hides no nan."""
    x = torch.zeros(100, 1, 3)
    x[50, 0, 0] = torch.nan
    found, *_ = lstm(
        x,
        torch.zeros(1, 4),
        torch.zeros(1, 4),
        torch.ones(16, 3),
        torch.ones(16, 4),
        output_sequence=True,
        rounding=Rounding(torch.float16),
    )
    assert not found[:50].isnan().any()
    assert found[50:].isnan().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": "sideways"}, "direction: expected forward, reverse or bidirectional"),
        ({"direction": "bidirectional"}, "needs weight_ih_back and weight_hh_back"),
        ({"activation": "softmax"}, "activation softmax: expected one of"),
        ({"weight_hh": torch.zeros(15, 4)}, "do not fit 3 inputs and 4 gates"),
        ({"x": torch.zeros(5, 3)}, "expected x of rank 3"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(change: dict, said: str) -> None:
    """One sentence each."""
    arguments = {
        "x": torch.zeros(5, 1, 3),
        "initial_h": torch.zeros(1, 4),
        "initial_c": torch.zeros(1, 4),
        "weight_ih": torch.zeros(16, 3),
        "weight_hh": torch.zeros(16, 4),
    }
    with pytest.raises(MilError, match=said):
        lstm(**arguments | change)
