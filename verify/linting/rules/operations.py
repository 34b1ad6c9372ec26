"""Operations that the Neural Engine has no kernel for, or that crash where they run."""

from collections.abc import Iterator

import numpy as np

from mil.ops.catalogue import family_of
from verify.linting.graph import RECURRENT, is_transformer, origin
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Extent, Operand, Operation, Scope

_SCATTERING = frozenset({"scatter", "scatter_along_axis", "scatter_nd"})
_INDEXING = frozenset({"gather", "gather_along_axis", "gather_nd", "topk", "argsort"})
_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
_STATES = frozenset({"read_state", "write_state", "coreml_update_state"})
_CONVOLVING = frozenset({"conv", "conv_transpose"})
_POOLING = frozenset({"avg_pool", "max_pool", "l2_pool"})
_UPSAMPLING = frozenset({"upsample_nearest_neighbor", "upsample_bilinear"})
_BOUNDS = frozenset({"clip"})  # where an infinite bound is none at all
_LARGEST_KERNEL, _LARGEST_STRIDE, _LARGEST_UPSAMPLING = 13, 2, 2
_SCALAR = 1


def recurrent(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in RECURRENT:
            yield Hit("a recurrent layer has no kernel there, at any precision", operation)


def scattering(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in _SCATTERING:
            yield Hit("writes to indices, for which there is no kernel", operation)


def infinite_masks(scope: Scope) -> Iterator[Hit]:
    """Yield operations that read a constant with -inf in it, but for bounds, where it stands for none."""
    for operation in scope.operations:
        if operation.type in _BOUNDS or operation.type.startswith("reduce_"):
            continue
        for operand in operation.operands:
            extent = scope.extent(operand)
            if extent is not None and extent.low == -np.inf:
                yield Hit(
                    "reads a constant with -inf, which becomes NaN where it meets zero or another infinity", operation
                )
                break


def indices(scope: Scope) -> Iterator[Hit]:
    """Yield gathers and the like, and arithmetic on whole numbers; casts are left to the operations beside them."""
    for operation in scope.operations:
        if operation.holds_blocks:
            continue
        if operation.type in _INDEXING:
            yield Hit("takes values by index, which runs on the CPU", operation)
        elif operation.type != "cast" and any(result.element in _INTEGERS for result in operation.results):
            yield Hit("computes whole numbers, which runs on the CPU", operation)


def without_kernel(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type == "reduce_prod":
            yield Hit("a product along an axis has no kernel there", operation)
        elif operation.type in _CONVOLVING and len(operation.result.shape) == 5:
            yield Hit("a convolution in three dimensions has no kernel there", operation)
        elif family_of(operation.type) is None:
            yield Hit("a custom layer has no kernel there", operation)


def trigonometry(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in ("sin", "cos"):
            yield Hit("has a kernel on the A15 and later only", operation)


def large_steps(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        sentence = _large_step(scope, operation)
        if sentence:
            yield Hit(sentence, operation)


def _large_step(scope: Scope, operation: Operation) -> str:
    kernel, stride = _largest(scope, operation, "kernel_sizes"), _largest(scope, operation, "strides")
    if operation.type in _POOLING and kernel > _LARGEST_KERNEL:
        return f"pools over {kernel:g}, more than {_LARGEST_KERNEL}"
    if operation.type in _POOLING and stride > _LARGEST_STRIDE:
        return f"pools with a stride of {stride:g}, more than {_LARGEST_STRIDE}"
    if operation.type in _CONVOLVING and _largest(scope, operation, "dilations") > 1:
        return "is a dilated convolution"
    times = max(_largest(scope, operation, f"scale_factor_{axis}") for axis in ("height", "width"))
    if operation.type in _UPSAMPLING and times > _LARGEST_UPSAMPLING:
        return f"upsamples {times:g} times, more than {_LARGEST_UPSAMPLING}"
    return ""


def _largest(scope: Scope, operation: Operation, name: str) -> float:
    found = scope.array(operation.argument(name))
    return float(found.max()) if found is not None and found.size else 0.0


def states(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in _STATES:
            yield Hit("changes a state within the program, which was seen to fail with ANECCompile -14", operation)


def integer_products(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in ("matmul", "linear") and operation.result.element in _INTEGERS:
            yield Hit(f"multiplies matrices of {operation.result.element}", operation)


def repeated_scalars(scope: Scope) -> Iterator[Hit]:
    """Yield small computations that repeat, value for value, what an operation before them has computed."""
    numbers: dict[str, object] = {}
    first: set[object] = set()
    for operation in scope.operations:
        value = (operation.type, operation.block, tuple(_numbered(operation, numbers)))
        for index, result in enumerate(operation.results):
            numbers[result.name] = (hash(value), index)
        small = operation.result.type is not None and (operation.result.type.count or 0) == _SCALAR
        if value in first and small:
            yield Hit("computes a number that was computed before, between layers", operation)
        first.add(value)


def _numbered(operation: Operation, numbers: dict[str, object]) -> Iterator[object]:
    for name in sorted(operation.arguments):
        for operand in operation.arguments[name]:
            given = operand.value.SerializeToString(deterministic=True) if operand.value is not None else None
            yield name, given if given is not None else numbers.get(operand.name, operand.name)


def transposed_attention(scope: Scope) -> Iterator[Hit]:
    """Yield attention written as values × scoresᵀ in a transformer."""
    if not is_transformer(scope):
        return
    for operation in scope.operations:
        if operation.type != "matmul" or not scope.number(operation.argument("transpose_y")):
            continue
        scores = origin(scope, operation.argument("y"), frozenset({"cast", "identity"}))
        if scores is not None and scores.type == "softmax":
            yield Hit("multiplies values by transposed scores", operation)


def nan_protocol(scope: Scope) -> Iterator[Hit]:
    """Yield tests of a value against itself, which only NaN fails, and constants that hold NaN."""
    for operation in scope.operations:
        x, y = operation.argument("x"), operation.argument("y")
        if operation.type in ("equal", "not_equal") and x and y and x.name and x.name == y.name:
            yield Hit("compares a value with itself, to find NaN", operation)
        elif any(_is_nan(scope.extent(operand)) for operand in operation.operands):
            yield Hit("reads a constant with NaN in it", operation)


def _is_nan(extent: Extent | None) -> bool:
    return extent is not None and extent.nan


def recurrent_on_gpu(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in RECURRENT:
            yield Hit("a recurrent layer aborts in GPURNNOps when loaded for CPU and GPU", operation)


def quantized_activations(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        if operation.type in ("quantize", "dequantize") and not _constant(operation.argument("input")):
            yield Hit("quantizes activations, which pays on the A17 Pro, the M4 and later only", operation)


def _constant(operand: Operand | None) -> bool:
    return operand is not None and operand.value is not None


RULES = (
    Rule(
        "O1",
        "recurrent layers",
        "W",
        "confirmed",
        "coremltools#1780 (Apple); mobius ANE_Candidates 4; hollance",
        "leave them to the CPU, or train a network without them",
        leaves=True,
        function=recurrent,
    ),
    Rule(
        "O2",
        "scatter",
        "W",
        "confirmed",
        "mobius ANE_Candidates 1, nemotron README 5; ane-guide",
        "multiply by a one-hot matrix and add, or gather",
        leaves=True,
        function=scattering,
    ),
    Rule(
        "O3",
        "masks of -inf",
        "N",
        "reported",
        "mobius ANE_Candidates 1, nemotron export patches",
        "add a finite mask: -3e4 fits half precision",
        function=infinite_masks,
    ),
    Rule(
        "O4",
        "index arithmetic",
        "W",
        "confirmed",
        "rf-detr#1495 (measured); mobius nemotron; hollance",
        "keep it at the edge of the graph, or replace it by slices and constant matrices",
        leaves=True,
        function=indices,
    ),
    Rule(
        "O5",
        "operations without a kernel",
        "W",
        "reported",
        "ane-guide; hollance",
        "write it with other operations: a product as sums of logarithms, a 3-D convolution as several of 2-D",
        leaves=True,
        function=without_kernel,
    ),
    Rule(
        "O5-trigonometry",
        "sine and cosine",
        "W",
        "reported",
        "ane-guide; hollance",
        "put tables in as constants",
        only="before the A15",
        function=trigonometry,
    ),
    Rule(
        "O6",
        "large pools, strides, dilations and upsampling, which older reports keep off the Neural Engine",
        "I",
        "disputed",
        "hollance, marked as possibly wrong; ane-guide says that dilation is native",
        "measure on a device before changing anything",
        function=large_steps,
    ),
    Rule(
        "O8",
        "states that change within the program",
        "W",
        "reported",
        "mobius#77",
        "pass the state in and out",
        leaves=True,
        function=states,
    ),
    Rule(
        "O9",
        "products of integer matrices",
        "E",
        "reported",
        "coremltools#2575: fails at run time, -14",
        "cast to fp16 before it",
        leaves=True,
        function=integer_products,
    ),
    Rule(
        "O10",
        "the same scalar computed again and again between layers",
        "W",
        "reported",
        "mobius ANE_Candidates 2: 17 ms became 9.6 ms",
        "compute it once, before the layers",
        function=repeated_scalars,
    ),
    Rule(
        "O11",
        "attention as values × scoresᵀ",
        "E",
        "reported",
        "ultralytics#25860: the MLIR pass manager failed",
        "let it be lowered as scaled_dot_product_attention, or transpose the values",
        only="GPU",
        function=transposed_attention,
    ),
    Rule(
        "P4",
        "NaN used as a signal",
        "N",
        "reported",
        "mobius ANE_Candidates 6: mangled before it is looked at",
        "pass a mask",
        function=nan_protocol,
    ),
    Rule(
        "Q8",
        "quantized activations",
        "W",
        "documented",
        "coremltools opt-quantization-perf; mobius nemotron",
        "quantize weights only, unless all devices are recent and nearly all of the graph is on the Neural Engine",
        function=quantized_activations,
    ),
    Rule(
        "R5",
        "recurrent layers loaded for CPU and GPU",
        "E",
        "confirmed",
        "FluidAudio#667, #818: JIT not supported",
        "load for the CPU only, or for CPU and Neural Engine",
        only="GPU of the M5, system 26.5",
        function=recurrent_on_gpu,
    ),
)
