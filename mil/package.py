"""Model packages: read (`.mlpackage`, bare `.mlmodel`), and written so that equal models are equal bytes.

NAME.mlpackage/
    Manifest.json                          which item is the model
    Data/com.apple.CoreML/model.mlmodel    the protobuf
    Data/com.apple.CoreML/weights/…        weight files, which the program calls @model_path/weights/…
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError

from mil.blob import BlobFile
from mil.errors import MilError
from mil.lfs import refuse_pointer
from mil.schema import MIL_pb2, Model_pb2

MODEL_PATH = "@model_path"
_AUTHOR = "com.apple.CoreML"
_MODEL_NAME = "model.mlmodel"
_DATE_KEY = "com.github.apple.coremltools.conversion_date"
_LOCAL_VERSION = re.compile(r"(?<=\d)\+[A-Za-z0-9.]+")


@dataclass(frozen=True)
class Package:
    """A model and the folder that its weight files are named from.

    root   what `@model_path` stands for; None where the model refers to no file
    """

    spec: Model_pb2.Model
    root: Path | None
    _blobs: dict[str, BlobFile] = field(default_factory=dict, repr=False, compare=False)

    def blob(self, name: str) -> BlobFile:
        """Return the weight file that the program calls `name` (`@model_path/weights/weight.bin`), opened once.

        Raises MilError for a name that leaves the package and for a file that is absent or damaged.
        """
        if name not in self._blobs:
            self._blobs[name] = BlobFile(self.blob_path(name))
        return self._blobs[name]

    def blob_path(self, name: str) -> Path:
        """Return where the weight file that the program calls `name` lies."""
        prefix, _, rest = name.partition("/")
        if prefix != MODEL_PATH or not _stays_inside(rest):
            raise MilError(f"weight file {name!r}: expected a path below {MODEL_PATH}/ without `..`")
        if self.root is None:
            raise MilError(f"weight file {name!r}: the model was not read from a package, so it has no weight files")
        path = self.root / rest
        if not path.is_file():
            raise MilError(f"weight file {path}: the program needs it and it is not there; copy the whole package")
        return path

    def weight_files(self) -> dict[str, Path]:
        """Return the weight files that lie in the package, by their name relative to the model."""
        found = sorted((self.root / "weights").glob("*")) if self.root else []
        return {f"weights/{path.name}": path for path in found}


def read_package(path: Path | str) -> Package:
    """Return the model of a `.mlpackage` folder or a bare `.mlmodel` file; raises MilError where it is not one."""
    path = model_file(Path(path))
    try:
        refuse_pointer(path)
        content = path.read_bytes()
    except OSError as error:
        raise MilError(f"{path}: cannot read the model: {error.strerror}") from None
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(content)
    except (DecodeError, RecursionError):
        raise MilError(f"{path}: not a Core ML model, or truncated ({len(content)} bytes)") from None
    if spec.WhichOneof("Type") is None:
        raise MilError(f"{path}: holds no model (the protobuf's `Type` is not set)")
    return Package(spec, path.parent)


def write_package(spec: Model_pb2.Model, weight_files: Mapping[str, Path], destination: Path | str) -> None:
    """Write a `.mlpackage`: whole, by one rename, or not at all.

    weight_files   for each name relative to the model (`weights/weight.bin`), the file with its content, which is
                   hard-linked where the file system can and copied where it cannot

    Equal arguments give equal bytes. The model is written as it is; see `without_build_traces`.
    Raises MilError for a destination that exists or is no `.mlpackage`, and for names outside the package.
    """
    destination = Path(destination)
    if destination.suffix != ".mlpackage":
        raise MilError(f"{destination}: expected a name that ends in .mlpackage")
    if destination.exists():
        raise MilError(f"{destination}: exists already; remove it first")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as temporary:
        made = Path(temporary) / destination.name
        _fill(made, spec, weight_files)
        made.rename(destination)


def without_build_traces(spec: Model_pb2.Model) -> Model_pb2.Model:
    """Return a copy of the model without what differs between two builds of it.

    That is the date of conversion, and local version tags (`2.13.0+cpu` becomes `2.13.0`), in the metadata and in the
    program's `buildInfo`.
    """
    copied = Model_pb2.Model()
    copied.CopyFrom(spec)
    user_defined = copied.description.metadata.userDefined
    user_defined.pop(_DATE_KEY, None)
    for key, value in dict(user_defined).items():  # a protobuf map skips entries when it is written to while iterated
        user_defined[key] = _LOCAL_VERSION.sub("", value)
    models = copied.pipeline.models if copied.WhichOneof("Type") == "pipeline" else [copied]
    for model in models:
        if "buildInfo" in model.mlProgram.attributes:
            _strip_build_info(model.mlProgram.attributes["buildInfo"])
    return copied


def _strip_build_info(info: MIL_pb2.Value) -> None:
    for pair in info.immediateValue.dictionary.values:
        strings = pair.value.immediateValue.tensor.strings.values
        strings[:] = [_LOCAL_VERSION.sub("", text) for text in strings]


def model_file(path: Path) -> Path:
    """Return where the protobuf lies: in a package as its manifest says; a file is taken for the protobuf itself."""
    return _listed_model(path) if path.is_dir() else path


def _listed_model(package: Path) -> Path:
    manifest_path = package / "Manifest.json"
    try:
        manifest = json.loads(manifest_path.read_bytes())
        inside = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except OSError as error:
        raise MilError(f"{manifest_path}: cannot read it ({error.strerror}); expected a .mlpackage folder") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise MilError(f"{manifest_path}: names no model; expected `rootModelIdentifier` and its item") from None
    if not isinstance(inside, str) or not _stays_inside(inside):
        raise MilError(f"{manifest_path}: the model's path {inside!r} leaves the package")
    return package / "Data" / inside


def _stays_inside(relative: str) -> bool:
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in relative


def _fill(made: Path, spec: Model_pb2.Model, weight_files: Mapping[str, Path]) -> None:
    folder = made / "Data" / _AUTHOR
    folder.mkdir(parents=True)
    content = spec.SerializeToString(deterministic=True)
    (folder / _MODEL_NAME).write_bytes(content)
    for name, source in sorted(weight_files.items()):
        if not _stays_inside(name) or len(PurePosixPath(name).parts) < 2:
            raise MilError(f"weight file {name!r}: expected a path like weights/weight.bin")
        link_or_copy(source, folder / name)
    items = {_MODEL_NAME: ("CoreML Model Specification", _digest_of_bytes(content))}
    for top in sorted({PurePosixPath(name).parts[0] for name in weight_files}):
        items[top] = ("CoreML Model Weights", _digest_of_folder(folder / top))
    (made / "Manifest.json").write_text(_manifest(items))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot; raises MilError where it is not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileNotFoundError:
        raise MilError(f"weight file {source}: not there") from None
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _manifest(items: Mapping[str, tuple[str, bytes]]) -> str:
    identifiers = {name: _identifier(name, digest) for name, (_, digest) in items.items()}
    entries = {
        identifiers[name]: {
            "author": _AUTHOR,
            "description": description,
            "name": name,
            "path": f"{_AUTHOR}/{name}",
        }
        for name, (description, _) in items.items()
    }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": identifiers[_MODEL_NAME],
    }
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"


def _identifier(name: str, digest: bytes) -> str:
    mixed = hashlib.sha256(name.encode() + b"\0" + digest).digest()
    return str(uuid.UUID(bytes=mixed[:16], version=5)).upper()


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def same_content(one: Path, other: Path) -> bool:
    """Return whether two files hold the same bytes; two names of one file are not read."""
    return one.samefile(other) or file_digest(one) == file_digest(other)


def _digest_of_bytes(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _digest_of_folder(folder: Path) -> bytes:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + file_digest(path))
    return total.digest()
