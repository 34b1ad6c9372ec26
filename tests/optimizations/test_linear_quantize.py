"""The pass that puts integers in place of weights, held against coremltools' decoder and our interpreter."""

import numpy as np
import pytest

import mil
from mil.package import read_package
from optimizations.linear.integers import make
from optimizations.linear_quantize import Options, apply
from pipeline.types import QuernError

ct = pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.mil import types  # noqa: E402

from tests.optimizations.packages import (  # noqa: E402
    content,
    linear_package,
    normal,
    operations,
    saved,
    varied_package,
    weights_by_coremltools,
)

NEW, OLD = "constexpr_blockwise_shift_scale", "constexpr_affine_dequantize"


@pytest.mark.parametrize(("target", "kind"), [(ct.target.iOS17, OLD), (ct.target.iOS18, NEW)])
def test_each_channel_has_its_scale(tmp_path, memo, target, kind):
    """int8 keeps every value to half a step of its channel, in the form of the target, as coremltools decodes it."""
    weight = (normal(0, 64, 96) * np.logspace(-2, 1, 64)[:, None]).astype(np.float16)
    source = linear_package(tmp_path / "source.mlpackage", weight, target)
    found = apply(source, Options(), memo, tmp_path / "ours.mlpackage")
    value = weights_by_coremltools(tmp_path / "ours.mlpackage")["linear_weight_0"].astype(np.float64)
    steps = np.abs(weight.astype(np.float64)).max(axis=1, keepdims=True) / 127
    assert (np.abs(value - weight) <= 0.5 * steps * (1 + 2**-8) + 127 * steps * 2**-10).all()
    assert operations(read_package(tmp_path / "ours.mlpackage"))["main/linear_weight_0"].type == kind
    assert found["weights"][0]["blocks"] == 64
    assert found["weights"][0]["max"] == pytest.approx(np.abs(value - weight).max(), rel=1e-5)
    assert found["weight_bytes"]["after"] < 0.55 * found["weight_bytes"]["before"]


@pytest.mark.parametrize("target", [ct.target.iOS17, ct.target.iOS18])
def test_every_use_of_a_weight_is_understood(tmp_path, memo, target):
    """In a program of many operations the interpreter decodes the same weights as coremltools, and runs."""
    source = varied_package(tmp_path / "source.mlpackage", target)
    found = apply(source, Options(exclude=("gather",)), memo, tmp_path / "ours.mlpackage")
    assert [each["reason"] for each in found["left"]] == ["excluded: gather"]
    inputs = {"x": normal(20, 1, 80, 50), "tokens": np.arange(4, dtype=np.int32)}
    before, after = (mil.load(path).run(inputs, precision="float32") for path in (source, tmp_path / "ours.mlpackage"))
    for name, value in before.items():
        assert np.abs(value - after[name]).max() < 0.05 * max(np.abs(value).max(), 1)


@pytest.mark.parametrize("nbits", [4, 8])
def test_blocks(tmp_path, memo, nbits):
    """Scales for blocks of input channels are closer than one for all; coremltools decodes what we report."""
    weight = (normal(0, 64, 96) * np.logspace(-1, 1, 96)).astype(np.float16)
    source = linear_package(tmp_path / "source.mlpackage", weight, ct.target.iOS18)
    rms = {}
    for block_size in (None, 16):
        destination = tmp_path / f"{block_size}.mlpackage"
        found = apply(source, Options(nbits, block_size), memo, destination)
        value = weights_by_coremltools(destination)["linear_weight_0"].astype(np.float64)
        rms[block_size] = np.sqrt(((value - weight) ** 2).mean())
        assert found["weights"][0]["rms"] == pytest.approx(rms[block_size], rel=1e-5)
    assert rms[16] < 0.7 * rms[None]


def test_blocks_lie_along_input_channels(tmp_path, memo):
    """Input channels come first for conv_transpose and a plain matmul, second for conv and linear."""

    @mb.program(input_specs=[mb.TensorSpec((1, 64, 64), dtype=types.fp16)], opset_version=ct.target.iOS18)
    def program(x):
        x = mb.matmul(x=x, y=normal(0, 64, 48), name="plain")
        x = mb.matmul(x=x, y=normal(1, 64, 48), transpose_y=True, name="turned")
        x = mb.conv_transpose(x=x, weight=normal(2, 64, 32, 3), name="deconv")
        return mb.conv(x=x, weight=normal(3, 64, 32, 2), name="conv")

    source = saved(program, ct.target.iOS18, tmp_path / "source.mlpackage")
    apply(source, Options(8, 16), memo, tmp_path / "ours.mlpackage")
    shapes = {
        name.removeprefix("main/").split("_")[0]: tuple(
            dimension.constant.size for dimension in each.inputs["scale"].arguments[0].value.type.tensorType.dimensions
        )
        for name, each in operations(read_package(tmp_path / "ours.mlpackage")).items()
        if each.type == NEW
    }
    assert shapes == {"plain": (4, 48), "turned": (64, 3), "deconv": (4, 32, 1), "conv": (64, 2, 1)}


def test_zeros_and_channels_that_blocks_do_not_divide(tmp_path, memo):
    """A channel of zeros stays zero; a weight of 96 input channels has no blocks of 36, and is left with the reason."""
    weight = normal(0, 64, 96)
    weight[3] = 0
    source = linear_package(tmp_path / "source.mlpackage", weight, ct.target.iOS18)
    apply(source, Options(), memo, tmp_path / "a.mlpackage")
    assert not weights_by_coremltools(tmp_path / "a.mlpackage")["linear_weight_0"][3].any()
    found = apply(source, Options(8, 36), memo, tmp_path / "b.mlpackage")
    assert found["weights"] == []
    assert found["left"][0]["reason"] == "its 96 input channels are not a multiple of 36"


def test_equal_inputs_give_equal_bytes(tmp_path, memo):
    """Twice the same package is the same files."""
    source = varied_package(tmp_path / "source.mlpackage")
    for name in ("a.mlpackage", "b.mlpackage"):
        apply(source, Options(), memo, tmp_path / name)
    assert content(tmp_path / "a.mlpackage") == content(tmp_path / "b.mlpackage")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_scale_is_never_too_small(dtype):
    """Rounded up to the type, a scale leaves no value beyond the largest integer, also among the smallest numbers."""
    rows = np.logspace(-7, 3, 50)[:, None] * np.linspace(-1, 1, 33)
    weight = rows.astype(dtype)
    found = make(weight, 8, (50, 1))
    assert (np.abs(weight).max(axis=1, keepdims=True) <= found.scales.astype(np.float64) * 127).all()


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ({}, ct.target.iOS15, "integer weights need iOS 16, and the program is for iOS 15"),
        ({"nbits": 4}, ct.target.iOS17, "4-bit integer weights need iOS 18, and the program is for iOS 17"),
        ({"block_size": 16}, ct.target.iOS17, "scales for blocks need iOS 18, and the program is for iOS 17"),
    ],
)
def test_what_the_target_lacks_is_refused(tmp_path, memo, options, target, message):
    """A form that the target cannot decode is a sentence."""
    element = np.float32 if target == ct.target.iOS15 else np.float16
    source = linear_package(tmp_path / "source.mlpackage", normal(0, 64, 64, dtype=element), target)
    with pytest.raises(QuernError, match=message):
        apply(source, Options(**options), memo, tmp_path / "ours.mlpackage")


def test_weights_that_are_not_numbers_are_refused(tmp_path, memo):
    """nan and infinity are named with their weight."""
    weight = normal(0, 64, 64)
    weight[3, 4:6] = np.nan, np.inf
    source = linear_package(tmp_path / "source.mlpackage", weight)
    with pytest.raises(QuernError, match=r"weight `main/linear_weight_0`: 2 of 4096 values are nan or infinite"):
        apply(source, Options(), memo, tmp_path / "ours.mlpackage")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nbits": 6}, "nbits: expected 4 or 8, found 6"),
        ({"block_size": 0}, "block_size: expected at least 1 channel, found 0"),
        ({"weight_threshold": -1}, "weight_threshold: expected 0 elements or more"),
        ({"exclude": "conv"}, "exclude: expected a list of operation types"),
    ],
)
def test_bad_options_are_sentences(options, message):
    """Options that mean nothing are refused where they are written."""
    with pytest.raises(ValueError, match=message):
        Options(**options)
