"""Whole networks of the kinds that people convert, in small: the interpreter against torch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mil
from mil.compile import compile_package

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:overflow:RuntimeWarning")

Save = Callable[..., Path]
Arrays = dict[str, np.ndarray]

RNG = np.random.default_rng(11)
LENGTHS = "ranged_attention"
IDS = np.int32([[1, 7, 3, 0, 9], [4, 4, 2, 10, 5]])


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Residual(nn.Module):
    """Strided, dilated, grouped and depthwise convolutions around shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, (5, 3), (2, 1), (2, 0)), nn.MaxPool2d(3, 2, 1))
        self.grouped = nn.Conv2d(8, 16, 3, 2, 2, dilation=2, groups=4, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))
        self.shortcut = nn.Conv2d(8, 16, 1, 2)
        self.head = nn.Linear(16, 5)
        for norm in self.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inner = F.silu(self.norms[0](self.grouped(x)))
        x = F.relu6(self.norms[1](self.depthwise(inner)) + self.shortcut(x))
        return self.head(F.adaptive_avg_pool2d(F.avg_pool2d(x, 2, 1, 1, count_include_pad=False), 1).flatten(1))


class UNet(nn.Module):
    """Down, and up again by transposed convolutions, nearest and linear interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 2, 1)]
        )
        self.up = nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1, groups=3)
        self.last = nn.ConvTranspose2d(18, 4, 4, 2, 1)
        self.out = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        full = F.elu(self.down[0](x))
        half = F.gelu(self.down[1](full))
        quarter = F.leaky_relu(self.down[2](half), 0.2)
        joined = self.last(torch.cat([self.up(quarter), half], 1))
        near = F.interpolate(half[:, :6], scale_factor=2, mode="nearest")
        wide = F.interpolate(quarter, size=(13, 11), mode="bilinear", align_corners=True)
        return torch.sigmoid(self.out(torch.cat([joined, full, near], 1))), wide


class Recurrent(nn.Module):
    """Two bidirectional LSTM layers from a given state, then two GRU layers, then a plain recurrent one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(14, 6, 2)
        self.rnn = nn.RNN(6, 4, nonlinearity="relu")

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        y, last = self.gru(y.transpose(0, 1))
        return self.rnn(y)[0], h, c, last


class Encoder(nn.Module):
    """A transformer layer whose attention sees neither the future nor what is beyond a length."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)])
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.GELU(approximate="tanh"), nn.Linear(16, 8))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).reshape(batch, time, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        hidden = torch.arange(time)[None, None, None] >= lengths[:, None, None, None]
        hidden = torch.logical_or(hidden, torch.ones(6, 6, dtype=torch.bool).triu(1))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(width // 2)).masked_fill(hidden, float("-inf"))
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, width))
        return x + self.feed(self.norms[1](x))


class Conformer(nn.Module):
    """Attention by relative position, a gated convolution and a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.place = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8, bias=False)
        self.u, self.v = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(2, 4))
        self.register_buffer("places", torch.randn(1, 13, 8))
        self.gate, self.mix = nn.Conv1d(8, 16, 1), nn.Conv1d(8, 8, 1)
        self.depthwise, self.batch_norm = nn.Conv1d(8, 8, 5, padding=2, groups=8), nn.BatchNorm1d(8)
        self.feed = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 8))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, time, 3, 2, 4).unbind(2)
        places = self.place(self.places).view(1, -1, 2, 4).permute(0, 2, 3, 1)
        by_place = F.pad((q + self.v).transpose(1, 2) @ places, (1, 0))
        by_place = by_place.view(batch, 2, -1, time)[:, :, 1:].view(batch, 2, time, 13)[..., :time]
        by_content = (q + self.u).transpose(1, 2) @ k.permute(0, 2, 3, 1)
        attended = ((by_content + by_place) / 2).softmax(-1) @ v.transpose(1, 2)
        x = x + attended.transpose(1, 2).reshape(batch, time, width)
        gated = F.glu(self.gate(x.transpose(1, 2)), 1)
        return x + self.mix(F.silu(self.batch_norm(self.depthwise(gated)))).transpose(1, 2) + 0.5 * self.feed(x)


class Streaming(nn.Module):
    """Causal convolutions over a chunk, each with what it has to remember as input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 6, 3), nn.Conv1d(6, 4, 3, dilation=2, groups=2)

    def forward(self, x: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.cat([near, x], 2)
        y = torch.cat([far, F.relu(self.first(x))], 2)
        return self.second(y), x[:, :, -2:], y[..., -4:]


class LogMel(nn.Module):
    """Framed Fourier transform as a convolution, mel bands, logarithm, normalised over time."""

    def __init__(self) -> None:
        super().__init__()
        phase = 2 * math.pi * torch.arange(17)[:, None] * torch.arange(32) / 32
        self.register_buffer("kernel", (torch.cat([phase.cos(), -phase.sin()]) * torch.hann_window(32))[:, None])
        self.register_buffer("bands", torch.rand(6, 17))

    def forward(self, x: Tensor) -> Tensor:
        parts = F.conv1d(F.pad(x[:, None], (16, 16), mode="reflect"), self.kernel, stride=8)
        power = parts[:, :17] ** 2 + parts[:, 17:].pow(2)
        mel = torch.log(torch.clamp(self.bands @ power, min=1e-6))
        mel = mel - mel.mean(2, keepdim=True)
        return mel / (mel.var(2, keepdim=True) + 1e-5).sqrt()


class Selection(nn.Module):
    """Embeddings, and what picks, sorts, counts and scatters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)

    def forward(self, ids: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        x = self.table(ids)  # (2, 5, 6)
        index = places[..., None].long().expand(-1, -1, 6)
        picked = torch.gather(x, 1, index)
        values, order = picked.topk(2, dim=1)
        scattered = x.scatter_add(1, index, picked)
        written = x.clone()
        written[:, 2:4] = picked[:, :2]
        counted = F.one_hot(x.argmin(-1), 6).to(x.dtype).cumsum(1)
        return values, order, scattered, written, counted, torch.argsort(x, 1, descending=True), x.sort(dim=2)[0]


class Einsum(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, v), torch.einsum("bqhd->bdqh", q)


class RangedAttention(nn.Module):
    """Attention whose shapes follow from the length of its input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        batch, time, width = x.shape
        heads = x.reshape(batch, time, 2, width // 2).transpose(1, 2)
        weights = (heads @ heads.transpose(-1, -2)).softmax(-1)
        weights = weights.masked_fill(torch.arange(time)[None] > torch.arange(time)[:, None], 0.0)
        mixed = (weights @ heads).transpose(1, 2).reshape(batch, time, width)
        return mixed, F.interpolate(x.transpose(1, 2), scale_factor=2.0)


class Decoder(nn.Module):
    """A decoder's layer as language models have it: RMS norm, rotary places, fused attention, gated feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.randn(8))
        self.register_buffer("frequencies", torch.tensor([1.0, 0.1]))

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        batch, time, width = x.shape
        angles = (places.to(x.dtype)[:, None] * self.frequencies)[None, :, None]
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale
        q, k, v = self.qkv(normed).view(batch, time, 3, 2, 4).unbind(2)
        q, k = (self._turned(one, angles.cos(), angles.sin()) for one in (q, k))
        seen = F.scaled_dot_product_attention(*(one.transpose(1, 2) for one in (q, k, v)), is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, time, width))
        gate, value = self.up(x).chunk(2, -1)
        return x + self.down(F.silu(gate) * value)

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class Loop(nn.Module):
    """A layer repeated as often as an input says, and a branch on what comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        i = 0
        while i < int(n):
            x = torch.tanh(self.linear(x))
            i += 1
        return x * 2 if bool(x.sum() > 0) else torch.relu(-x) - 1


# What a network is, the inputs that it is tried on, and the target it is converted for.
NETWORKS: dict[str, tuple[type[nn.Module], Arrays, str]] = {
    "residual": (Residual, {"x": normal(2, 3, 33, 29)}, "iOS15"),
    "u_net": (UNet, {"x": normal(1, 2, 16, 24)}, "iOS16"),
    "recurrent": (Recurrent, {"x": normal(3, 6, 5), "h": normal(4, 3, 7), "c": normal(4, 3, 7)}, "iOS17"),
    "encoder": (Encoder, {"x": normal(2, 6, 8), "lengths": np.int32([6, 3])}, "iOS15"),
    "conformer": (Conformer, {"x": normal(2, 7, 8)}, "iOS17"),
    "streaming": (Streaming, {"x": normal(1, 3, 8), "near": normal(1, 3, 2), "far": normal(1, 6, 4)}, "iOS16"),
    "log_mel": (LogMel, {"x": normal(1, 160)}, "iOS17"),
    "selection": (Selection, {"ids": IDS, "places": np.int32([[4, 0, 4]] * 2)}, "iOS17"),
    "einsum": (Einsum, {"q": normal(2, 5, 3, 4), "k": normal(2, 6, 3, 4), "v": normal(2, 6, 3, 4)}, "iOS17"),
    LENGTHS: (RangedAttention, {"x": normal(1, 7, 6)}, "iOS16"),
    "decoder": (Decoder, {"x": normal(1, 6, 8), "places": np.arange(6, dtype=np.int32)}, "iOS18"),
    "loop": (Loop, {"x": normal(2, 4), "n": np.int32([3])}, "iOS16"),
}  # fmt: skip


def network(name: str) -> tuple[nn.Module, Arrays]:
    torch.manual_seed(0)
    make, inputs, _ = NETWORKS[name]
    return make().eval(), inputs


@torch.inference_mode()
def said_by_torch(name: str, inputs: Arrays, dtype: torch.dtype = torch.float64) -> list[np.ndarray]:
    model, _ = network(name)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    found = model.to(dtype)(*(one.to(dtype) if one.is_floating_point() else one for one in tensors))
    return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]


@pytest.fixture(scope="module")
def converted(ct: Any, save: Save) -> Callable[[str, str], Path]:
    """Return a function that gives the package of a network in a precision, converted the first time."""
    made: dict[tuple[str, str], Path] = {}

    def package(name: str, precision: str) -> Path:
        if (name, precision) not in made:
            model, inputs = network(name)
            examples = tuple(torch.from_numpy(array) for array in inputs.values())
            scripted = torch.jit.script(model) if name == "loop" else torch.jit.trace(model, examples)
            shapes = {key: (1, ct.RangeDim(2, 30, 7), 6) if name == LENGTHS else inputs[key].shape for key in inputs}
            kinds = [ct.TensorType(key, shapes[key], dtype=inputs[key].dtype.type) for key in inputs]
            outputs = [ct.TensorType(f"out{number}") for number in range(len(said_by_torch(name, inputs)))]
            made[name, precision] = save(
                scripted,
                f"{name}_{precision}",
                NETWORKS[name][2],
                inputs=kinds,
                outputs=outputs,
                compute_precision=getattr(ct.precision, precision),
            )
        return made[name, precision]

    return package


def largest_difference(found: Arrays, expected: list[np.ndarray]) -> float:
    """Return how far any output is from what is expected, by the largest magnitude of that."""
    assert list(found) == [f"out{number}" for number in range(len(expected))]
    pairs = list(zip(found.values(), expected, strict=True))
    assert [one.shape for one, _ in pairs] == [other.shape for _, other in pairs]
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_torch_says(name: str, converted: Callable[[str, str], Path]) -> None:
    """In float64 to what folding constants in fp32 leaves of it, in float32 to its rounding, for iOS 15 to 18."""
    program, inputs = mil.load(converted(name, "FLOAT32")), NETWORKS[name][1]
    expected = said_by_torch(name, inputs)
    assert largest_difference(program.run(inputs, "float64"), expected) < 2e-7
    assert largest_difference(program.run(inputs, "float32"), expected) < 3e-6
    assert largest_difference(program.predict(inputs), expected) < 3e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_in_fp16_is_near(name: str, converted: Callable[[str, str], Path]) -> None:
    """Rounded after each operation, it is within half a percent of torch; the weights alone cost a fifth of that."""
    program, inputs = mil.load(converted(name, "FLOAT16")), NETWORKS[name][1]
    expected = said_by_torch(name, inputs)
    assert largest_difference(program.run(inputs, "float64"), expected) < 1e-3
    assert largest_difference(program.run(inputs), expected) < 5e-3


@pytest.mark.parametrize("name", NETWORKS)
def test_its_bundle_says_the_same(name: str, converted: Callable[[str, str], Path], tmp_path: Path) -> None:
    """Compiled, it gives the same outputs to the last bit."""
    package, inputs = converted(name, "FLOAT16"), NETWORKS[name][1]
    expected = mil.load(package).predict(inputs)
    found = mil.load(compile_package(package, tmp_path).path).predict(inputs)
    for output, value in expected.items():
        np.testing.assert_array_equal(found[output], value)


@pytest.mark.parametrize("length", [2, 13, 30])
def test_a_length_may_be_any_in_its_range(length: int, converted: Callable[[str, str], Path]) -> None:
    """One program for all of them, as torch's is one module."""
    inputs = {"x": np.random.default_rng(length).standard_normal((1, length, 6)).astype(np.float32)}
    found = mil.load(converted(LENGTHS, "FLOAT32")).run(inputs, "float64")
    assert largest_difference(found, said_by_torch(LENGTHS, inputs)) < 2e-7


class Cached(nn.Module):
    """Attention over keys and values of steps before, kept in two states."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 8, 4, dtype=dtype))
        self.register_buffer("values", torch.zeros(1, 8, 4, dtype=dtype))
        self.qkv = nn.Linear(4, 12)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        places = torch.arange(8)[None]
        here = (places[..., None] == step).to(x.dtype)
        keys = self.keys * (1 - here) + k * here
        values = self.values * (1 - here) + v * here
        self.keys[:], self.values[:] = keys, values
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=torch.where(places <= step, 0.0, -1e4))


def test_a_cache_is_kept_from_step_to_step(ct: Any, save: Save) -> None:
    """Keys and values in fp16 states, five steps: outputs and states are those of the module in float32."""
    torch.manual_seed(0)
    module, reference = Cached(torch.float16), Cached(torch.float32)
    reference.qkv.load_state_dict(module.qkv.state_dict())
    examples = torch.zeros(1, 1, 4), torch.zeros(1, 1, 1, dtype=torch.int32)
    states = [ct.StateType(ct.TensorType(shape=(1, 8, 4), dtype=np.float16), name=name) for name in ("keys", "values")]
    path = save(
        torch.jit.trace(module.eval(), examples, check_trace=False),
        "cached",
        "iOS18",
        inputs=[ct.TensorType("x", (1, 1, 4)), ct.TensorType("step", (1, 1, 1), dtype=np.int32)],
        outputs=[ct.TensorType("y")],
        states=states,
        compute_precision=ct.precision.FLOAT16,
    )
    program = mil.load(path)
    state = program.make_state()
    generator = np.random.default_rng(0)
    for step in range(5):
        inputs = {
            "x": generator.standard_normal((1, 1, 4)).astype(np.float32),
            "step": np.full((1, 1, 1), step, np.int32),
        }
        with torch.no_grad():
            expected = reference(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        np.testing.assert_allclose(program.predict(inputs, state)["y"], expected, atol=3e-3)
    np.testing.assert_allclose(state.read_state("keys"), reference.keys.numpy(), atol=3e-3)
    assert np.abs(state.read_state("values")[:, :5]).min() > 0
    assert not state.read_state("values")[:, 5:].any()
