"""The element types that a program computes with and stores its weights in, as metadata.json puts them."""

import math
from collections.abc import Iterable, Mapping

from mil.errors import MilError
from mil.schema import MIL_pb2
from mil.traverse import operations, values
from mil.types import ElementType, element_type

_TITLES = {"fp": "Float", "bf": "BFloat", "int": "Int", "uint": "UInt"}
_LOOKUP_TABLE, _SPARSE = "constexpr_lut_to_dense", "constexpr_sparse_to_dense"
# What these hold is not a type of its own but part of a palette or of a sparse tensor. Indices are so only in the
# old form, where they are packed bytes among the attributes.
_NOT_STORAGE = {(_LOOKUP_TABLE, "indices"), (_SPARSE, "mask")}


def title(element: ElementType) -> str:
    """Return how metadata.json calls an element type: `Float16`, `UInt4`."""
    letters = element.name.rstrip("0123456789")
    return _TITLES.get(letters, letters.capitalize()) + element.name[len(letters) :]


def summary(titles: Iterable[str]) -> str:
    """Return one title bare, several as `Mixed (Float16, Int32)`."""
    ordered = sorted(set(titles))
    return ordered[0] if len(ordered) == 1 else f"Mixed ({', '.join(ordered)})"


def compute_titles(function: MIL_pb2.Function, block: MIL_pb2.Block) -> set[str]:
    """Return the numeric types of a function's inputs and of what its operations put out."""
    declared = [one.type for one in function.inputs]
    for operation in operations(block):
        declared += [output.type for output in operation.outputs]
    elements = [element for one in declared for element in _elements(one)]
    return {title(element) for element in elements if element.kind not in ("bool", "string")}


def storage_titles(block: MIL_pb2.Block) -> set[str]:
    """Return the types of the weights that lie in files: `Float16`, `Palettized (6 bits)`, `Sparse`."""
    titles: set[str] = set()
    computed: dict[str, MIL_pb2.ValueType] = {}
    for operation in operations(block):
        computed |= {output.name: output.type for output in operation.outputs}
        if operation.type == _LOOKUP_TABLE:
            titles.add(f"Palettized ({_palette_bits(operation, computed)} bits)")
        elif operation.type == _SPARSE:
            titles.add("Sparse")
        for name, value in values(operation):
            if value.WhichOneof("value") == "blobFileValue" and not _is_part(operation, name):
                titles |= {title(element) for element in _elements(value.type)}
    return titles


def _is_part(operation: MIL_pb2.Operation, name: str) -> bool:
    return (operation.type, name) in _NOT_STORAGE and name in operation.attributes


def _palette_bits(operation: MIL_pb2.Operation, computed: Mapping[str, MIL_pb2.ValueType]) -> int:
    """Return the bits that number the entries of all its palettes, written into it or decoded before it."""
    found = [value.type for name, value in values(operation) if name == "lut"]
    found += [computed[binding.name] for binding in operation.inputs["lut"].arguments if binding.name in computed]
    if not found:
        raise MilError(f"op `{operation.type}`: no lut among its arguments")
    entries = math.prod(size.constant.size for size in found[0].tensorType.dimensions)
    return max(entries - 1, 0).bit_length()


def _elements(declared: MIL_pb2.ValueType) -> list[ElementType]:
    """Return the element types in a type: one of a tensor, those of its members otherwise."""
    match declared.WhichOneof("type"):
        case "tensorType":
            return [element_type(declared.tensorType.dataType)]
        case "listType":
            return _elements(declared.listType.type)
        case "stateType":
            return _elements(declared.stateType.wrappedType)
        case "tupleType":
            return [element for member in declared.tupleType.types for element in _elements(member)]
        case "dictionaryType":
            return _elements(declared.dictionaryType.keyType) + _elements(declared.dictionaryType.valueType)
    return []
