"""`info PACKAGE`: functions, interface, operations, weights, layers, cost."""

import argparse
import dataclasses
from typing import Any

from mil.info import FunctionInfo, describe
from mil.interface import Feature
from mil.program import load
from mil.text import bytes_text, count_text, json_text, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="a .mlpackage, .mlmodelc or .mlmodel")
    parser.add_argument("--layers", type=int, default=10, help="how many of the largest layers to show (10)")
    parser.add_argument(
        "--measure", action="store_true", help="run it once at its default shapes, for sizes known only at run time"
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(arguments: argparse.Namespace) -> int:
    program = load(arguments.package)
    functions = describe(program, arguments.measure)
    version = program.spec.specificationVersion
    if arguments.json:
        found = {"specification_version": version, "functions": [_as_json(function) for function in functions]}
        print(json_text(found, indent=2))
        return 0
    print(f"{arguments.package}: specification version {version}")
    for function in functions:
        print("\n" + _as_text(function, arguments.layers))
    return 0


def _as_json(function: FunctionInfo) -> dict[str, Any]:
    found = dataclasses.asdict(function)
    for key in ("inputs", "states"):
        found[key] = [_feature(feature) for feature in getattr(function, key)]
    found["outputs"] = [{"name": name, "type": kind} for name, kind in function.outputs]
    return found | {"stored_bytes": function.stored_bytes, "decoded_bytes": function.decoded_bytes}


def _feature(feature: Feature) -> dict[str, Any]:
    kind = feature.type
    return {
        "name": feature.name,
        "type": kind.element.name,
        "shape": kind.shape,
        "default_shape": feature.default,
        "size_ranges": feature.ranges,
        "shapes": feature.choices,
        "optional_value": feature.fill,
        "image": feature.image,
    }


def _as_text(function: FunctionInfo, most: int) -> str:
    parts = [f"function {function.name} ({function.opset}) of {function.stage}"]
    parts += [f"  input   {feature}" for feature in function.inputs]
    parts += [f"  state   {feature}" for feature in function.states]
    parts += [f"  output  {name}: {kind}" for name, kind in function.outputs]
    operations = ", ".join(f"{name} {count}" for name, count in function.operations.items())
    parts.append(f"  {sum(function.operations.values())} operations: {operations}")
    unknown = f", and {function.unknown_macs} operations of unknown size" if function.unknown_macs else ""
    parts.append(f"  {count_text(function.macs)} multiply-accumulates{unknown}")
    unsized = f", without {function.unknown_values} of unknown size" if function.unknown_values else ""
    peak = bytes_text(function.peak_live_bytes)
    parts.append(f"  {peak} of activations live at once, at {function.peak_layer}{unsized}")
    stored, decoded = bytes_text(function.stored_bytes), bytes_text(function.decoded_bytes)
    parts.append(f"  {stored} of weights, {decoded} decoded")
    rows = [
        (form, str(weights.count), bytes_text(weights.stored_bytes), bytes_text(weights.decoded_bytes))
        for form, weights in function.weights.items()
    ]
    parts += ["", table(("weights", "count", "stored", "decoded"), rows)]
    largest = sorted(function.layers, key=lambda layer: (layer.stored_bytes, layer.macs or 0), reverse=True)[:most]
    layers = [
        (
            layer.name,
            layer.operation,
            bytes_text(layer.stored_bytes),
            "?" if layer.macs is None else count_text(layer.macs),
        )
        for layer in largest
    ]
    return "\n".join([*parts, "", table(("largest layers", "operation", "stored", "macs"), layers)])
