"""diarize.py takes an artifact of any format, and hears the same as with the Core ML one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline import plugins
from pipeline.code import ROOT
from tests.fixtures import FIXTURES, needs_fixtures

pytestmark = [needs_fixtures, pytest.mark.slow]

MATRIX = """
checkpoints:
  segmentation-3.0: {{network: segmentation, licence: MIT}}
variants:
  segmentation:
    checkpoint: [segmentation-3.0]
    file: pyannote_segmentation
    format: {name}
    form: {{window_s: 2}}
    convert: {{precision: fp16}}
    checks: [size]
    axes: {{format: {{{name}: {{}}}}, precision: {{fp16: {{}}}}}}
    limits:
      size.package: {{most: 7, unit: MB, reason: what an app ships}}
"""
SECONDS = 10


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ten seconds in which two people speak."""
    samples, rate_hz = soundfile.read(FIXTURES / "audio" / "sample.wav", start=10 * 16000, frames=SECONDS * 16000)
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    soundfile.write(path, samples, rate_hz)
    return path


def run(script: str, *arguments: object) -> None:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def spoken(talk: Path, model: Path, rttm: Path) -> np.ndarray:
    """Return how many speak in each hundredth of a second."""
    run("diarize.py", talk, "--model", model, "--rttm", rttm)
    found = np.zeros(SECONDS * 100, int)
    for line in rttm.read_text().splitlines():
        start, duration = (float(word) for word in line.split()[3:5])
        found[round(100 * start) : round(100 * (start + duration))] += 1
    return found


@pytest.mark.parametrize("name", ["gguf", "mlx", "onnx"])
def test_an_artifact_of_any_format_says_who_spoke_when(built: Path, talk: Path, tmp_path: Path, name: str) -> None:
    """As many speak as with the Core ML artifact of the same network, but for 2 % of the time at most.

    The artifact may be named by its folder or by itself.
    """
    if missing := plugins.format_(name).missing():
        pytest.skip(f"{name} is not installed; {missing}")
    (tmp_path / "variants.yaml").write_text(MATRIX.format(name=name))
    out = tmp_path / "out"
    run("build_all_variants.py", "--matrix", tmp_path / "variants.yaml", "--weights-dir", FIXTURES, "--out", out)
    wanted = spoken(talk, built / "segmentation-3.0" / "fp16", tmp_path / "wanted.rttm")
    found = spoken(talk, out / "segmentation-3.0" / f"{name}-fp16", tmp_path / "found.rttm")
    [artifact] = (out / "segmentation-3.0" / f"{name}-fp16").glob(f"*{plugins.format_(name).SUFFIX}")
    np.testing.assert_array_equal(spoken(talk, artifact, tmp_path / "again.rttm"), found)
    assert 500 < np.count_nonzero(wanted) < 1000
    assert (found == wanted).mean() >= 0.98
