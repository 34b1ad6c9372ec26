"""Running a processor in every way that it comes in: its definition, our torch module, and the converted program."""

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from converters.formats import coreml
from diarization.audio import read_recording
from mil.package import read_package
from pipeline.types import Arrays, Example, Recording, Runner
from tests.fixtures import FIXTURES


def recordings() -> list[Recording]:
    """Return the recordings of the fixtures; none where there are no fixtures, for every processor has edge cases."""
    return [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))[:2]]


def examples(plugin: ModuleType, form: Any) -> list[Example]:
    return list(plugin.examples(form, recordings()))


def ours(plugin: ModuleType, form: Any, state: Arrays) -> Runner:
    network = plugin.load(state, form)
    inputs, outputs = ([tensor.name for tensor in declared(form)] for declared in (plugin.inputs, plugin.outputs))

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            found = network(*(torch.from_numpy(arrays[name]) for name in inputs))
        found = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(outputs, found, strict=True)}

    return run


def converted(plugin: ModuleType, form: Any, state: Arrays, folder: Path, precision: str = "fp32") -> Runner:
    """Return the program that a processor is converted into, written into a folder as `model.mlpackage`."""
    path = folder / "model.mlpackage"
    network, inputs, outputs = plugin.load(state, form), plugin.inputs(form), plugin.outputs(form)
    coreml.convert(network, inputs, outputs, plugin.metadata(form), coreml.Options(precision=precision), path)
    return coreml.runner(path, "declared")


def operations(folder: Path) -> Counter[str]:
    """Return how often each operation occurs in the program that `converted` wrote, constants left out."""
    [function] = read_package(folder / "model.mlpackage").spec.mlProgram.functions.values()
    found = [operation.type for operation in function.block_specializations[function.opset].operations]
    return Counter(kind for kind in found if kind != "const")


def furthest(run: Runner, definition: Runner, cases: list[Example]) -> dict[str, float]:
    """Return the largest difference of each output from the definition over all cases, shapes held to be equal."""
    found: dict[str, float] = {}
    for case in cases:
        measured, wanted = run(case.inputs), definition(case.inputs)
        assert measured.keys() == wanted.keys()
        for name, array in wanted.items():
            assert measured[name].shape == array.shape, (case.name, name)
            difference = np.abs(measured[name].astype(np.float64) - array).max()
            assert np.isfinite(difference), (case.name, name)
            found[name] = max(found.get(name, 0.0), float(difference))
    return found
