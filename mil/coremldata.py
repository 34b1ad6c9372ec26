"""The binary files of a compiled bundle: `coremldata.bin`, `analytics/coremldata.bin`, `modelNames/coremldata.bin`.

Integers are little-endian; a string is a u64 length and its UTF-8 bytes.

    coremldata.bin
    0x00  u32     which member of the protobuf's `Type` the model is (502 mlProgram, 202 pipeline)
    0x04  u32     version of the compiled form
    0x08  12 zero bytes, u32 (1 for a pipeline, else 0), 4 zero bytes
    0x1c  string  target
    …     i32     specification version, then 28 zero bytes
    …     string  ModelDescription, as protobuf with its fields in canonical order
    …     trailer

How much of this is proved by comparison with Apple's files is in docs/mlmodelc.md.
"""

import struct
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from mil.errors import MilError
from mil.schema import Model_pb2

ML_PROGRAM, PIPELINE = 502, 202
_GENERIC = "generic"
_HEADER = struct.Struct("<II12xI4x")
_SPECIFICATION = struct.Struct("<i28x")
_COUNT = struct.Struct("<Q")
_PROGRAM_TRAILER = struct.Struct("<I12x")
_PIPELINE_TRAILER = struct.Struct("<QII")
_OLD_COMPILED_VERSION = 5
_NEWEST_OLD_SPECIFICATION = 8


@dataclass(frozen=True)
class CoreMLData:
    """What a bundle's `coremldata.bin` says.

    kind                 `ML_PROGRAM` or `PIPELINE`
    specification        specification version of the package that was compiled
    target, trailer      see `compiled`; written, and compared, but without meaning to a reader
    """

    kind: int
    compiled_version: int
    target: str
    specification: int
    description: Model_pb2.ModelDescription
    trailer: bytes


def compiled(spec: Model_pb2.Model) -> CoreMLData:
    """Return what `coremldata.bin` says of an ML program or a pipeline of them."""
    description = Model_pb2.ModelDescription()
    description.CopyFrom(spec.description)
    description.metadata.SetInParent()
    version = spec.specificationVersion
    if spec.WhichOneof("Type") == "pipeline":
        models = spec.pipeline.models
        targets = [
            f"{_GENERIC}.model{i}v{_compiled_version(model.specificationVersion)}.0.0" for i, model in enumerate(models)
        ]
        trailer = _PIPELINE_TRAILER.pack(len(models), PIPELINE, 0)
        return CoreMLData(PIPELINE, 1, "".join([*targets, _GENERIC]), version, description, trailer)
    trailer = _PROGRAM_TRAILER.pack(ML_PROGRAM) * len(spec.mlProgram.functions)
    return CoreMLData(ML_PROGRAM, _compiled_version(version), _GENERIC, version, description, trailer)


def _compiled_version(specification: int) -> int:
    return specification if specification > _NEWEST_OLD_SPECIFICATION else _OLD_COMPILED_VERSION


def pack(data: CoreMLData) -> bytes:
    """Return the content of `coremldata.bin`; the entries of protobuf maps are in the order of their keys."""
    return b"".join(
        (
            _HEADER.pack(data.kind, data.compiled_version, int(data.kind == PIPELINE)),
            _packed(data.target.encode()),
            _SPECIFICATION.pack(data.specification),
            _packed(data.description.SerializeToString(deterministic=True)),
            data.trailer,
        )
    )


def unpack(content: bytes) -> CoreMLData:
    """Return what `coremldata.bin` says; raises MilError for a truncated file or another kind of model."""
    reader = _Reader(content)
    kind, version, _ = reader.take(_HEADER)
    if kind not in (ML_PROGRAM, PIPELINE):
        raise MilError(f"expected an ML program ({ML_PROGRAM}) or a pipeline ({PIPELINE}), found model type {kind}")
    target = reader.string()
    (specification,) = reader.take(_SPECIFICATION)
    description = Model_pb2.ModelDescription()
    try:
        description.ParseFromString(reader.block())
    except (DecodeError, RecursionError):
        raise MilError("the model description is not a protobuf; the file is damaged") from None
    return CoreMLData(kind, version, target, specification, description, reader.rest())


Sections = dict[str, dict[str, str]]


def program_analytics(model_hash: str) -> Sections:
    """Return the analytics of an ML program.

    model_hash   base64 of the SHA-256 of the package's `model.mlmodel`
    """
    return {
        "NeuralNetworkModelDetails": {"containsCustomLayer": "0", "modelDimension": "0"},
        "SpecificationDetails": {"modelHash": model_hash, "modelName": "model"},
    }


def pipeline_analytics(members: int) -> Sections:
    """Return the analytics of a pipeline of that many models."""
    return {"PipelineModelDetails": {"modelDimension": str(members)}}


def pack_analytics(sections: Sections) -> bytes:
    """Return the content of `analytics/coremldata.bin`: of each section the name, a u64 count and the pairs."""
    parts = []
    for name, pairs in sections.items():
        parts += [_packed(name.encode()), _COUNT.pack(len(pairs))]
        parts += [_packed(text.encode()) for pair in pairs.items() for text in pair]
    return b"".join(parts)


def unpack_analytics(content: bytes) -> Sections:
    """Return the sections of `analytics/coremldata.bin`; raises MilError for a truncated file."""
    reader, sections = _Reader(content), Sections()
    while not reader.ended():
        name = reader.string()
        sections[name] = {reader.string(): reader.string() for _ in range(reader.count())}
    return sections


def default_names(count: int) -> list[str]:
    """Return what the models of a pipeline are called that does not name them: model0, model1 …"""
    return [f"model{position}" for position in range(count)]


def pack_names(names: list[str]) -> bytes:
    """Return the content of `modelNames/coremldata.bin`: a u64 count and the names of a pipeline's models."""
    return b"".join([_COUNT.pack(len(names)), *(_packed(name.encode()) for name in names)])


def unpack_names(content: bytes) -> list[str]:
    """Return the names in `modelNames/coremldata.bin`; raises MilError for a truncated file."""
    reader = _Reader(content)
    return [reader.string() for _ in range(reader.count())]


def _packed(content: bytes) -> bytes:
    return _COUNT.pack(len(content)) + content


class _Reader:
    """A cursor over bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self._bytes(layout.size))

    def count(self) -> int:
        """Return a u64 that counts things which take a byte or more each."""
        (count,) = self.take(_COUNT)
        if count > len(self._content):
            raise MilError(f"{count} entries announced in a file of {len(self._content)} bytes; it is damaged")
        return count

    def block(self) -> bytes:
        return self._bytes(self.count())

    def string(self) -> str:
        try:
            return self.block().decode()
        except UnicodeDecodeError:
            raise MilError("a string that is not UTF-8; the file is damaged") from None

    def rest(self) -> bytes:
        return self._bytes(len(self._content) - self._position)

    def ended(self) -> bool:
        return self._position == len(self._content)

    def _bytes(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._content):
            raise MilError(f"{size} bytes expected at offset {self._position}, the file ends; it is truncated")
        taken, self._position = self._content[self._position : end], end
        return taken
