"""A matrix of one small network, and the command line run on it as a user would."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.code import ROOT
from tests.fixtures import FIXTURES

UNITS = {"recommend": "cpuAndNeuralEngine", "source": "a paper"}
MATRIX = """
checkpoints:
  segmentation-3.0: {network: segmentation, licence: MIT}
variants:
  segmentation:
    checkpoint: [segmentation-3.0]
    file: pyannote_segmentation
    form: {window_s: 2}
    compute_units: {recommend: cpuAndNeuralEngine, source: a paper}
    checks: [alias, parity, size, placement]
    axes:
      precision:
        fp16: {}
        w6:
          optimize: [palettize: {nbits: 6}]
          limits: {parity.argmax: {least: 0.9}}
    limits:
      alias.package: {most: 0, unit: findings, reason: it crashes, required: build}
      alias.bundle: {most: 0, unit: findings, reason: it crashes, required: build}
      parity.argmax: {least: 0.99, unit: share of frames, reason: the same speakers, required: build}
      parity.argmax_worst_window: {least: 0.5, unit: share of frames, reason: no window is wrong}
      placement.loads: {least: 4, unit: compute units, reason: loads on a Mac, required: publish}
"""


@dataclass(frozen=True)
class Ran:
    """What became of one run of the command."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four seconds of real speech."""
    import soundfile

    folder = tmp_path_factory.mktemp("audio")
    if not FIXTURES.is_dir():
        pytest.skip(f"no fixtures at {FIXTURES}; set QUERN_FIXTURES")
    samples, rate = soundfile.read(FIXTURES / "audio" / "sample.wav", start=6 * 16000, frames=4 * 16000)
    soundfile.write(folder / "sample.wav", samples, rate)
    return folder


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "variants.yaml"
    path.write_text(MATRIX)
    return path


@pytest.fixture(scope="session")
def quern(matrix: Path, audio: Path) -> Callable[..., Ran]:
    """Return the command, to be called with arguments and, by name, environment variables."""

    def run(*arguments: object, **variables: str) -> Ran:
        command = [
            sys.executable,
            str(ROOT / "build_all_variants.py"),
            "--audio",
            audio,
            "--matrix",
            matrix,
            *arguments,
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("QUERN_", "OUT_DIR"))}
        environment |= {"HF_HUB_OFFLINE": "1", "QUERN_REFERENCES": str(matrix.parent / "references")} | variables
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def built(quern: Callable[..., Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the whole matrix, built once from trained weights."""
    out = tmp_path_factory.mktemp("built")
    ran = quern("--out", out, "--weights-dir", FIXTURES, "--jobs", 1)
    assert ran.status == 0, ran.out + ran.err
    return out


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """Return a copy of the built folder that a test may change."""
    shutil.copytree(built, tmp_path / "copied")
    return tmp_path / "copied"
