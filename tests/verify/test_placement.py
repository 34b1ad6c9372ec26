import platform
from pathlib import Path

import pytest

from pipeline.types import Subject
from verify.placement import measure, planned


@pytest.mark.skipif(platform.system() == "Darwin", reason="this machine can run it")
def test_without_a_mac_it_is_not_run(tmp_path: Path) -> None:
    """No value and a reason: never a pass."""
    found = measure(Subject((), (), None, tmp_path / "model.mlmodelc"))
    assert [(m.value, m.note) for m in found] == [(None, "needs macOS")] * 3


def test_a_plan_is_read_operation_by_operation() -> None:
    """The share on the Neural Engine, and by name what would run elsewhere."""
    found = planned({
        "main[0] conv": "MLNeuralEngineComputeDevice",
        "main[1] relu": "MLNeuralEngineComputeDevice",
        "main[2] lstm": "MLCPUComputeDevice",
        "main[3] linear": "MLNeuralEngineComputeDevice",
    })  # fmt: skip
    assert found.value == 0.75
    assert found.detail["elsewhere"] == {"main[2] lstm": "MLCPUComputeDevice"}
    assert found.note == "3 on MLNeuralEngineComputeDevice, 1 on MLCPUComputeDevice"


def test_an_empty_plan_says_nothing() -> None:
    """A plan without operations is no evidence."""
    assert planned({}).value is None
