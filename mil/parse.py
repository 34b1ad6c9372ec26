"""The text of `model.mil` as a MIL program; the grammar is in grammar.py, the inverse in emit.py."""

from collections.abc import Iterator

from mil import grammar
from mil.errors import MilError
from mil.grammar import Dialect
from mil.immediates import store_literals
from mil.literals import parse_string
from mil.schema import MIL_pb2
from mil.tokens import END, NAME, NUMBER, STRING, Tokens
from mil.types import BY_NAME, element_type

LONGEST_TEXT = 1 << 27
_PROGRAM_VERSION = 1


def parse(text: str) -> tuple[MIL_pb2.Program, Dialect]:
    """Return the program that a text holds, and the dialect it names.

    Raises MilError with the line and column of what is not as the grammar says. Both spellings of a scalar type are
    read in both dialects.
    """
    if len(text) > LONGEST_TEXT:
        raise MilError(f"a program text of {len(text)} characters; the most that is read is {LONGEST_TEXT}")
    tokens = Tokens(text)
    dialect = _header(tokens)
    program = MIL_pb2.Program(version=_PROGRAM_VERSION)
    _attributes(tokens, program.attributes)
    tokens.take("{")
    while not tokens.took("}"):
        _function(tokens, program)
    if tokens.kind != END:
        raise tokens.expected("the end of the file")
    return program, dialect


def _header(tokens: Tokens) -> Dialect:
    tokens.take("program")
    tokens.take("(")
    if tokens.kind != NUMBER or tokens.text not in grammar.DIALECTS:
        raise tokens.expected(f"a version of the text ({' or '.join(grammar.DIALECTS)})")
    dialect = grammar.DIALECTS[tokens.advance()]
    tokens.take(")")
    return dialect


def _function(tokens: Tokens, program: MIL_pb2.Program) -> None:
    tokens.take("func")
    if tokens.text in program.functions:
        raise tokens.error(f"a second function {tokens.text}")
    function = program.functions[tokens.take_kind(NAME)]
    tokens.take("<")
    try:
        function.opset = grammar.opset_of_text(tokens.text).proto
    except MilError as error:
        raise tokens.error(str(error)) from None
    tokens.advance()
    tokens.take(">")
    for _ in _items(tokens, "(", ")"):
        _parameter(tokens, function.inputs.add())
    _attributes(tokens, function.attributes)
    _block(tokens, function.block_specializations[function.opset], 0)
    tokens.take(";")


def _block(tokens: Tokens, block: MIL_pb2.Block, depth: int) -> None:
    if depth > grammar.DEEPEST_BLOCK:
        raise tokens.error(f"blocks nested more than {grammar.DEEPEST_BLOCK} deep")
    tokens.take("{")
    while not tokens.took("}"):
        _operation(tokens, block.operations.add(), depth)
    tokens.take("->")
    for _ in _items(tokens, "(", ")"):
        block.outputs.append(tokens.take_kind(NAME))


def _operation(tokens: Tokens, operation: MIL_pb2.Operation, depth: int) -> None:
    first = tokens.take_kind(NAME)
    if tokens.text != "(":  # a type, so there are outputs
        first = _outputs(tokens, operation, first)
    operation.type = first
    for _ in _items(tokens, "(", ")"):
        _argument(tokens, operation)
    _attributes(tokens, operation.attributes)
    while not tokens.took(";"):
        block = operation.blocks.add()
        if tokens.text == "(":
            for _ in _items(tokens, "(", ")"):
                _parameter(tokens, block.inputs.add())
        _block(tokens, block, depth + 1)


def _outputs(tokens: Tokens, operation: MIL_pb2.Operation, first: str) -> str:
    """Read the outputs, of whose first type the first name is read already; return the name of the operation."""
    output = operation.outputs.add()
    _type_after(tokens, first, output.type, 0)
    output.name = tokens.take_kind(NAME)
    while tokens.took(","):
        _parameter(tokens, operation.outputs.add())
    tokens.take("=")
    return tokens.take_kind(NAME)


def _parameter(tokens: Tokens, declared: MIL_pb2.NamedValueType) -> None:
    _type(tokens, declared.type, 0)
    declared.name = tokens.take_kind(NAME)


def _argument(tokens: Tokens, operation: MIL_pb2.Operation) -> None:
    if tokens.text in operation.inputs:
        raise tokens.error(f"a second argument {tokens.text}")
    bindings = operation.inputs[tokens.take_kind(NAME)].arguments
    tokens.take("=")
    if tokens.text == "(":
        for _ in _items(tokens, "(", ")"):
            _binding(tokens, bindings.add())
    else:
        _binding(tokens, bindings.add())


def _binding(tokens: Tokens, binding: MIL_pb2.Argument.Binding) -> None:
    name = tokens.take_kind(NAME)
    if tokens.text in ("<", "("):
        _value_after(tokens, name, binding.value)
    else:
        binding.name = name


def _attributes(tokens: Tokens, attributes: "MIL_pb2.Operation.AttributesEntry") -> None:
    if tokens.text != "[":
        return
    for _ in _items(tokens, "[", "]"):
        if tokens.text in attributes:
            raise tokens.error(f"a second attribute {tokens.text}")
        value = attributes[tokens.take_kind(NAME)]
        tokens.take("=")
        _value_after(tokens, tokens.take_kind(NAME), value)


def parse_value(text: str) -> MIL_pb2.Value:
    """Return the value that a text such as `tensor<int32, [2]>([1, 2])` spells; raises MilError as `parse` does."""
    tokens, value = Tokens(text), MIL_pb2.Value()
    _value_after(tokens, tokens.take_kind(NAME), value)
    if tokens.kind != END:
        raise tokens.expected("the end of the value")
    return value


def _value_after(tokens: Tokens, first: str, value: MIL_pb2.Value) -> None:
    """Read a value, of whose type the first name is read already."""
    _type_after(tokens, first, value.type, 0)
    tokens.take("(")
    _literal(tokens, value, 0)
    tokens.take(")")


def _type(tokens: Tokens, declared: MIL_pb2.ValueType, depth: int) -> None:
    _type_after(tokens, tokens.take_kind(NAME), declared, depth)


def _type_after(tokens: Tokens, first: str, declared: MIL_pb2.ValueType, depth: int) -> None:
    """Read a type, of which the first name is read already."""
    if depth > grammar.DEEPEST_VALUE:
        raise tokens.error(f"types nested more than {grammar.DEEPEST_VALUE} deep")
    if first in BY_NAME:
        declared.tensorType.dataType = BY_NAME[first].proto
        return
    if first not in (grammar.TENSOR, grammar.LIST, grammar.TUPLE, grammar.DICTIONARY, grammar.STATE):
        raise tokens.error(f"{first!r} before this: expected a type")
    tokens.take("<")
    match first:
        case grammar.TENSOR:
            _tensor_type(tokens, declared.tensorType)
        case grammar.LIST:
            _type(tokens, declared.listType.type, depth + 1)
            tokens.take(",")
            _dimension(tokens, declared.listType.length)
        case grammar.TUPLE:
            _tuple_type(tokens, declared.tupleType, depth + 1)
        case grammar.DICTIONARY:
            _type(tokens, declared.dictionaryType.keyType, depth + 1)
            tokens.take(",")
            _type(tokens, declared.dictionaryType.valueType, depth + 1)
        case grammar.STATE:
            _type(tokens, declared.stateType.wrappedType, depth + 1)
    tokens.take(">")


def _tuple_type(tokens: Tokens, held: MIL_pb2.TupleType, depth: int) -> None:
    held.SetInParent()
    while tokens.text != ">":
        _type(tokens, held.types.add(), depth)
        if not tokens.took(","):
            break


def _tensor_type(tokens: Tokens, tensor: MIL_pb2.TensorType) -> None:
    if tokens.text not in BY_NAME:
        raise tokens.expected("an element type")
    tensor.dataType = BY_NAME[tokens.advance()].proto
    tokens.take(",")
    for _ in _items(tokens, "[", "]"):
        if tensor.rank == grammar.HIGHEST_RANK:
            raise tokens.error(f"a tensor of more than {grammar.HIGHEST_RANK} dimensions")
        _dimension(tokens, tensor.dimensions.add())
        tensor.rank += 1


def _dimension(tokens: Tokens, dimension: MIL_pb2.Dimension) -> None:
    if tokens.took(grammar.UNKNOWN):
        dimension.unknown.SetInParent()
    elif tokens.took(grammar.VARIADIC):
        dimension.unknown.variadic = True
    elif tokens.text.isdecimal() and len(tokens.text) < 19:
        dimension.constant.size = int(tokens.advance())
    else:
        raise tokens.expected("a dimension")


def _literal(tokens: Tokens, value: MIL_pb2.Value, depth: int) -> None:
    """Read the literal of a value whose type is set."""
    if depth > grammar.DEEPEST_VALUE:
        raise tokens.error(f"values nested more than {grammar.DEEPEST_VALUE} deep")
    if tokens.text == grammar.BLOB:
        _blob(tokens, value.blobFileValue)
        return
    match value.type.WhichOneof("type"):
        case "tensorType":
            _tensor(tokens, value.type.tensorType, value.immediateValue.tensor)
        case "listType":
            value.immediateValue.list.SetInParent()
            for _ in _items(tokens, "[", "]"):
                _member(tokens, value.immediateValue.list.values.add(), value.type.listType.type, depth)
        case "tupleType":
            _tuple(tokens, value, depth)
        case "dictionaryType":
            _dictionary(tokens, value, depth)
        case _:
            raise tokens.error("a constant of a state type")


def _member(tokens: Tokens, value: MIL_pb2.Value, declared: MIL_pb2.ValueType, depth: int) -> None:
    value.type.CopyFrom(declared)
    _literal(tokens, value, depth + 1)


def _tuple(tokens: Tokens, value: MIL_pb2.Value, depth: int) -> None:
    types, members = value.type.tupleType.types, value.immediateValue.tuple
    members.SetInParent()
    for position in _items(tokens, "(", ")"):
        if position == len(types):
            raise tokens.error(f"a tuple of more than {len(types)} values")
        _member(tokens, members.values.add(), types[position], depth)
    if len(members.values) != len(types):
        raise tokens.error(f"a tuple of {len(members.values)} values before this, its type has {len(types)}")


def _dictionary(tokens: Tokens, value: MIL_pb2.Value, depth: int) -> None:
    held, pairs = value.type.dictionaryType, value.immediateValue.dictionary
    pairs.SetInParent()
    for _ in _items(tokens, "{", "}"):
        pair = pairs.values.add()
        tokens.take("{")
        _member(tokens, pair.key, held.keyType, depth)
        tokens.take(",")
        _member(tokens, pair.value, held.valueType, depth)
        tokens.take("}")


def _blob(tokens: Tokens, blob: MIL_pb2.Value.BlobFileValue) -> None:
    tokens.take(grammar.BLOB)
    tokens.take("(")
    path = _named_scalar(tokens, grammar.BLOB_PATH, STRING)
    try:
        blob.fileName = parse_string(path)
    except MilError as error:
        raise tokens.error(f"the path before this: {error}") from None
    tokens.take(",")
    offset = _named_scalar(tokens, grammar.BLOB_OFFSET, NUMBER)
    if not offset.isdecimal() or len(offset) > 20 or int(offset) >= 1 << 64:
        raise tokens.error(f"the offset {offset[:40]} before this: expected an unsigned 64-bit integer")
    blob.offset = int(offset)
    tokens.take(")")


def _named_scalar(tokens: Tokens, name: str, kind: str) -> str:
    tokens.take(name)
    tokens.take("=")
    _type(tokens, MIL_pb2.ValueType(), 0)
    tokens.take("(")
    text = tokens.take_kind(kind)
    tokens.take(")")
    return text


def _tensor(tokens: Tokens, declared: MIL_pb2.TensorType, tensor: MIL_pb2.TensorValue) -> None:
    shape = [size.constant.size if size.WhichOneof("dimension") == "constant" else None for size in declared.dimensions]
    literals: list[str] = []
    _elements(tokens, shape, literals)
    try:
        store_literals(tensor, element_type(declared.dataType), literals)
    except MilError as error:
        raise tokens.error(f"the value before this: {error}") from None


def _elements(tokens: Tokens, shape: list[int | None], literals: list[str]) -> None:
    """Add the elements of a literal nested to `shape`; a size of None admits any."""
    if not shape:
        literals.append(_scalar(tokens))
        return
    size, found = shape[0], 0
    for _ in _items(tokens, "[", "]"):
        _elements(tokens, shape[1:], literals)
        found += 1
    if size is not None and found != size:
        raise tokens.error(f"{found} elements before this, the type has {size}")


def _scalar(tokens: Tokens) -> str:
    """Return the literal of one element; a NaN with a payload, `nan(0x1)`, is several tokens."""
    if tokens.kind not in (NUMBER, STRING, NAME):
        raise tokens.expected("a number, a string, true or false")
    literal = tokens.advance()
    if literal in ("nan", "-nan") and tokens.took("("):
        literal += f"({tokens.take_kind(NUMBER)})"
        tokens.take(")")
    return literal


def _items(tokens: Tokens, opening: str, closing: str) -> Iterator[int]:
    """Yield the position of each item of a list between brackets, with the cursor at its start."""
    tokens.take(opening)
    if tokens.took(closing):
        return
    position = 0
    while True:
        yield position
        position += 1
        if tokens.took(closing):
            return
        tokens.take(",")
