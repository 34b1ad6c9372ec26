"""What a Mac computes is held against the interpreter, output by output."""

import platform
from pathlib import Path

import numpy as np
import pytest

from pipeline.types import Subject
from tests.verify.programs import interface, written
from verify.prediction import measure, worst
from verify.scoring.relative import relative

EXPECTED = {"speech": np.array([0.0, 3.0, 4.0], np.float32), "count": np.array([2], np.int32)}


def test_the_worst_output_on_the_worst_units_is_told() -> None:
    """Equal on the CPU, a tenth too large on the GPU: rms(0.4, 0.3, 0) over rms(4, 3, 0)."""
    found = worst(EXPECTED, {"cpuOnly": EXPECTED, "cpuAndGPU": EXPECTED | {"speech": EXPECTED["speech"] * 1.1}})
    assert found.value == pytest.approx(0.1, abs=1e-6)
    assert found.note == "worst: cpuAndGPU/speech"
    assert found.detail["by_output"]["cpuOnly/speech"] == 0


def test_no_number_is_worse_than_any() -> None:
    """NaN is neither small nor skipped."""
    found = worst(EXPECTED, {"all": EXPECTED | {"speech": np.full(3, np.nan, np.float32)}})
    assert found.note == "worst: all/speech"
    assert found.value is not None
    assert np.isnan(found.value)


def test_a_model_that_loads_nowhere_has_no_difference() -> None:
    """Which is not the same as none."""
    assert (worst(EXPECTED, {}).value, worst(EXPECTED, {}).note) == (None, "it loads nowhere")


def test_a_share_of_nothing_is_infinite() -> None:
    """Where zeros are expected, anything else is infinitely far."""
    assert relative(np.zeros(2), np.array([0, 1e-9])) == np.inf
    assert relative(np.zeros(2), np.zeros(2)) == 0


@pytest.mark.skipif(platform.system() == "Darwin", reason="this machine can run it")
def test_without_a_mac_it_is_not_run(tmp_path: Path) -> None:
    """No value and the reason."""
    _, bundle = written(interface({"x": "fp32 1 4"}, {"y": "fp32 1 4"}), tmp_path, "model")
    [found] = measure(Subject((), (), None, bundle))
    assert (found.value, found.note) == (None, "needs macOS")
