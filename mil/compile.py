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
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mil import coremldata
from mil.emit import emit
from mil.errors import MilError, UnknownFormError
from mil.flexible import flexible_shapes, shape_ranges
from mil.grammar import BUILD_INFO, FLEXIBLE_SHAPES, dialect_of
from mil.lfs import refuse_pointer
from mil.literals import format_string
from mil.metadata import metadata_json, unproven_names
from mil.package import MODEL_PATH, Package, file_digest, link_or_copy, model_file, read_package
from mil.parse import parse_value
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import blobs

COMPONENT_KEY, COMPILER_KEY, OWN_KEY = "coremlc-component-MIL", "coremlc-version", "quern-mil-compiler"
COMPILER_KEYS = (COMPONENT_KEY, COMPILER_KEY, OWN_KEY)
OWN_VERSION = "1"
OWN_STAMP: Mapping[str, str] = {OWN_KEY: OWN_VERSION}
_OWN_FOLDER = re.compile(r"analytics|modelNames|model[0-9]+")


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


def compile_package(path: Path | str, folder: Path | str, stamp: Mapping[str, str] = OWN_STAMP) -> Compiled:
    """Write `folder/NAME.mlmodelc` for the package NAME: whole, by one rename, or not at all.

    stamp   what `buildInfo` says of the compiler

    Weight files are linked or copied by the system, and never read here. Raises MilError for a bundle that exists
    already, and UnknownFormError for a model that is not an ML program or a pipeline of them, or has enumerated shapes.
    """
    path, folder = Path(path), Path(folder)
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
    return base64.b64encode(file_digest(model_file(path))).decode()


def weight_names(program: MIL_pb2.Program) -> list[str]:
    """Return the weight files that a program refers to (`@model_path/weights/weight.bin`), each once, sorted."""
    return sorted({value.blobFileValue.fileName for value in blobs(program)})


def refuse_unknown(spec: Model_pb2.Model) -> None:
    """Raise UnknownFormError for a model whose compiled form is not known, MilError for a pipeline that is none."""
    kind = spec.WhichOneof("Type")
    models = list(spec.pipeline.models) if kind == "pipeline" else [spec]
    others = sorted({str(model.WhichOneof("Type")) for model in models} - {"mlProgram"})
    if others:
        raise UnknownFormError(f"a model of type {others[0]}: only ML programs and pipelines of them can be compiled")
    if spec.isUpdatable:
        raise UnknownFormError("an updatable model: its compiled form is not known")
    if not models:
        raise MilError("a pipeline without models")
    if kind == "pipeline" and len(spec.pipeline.names) not in (0, len(models)):
        raise MilError(f"a pipeline of {len(models)} models with {len(spec.pipeline.names)} names")


def _fill(made: Path, package: Package, path: Path, stamp: Mapping[str, str]) -> None:
    spec = package.spec
    members = list(spec.pipeline.models) if spec.WhichOneof("Type") == "pipeline" else []
    if members:
        for position, member in enumerate(members):
            _fill_program(made / f"model{position}", member, package, stamp)
        analytics = coremldata.pipeline_analytics(len(members))
        names = list(spec.pipeline.names) or coremldata.default_names(len(members))
        _write(made / "modelNames" / "coremldata.bin", coremldata.pack_names(names))
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
        source, inside = package.blob_path(name), name.removeprefix(f"{MODEL_PATH}/")
        folder, _, file = inside.partition("/")
        if not file or _OWN_FOLDER.fullmatch(folder):  # writing such a file of ours would write into the package's
            raise MilError(
                f"weight file {name!r}: a bundle has files of its own there; expected {MODEL_PATH}/weights/…"
            )
        refuse_pointer(source)
        link_or_copy(source, made / inside)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _stamped(program: MIL_pb2.Program, stamp: Mapping[str, str]) -> MIL_pb2.Value:
    """Return the program's own build information with the stamp in place of any other compiler's, keys sorted."""
    own = {key: text for key, text in build_info(program).items() if key not in COMPILER_KEYS}
    held = own | dict(stamp)
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
