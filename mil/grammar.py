"""The grammar of `model.mil`: what the emitter prints and the parser expects. docs/mlmodelc.md has it as a table.

program    = "program(" version ")" [attributes] "{" function* "}"
function   = "func" name "<" opset ">" "(" parameters ")" [attributes] block ";"
block      = "{" operation* "}" "->" "(" names ")"
operation  = [parameters "="] name "(" arguments ")" [attributes] {["(" parameters ")"] block} ";"
parameters = TYPE name {"," TYPE name}
arguments  = name "=" binding {"," …};   binding = name | value | "(" binding {"," …} ")"
attributes = "[" name "=" value {"," …} "]"
value      = TYPE "(" literal ")"
literal    = scalar | "[" … "]" (tensor, list) | "(" … ")" (tuple) | "{" {"{" key "," value "}"} "}" (dictionary)
           | BLOBFILE "(" path = value, offset = value ")"
TYPE       = "tensor<" element "," dimensions ">" | element (1.3) | "list<" TYPE "," size ">"
           | "tuple<" TYPE … ">" | "dict<" TYPE "," TYPE ">" | "state<" TYPE ">"
"""

import re
from dataclasses import dataclass

from mil.errors import MilError


@dataclass(frozen=True)
class Dialect:
    """One version of the text.

    version        as the first line names it
    bare_scalars   a tensor of rank 0 is written `int32`, otherwise `tensor<int32, []>`
    """

    version: str
    bare_scalars: bool


DIALECTS = {row.version: row for row in (Dialect("1.0", bare_scalars=False), Dialect("1.3", bare_scalars=True))}
_FIRST_SPECIFICATION_OF_1_3 = 9


@dataclass(frozen=True)
class Opset:
    """An operation set.

    proto           its name in the protobuf
    text            its name in `model.mil`, and (capitalised) in the histogram of metadata.json
    specification   the specification version that introduced it
    """

    proto: str
    text: str
    specification: int


OPSETS = (
    Opset("CoreML5", "ios15", 6),
    Opset("CoreML6", "ios16", 7),
    Opset("CoreML7", "ios17", 8),
    Opset("CoreML8", "ios18", 9),
    Opset("CoreML9", "ios26", 10),
)
_BY_PROTO = {row.proto: row for row in OPSETS}
_BY_TEXT = {row.text: row for row in OPSETS}

TENSOR, LIST, TUPLE, DICTIONARY, STATE = "tensor", "list", "tuple", "dict", "state"
BLOB, BLOB_PATH, BLOB_OFFSET = "BLOBFILE", "path", "offset"
UNKNOWN, VARIADIC = "?", "..."
BUILD_INFO, FLEXIBLE_SHAPES = "buildInfo", "FlexibleShapeInformation"

FUNCTION_INDENT, BLOCK_INDENT, NESTED_INDENT = 4, 8, 8

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@/:]*")
# Nesting that no real model reaches; the protobuf that the text becomes has a limit of its own at 100 messages.
DEEPEST_BLOCK, DEEPEST_VALUE, HIGHEST_RANK = 24, 16, 32


def dialect_of(specification: int) -> Dialect:
    """Return the dialect in which a model of that specification version is written."""
    return DIALECTS["1.3" if specification >= _FIRST_SPECIFICATION_OF_1_3 else "1.0"]


def opset_of_proto(name: str) -> Opset:
    """Return the operation set that the protobuf calls `name`; raises MilError for an unknown one."""
    if name not in _BY_PROTO:
        raise MilError(f"operation set {name!r}: expected one of {', '.join(_BY_PROTO)}")
    return _BY_PROTO[name]


def opset_of_text(name: str) -> Opset:
    """Return the operation set that `model.mil` calls `name`; raises MilError for an unknown one."""
    if name not in _BY_TEXT:
        raise MilError(f"operation set {name!r}: expected one of {', '.join(_BY_TEXT)}")
    return _BY_TEXT[name]
