"""Where Core ML plans to run each operation of a program. A plan is an intention; nothing has run."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.types import Measurement

if TYPE_CHECKING:
    from coremltools.models.compute_plan import MLComputePlan, MLModelStructureProgramBlock


def plan_of(bundle: Path, units: str) -> "MLComputePlan":
    """Return Core ML's plan for a compiled model on compute units, as coremltools calls them; macOS only."""
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    return MLComputePlan.load_from_path(str(bundle), getattr(coremltools.ComputeUnit, units))


def devices(plan: "MLComputePlan") -> dict[str, str]:
    """Return the preferred device of every operation, by its place and type, with those of nested blocks.

    Operations that the plan says nothing of, as constants, run nowhere and are left out.
    """
    program = plan.model_structure.program
    functions = program.functions if program else {}
    return {
        place: device for name, function in functions.items() for place, device in _of_block(plan, function.block, name)
    }


def _of_block(plan: "MLComputePlan", block: "MLModelStructureProgramBlock", where: str) -> Iterator[tuple[str, str]]:
    for index, operation in enumerate(block.operations):
        place = f"{where}[{index}] {operation.operator_name}"
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if usage is not None:
            yield place, type(usage.preferred_compute_device).__name__
        for number, nested in enumerate(operation.blocks):
            yield from _of_block(plan, nested, f"{place}.{number}")


def planned(found: Mapping[str, str]) -> Measurement:
    """Return the share of operations whose preferred device is the Neural Engine; the detail names the others."""
    if not found:
        return Measurement("neural_engine", None, "share of operations", "the plan names no operation")
    elsewhere = {operation: device for operation, device in found.items() if "NeuralEngine" not in device}
    note = ", ".join(f"{count} on {device}" for device, count in Counter(found.values()).most_common())
    share = 1 - len(elsewhere) / len(found)
    return Measurement("neural_engine", share, "share of operations", note, {"elsewhere": elsewhere})
