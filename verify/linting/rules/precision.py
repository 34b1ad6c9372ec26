"""What is computed in which precision, and what half precision cannot hold."""

from collections.abc import Iterator

import numpy as np

from mil.program import Program
from mil.schema import FeatureTypes_pb2
from verify.linting.graph import origin
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Operand, Operation, Scope

LARGEST_HALF = 65504.0
_HALF_ARRAY = FeatureTypes_pb2.ArrayFeatureType.FLOAT16
_LOSING = frozenset({"exp", "exp2", "log", "cumsum", "softplus", "softplus_parametric"})
_PROBABILITIES = frozenset({"softmax", "sigmoid"})
_FLOORED = frozenset({"rsqrt", "inverse", "layer_norm", "instance_norm", "batch_norm", "l2_norm"})
_SCALING = frozenset({"mul", "real_div", "floor_div"})
_ARITHMETIC = _SCALING | {"add", "sub", "floor"}
_LARGEST_WHOLE_HALF = 2048


def full_precision(scope: Scope) -> Iterator[Hit]:
    """Yield what computes in single precision; casts are the border of it and count apart."""
    for operation in scope.operations:
        if operation.type != "cast" and not operation.holds_blocks and is_full(operation):
            yield Hit("computes in single precision", operation)


def is_full(operation: Operation) -> bool:
    """Return whether an operation's results are in single or double precision."""
    return any(result.element in ("fp32", "fp64") for result in operation.results)


def losing(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in _LOSING and operation.halves and not _of_probabilities(scope, operation):
            yield Hit("in half precision, of 11 bits and at most 65504", operation)


def log_of_probabilities(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type == "log" and operation.halves and _of_probabilities(scope, operation):
            yield Hit(
                "the logarithm of probabilities in half precision: what is below 6e-8 is zero, its log -inf", operation
            )


def _of_probabilities(scope: Scope, operation: Operation) -> bool:
    made = origin(scope, operation.argument("x"))
    return operation.type == "log" and made is not None and made.type in _PROBABILITIES


def vanishing_epsilon(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        operand = operation.argument("epsilon")
        if operation.type not in _FLOORED or not operation.halves or operand is None:
            continue
        epsilon = scope.number(operand)
        if epsilon is not None and np.float16(epsilon) == 0:
            yield Hit("its epsilon is zero in half precision, so it can divide by zero", operation)


def large_constants(scope: Scope) -> Iterator[Hit]:
    """Yield operations that read constants which half precision cannot hold; infinite bounds are none."""
    for operation in scope.operations:
        if operation.type != "clip" and any(_too_large(scope, operand) for operand in operation.operands):
            yield Hit(f"reads a constant beyond {LARGEST_HALF:g}, which is infinite in half precision", operation)


def _too_large(scope: Scope, operand: Operand) -> bool:
    extent = scope.extent(operand)
    if extent is None or extent.low == -np.inf:  # a mask: O3
        return False
    return max(extent.high, -extent.low) > LARGEST_HALF


def rounded_division(scope: Scope) -> Iterator[Hit]:
    """Yield where whole numbers that were cast to half precision are scaled and made whole again."""
    for operation in scope.operations:
        makes_whole = operation.type == "cast" and _is_whole(operation.result)
        if not makes_whole and operation.type not in ("floor", "floor_div"):
            continue
        chain = list(_arithmetic_before(scope, operation))
        scaled = any(one.type in _SCALING and one.halves for one in chain)
        read = chain[-1].argument("x")
        if scaled and chain[-1].type == "cast" and read is not None and _is_whole(read):
            yield Hit(f"divides whole numbers in half precision, exact up to {_LARGEST_WHOLE_HALF}", operation)


def _arithmetic_before(scope: Scope, operation: Operation) -> Iterator[Operation]:
    """Yield an operation and what computed its first operand, back to what is no arithmetic."""
    yield operation
    before = scope.maker(next(operation.variables, None))
    while before is not None:
        yield before
        if before.type not in _ARITHMETIC:
            return
        before = scope.maker(next(before.variables, None))


def _is_whole(operand: Operand) -> bool:
    return operand.type is not None and operand.type.element.kind in ("int", "uint")


def half_outputs(program: Program) -> Iterator[Hit]:
    """Yield outputs of the model in half precision; what the stages of a pipeline pass on is their own business."""
    description = program.spec.description
    for about in (description, *description.functions):
        for feature in about.output:
            if feature.type.multiArrayType.dataType == _HALF_ARRAY:
                yield Hit(f"output `{feature.name}` is fp16: its rows are padded")


RULES = (
    Rule(
        "P1",
        "single precision, where the Neural Engine has half precision only",
        "W",
        "documented",
        "coremltools typed-execution; hollance 16-bit; mobius ANE_OPTIMIZATION_RESULTS",
        "convert with compute precision fp16, and keep single precision to what needs it",
        leaves=True,
        function=full_precision,
    ),
    Rule(
        "P2",
        "exponentials, logarithms and running sums in half precision",
        "N",
        "reported",
        "hollance 16-bit; mobius convert-coreml.py",
        "keep these in single precision, or bound what they read",
        function=losing,
    ),
    Rule(
        "P2-log-probability",
        "the logarithm of a softmax or sigmoid in half precision",
        "N",
        "measured",
        "log_softmax converted as softmax and log: -25 becomes -103",
        "write it as x - logsumexp(x)",
        function=log_of_probabilities,
    ),
    Rule(
        "P2-epsilon",
        "an epsilon that half precision rounds to zero",
        "N",
        "reported",
        "hollance 16-bit; mobius convert-coreml.py",
        "use 6e-8 or more, better 1e-5, or keep the operation in single precision",
        function=vanishing_epsilon,
    ),
    Rule(
        "P2-constant",
        "constants beyond what half precision holds",
        "N",
        "reported",
        "hollance 16-bit",
        "scale before the operation, or keep it in single precision",
        function=large_constants,
    ),
    Rule(
        "P3",
        "the floor of a quotient of whole numbers",
        "N",
        "reported",
        "mobius nemotron README 6",
        "divide as integers, or put the table in as a constant",
        function=rounded_division,
    ),
    Rule(
        "P5",
        "outputs in half precision",
        "E",
        "confirmed",
        "mobius nemotron 8; FluidAudio SortformerModelInference",
        "declare the output as fp32 when converting",
        model=half_outputs,
    ),
)
