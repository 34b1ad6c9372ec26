"""The `metadata.json` of a compiled bundle: what the compiler tells people and tools about a model."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mil.errors import MilError, UnknownFormError
from mil.feature_entries import entries
from mil.foundation import to_json
from mil.grammar import opset_of_proto
from mil.operation_revisions import OperationName, operation_name
from mil.precision import compute_titles, storage_titles, summary
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import block_of, operations

_OUTPUT_VERSION = "3.0"
# Per specification version, the first release of each system that runs it.
_SYSTEMS = ("iOS", "macOS", "tvOS", "macCatalyst", "visionOS", "watchOS")
_AVAILABILITY = {
    6: ("15.0", "12.0", "15.0", "15.0", "1.0", "8.0"),
    7: ("16.0", "13.0", "16.0", "16.0", "1.0", "9.0"),
    8: ("17.0", "14.0", "17.0", "17.0", "1.0", "10.0"),
    9: ("18.0", "15.0", "18.0", "18.0", "2.0", "11.0"),
    10: ("26.0", "26.0", "26.0", "26.0", "26.0", "26.0"),
}
# Keys are set in this order, which with the rules of foundation.py gives the order in every sample. Apple's own order
# of setting them is not known; many reproduce the samples.
_KEYS = (
    "method",
    "modelParameters",
    "generatedClassName",
    "stateSchema",
    "defaultFunctionName",
    "availability",
    "shortDescription",
    "mlProgramOperationTypeHistogram",
    "functions",
    "inputSchema",
    "author",
    "license",
    "specificationVersion",
    "isUpdatable",
    "modelType",
    "metadataOutputVersion",
    "version",
    "userDefinedMetadata",
    "outputSchema",
    "computePrecision",
    "storagePrecision",
)
_FUNCTION_KEYS = (
    "mlProgramOperationTypeHistogram",
    "outputSchema",
    "name",
    "storagePrecision",
    "inputSchema",
    "stateSchema",
    "computePrecision",
)


def metadata_json(spec: Model_pb2.Model, name: str) -> str:
    """Return the content of metadata.json for an ML program or a pipeline of them.

    name   of the package, without its ending; the class that Xcode generates is named after it

    Raises MilError for what metadata.json has no known form for.
    """
    described = _described(spec) | _summarised(spec) | {"generatedClassName": re.sub(r"\W", "_", name, flags=re.ASCII)}
    return to_json([{key: described[key] for key in _KEYS if key in described}])


def unproven_names(spec: Model_pb2.Model) -> list[tuple[str, OperationName]]:
    """Return the operations whose names in the histogram are not known from observation, with the names given."""
    used = sorted(set(_counted(_programs(spec))))
    named = [(operation, operation_name(operation, opset)) for operation, opset in used]
    return [(operation, name) for operation, name in named if name.mark not in ("seen", "read")]


def _described(spec: Model_pb2.Model) -> dict[str, Any]:
    """Return what metadata.json takes from the model's description."""
    about, main = spec.description.metadata, default_function(spec.description)
    texts = {
        "shortDescription": about.shortDescription,
        "version": about.versionString,
        "author": about.author,
        "license": about.license,
    }
    return {key: text for key, text in texts.items() if text} | {
        "metadataOutputVersion": _OUTPUT_VERSION,
        "specificationVersion": spec.specificationVersion,
        "availability": _availability(spec.specificationVersion),
        "method": "predict",
        "isUpdatable": "0",
        "modelParameters": [],
        "inputSchema": entries(main.input),
        "outputSchema": entries(main.output),
        "stateSchema": entries(main.state),
        "userDefinedMetadata": {key: about.userDefined[key] for key in sorted(about.userDefined)},
    }


def _summarised(spec: Model_pb2.Model) -> dict[str, Any]:
    """Return what metadata.json takes from the program, or from all the programs of a pipeline."""
    kind = "MLModelType_mlProgram"
    if spec.WhichOneof("Type") == "pipeline":
        structure = [{"name": kind}] * len(spec.pipeline.models)
        model_type: dict[str, Any] = {"name": "MLModelType_pipeline", "structure": structure}
        return {"modelType": model_type} | _counts(_programs(spec))
    if not spec.description.functions:
        return {"modelType": {"name": kind}} | _counts(_programs(spec))
    functions = spec.mlProgram.functions
    return {
        "modelType": {"name": kind},
        "defaultFunctionName": spec.description.defaultFunctionName,
        "functions": [_function_entry(one, functions) for one in spec.description.functions],
    } | _counts([_found(spec.description.defaultFunctionName, functions)])


def default_function(description: Model_pb2.ModelDescription) -> Any:
    """Return what describes the inputs and outputs: the description itself, or that of the default function.

    Raises MilError where the default function is not among those described.
    """
    if not description.functions:
        return description
    for one in description.functions:
        if one.name == description.defaultFunctionName:
            return one
    raise MilError(f"the description has no function {description.defaultFunctionName!r}, which is its default")


def _function_entry(described: Model_pb2.FunctionDescription, functions: Any) -> dict[str, Any]:
    entry = _counts([_found(described.name, functions)]) | {
        "name": described.name,
        "inputSchema": entries(described.input),
        "outputSchema": entries(described.output),
        "stateSchema": entries(described.state),
    }
    return {key: entry[key] for key in _FUNCTION_KEYS if key in entry}


def _found(name: str, functions: Any) -> MIL_pb2.Function:
    if name not in functions:
        raise MilError(f"the description names a function {name!r}, which the program does not have")
    return functions[name]


def _programs(spec: Model_pb2.Model) -> list[MIL_pb2.Function]:
    models = spec.pipeline.models if spec.WhichOneof("Type") == "pipeline" else [spec]
    return [model.mlProgram.functions[name] for model in models for name in sorted(model.mlProgram.functions)]


def _counted(functions: Iterable[MIL_pb2.Function]) -> list[tuple[str, str]]:
    """Return the types of the operations that a histogram counts, each with its operation set."""
    return [
        (operation.type, opset_of_proto(function.opset).text)
        for function in functions
        for operation in operations(block_of(function))
        if operation.type != "const"
    ]


def _counts(functions: list[MIL_pb2.Function]) -> dict[str, Any]:
    """Return histogram and precisions over some functions."""
    histogram = Counter(operation_name(operation, opset).text for operation, opset in _counted(functions))
    compute = {title for function in functions for title in compute_titles(function, block_of(function))}
    storage = {title for function in functions for title in storage_titles(block_of(function))}
    counts: dict[str, Any] = {"mlProgramOperationTypeHistogram": dict(histogram), "computePrecision": summary(compute)}
    return counts | ({"storagePrecision": summary(storage)} if storage else {})


def _availability(specification: int) -> dict[str, str]:
    if specification not in _AVAILABILITY:
        raise UnknownFormError(
            f"specification version {specification}: expected {min(_AVAILABILITY)} to {max(_AVAILABILITY)}"
        )
    return dict(zip(_SYSTEMS, _AVAILABILITY[specification], strict=True))
