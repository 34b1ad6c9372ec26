"""Turns a compiled bundle back into a model package that coremltools loads. The format: docs/mlmodelc.md."""

from dataclasses import dataclass
from pathlib import Path

from mil.blob import BlobFile
from mil.bundle import Bundle, open_bundle
from mil.errors import MilError
from mil.lfs import refuse_pointer
from mil.package import MODEL_PATH, Package, same_content, write_package
from mil.schema import Model_pb2
from mil.traverse import blobs


@dataclass(frozen=True)
class Decompiled:
    """A package that was written, and sentences about what the bundle did not say and had to be rebuilt."""

    path: Path
    notes: list[str]


def decompile_bundle(path: Path | str, destination: Path | str) -> Decompiled:
    """Write the package that a bundle was compiled from: whole, by one rename, or not at all.

    Program and description are those of the package, but for what the compiler drops: documentation strings, and the
    order of what protobuf does not order. Weight files are hard-linked where the file system can.
    Raises MilError for a bundle that cannot be read, or whose weights are absent or damaged, and where `destination`
    exists.
    """
    destination = Path(destination)
    bundle = open_bundle(Path(path))
    if bundle.members:
        members = list(zip(bundle.members, bundle.spec.pipeline.models, strict=True))
    else:
        members = [(bundle, bundle.spec)]
    files: dict[str, Path] = {}
    for position, (member, spec) in enumerate(members):
        _collect(files, member, spec, position)
    write_package(bundle.spec, files, destination)
    return Decompiled(destination, bundle.notes)


def _collect(files: dict[str, Path], member: Bundle, spec: Model_pb2.Model, position: int) -> None:
    """Add the weight files of one model; rename in the model those whose name another model uses for other content."""
    package = Package(spec, member.path)
    renamed: dict[str, str] = {}
    for name in sorted({value.blobFileValue.fileName for value in blobs(spec.mlProgram)}):
        source = package.blob_path(name)
        refuse_pointer(source)
        BlobFile(source)  # raises where it is no weight file
        inside = name.removeprefix(f"{MODEL_PATH}/")
        if inside in files and not same_content(files[inside], source):
            inside = f"weights/{position}-{Path(inside).name}"
            if inside in files:
                raise MilError(f"weight file {name!r}: its name, and {inside!r}, are taken by another model's weights")
        files[inside] = source
        renamed[name] = f"{MODEL_PATH}/{inside}"
    for value in blobs(spec.mlProgram):
        value.blobFileValue.fileName = renamed[value.blobFileValue.fileName]
