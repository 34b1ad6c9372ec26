"""What a Mac says of an artifact is read here from plans and times as a Mac gives them."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mil.compile import compile_package
from mil.merge import merge
from pipeline import plugins
from pipeline.types import Range, Subject, Tensor
from tests.verify.programs import interface, written
from verify.device.calls import inputs_of, loads
from verify.device.figures import audio_s, figures, texts_of
from verify.device.memory import grown_mb
from verify.device.plan import devices, planned
from verify.placement import MEASURES, measure

AUDIO = ({"audio": "fp32 1 1 1600"}, {"segments": "fp32 1 1 1600"})


@pytest.mark.skipif(platform.system() == "Darwin", reason="this machine can run it")
def test_without_a_mac_it_is_not_run(tmp_path: Path) -> None:
    """No value and a reason: never a pass."""
    found = measure(Subject((), (), None, tmp_path / "model.mlmodelc"))
    assert [(m.name, m.value, m.note) for m in found] == [(name, None, "needs macOS") for name in MEASURES]


@pytest.mark.skipif(platform.system() != "Darwin", reason="needs macOS")
def test_a_mac_measures_everything(tmp_path: Path) -> None:
    """On a Mac with a Neural Engine each has a value; on one without, each has that for a reason."""
    _, bundle = written(interface(*AUDIO, {"window_s": "0.1"}), tmp_path, "model")
    found = measure(
        Subject((Tensor("audio", ("batch", "channel", "sample"), (1, 1, 1600), "float32", ""),), (), None, bundle)
    )
    assert all(m.value is not None or m.note == "needs a Mac with a Neural Engine" for m in found)


def test_other_formats_have_no_such_figures(tmp_path: Path) -> None:
    """Nothing is asked of a Mac that it cannot load."""
    assert {m.note for m in measure(Subject((), (), tmp_path / "model.onnx"))} == {"not a Core ML program"}


class MLCPUComputeDevice:
    """What a plan names a device by: its class; coremltools' own can be made on a Mac only."""


class MLNeuralEngineComputeDevice:
    """As above."""


@dataclass
class RecordedPlan:
    """A plan as coremltools gives it, of which a Mac filled in the devices."""

    model_structure: Any
    usages: dict[str, Any]

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        return self.usages.get(operation.operator_name)


def recorded(*operations: Any, **found: type) -> RecordedPlan:
    """Return the plan of a program of one function, with the device of each type of operation."""
    from coremltools.models import compute_plan as ct

    block = ct.MLModelStructureProgramBlock([], list(operations), [])
    program = ct.MLModelStructureProgram({"main": ct.MLModelStructureProgramFunction([], block)})
    usages = {name: ct.MLComputePlanDeviceUsage(device(), []) for name, device in found.items()}
    return RecordedPlan(ct.MLModelStructure(None, program, None), usages)


def operation(name: str, *nested: Any) -> Any:
    from coremltools.models import compute_plan as ct

    blocks = [ct.MLModelStructureProgramBlock([], [each], []) for each in nested]
    return ct.MLModelStructureProgramOperation({}, name, [], blocks, None)


def test_a_plan_is_read_operation_by_operation() -> None:
    """Operations of nested blocks count, constants do not, and each is named by its place."""
    plan = recorded(
        operation("const"),
        operation("conv"),
        operation("cond", operation("conv"), operation("lstm")),
        conv=MLNeuralEngineComputeDevice,
        cond=MLCPUComputeDevice,
        lstm=MLCPUComputeDevice,
    )
    assert devices(plan) == {  # type: ignore[arg-type]  # it has what is asked of a plan
        "main[1] conv": "MLNeuralEngineComputeDevice",
        "main[2] cond": "MLCPUComputeDevice",
        "main[2] cond.0[0] conv": "MLNeuralEngineComputeDevice",
        "main[2] cond.1[0] lstm": "MLCPUComputeDevice",
    }


def test_the_share_on_the_neural_engine_names_what_is_elsewhere() -> None:
    """The share, how many run where, and by name what would run elsewhere."""
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


def test_a_model_that_one_unit_refuses_is_counted_and_told() -> None:
    """Three of four, and what Core ML said."""
    found = loads({"cpuOnly": [1.0], "cpuAndGPU": [1.0], "all": [1.0]}, {"cpuAndNeuralEngine": "ANECCompile failed"})
    assert (found.value, found.note) == (3, "cpuAndNeuralEngine: ANECCompile failed")


TIMES = {"cpuOnly": [20.0, 22.0, 24.0], "cpuAndNeuralEngine": [4.0, 5.0, 12.0]}


def test_times_become_figures_on_the_recommended_units() -> None:
    """The median of a call, that for ten seconds of audio, and the slowest call over the audio it moves on by."""
    found = {m.name: m for m in figures(TIMES, "cpuAndNeuralEngine", 0.5)}
    assert {name: m.value for name, m in found.items()} == {
        "milliseconds": 5.0,
        "milliseconds_per_10s": 100.0,
        "real_time_factor": pytest.approx(0.024),
    }
    assert found["milliseconds"].note == "on cpuAndNeuralEngine; medians: cpuOnly 22.00, cpuAndNeuralEngine 5.00"
    assert found["milliseconds"].unit == MEASURES["milliseconds"]


def test_a_refused_unit_has_no_figures() -> None:
    """Not those of another one."""
    found = figures(TIMES, "cpuAndGPU", 10)
    assert {(m.value, m.note) for m in found} == {(None, "does not run on cpuAndGPU")}


def test_what_hears_no_audio_has_no_pace() -> None:
    """A call of it takes a time all the same."""
    found = {m.name: m.value for m in figures(TIMES, "cpuOnly", None)}
    assert found == {"milliseconds": 22.0, "milliseconds_per_10s": None, "real_time_factor": None}


@pytest.mark.parametrize(
    ("network", "form", "seconds"),
    [
        ("segmentation", {}, 10),
        ("segmentation", {"batch": 4, "window_s": 5}, 20),
        ("segmentation", {"batch": (1, 32)}, 10),
        ("wespeaker", {"program": "waveforms"}, 10),
        ("sortformer", {"chunk": 6}, 0.48),
        ("sortformer", {"chunk": 340, "right": 40}, 27.2),
        ("sortformer", {"kind": "offline", "window_s": 30.72}, 30.72),
        ("plda", {}, None),
        ("cosine_distance", {"queries": 3, "bank": 64}, None),
    ],
)
def test_artifacts_say_how_much_audio_a_call_moves_on_by(network: str, form: dict, seconds: float | None) -> None:
    """By the strings that they carry for apps: windows, a batch of them, or chunks without their context."""
    module = plugins.network(network)
    chosen = module.Form(**form)
    assert audio_s(module.metadata(chosen), module.inputs(chosen)) == (seconds and pytest.approx(seconds))


def test_the_strings_are_those_of_the_bundle(tmp_path: Path) -> None:
    """Of several functions, those of the default one, which is what loads."""
    units = {"a": "cpuOnly", "b": "cpuAndGPU"}
    parts = {
        name: written(interface(*AUDIO, {"quern.compute_units": each, "window_s": "10"}), tmp_path, name)
        for name, each in units.items()
    }
    assert texts_of(parts["a"][1])["quern.compute_units"] == "cpuOnly"
    merge({name: package for name, (package, _) in parts.items()}, "b", tmp_path / "both.mlpackage")
    texts = texts_of(compile_package(tmp_path / "both.mlpackage", tmp_path).path)
    assert (texts["quern.compute_units"], texts["window_s"]) == ("cpuAndGPU", "10")


def test_inputs_for_timing_are_full_and_the_same_every_time() -> None:
    """Zero lengths would time an empty cache; a range is taken at its least."""
    chunk = Tensor("chunk", ("batch", "mel frame", "mel"), (1, 112, 128), "float32", "log power")
    rows = Tensor("audio", ("batch", "sample"), (Range(1, 32), 80), "float16", "sample")
    inputs = inputs_of((chunk, Tensor("chunk_lengths", ("count",), (1,), "int32", "mel frames"), rows))
    assert inputs["chunk_lengths"].tolist() == [112]
    assert (inputs["audio"].shape, inputs["audio"].dtype) == ((1, 80), np.float16)
    assert np.array_equal(inputs["chunk"], inputs_of((chunk,))["chunk"])


def allocate(megabytes: int) -> None:
    assert np.ones(megabytes * 125_000).sum() == megabytes * 125_000


def test_peak_memory_is_that_of_a_process_of_its_own() -> None:
    """What is allocated there is seen, however large this process has been before."""
    allocate(400)
    assert 190 < grown_mb("numpy", allocate, 200) < 260


def refuse() -> None:
    raise ValueError("unsupported")


def test_what_the_work_raises_is_raised() -> None:
    """So that a refusal to load becomes a reason, not a crash."""
    with pytest.raises(ValueError, match="unsupported"):
        grown_mb("numpy", refuse)
