"""Widths by need on networks whose outputs are no classes, and on one that is run over many calls."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools")

from converters.formats import coreml
from converters.models import sortformer, wespeaker
from diarization.streaming.examples import FEATURES
from optimizations.mixed_palette import Options, apply
from pipeline.types import Arrays, Calibration, Example, Runner, Tensor
from tests.converters.sortformers import STREAMING, tiny_state

LOW = 1000


def streams(seed: int, count: int) -> Iterator[Example]:
    """Log mel power of recordings whose speaker cache is compressed on the way."""
    generator = np.random.default_rng(seed)
    for i in range(count):
        colours = np.repeat(generator.standard_normal((40, STREAMING.mels)), 16, axis=0)
        noise = generator.standard_normal(colours.shape)
        yield Example(f"r{seed}{i}@0s", {FEATURES: (2 * colours + noise - 5).astype(np.float32)})


def test_a_stream_is_measured_over_its_roll_out(tmp_path: Path, memo) -> None:
    """Moments, costs and the final loss come from whole recordings: cheaper widths lose more, and size is kept."""
    source = tmp_path / "source.mlpackage"
    inputs, outputs = sortformer.inputs(STREAMING), sortformer.outputs(STREAMING)
    coreml.convert(sortformer.load(tiny_state(), STREAMING), inputs, outputs, {}, coreml.Options("fp32"), source)
    calls = []

    def run(runner: Runner, given: Arrays) -> Arrays:
        def counted(step: Arrays) -> Arrays:
            calls[-1] += 1
            return runner(step)

        calls.append(0)
        return sortformer.drive(counted, given, STREAMING)

    calibration = Calibration(lambda: streams(1, 1), lambda: streams(2, 1), outputs, {"seeds": [1, 2]}, run)
    lost = []
    for size_mb in (0.11, 0.2):
        chosen = Options(size_mb=size_mb, widths=(2, 6), weight_threshold=LOW)
        found = apply(source, chosen, memo, tmp_path / f"{size_mb}.mlpackage", calibration)
        assert found["weight_bytes"]["after"] <= size_mb * 1e6
        assert 0 < found["measured"]["held_out"]["argmax"] <= 1
        lost.append(found["measured"]["calibration"]["divergence"])
    assert lost[0] > lost[1] > 0
    assert min(calls) > 20


def test_a_stream_learns_from_each_of_its_calls(tmp_path: Path, memo) -> None:
    """Gradients go through convolutions and attention, of calls drawn from whole roll-outs; sizes stay."""
    source = tmp_path / "source.mlpackage"
    inputs, outputs = sortformer.inputs(STREAMING), sortformer.outputs(STREAMING)
    coreml.convert(sortformer.load(tiny_state(), STREAMING), inputs, outputs, {}, coreml.Options("fp32"), source)
    calibration = Calibration(
        lambda: streams(1, 1), lambda: streams(2, 1), outputs, {}, lambda *given: sortformer.drive(*given, STREAMING)
    )
    chosen = Options(size_mb=0.11, widths=(2, 6), weight_threshold=LOW, compensate=False, distill=2)
    found = apply(source, chosen, memo, tmp_path / "ours.mlpackage", calibration)
    before, after = (found[key]["calibration"]["divergence"] for key in ("measured_before", "measured"))
    assert 0 < after != before
    assert after < 1.05 * before
    assert found["weight_bytes"]["after"] <= 0.11e6


def features(seed: int, inputs: tuple[Tensor, ...]) -> Iterator[Example]:
    generator = np.random.default_rng(seed)
    for i in range(2):
        arrays = {each.name: generator.random(each.shape, np.float32) for each in inputs}
        yield Example(f"r{seed}@{i}s", arrays)


def test_an_embedding_is_measured_by_its_direction(tmp_path: Path, memo) -> None:
    """WeSpeaker's pooling keeps the size, and turns embeddings by a smaller angle where it is larger."""
    form = wespeaker.Form(program="pooling")
    source = tmp_path / "source.mlpackage"
    inputs, outputs = wespeaker.inputs(form), wespeaker.outputs(form)
    module = wespeaker.load(wespeaker.synthetic(0), form)
    coreml.convert(module, inputs, outputs, {}, coreml.Options("fp16"), source)
    calibration = Calibration(lambda: features(1, inputs), lambda: features(2, inputs), outputs, {"seeds": [1, 2]})
    lost = []
    for size_mb in (1.05, 1.5):
        chosen = Options(size_mb=size_mb, compensate=False)  # 5120 features take minutes to compensate
        found = apply(source, chosen, memo, tmp_path / f"{size_mb}.mlpackage", calibration)
        assert found["weight_bytes"]["after"] <= size_mb * 1e6
        assert found["measured"]["held_out"]["argmax"] is None
        lost.append(found["measured"]["held_out"]["divergence"])
    assert 2 > lost[0] > lost[1] > 0
    chosen = Options(size_mb=1.05, compensate=False, distill=10)
    found = apply(source, chosen, memo, tmp_path / "distilled.mlpackage", calibration)
    before, after = (found[key]["calibration"]["divergence"] for key in ("measured_before", "measured"))
    assert after < before
