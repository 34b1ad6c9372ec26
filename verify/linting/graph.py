"""What kind of network a function holds, as far as rules ask."""

from mil.values import tensor_type
from verify.linting.scope import Operand, Operation, Scope

PASSING = frozenset({"cast", "identity", "reshape", "transpose", "expand_dims", "squeeze", "select"})
RECURRENT = frozenset({"lstm", "gru", "rnn"})


def origin(scope: Scope, operand: Operand | None, through: frozenset[str] = PASSING) -> Operation | None:
    """Return the operation that made a value, looking through those that only pass it on."""
    operation = scope.maker(operand)
    while operation is not None and operation.type in through:
        passed = (operation.argument(name) for name in ("x", "a", "b"))
        operation = scope.maker(next((one for one in passed if one is not None and one.value is None), None))
    return operation


def attention(scope: Scope) -> list[Operation]:
    """Return the operations that weigh values by a softmax: attention, fused or as a product of matrices."""
    return [operation for operation in scope.operations if _attends(scope, operation)]


def _attends(scope: Scope, operation: Operation) -> bool:
    if operation.type == "scaled_dot_product_attention":
        return True
    if operation.type not in ("matmul", "einsum"):
        return False
    made = [origin(scope, operand) for operand in operation.variables]
    return any(operation is not None and operation.type == "softmax" for operation in made)


def is_transformer(scope: Scope) -> bool:
    """Return whether it is a transformer or conformer: attention with layer norms."""
    return any(operation.type == "layer_norm" for operation in scope.operations) and bool(attention(scope))


def linear_weights(scope: Scope) -> list[Operation]:
    """Return what decodes integers with a scale into weights."""
    return [o for o in scope.every if o.weights and o.type.endswith(("dequantize", "shift_scale"))]


def palettes(scope: Scope) -> list[Operation]:
    """Return what decodes palettes into weights."""
    return [o for o in scope.every if o.type.startswith("constexpr_lut_to_")]


def parameter(operation: Operation, name: str) -> Operand | None:
    """Return a parameter of an operation that decodes weights: an attribute up to iOS 17, an argument since."""
    if name in operation.attributes:
        value = operation.attributes[name]
        return Operand("", tensor_type(value.type), value)
    return operation.argument(name)
