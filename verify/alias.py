"""No tensor may be both an input and an output of a function.

Apple's BNNS crashes at load on a program whose output is its input ("has tensor X as both an input and output ... add
an explicit identity op"); FluidAudio#265 and #726 are that crash, twice. Nothing but looking at every function of
every model in the package, and again in what was compiled from it, keeps it away.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.types import Measurement, Subject

MEASURES = {"package": "findings", "bundle": "findings"}
NEEDS = ("package", "bundle")


def measure(subject: Subject) -> list[Measurement]:
    """Return how many ways the package and the bundle break the rule; the detail says where."""
    return [_measure("package", subject.package), _measure("bundle", subject.bundle)]


def findings(model: Any, where: str = "") -> Iterator[str]:
    """Yield each breach of the rule in a Core ML model, a sentence each.

    model   Model_pb2.Model; every model of a pipeline and every function is looked at

    An output must be produced by an operation of the function; no operation may produce a value under the name of an
    input; the names in the description must be the function's.
    """
    for index, stage in enumerate(model.pipeline.models):
        yield from findings(stage, f"{where}model{index}.")
    for name, function in model.mlProgram.functions.items():
        inputs = {value.name for value in function.inputs}
        block = function.block_specializations[function.opset]
        produced = {output.name for operation in block.operations for output in operation.outputs}
        outputs = list(block.outputs)
        yield from (f"{where}{name}: `{n}` is both an input and an output" for n in outputs if n in inputs)
        yield from (f"{where}{name}: no operation makes output `{n}`" for n in outputs if n not in produced | inputs)
        yield from (f"{where}{name}: `{n}` is an input and the result of an operation" for n in inputs & produced)
        yield from (f"{where}{name}: output `{n}` is returned twice" for n in set(outputs) if outputs.count(n) > 1)
        yield from _description(model, name, inputs, set(outputs), f"{where}{name}")


def _description(model: Any, name: str, inputs: set[str], outputs: set[str], where: str) -> Iterator[str]:
    described = next((f for f in model.description.functions if f.name == name), model.description)
    states = {feature.name for feature in getattr(described, "state", ())}
    for what, told, real in (
        ("inputs", {feature.name for feature in described.input}, inputs - states),
        ("outputs", {feature.name for feature in described.output}, outputs),
    ):
        if told != real:
            yield f"{where}: the description names {what} {sorted(told)}, the function has {sorted(real)}"


def _measure(name: str, path: Path | None) -> Measurement:
    if path is None or path.suffix not in (".mlpackage", ".mlmodelc"):
        return Measurement(name, None, "findings", "not a Core ML program")
    from mil.bundle import read_bundle
    from mil.package import read_package

    read = read_package if path.suffix == ".mlpackage" else read_bundle
    found = list(findings(read(path).spec))
    return Measurement(name, float(len(found)), "findings", "; ".join(found), {"findings": found})
