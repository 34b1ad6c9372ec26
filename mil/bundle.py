"""Compiled bundles (`.mlmodelc`), read back into the model that they were compiled from.

The text becomes the program again, less what the compiler added: its own entries of `buildInfo` and the ranges of
input shapes, which the description holds. The description is that of `coremldata.bin`; a bundle without that file has
it rebuilt, see description.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mil import coremldata
from mil.compile import COMPILER_KEYS, described
from mil.description import Metadata, read_metadata, rebuilt_description, specification_of
from mil.errors import MilError
from mil.grammar import BUILD_INFO, FLEXIBLE_SHAPES, Dialect
from mil.lfs import refuse_pointer
from mil.package import MODEL_PATH, Package
from mil.parse import parse
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import blobs

Parsed = TypeVar("Parsed")

_LARGEST_FILE = 1 << 29
_REBUILT = "no coremldata.bin: the description is rebuilt from the function and metadata.json"
_BARE = "no coremldata.bin and no metadata.json: the description is rebuilt from the function alone"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    spec      the model, as a package would hold it
    members   the bundles of a pipeline's models, in order; none for an ML program
    notes     sentences about what the bundle did not say and had to be rebuilt
    """

    path: Path
    spec: Model_pb2.Model
    members: list["Bundle"]
    notes: list[str]


def read_bundle(path: Path) -> Package:
    """Return the model of a bundle and the folder of its weights; the model of a pipeline names them model0/weights/…

    Raises MilError for a bundle that cannot be read; weight files are looked for only when they are used.
    """
    bundle = open_bundle(path)
    for position, member in enumerate(bundle.spec.pipeline.models):
        for value in blobs(member.mlProgram):
            rest = value.blobFileValue.fileName.removeprefix(f"{MODEL_PATH}/")
            value.blobFileValue.fileName = f"{MODEL_PATH}/model{position}/{rest}"
    return Package(bundle.spec, path)


def open_bundle(path: Path) -> Bundle:
    """Return what a bundle holds; raises MilError where it is none, or damaged."""
    if not path.is_dir():
        raise MilError(f"{path}: expected a folder with a compiled model")
    if (path / "model0").is_dir() and not (path / "model.mil").exists():
        return _open_pipeline(path)
    return _open_program(path)


def _open_program(path: Path) -> Bundle:
    program, dialect = read_text(path)
    data = read_data(path)
    if data is None:
        spec, notes = _rebuilt(path, program, dialect)
    else:
        if data.kind != coremldata.ML_PROGRAM:
            raise MilError(f"{path}: coremldata.bin is that of another kind of model")
        spec, notes = Model_pb2.Model(specificationVersion=data.specification), []
        spec.description.CopyFrom(data.description)
        _drop_empty_metadata(spec.description)
    spec.mlProgram.CopyFrom(program)
    _strip(spec)
    return Bundle(path, spec, [], notes)


def read_text(path: Path) -> tuple[MIL_pb2.Program, Dialect]:
    """Return the program and dialect of a bundle's `model.mil`; raises MilError where it cannot be read."""
    file = path / "model.mil"
    return _parsed(file, lambda content: parse(_decoded(content)), read_file(file))


def read_data(path: Path) -> coremldata.CoreMLData | None:
    """Return what a bundle's `coremldata.bin` says, None where there is none; raises MilError where it is damaged."""
    file = path / "coremldata.bin"
    return _parsed(file, coremldata.unpack, read_file(file)) if file.exists() else None


def read_file(path: Path) -> bytes:
    """Return the content of one of the small files; raises MilError for one that is absent, large or a pointer."""
    try:
        refuse_pointer(path)
        if path.stat().st_size > _LARGEST_FILE:
            raise MilError(f"{path}: too large for such a file; it may be damaged")
        return path.read_bytes()
    except OSError as error:
        raise MilError(f"{path}: cannot read it: {error.strerror}") from None


def _parsed(path: Path, parser: Callable[[bytes], Parsed], content: bytes) -> Parsed:
    try:
        return parser(content)
    except MilError as error:
        raise MilError(f"{path}: {error}") from None


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MilError(f"not UTF-8 at byte {error.start}") from None


def _open_pipeline(path: Path) -> Bundle:
    data, names_file = read_data(path), path / "modelNames" / "coremldata.bin"
    if data is None or data.kind != coremldata.PIPELINE:
        raise MilError(f"{path}: a pipeline needs its coremldata.bin, of which the description cannot be rebuilt")
    names = _parsed(names_file, coremldata.unpack_names, read_file(names_file))
    members = [_open_program(path / f"model{position}") for position in range(len(names))]
    spec = Model_pb2.Model(specificationVersion=data.specification)
    spec.description.CopyFrom(data.description)
    _drop_empty_metadata(spec.description)
    if names != coremldata.default_names(len(names)):  # those the compiler gives where a package has none
        spec.pipeline.names.extend(names)
    spec.pipeline.models.extend(member.spec for member in members)
    notes = [f"{member.path.name}: {note}" for member in members for note in member.notes]
    return Bundle(path, spec, members, notes)


def _rebuilt(path: Path, program: MIL_pb2.Program, dialect: Dialect) -> tuple[Model_pb2.Model, list[str]]:
    file = path / "metadata.json"
    metadata: Metadata = _parsed(file, read_metadata, read_file(file)) if file.exists() else {}
    try:
        description = rebuilt_description(program, metadata)
    except MilError as error:
        raise MilError(f"{path}: {error}") from None
    spec = Model_pb2.Model(specificationVersion=specification_of(program, dialect, metadata))
    spec.description.CopyFrom(description)
    return spec, [_REBUILT if metadata else _BARE]


def _drop_empty_metadata(description: Model_pb2.ModelDescription) -> None:
    """Remove the empty metadata that the compiler adds where a package has none."""
    if not description.metadata.ByteSize():
        description.ClearField("metadata")


def _strip(spec: Model_pb2.Model) -> None:
    """Remove what the compiler added to a program, and put the inputs of functions back in the description's order."""
    program = spec.mlProgram
    if BUILD_INFO in program.attributes:
        pairs = program.attributes[BUILD_INFO].immediateValue.dictionary.values
        kept = [pair for pair in pairs if _key(pair) not in COMPILER_KEYS]
        kept.sort(key=lambda pair: _coremltools_rank(_key(pair)))
        del pairs[:]
        pairs.extend(kept)
        if not kept:
            del program.attributes[BUILD_INFO]
    for name, function in program.functions.items():
        function.attributes.pop(FLEXIBLE_SHAPES, None)
        _restore_order(function, spec.description, name)


def _restore_order(function: MIL_pb2.Function, description: Model_pb2.ModelDescription, name: str) -> None:
    about = described(description, name)
    names = [feature.name for feature in [*about.input, *about.state]]
    position = {feature: i for i, feature in enumerate(names)}
    ordered = sorted(function.inputs, key=lambda declared: position.get(declared.name, len(position)))
    del function.inputs[:]
    function.inputs.extend(ordered)


def _coremltools_rank(key: str) -> tuple[bool, bool]:
    """Return the place of an entry of `buildInfo` in coremltools' order, so that a package comes back as it was."""
    return key != "coremltools-version", not key.startswith("coremltools-component-")


def _key(pair: MIL_pb2.DictionaryValue.KeyValuePair) -> str:
    strings = pair.key.immediateValue.tensor.strings.values
    return strings[0] if strings else ""
