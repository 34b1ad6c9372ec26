"""Compiles a model package into a `.mlmodelc` bundle, as Apple's coremlcompiler does. The format: docs/mlmodelc.md.

    NAME.mlmodelc/
        model.mil                  the program as text
        weights/…                  the weight files that it refers to, hard-linked where the file system can
        coremldata.bin             the model's description
        metadata.json              what the compiler tells people and tools
        analytics/coremldata.bin   among others, which package this was compiled from

A pipeline has `model0/`, `model1/` … with the first three each, and `modelNames/coremldata.bin`.
"""

import base64
import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mil import coremldata
from mil.emit import emit
from mil.errors import MilError
from mil.flexible import flexible_shapes, shape_ranges
from mil.grammar import BUILD_INFO, FLEXIBLE_SHAPES, dialect_of
from mil.literals import format_string
from mil.metadata import metadata_json, unproven_names
from mil.package import MODEL_PATH, Package, link_or_copy, model_file, read_package
from mil.parse import parse_value
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import blobs

COMPONENT_KEY, COMPILER_KEY, OWN_KEY = "coremlc-component-MIL", "coremlc-version", "quern-mil-compiler"
OWN_VERSION = "1"
OWN_STAMP: Mapping[str, str] = {OWN_KEY: OWN_VERSION}


@dataclass(frozen=True)
class Compiled:
    """A bundle that was written, and sentences about what in it is not known to be as Apple's compiler writes it."""

    path: Path
    notes: list[str]


def apple_stamp(text: str) -> dict[str, str]:
    """Return the stamp of Apple's compiler for `MIL,COREMLC`, such as `3500.14.1,3500.32.1`."""
    component, comma, compiler = text.partition(",")
    if not (component and comma and compiler):
        raise MilError(f"stamp {text!r}: expected two versions, such as 3500.14.1,3500.32.1")
    return {COMPONENT_KEY: component, COMPILER_KEY: compiler}


def compile_package(path: Path, folder: Path, stamp: Mapping[str, str] = OWN_STAMP) -> Compiled:
    """Write `folder/NAME.mlmodelc` for the package NAME: whole, by one rename, or not at all.

    stamp   what `buildInfo` says of the compiler

    Weight files are linked or copied by the system, and never read here. Raises MilError for a bundle that exists
    already and for a model that is not an ML program or a pipeline of them, or that has enumerated shapes.
    """
    package = read_package(path)
    refuse_unknown(package.spec)
    destination = folder / f"{path.stem}.mlmodelc"
    if destination.exists():
        raise MilError(f"{destination}: exists already; remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=folder) as temporary:
        made = Path(temporary) / destination.name
        _fill(made, package, path, stamp)
        made.rename(destination)
    return Compiled(destination, [_note(operation, name.text) for operation, name in unproven_names(package.spec)])


def model_text(spec: Model_pb2.Model, stamp: Mapping[str, str]) -> str:
    """Return the content of `model.mil` for an ML program."""
    program = MIL_pb2.Program()
    program.CopyFrom(spec.mlProgram)
    program.attributes[BUILD_INFO].CopyFrom(_stamped(program, stamp))
    for name, function in program.functions.items():
        ranges = shape_ranges(function, described(spec.description, name).input)
        if ranges:
            function.attributes[FLEXIBLE_SHAPES].CopyFrom(flexible_shapes(ranges))
    return emit(program, dialect_of(spec.specificationVersion))


def described(
    description: Model_pb2.ModelDescription, function: str
) -> Model_pb2.ModelDescription | Model_pb2.FunctionDescription:
    """Return what describes a function: its own description, or the model's where functions have none."""
    return next((one for one in description.functions if one.name == function), description)


def model_hash(path: Path) -> str:
    """Return what `analytics/coremldata.bin` says of a package: base64 of the SHA-256 of its protobuf file."""
    with model_file(path).open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()


def weight_names(program: MIL_pb2.Program) -> list[str]:
    """Return the weight files that a program refers to (`@model_path/weights/weight.bin`), each once, sorted."""
    return sorted({value.blobFileValue.fileName for value in blobs(program)})


def refuse_unknown(spec: Model_pb2.Model) -> None:
    """Raise MilError for a model whose compiled form is not known."""
    kind = spec.WhichOneof("Type")
    models = list(spec.pipeline.models) if kind == "pipeline" else [spec]
    others = sorted({str(model.WhichOneof("Type")) for model in models} - {"mlProgram"})
    if others:
        raise MilError(f"a model of type {others[0]}: only ML programs and pipelines of them can be compiled")
    if spec.isUpdatable:
        raise MilError("an updatable model: its compiled form is not known")
    if not models:
        raise MilError("a pipeline without models")


def _fill(made: Path, package: Package, path: Path, stamp: Mapping[str, str]) -> None:
    spec = package.spec
    members = list(spec.pipeline.models) if spec.WhichOneof("Type") == "pipeline" else []
    if members:
        for position, member in enumerate(members):
            _fill_program(made / f"model{position}", member, package, stamp)
        analytics = coremldata.pipeline_analytics(len(members))
        _write(made / "modelNames" / "coremldata.bin", coremldata.pack_names(model_names(spec.pipeline)))
        _write(made / "coremldata.bin", coremldata.pack(coremldata.compiled(spec)))
    else:
        _fill_program(made, spec, package, stamp)
        analytics = coremldata.program_analytics(model_hash(path))
    _write(made / "analytics" / "coremldata.bin", coremldata.pack_analytics(analytics))
    _write(made / "metadata.json", metadata_json(spec, path.stem).encode())


def _fill_program(made: Path, spec: Model_pb2.Model, package: Package, stamp: Mapping[str, str]) -> None:
    _write(made / "model.mil", model_text(spec, stamp).encode())
    _write(made / "coremldata.bin", coremldata.pack(coremldata.compiled(spec)))
    for name in weight_names(spec.mlProgram):
        source = package.blob_path(name)
        link_or_copy(source, made / name.removeprefix(f"{MODEL_PATH}/"))


def model_names(pipeline: Model_pb2.Pipeline) -> list[str]:
    """Return the names of a pipeline's models; those it does not name are called model0, model1 …"""
    given = list(pipeline.names)
    return [given[i] if i < len(given) else f"model{i}" for i in range(len(pipeline.models))]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _stamped(program: MIL_pb2.Program, stamp: Mapping[str, str]) -> MIL_pb2.Value:
    """Return the program's own build information with the stamp, keys sorted."""
    held = build_info(program) | dict(stamp)
    pairs = ", ".join(f"{{{format_string(key)}, {format_string(held[key])}}}" for key in sorted(held))
    return parse_value(f"dict<tensor<string, []>, tensor<string, []>>({{{pairs}}})")


def build_info(program: MIL_pb2.Program) -> dict[str, str]:
    """Return the program's `buildInfo`; raises MilError where it is not strings by strings."""
    if BUILD_INFO not in program.attributes:
        return {}
    pairs = program.attributes[BUILD_INFO].immediateValue.dictionary.values
    texts = [[one.immediateValue.tensor.strings.values for one in (pair.key, pair.value)] for pair in pairs]
    if any(len(key) != 1 or len(value) != 1 for key, value in texts):
        raise MilError("buildInfo: expected strings by strings")
    return {key[0]: value[0] for key, value in texts}


def _note(operation: str, name: str) -> str:
    return f"op `{operation}`: counted as {name}, a name that is not proved; see mil/operation_revisions.toml"
