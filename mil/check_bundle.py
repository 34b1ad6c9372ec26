"""Checks a compiled bundle against itself, and against the package that it is said to come from."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil import coremldata
from mil.bundle import Bundle, open_bundle, read_data, read_file, read_text
from mil.compile import COMPILER_KEYS, build_info, described, model_hash, model_text
from mil.description import read_metadata
from mil.emit import emit
from mil.errors import MilError, UnknownFormError
from mil.lfs import is_pointer
from mil.metadata import metadata_json, unproven_names
from mil.package import MODEL_PATH, Package, read_package, same_content
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import blobs, block_of
from mil.values import tensor_type

PASS, FAIL, NOT_RUN = "pass", "fail", "not run"

_FILES = {"model.mil", "coremldata.bin", "metadata.json", "analytics/coremldata.bin"}
_PIPELINE_FILES = {"coremldata.bin", "metadata.json", "analytics/coremldata.bin", "modelNames/coremldata.bin"}
_MOST_NAMED = 3


@dataclass(frozen=True)
class Check:
    """One check: what it is called, `pass`, `fail` or `not run`, and a sentence on what was found."""

    name: str
    outcome: str
    note: str


class NotRunError(Exception):
    """A check that cannot be made here; its text says why."""


def check_bundle(path: Path | str, package_path: Path | str | None = None) -> list[Check]:
    """Return the checks of a bundle; those against the package have not run where no package is given.

    Raises MilError only where `path` is no folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise MilError(f"{path}: expected a folder with a compiled model")
    try:
        bundle = open_bundle(path)
    except MilError as error:
        return [_check("files", lambda: _files(path, [])), Check("readable", FAIL, str(error))]
    members = bundle.members or [bundle]
    checks = [_check("files", lambda: _files(path, members)), Check("readable", PASS, "; ".join(bundle.notes))]
    for member in members:
        label = f"{member.path.name}: " if bundle.members else ""
        checks += [_check(f"{label}{name}", run) for name, run in _own_checks(member)]
    checks.append(_check("metadata", lambda: _metadata(bundle)))
    return checks + _package_checks(bundle, None if package_path is None else Path(package_path))


def _check(name: str, run: Callable[[], str]) -> Check:
    try:
        return Check(name, PASS, run())
    except (NotRunError, UnknownFormError) as reason:
        return Check(name, NOT_RUN, str(reason))
    except MilError as error:
        return Check(name, FAIL, str(error))


def _own_checks(bundle: Bundle) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "text", lambda: _text(bundle.path)
    yield "weights", lambda: _weights(bundle)
    yield "description", lambda: _description(bundle)


def _files(path: Path, members: list[Bundle]) -> str:
    """Every file is one that a bundle has, none is a Git LFS pointer, and none is missing."""
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    pointers = sorted(name for name in found if (path / name).is_file() and is_pointer(path / name))
    if pointers:
        raise MilError(f"Git LFS pointers in place of files: {_named(pointers)}; fetch them with `git lfs pull`")
    if not members:
        raise NotRunError("which files belong here is not known before the bundle can be read")
    expected = _expected(path, members)
    stray, missing = sorted(found - expected), sorted(expected - found)
    if stray:
        raise MilError(f"files that no bundle has: {_named(stray)}")
    if missing:
        raise MilError(f"missing: {_named(missing)}")
    return f"{len(found)} files"


def _expected(path: Path, members: list[Bundle]) -> set[str]:
    expected = set(_FILES if members[0].path == path else _PIPELINE_FILES)
    for member in members:
        folder = member.path.relative_to(path)
        names = [value.blobFileValue.fileName for value in blobs(member.spec.mlProgram)]
        inside = ["model.mil", "coremldata.bin", *(name.removeprefix(f"{MODEL_PATH}/") for name in names)]
        expected |= {(folder / name).as_posix() for name in inside}
    return expected


def _text(path: Path) -> str:
    """What is read from `model.mil` prints as `model.mil`."""
    program, dialect = read_text(path)
    _same_text(emit(program, dialect), read_file(path / "model.mil").decode(), "printed again")
    return f"dialect {dialect.version}"


def _same_text(expected: str, found: str, origin: str) -> None:
    if expected == found:
        return
    ours, theirs = expected.split("\n"), found.split("\n")
    lines = zip(ours, theirs, strict=False)
    line = next((i for i, (one, other) in enumerate(lines) if one != other), min(len(ours), len(theirs)))
    raise MilError(f"model.mil differs from the program {origin}, first in line {line + 1}")


def _weights(bundle: Bundle) -> str:
    """Every reference to a weight file names an entry of its type and size that lies whole in the file."""
    package, count = Package(bundle.spec, bundle.path), 0
    for value in blobs(bundle.spec.mlProgram):
        name, offset = value.blobFileValue.fileName, value.blobFileValue.offset
        entry, declared = package.blob(name).entry(offset), tensor_type(value.type)
        if declared is None or entry.element_type is not declared.element or entry.count != declared.count:
            raise MilError(
                f"{name}, offset {offset}: expected {declared}, "
                f"found {entry.count} elements of {entry.element_type.name}"
            )
        count += 1
    return f"{count} references"


def _description(bundle: Bundle) -> str:
    """The description names the function's inputs, states and outputs, and their shapes agree."""
    if read_data(bundle.path) is None:
        raise NotRunError("no coremldata.bin")
    functions = bundle.spec.mlProgram.functions
    for name in sorted(functions):
        _same_interface(functions[name], described(bundle.spec.description, name), name)
    return f"{len(functions)} function{'s' if len(functions) > 1 else ''}"


def _same_interface(function: MIL_pb2.Function, description: Any, name: str) -> None:
    taken = {one.name: one.type for one in function.inputs}
    features = [*description.input, *description.state]
    _same_names(f"inputs of {name}", taken, [feature.name for feature in features])
    _same_names(f"outputs of {name}", block_of(function).outputs, [feature.name for feature in description.output])
    for feature in features:
        _same_shape(feature, taken[feature.name])


def _same_names(what: str, program: Any, description: list[str]) -> None:
    if sorted(program) != sorted(description):
        raise MilError(f"{what}: the program has {sorted(program)}, the description {sorted(description)}")


def _same_shape(feature: Model_pb2.FeatureDescription, declared: MIL_pb2.ValueType) -> None:
    kind, held = feature.type.WhichOneof("Type"), tensor_type(declared)
    if held is None or kind not in ("multiArrayType", "stateType"):
        return
    array = feature.type.stateType.arrayType if kind == "stateType" else feature.type.multiArrayType
    shape = tuple(array.shape)
    if not held.admits(shape) and not (held.shape == () and shape == (1,)):
        raise MilError(f"{feature.name!r}: the program declares {held}, the description the shape {list(shape)}")


def _metadata(bundle: Bundle) -> str:
    """metadata.json says of the model what follows from it."""
    file = bundle.path / "metadata.json"
    if not file.exists():
        raise NotRunError("no metadata.json")
    found, expected = read_metadata(read_file(file)), json.loads(metadata_json(bundle.spec, ""))[0]
    if read_data(bundle.path) is None:
        raise NotRunError("no coremldata.bin to compare it with")
    left_out = {"generatedClassName"}  # it follows from a name that the bundle may have lost
    note, unproven = "", [operation for operation, _ in unproven_names(bundle.spec)]
    if unproven:
        left_out |= {"mlProgramOperationTypeHistogram", "functions"}
        note = f"but for the histogram: the names of {_named(unproven)} are not proved"
    keys = sorted((found.keys() | expected.keys()) - left_out)
    different = [key for key in keys if found.get(key) != expected.get(key)]
    if different:
        raise MilError(f"metadata.json differs from the model in {_named(different)}")
    return note


def _package_checks(bundle: Bundle, path: Path | None) -> list[Check]:
    names = ("package hash", "package text", "package weights", "package description")
    if path is None:
        return [Check(name, NOT_RUN, "no package given") for name in names]
    try:
        package, hashed = read_package(path), model_hash(path)
    except MilError as error:
        return [Check("package", FAIL, str(error))]
    runs = (
        lambda: _hash(bundle, hashed),
        lambda: _package_text(bundle, package),
        lambda: _package_weights(bundle, package),
        lambda: _package_description(bundle, package),
    )
    return [_check(name, run) for name, run in zip(names, runs, strict=True)]


def _hash(bundle: Bundle, hashed: str) -> str:
    """The bundle was compiled from this very package."""
    file = bundle.path / "analytics" / "coremldata.bin"
    if not file.exists():
        raise NotRunError("no analytics/coremldata.bin")
    found = coremldata.unpack_analytics(read_file(file)).get("SpecificationDetails", {}).get("modelHash")
    if found is None:
        raise NotRunError("the bundle holds no hash")
    if found != hashed:
        raise MilError(f"compiled from another package: its model.mlmodel has the hash {found}, this one {hashed}")
    return found


def _pairs(bundle: Bundle, package: Package) -> list[tuple[Bundle, Model_pb2.Model]]:
    """Return each ML program of a bundle with the model of the package that it should be; raises MilError."""
    kinds = package.spec.WhichOneof("Type"), bundle.spec.WhichOneof("Type")
    if kinds[0] != kinds[1]:
        raise MilError(f"the package holds a model of type {kinds[0]}, the bundle one of type {kinds[1]}")
    if not bundle.members:
        return [(bundle, package.spec)]
    models = list(package.spec.pipeline.models)
    if len(models) != len(bundle.members):
        raise MilError(f"the package's pipeline has {len(models)} models, the bundle's {len(bundle.members)}")
    return list(zip(bundle.members, models, strict=True))


def _package_text(bundle: Bundle, package: Package) -> str:
    """model.mil is what the package compiles to, with the stamp that it has."""
    for member, spec in _pairs(bundle, package):
        held = build_info(read_text(member.path)[0])
        stamp = {key: held[key] for key in COMPILER_KEYS if key in held}
        _same_text(model_text(spec, stamp), read_file(member.path / "model.mil").decode(), "of the package")
    return ""


def _package_weights(bundle: Bundle, package: Package) -> str:
    """Every weight file is that of the package."""
    count = 0
    for member, spec in _pairs(bundle, package):
        ours = Package(spec, member.path)
        for name in sorted({value.blobFileValue.fileName for value in blobs(spec.mlProgram)}):
            one, other = ours.blob_path(name), package.blob_path(name)
            if not same_content(one, other):
                raise MilError(f"{one} is not {other}")
            count += 1
    return f"{count} file{'' if count == 1 else 's'}"


def _package_description(bundle: Bundle, package: Package) -> str:
    """coremldata.bin is what the package compiles to, up to the order of protobuf map entries."""
    pairs = [*_pairs(bundle, package), (bundle, package.spec)]
    for member, spec in pairs:
        found = read_data(member.path)
        if found is None:
            raise NotRunError("no coremldata.bin")
        if found != coremldata.compiled(spec):
            raise MilError(f"{member.path / 'coremldata.bin'}: not the description of the package")
    return ""


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
