"""When each value of a block is used for the last time."""

from collections.abc import Iterable, Iterator

from mil.schema import MIL_pb2


def names_read(operation: MIL_pb2.Operation) -> Iterator[str]:
    """Yield every name that an operation reads, those that its nested blocks take from outside included."""
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                yield binding.name
    for block in operation.blocks:
        yield from names_from_outside(block)


def names_from_outside(block: MIL_pb2.Block) -> Iterator[str]:
    """Yield every name that a nested block reads and does not define."""
    own = {value.name for value in block.inputs}
    for operation in block.operations:
        yield from (name for name in names_read(operation) if name not in own)
        own.update(value.name for value in operation.outputs)
    yield from (name for name in block.outputs if name not in own)


def names_defined(block: MIL_pb2.Block) -> Iterator[str]:
    """Yield the name of every result of a block, those of its nested blocks included."""
    for operation in block.operations:
        yield from (value.name for value in operation.outputs)
        for nested in operation.blocks:
            yield from names_defined(nested)


def last_uses(block: MIL_pb2.Block, inputs: Iterable[str]) -> list[set[str]]:
    """Return, per operation, the names of the block's own values that nothing reads after it.

    inputs   the names that the block is entered with: a function's inputs, or a nested block's

    A value that nothing reads at all dies with the operation that makes it; outputs of the block never die here.
    """
    dies: list[set[str]] = []
    alive = set(block.outputs)
    for operation in reversed(block.operations):
        touched = {value.name for value in operation.outputs} | set(names_read(operation))
        dies.append(touched - alive)
        alive |= touched
    dies.reverse()
    own = set(inputs)
    for operation, dead in zip(block.operations, dies, strict=True):
        own.update(value.name for value in operation.outputs)
        dead &= own
    return dies
