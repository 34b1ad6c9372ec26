"""Small models, from the text of MIL or from a list of inputs and outputs; no converter is needed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mil.compile import compile_package
from mil.description import rebuilt_description
from mil.grammar import FLEXIBLE_SHAPES, OPSETS
from mil.package import Package, write_package
from mil.parse import parse
from mil.schema import Model_pb2

SPECIFICATION = {opset.text: opset.specification for opset in OPSETS}


def model(text: str, metadata: Mapping[str, str] | None = None) -> Any:
    """Return the model of a program's text: Model_pb2.Model, described as its function declares."""
    program, _ = parse(text)
    opsets = re.findall(r"func \w+<(\w+)>", text)
    spec = Model_pb2.Model(specificationVersion=max(SPECIFICATION[opset] for opset in opsets))
    spec.description.CopyFrom(rebuilt_description(program, {"userDefinedMetadata": dict(metadata or {})}))
    for function in program.functions.values():
        function.attributes.pop(FLEXIBLE_SHAPES, None)
    spec.mlProgram.CopyFrom(program)
    return spec


def program(body: str, inputs: str, outputs: str, opset: str = "ios17") -> str:
    """Return the text of a program of one function; `inputs` and `body` are MIL, `outputs` names."""
    return f"program(1.0)\n{{\n    func main<{opset}>({inputs}) {{\n{body}\n        }} -> ({outputs});\n}}"


def package(spec: Any) -> Package:
    """Return a model as if it had been read; weight files are not there."""
    return Package(spec, None)


Ports = Mapping[str, str]  # name → type: "fp32 1 1 160000"; "fp32 1..32 256" has a range


def interface(inputs: Ports, outputs: Ports, metadata: Mapping[str, str] | None = None) -> Any:
    """Return a model with these inputs and outputs, each of which one operation makes."""
    first = next(iter(inputs))
    body = "\n".join(
        f'{_type(kind)} {name} = relu(x = {first})[name = string("{name}")];' for name, kind in outputs.items()
    )
    parameters = ", ".join(f"{_type(kind)} {name}" for name, kind in inputs.items())
    spec = model(program(body, parameters, ", ".join(outputs)), metadata)
    for feature in spec.description.input:
        lengths = inputs[feature.name].split()[1:]
        if any(".." in length for length in lengths):
            array = feature.type.multiArrayType
            pairs = [(int(length.split("..")[0]), int(length.split("..")[-1])) for length in lengths]
            array.shape.extend(low for low, _ in pairs)
            for low, high in pairs:
                array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    return spec


def _type(kind: str) -> str:
    element, *lengths = kind.split()
    return f"tensor<{element}, [{', '.join('?' if '..' in length else length for length in lengths)}]>"


def written(spec: Any, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a model as NAME.mlpackage and compile it to NAME.mlmodelc; return both."""
    made = folder / f"{name}.mlpackage"
    write_package(spec, {}, made)
    return made, compile_package(made, folder).path
