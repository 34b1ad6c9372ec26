"""A shipped bundle, repaired without its source: decompiled, folded, made exact, compiled."""

import numpy as np
import pytest

import mil
from mil.cli import main as mil_main
from mil.diff import Side, compare
from optimizations.__main__ import main
from optimizations.programs.rewriting import counted
from tests.fixtures import FIXTURES, needs_fixtures

pytest.importorskip("soundfile")
from benchmarks.filled_weights import filled
from benchmarks.repair import Row, inputs_of, repaired, text

PUBLISHED = FIXTURES / "published" / "wespeaker_v2.mlmodelc"
SPEECH = FIXTURES / "audio" / "sample.wav"

pytestmark = [needs_fixtures, pytest.mark.slow]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return the published bundle with weights of the right shapes; its fbank has palettes of 256 even steps."""
    return filled(PUBLISHED, tmp_path_factory.mktemp("published") / "wespeaker_v2.mlmodelc", "even")


def test_the_recipe_takes_1001_slices_to_3_and_to_none(tmp_path, bundle):
    """As docs/repair.md has it: the same embeddings, bit for bit, from a bundle that compiles again."""
    package, framed, sliceless = (tmp_path / f"{name}.mlpackage" for name in ("package", "framed", "wespeaker_v2"))
    assert mil_main(["decompile", str(bundle), "--out", str(package)]) == 0
    assert main(["fold_frame_slices", str(package), "--out", str(framed)]) == 0
    assert main(["replace_slices", str(framed), "--out", str(sliceless)]) == 0
    assert mil_main(["compile", str(sliceless), "--out", str(tmp_path / "compiled")]) == 0
    programs = [mil.load(path) for path in (bundle, framed, tmp_path / "compiled" / "wespeaker_v2.mlmodelc")]
    assert [counted(program.spec)["slices"] for program in programs] == [1001, 3, 0]
    inputs = inputs_of(SPEECH)
    before, *after = [program.run(inputs) for program in programs]
    assert np.isfinite(before["embedding"]).all()
    assert before["embedding"].std() > 0.1
    assert not np.allclose(before["embedding"][0], before["embedding"][1], atol=1e-3)
    for outputs in after:
        assert outputs.keys() == before.keys()
        for name, values in before.items():
            np.testing.assert_array_equal(outputs[name], values)


def test_exact_constants_give_the_exact_log_mel(tmp_path, bundle):
    """Even palettes cost more than 2 in the log-mel of speech; what is put back is kaldi's own fbank."""
    packages = repaired(bundle, tmp_path)
    before, after = (mil.load(packages[name]) for name in ("replace_slices", "restore_analytic_constants"))
    inputs = inputs_of(SPEECH)
    apart = {each.operation: each for each in compare(Side(before, inputs), Side(after, inputs)).differences}
    assert apart["log"].largest > 2
    reference = _log_mel_in_float64(inputs["waveform"][0])
    worst = [np.abs(_log_mel(program, inputs) - reference).max() for program in (before, after)]
    assert worst[0] > 2
    assert worst[1] < 2e-3


def _log_mel(program, inputs):
    from mil.trace import trace

    return next(array for each, array in trace(program, inputs, "declared", None) if each.operation == "log")


def _log_mel_in_float64(waveform) -> np.ndarray:
    """Return Kaldi's log-mel of 16-bit scaled samples, (frame, filter), from its definition."""
    from optimizations.analytic import spectral

    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64) * 32768, 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True)
    emphasized = frames - 0.97 * np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.abs(np.fft.rfft(emphasized * np.hamming(400), 512)) ** 2
    energies = spectrum @ spectral.kaldi_mel_filters(80, 257, 16000, 20, 8000).T
    return np.log(np.maximum(energies, np.finfo(np.float32).eps))


def test_the_table_has_a_row_for_each_program():
    """Differences stand where there is a program before."""
    rows = [
        Row("as published", 1001, 1148, 7_860_000, 0.2, 90.0, 1000.0, {}),
        Row("fold_frame_slices", 3, 152, 7_960_000, 0.1, 60.0, 970.0, {"log-mel": 0.0, "embedding": 1e-7}),
    ]
    assert text(rows).splitlines()[2:] == [
        "| as published | 1001 | 1148 | 7.86 | 0.20 | 90.0 | 1000 |  |  |",
        "| fold_frame_slices | 3 | 152 | 7.96 | 0.10 | 60.0 | 970 | 0 | 1e-07 |",
    ]
