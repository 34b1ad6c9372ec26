"""Does the artifact load on every compute unit of this machine, and where would its operations run?

Only macOS can say. ALL falls back silently when the Neural Engine refuses a program, so each compute unit is asked
for on its own, and the plan is read operation by operation. `preferred` is the plan's intention, not a measurement.
"""

import platform
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.types import Measurement, Range, Subject, Tensor

MEASURES = {"loads": "compute units", "neural_engine": "share of operations", "milliseconds": "ms"}
NEEDS = ("bundle",)
CALLS = 20
COMPUTE_UNITS = ("CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE", "ALL")


def measure(subject: Subject) -> list[Measurement]:
    """Return what a Mac says of the bundle; without a value, with the reason, where there is none.

    loads           on how many of the four compute units it loads
    neural_engine   share of operations that are planned for the Neural Engine
    milliseconds    median time of a call on CPU and Neural Engine, after one to warm up; the detail has every unit
    """
    if subject.bundle is None or subject.bundle.suffix != ".mlmodelc":
        return [Measurement(name, None, unit, "not a Core ML program") for name, unit in MEASURES.items()]
    if platform.system() != "Darwin":
        return [Measurement(name, None, unit, "needs macOS") for name, unit in MEASURES.items()]
    return [_loads(subject.bundle), _plan(subject.bundle), _time(subject.bundle, subject.inputs)]


def _loads(bundle: Path) -> Measurement:
    import coremltools

    refusals: dict[str, str] = {}
    for unit in COMPUTE_UNITS:
        try:
            coremltools.models.CompiledMLModel(str(bundle), getattr(coremltools.ComputeUnit, unit))
        except (RuntimeError, ValueError) as error:
            refusals[unit] = str(error)
    note = "; ".join(f"{unit}: {reason}" for unit, reason in refusals.items())
    return Measurement("loads", len(COMPUTE_UNITS) - len(refusals), "compute units", note, {"refusals": refusals})


def _plan(bundle: Path) -> Measurement:
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(str(bundle), coremltools.ComputeUnit.CPU_AND_NE)
    devices: dict[str, str] = {}
    for name, function in plan.model_structure.program.functions.items():
        for index, operation in enumerate(function.block.operations):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:  # constants run nowhere
                devices[f"{name}[{index}] {operation.operator_name}"] = type(usage.preferred_compute_device).__name__
    return planned(devices)


def _time(bundle: Path, inputs: Sequence[Tensor]) -> Measurement:
    import coremltools

    zeros = {tensor.name: np.zeros([_least(size) for size in tensor.shape], tensor.dtype) for tensor in inputs}
    by_unit: dict[str, float] = {}
    for unit in COMPUTE_UNITS:
        try:
            model = coremltools.models.CompiledMLModel(str(bundle), getattr(coremltools.ComputeUnit, unit))
            model.predict(zeros)
        except (RuntimeError, ValueError):  # `loads` says why
            continue
        by_unit[unit] = statistics.median(_milliseconds(model, zeros) for _ in range(CALLS))
    note = ", ".join(f"{unit} {value:.2f}" for unit, value in by_unit.items()) or "it loads nowhere"
    return Measurement("milliseconds", by_unit.get("CPU_AND_NE"), "ms", note, {"by_unit": by_unit})


def _least(size: int | Range) -> int:
    return size.low if isinstance(size, Range) else size


def _milliseconds(model: Any, inputs: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    model.predict(inputs)
    return 1000 * (time.perf_counter() - started)


def planned(devices: dict[str, Any]) -> Measurement:
    """Return the share of operations whose preferred device is the Neural Engine; the detail names the others."""
    if not devices:
        return Measurement("neural_engine", None, "share of operations", "the plan names no operation")
    elsewhere = {operation: device for operation, device in devices.items() if "NeuralEngine" not in device}
    note = ", ".join(f"{count} on {device}" for device, count in Counter(devices.values()).most_common())
    share = 1 - len(elsewhere) / len(devices)
    return Measurement("neural_engine", share, "share of operations", note, {"elsewhere": elsewhere})
