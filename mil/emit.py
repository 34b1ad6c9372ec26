"""A MIL program as the text of `model.mil`, as Apple's compiler prints it; the grammar is in grammar.py.

Operations come out one for one and in order. What the text has no place for is left out: documentation strings.
Attributes of blocks and of tensor types, which no converter writes, are refused rather than dropped.
"""

import math
from collections.abc import Iterable, Mapping

from mil import grammar
from mil.errors import MilError, UnknownFormError
from mil.grammar import Dialect
from mil.immediates import nested, read_literals
from mil.literals import format_string
from mil.schema import MIL_pb2
from mil.traverse import block_of
from mil.types import BY_NAME, element_type


def emit(program: MIL_pb2.Program, dialect: Dialect) -> str:
    """Return the text of a program, without a newline at its end.

    Functions are in the order of their names, the inputs of a function in the order of theirs, and so are arguments
    and attributes. Raises MilError for what the text cannot hold, saying where in the program it is.
    """
    header = f"program({dialect.version})\n"
    if program.attributes:
        header += f"{_attributes(program.attributes, dialect)}\n"
    functions = [line for name in sorted(program.functions) for line in _function(name, program, dialect)]
    return "\n".join([header + "{", *functions, "}"])


def type_text(declared: MIL_pb2.ValueType, dialect: Dialect) -> str:
    """Return how a type is spelled: `tensor<fp16, [1, ?]>`; raises MilError for one that has no spelling."""
    match declared.WhichOneof("type"):
        case "tensorType":
            return _tensor_type(declared.tensorType, dialect)
        case "listType":
            held = declared.listType
            return f"{grammar.LIST}<{type_text(held.type, dialect)}, {_dimension(held.length)}>"
        case "tupleType":
            types = ", ".join(type_text(member, dialect) for member in declared.tupleType.types)
            return f"{grammar.TUPLE}<{types}>"
        case "dictionaryType":
            held = declared.dictionaryType
            return f"{grammar.DICTIONARY}<{type_text(held.keyType, dialect)}, {type_text(held.valueType, dialect)}>"
        case "stateType":
            return f"{grammar.STATE}<{type_text(declared.stateType.wrappedType, dialect)}>"
    raise MilError("a value without a type")


def _tensor_type(tensor: MIL_pb2.TensorType, dialect: Dialect) -> str:
    if tensor.attributes:
        raise UnknownFormError("a tensor type with attributes: their text form is not known")
    if tensor.rank != len(tensor.dimensions):
        raise MilError(f"a tensor type of rank {tensor.rank} with {len(tensor.dimensions)} dimensions")
    element = element_type(tensor.dataType).name
    if dialect.bare_scalars and not tensor.dimensions:
        return element
    return f"{grammar.TENSOR}<{element}, [{', '.join(map(_dimension, tensor.dimensions))}]>"


def _dimension(dimension: MIL_pb2.Dimension) -> str:
    if dimension.WhichOneof("dimension") == "constant":
        return str(dimension.constant.size)
    return grammar.VARIADIC if dimension.unknown.variadic else grammar.UNKNOWN


def _function(name: str, program: MIL_pb2.Program, dialect: Dialect) -> list[str]:
    function = program.functions[name]
    try:
        opset = grammar.opset_of_proto(function.opset)
        attributes = f" {_attributes(function.attributes, dialect)}" if function.attributes else ""
        parameters = _parameters(sorted(function.inputs, key=lambda declared: declared.name), dialect)
        indent = " " * grammar.FUNCTION_INDENT
        head = f"{indent}func {_name(name)}<{opset.text}>({parameters}){attributes} {{"
        block = _block(block_of(function), grammar.BLOCK_INDENT, dialect)
    except MilError as error:
        raise type(error)(f"function {name}: {error}") from None
    block[-1] += ";"
    return [head, *block]


def _block(block: MIL_pb2.Block, indent: int, dialect: Dialect) -> list[str]:
    """Return the lines of the operations of a block, and of what closes it at `indent`."""
    if block.attributes:
        raise UnknownFormError("a block with attributes: their text form is not known")
    lines = [line for operation in block.operations for line in _operation(operation, indent + 4, dialect)]
    return [*lines, f"{' ' * indent}}} -> ({', '.join(map(_name, block.outputs))})"]


def _operation(operation: MIL_pb2.Operation, indent: int, dialect: Dialect) -> list[str]:
    try:
        head = _operation_head(operation, dialect)
    except MilError as error:
        raise type(error)(
            f"op `{operation.type}` ({', '.join(out.name for out in operation.outputs)}): {error}"
        ) from None
    lines = [" " * indent + head]
    for block in operation.blocks:
        parameters = f" ({_parameters(block.inputs, dialect)})" if block.inputs else ""
        lines[-1] += f"{parameters} {{"
        lines += _block(block, indent + grammar.NESTED_INDENT - 4, dialect)
    lines[-1] += ";"
    return lines


def _operation_head(operation: MIL_pb2.Operation, dialect: Dialect) -> str:
    outputs = f"{_parameters(operation.outputs, dialect)} = " if operation.outputs else ""
    arguments = ", ".join(
        f"{_name(key)} = {_argument(operation.inputs[key], dialect)}" for key in sorted(operation.inputs)
    )
    attributes = _attributes(operation.attributes, dialect) if operation.attributes else ""
    return f"{outputs}{_name(operation.type)}({arguments}){attributes}"


def _parameters(declared: Iterable[MIL_pb2.NamedValueType], dialect: Dialect) -> str:
    return ", ".join(f"{type_text(one.type, dialect)} {_name(one.name)}" for one in declared)


def _argument(argument: MIL_pb2.Argument, dialect: Dialect) -> str:
    bindings = [_binding(binding, dialect) for binding in argument.arguments]
    return bindings[0] if len(bindings) == 1 else f"({', '.join(bindings)})"


def _binding(binding: MIL_pb2.Argument.Binding, dialect: Dialect) -> str:
    if binding.WhichOneof("binding") == "value":
        return _value(binding.value, dialect)
    return _name(binding.name)


def _attributes(attributes: Mapping[str, MIL_pb2.Value], dialect: Dialect) -> str:
    return f"[{', '.join(f'{_name(key)} = {_value(attributes[key], dialect)}' for key in sorted(attributes))}]"


def _value(value: MIL_pb2.Value, dialect: Dialect) -> str:
    return f"{type_text(value.type, dialect)}({_literal(value, dialect)})"


def _literal(value: MIL_pb2.Value, dialect: Dialect) -> str:
    if value.WhichOneof("value") == "blobFileValue":
        return _blob(value.blobFileValue, dialect)
    immediate = value.immediateValue
    match immediate.WhichOneof("value"):
        case "tensor":
            return _tensor(immediate.tensor, value.type)
        case "list":
            return f"[{', '.join(_literal(member, dialect) for member in immediate.list.values)}]"
        case "tuple":
            return f"({', '.join(_literal(member, dialect) for member in immediate.tuple.values)})"
        case "dictionary":
            pairs = (
                f"{{{_literal(pair.key, dialect)}, {_literal(pair.value, dialect)}}}"
                for pair in immediate.dictionary.values
            )
            return f"{{{', '.join(pairs)}}}"
    raise MilError("a constant without a value")


def _tensor(tensor: MIL_pb2.TensorValue, declared: MIL_pb2.ValueType) -> str:
    if declared.WhichOneof("type") != "tensorType":
        raise MilError("an immediate tensor whose type is not that of a tensor")
    element = element_type(declared.tensorType.dataType)
    sizes = declared.tensorType.dimensions
    if all(size.WhichOneof("dimension") == "constant" for size in sizes):
        shape = [size.constant.size for size in sizes]
        return nested(read_literals(tensor, element, math.prod(shape)), shape)
    if len(sizes) != 1:
        raise UnknownFormError(
            "an immediate tensor of several dimensions, one of them unknown: its text form is not known"
        )
    return f"[{', '.join(read_literals(tensor, element, None))}]"


def _blob(blob: MIL_pb2.Value.BlobFileValue, dialect: Dialect) -> str:
    path = f"{_scalar_type('string', dialect)}({format_string(blob.fileName)})"
    offset = f"{_scalar_type('uint64', dialect)}({blob.offset})"
    return f"{grammar.BLOB}({grammar.BLOB_PATH} = {path}, {grammar.BLOB_OFFSET} = {offset})"


def _scalar_type(name: str, dialect: Dialect) -> str:
    return _tensor_type(MIL_pb2.TensorType(dataType=BY_NAME[name].proto), dialect)


def _name(name: str) -> str:
    if not grammar.NAME.fullmatch(name):
        raise MilError(f"the name {name!r}: expected letters, digits and underscores, not starting with a digit")
    return name
