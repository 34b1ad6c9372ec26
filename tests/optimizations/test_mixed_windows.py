"""Weights of convolutions: the windows that they multiply, and entries chosen by them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from optimizations.mixed.windows import Windows, rows
from optimizations.mixed_palette import Options, apply
from pipeline.types import Calibration, Example, Tensor

ct = pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

from mil.ops.conv import conv  # noqa: E402
from tests.optimizations.packages import normal, saved  # noqa: E402

CHANNELS, WIDER, KERNEL, SAMPLES = 12, 16, 5, 200
OUTPUTS = (Tensor("out", ("batch", "class", "frame"), (1, WIDER, 98), "float16", "value"),)


@pytest.mark.parametrize(
    "windows",
    [
        Windows((5,), (1,), (1,), "valid", None),
        Windows((4,), (3,), (2,), "same", None),
        Windows((3, 2), (2, 1), (1, 3), "custom", (1, 0, 2, 3)),
        Windows((2, 3), (1, 2), (1, 1), "same_lower", None),
        Windows((2, 1, 3), (1, 1, 2), (1, 1, 1), "valid", None),
    ],
)
def test_rows_times_the_weight_are_the_convolution(windows: Windows) -> None:
    """Over one, two and three axes, with strides, dilations and all kinds of padding."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 3, *(13, 9, 8)[: len(windows.kernel)]))
    weight = generator.standard_normal((4, 3, *windows.kernel))
    pad = None if windows.pad is None else list(windows.pad)
    placed = list(windows.strides), windows.pad_type, pad, list(windows.dilations)
    products = conv(torch.from_numpy(x), torch.from_numpy(weight), None, *placed).numpy()
    for item, found in zip(products, rows(windows, x), strict=True):
        np.testing.assert_allclose(weight.reshape(4, -1) @ found.T, item.reshape(4, -1), atol=1e-12)


@pytest.fixture(scope="module", params=[1, 2], ids=["one group", "two groups"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions; the first is of one group or two, the second does not reach the threshold."""
    groups = request.param

    @mb.program(input_specs=[mb.TensorSpec((1, CHANNELS, SAMPLES), dtype=types.fp16)], opset_version=ct.target.iOS17)
    def program(x):
        x = mb.mul(x=x, y=np.float16(0.5), name="quieter")
        weight = mb.const(val=normal(1, WIDER, CHANNELS // groups, KERNEL), name="weight")
        x = mb.conv(x=x, weight=weight, bias=normal(2, WIDER), strides=[2], groups=groups, name="wide")
        return mb.conv(x=x, weight=normal(3, WIDER, WIDER, 1), name="out")

    return saved(program, ct.target.iOS17, tmp_path_factory.mktemp("convolution") / f"{groups}.mlpackage")


def signals(seed: int) -> Iterator[Example]:
    """Channels that follow four sources, smooth in time and off zero, as signals are."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((CHANNELS, 4))
    for i in range(4):
        smooth = np.cumsum(generator.standard_normal((4, SAMPLES)), axis=1) / 4 + 3
        noisy = mixing @ smooth + 0.05 * generator.standard_normal((CHANNELS, SAMPLES))
        yield Example(f"r{seed}@{i}s", {"x": noisy[np.newaxis].astype(np.float16)})


def lost(source: Path, folder: Path, memo, compensate: bool) -> float:
    """Return the divergence on recordings that were not calibrated on, with the first convolution at 4 bits."""
    calibration = Calibration(lambda: signals(1), lambda: signals(2), OUTPUTS, {"seeds": [1, 2]})
    options = Options(assignment={"main/weight": 4}, compensate=compensate, weight_threshold=400)
    found = apply(source, options, memo, folder / f"{compensate}.mlpackage", calibration)
    return found["measured"]["held_out"]["divergence"]


def test_convolutions_choose_entries_by_their_windows(source: Path, tmp_path: Path, memo) -> None:
    """Products lose a fifth or less of what nearest entries lose; groups, which see channels apart, keep those."""
    plain, chosen = (lost(source, tmp_path, memo, compensate) for compensate in (False, True))
    if source.stem == "1":
        assert 0 < chosen < plain / 5
    else:
        assert chosen == plain > 0
