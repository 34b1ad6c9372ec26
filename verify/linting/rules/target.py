"""Which system a program needs."""

from collections.abc import Iterator

from mil.grammar import OPSETS, opset_of_proto
from mil.program import Program
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Scope

# Operations that came later than ios15, by the operation set that brought them (coremltools 9.0).
SINCE = {
    "ios16": (
        "constexpr_affine_dequantize",
        "constexpr_cast",
        "constexpr_lut_to_dense",
        "constexpr_sparse_to_dense",
        "fill_like",
        "pixel_unshuffle",
        "reshape_like",
    ),
    "ios17": ("dequantize", "quantize", "resize"),
    "ios18": (
        "constexpr_blockwise_shift_scale",
        "constexpr_lut_to_sparse",
        "constexpr_sparse_blockwise_shift_scale",
        "read_state",
        "scaled_dot_product_attention",
        "slice_update",
    ),
}
_FIRST = {operation: opset for opset, operations in SINCE.items() for operation in operations}
_ORDER = [opset.text for opset in OPSETS]
_OLDEST_OF_APPS = "ios17"


def too_new(scope: Scope) -> Iterator[Hit]:
    """Yield operations that the function's operation set does not have."""
    for operation in scope.every:
        first = _FIRST.get(operation.type)
        if first is not None and _ORDER.index(first) > _ORDER.index(scope.opset.text):
            yield Hit(f"came with {first}, the function is {scope.opset.text}", operation)


def inconsistent(program: Program) -> Iterator[Hit]:
    """Yield functions of an operation set that the model's specification version does not reach."""
    for stage in program.stages:
        version = stage.package.spec.specificationVersion
        for name, function in stage.program.functions.items():
            opset = opset_of_proto(function.opset)
            if opset.specification > version:
                needed = opset.specification
                yield Hit(f"`{name}` is {opset.text}, which is specification {needed}, and the model says {version}")


def newer_than_apps(program: Program) -> Iterator[Hit]:
    """Yield functions that need a newer system than the apps that use such models do."""
    for stage in program.stages:
        for name, function in stage.program.functions.items():
            opset = opset_of_proto(function.opset)
            if _ORDER.index(opset.text) > _ORDER.index(_OLDEST_OF_APPS):
                yield Hit(f"`{name}` needs {opset.text}; FluidAudio runs on {_OLDEST_OF_APPS} and later")


RULES = (
    Rule(
        "T2",
        "operations newer than the function's operation set",
        "E",
        "documented",
        "coremltools opt-overview, its registry of operations",
        "convert for the target that has them",
        function=too_new,
    ),
    Rule(
        "T2-specification",
        "operation set and specification version do not agree",
        "E",
        "documented",
        "coremltools, specification versions of targets",
        "convert again; a version edited by hand is not enough",
        model=inconsistent,
    ),
    Rule(
        "T2-apps",
        "needs a newer system than the apps do",
        "I",
        "documented",
        "FluidAudio's minimum, iOS 17",
        "publish a variant for iOS 17 beside it",
        model=newer_than_apps,
    ),
)
