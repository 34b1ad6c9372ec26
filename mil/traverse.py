"""What a MIL program is made of, one thing after another."""

from collections.abc import Iterator

from mil.errors import MilError
from mil.schema import MIL_pb2


def block_of(function: MIL_pb2.Function) -> MIL_pb2.Block:
    """Return the block that runs: the one for the function's operation set; raises MilError where there is none."""
    if function.opset not in function.block_specializations:
        raise MilError(f"a function of the operation set {function.opset!r} without a block for it")
    return function.block_specializations[function.opset]


def operations(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Operation]:
    """Yield the operations of a block in order, those of nested blocks after the one that holds them."""
    pending = list(reversed(block.operations))
    while pending:
        operation = pending.pop()
        yield operation
        pending += [inner for nested in reversed(operation.blocks) for inner in reversed(nested.operations)]


def values(operation: MIL_pb2.Operation) -> Iterator[tuple[str, MIL_pb2.Value]]:
    """Yield the constants that are written into an operation, with the attribute or argument they are, by name."""
    yield from sorted(operation.attributes.items())
    for name, argument in sorted(operation.inputs.items()):
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                yield name, binding.value


def blobs(program: MIL_pb2.Program) -> Iterator[MIL_pb2.Value]:
    """Yield the constants of a program that lie in weight files."""
    for name in sorted(program.functions):
        for operation in operations(block_of(program.functions[name])):
            yield from (value for _, value in values(operation) if value.WhichOneof("value") == "blobFileValue")
