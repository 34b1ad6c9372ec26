"""How weights are compressed, and what that breaks where."""

from collections.abc import Iterator

from mil.program import Program
from mil.text import bytes_text
from mil.traverse import blobs
from mil.values import tensor_type
from verify.linting.graph import RECURRENT, is_transformer, linear_weights, palettes, parameter
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Operation, Scope

IOS17, IOS18 = 8, 9  # specification versions
WIDTHS, OLD_WIDTHS = (1, 2, 3, 4, 6, 8), (1, 2, 4, 6, 8)
LARGEST_FILE = 2 << 30
WORTH_IT_BYTES = 50_000_000
_CACHES = ("spkcache", "fifo")


def widths(scope: Scope) -> Iterator[Hit]:
    """Yield palettes of a width, granularity or type that the target does not know."""
    old = scope.opset.specification < IOS18
    for operation in palettes(scope):
        lut, bits = parameter(operation, "lut"), palette_bits(operation)
        known = OLD_WIDTHS if old else WIDTHS
        if bits not in known:
            yield Hit(f"a palette of {bits} bits; {scope.opset.text} knows {', '.join(map(str, known))}", operation)
        if old and lut is not None and len(lut.shape) > 1:
            yield Hit("several palettes for one tensor need iOS 18", operation)
        if old and lut is not None and lut.element in ("int8", "uint8"):
            yield Hit("a palette of 8-bit integers needs iOS 18", operation)


def palette_bits(operation: Operation) -> int:
    """Return the width of a palette's indices in bits; 0 where it is not known."""
    lut = parameter(operation, "lut")
    sizes = lut.shape if lut is not None else ()
    entries = sizes[-2] if len(sizes) > 1 else (sizes[0] if sizes else 0)
    return max((entries or 1) - 1, 0).bit_length()


def integers_in_transformers(scope: Scope) -> Iterator[Hit]:
    if is_transformer(scope):
        for operation in linear_weights(scope):
            if _element(operation) in ("int8", "uint8"):
                yield Hit("8-bit integers with a scale, in a network that attends", operation)


def _element(operation: Operation) -> str:
    data = parameter(operation, "quantized_data") or parameter(operation, "data")
    return data.element if data is not None else ""


def scaled(scope: Scope) -> Iterator[Hit]:
    """Yield weights in blocks with a scale each, and palettes with a scale for each channel."""
    for operation in scope.every:
        if operation.type in ("constexpr_blockwise_shift_scale", "constexpr_sparse_blockwise_shift_scale"):
            data = scope.maker(operation.argument("data"))
            palette = data is not None and data.type.startswith("constexpr_lut_to_")
            yield Hit(f"{'a palette' if palette else 'blocks of integers'} with scales", operation)


def four_bits(scope: Scope) -> Iterator[Hit]:
    for operation in palettes(scope):
        if palette_bits(operation) == 4:
            yield Hit("a palette of 4 bits", operation)


def linear(scope: Scope) -> Iterator[Hit]:
    for operation in linear_weights(scope):
        yield Hit("integers with a scale", operation)


def small_blocks(scope: Scope) -> Iterator[Hit]:
    stored = sum(constant.type.size_bytes or 0 for constant in scope.constants.values() if constant.type is not None)
    for operation in linear_weights(scope) if stored < WORTH_IT_BYTES else ():
        if _element(operation) in ("int4", "uint4"):
            yield Hit("4-bit blocks in a small network", operation)


def carried_error(scope: Scope) -> Iterator[Hit]:
    """Yield the palettes of a network that is fed what it put out before."""
    streams = [feature.name for feature in scope.inputs if feature.name in _CACHES]
    layers = [operation for operation in scope.operations if operation.type in RECURRENT]
    if not streams and not (layers and scope.states):
        return
    for operation in palettes(scope):
        yield Hit("a palette in a network that reads its own results again", operation)


def total_weights(program: Program) -> int:
    """Return the bytes of all constants in weight files, each counted once."""
    sizes = {
        (index, value.blobFileValue.fileName, value.blobFileValue.offset): tensor_type(value.type)
        for index, stage in enumerate(program.stages)
        for value in blobs(stage.program)
    }
    return sum((kind.size_bytes or 0) for kind in sizes.values() if kind is not None)


def too_large(program: Program) -> Iterator[Hit]:
    size = total_weights(program)
    if size > LARGEST_FILE:
        yield Hit(f"weights of {bytes_text(size)} in one file; the most is {bytes_text(LARGEST_FILE)}")


def too_small(program: Program) -> Iterator[Hit]:
    size, least = total_weights(program), f"{WORTH_IT_BYTES // 1_000_000} MB"
    if size < WORTH_IT_BYTES:
        yield Hit(
            f"weights of {bytes_text(size)}; below about {least} the Neural Engine often costs more than it saves"
        )


RULES = (
    Rule(
        "D8",
        "more than 2 GB of weights in one file",
        "E",
        "confirmed",
        "coremltools#1807",
        "compress the weights, or part the model into a pipeline",
        model=too_large,
    ),
    Rule(
        "Q1",
        "palettes that the target does not know",
        "E",
        "documented",
        "coremltools opt-palettization-overview, opt-overview",
        "choose another width or granularity, or a newer target",
        function=widths,
    ),
    Rule(
        "Q2",
        "8-bit integer weights in a transformer such as Sortformer",
        "E",
        "disputed",
        "mobius#73: the MLIR pass manager failed; FluidAudio#872 ships such weights without trouble",
        "use palettes",
        only="GPU",
        function=integers_in_transformers,
    ),
    Rule(
        "Q3",
        "scales for channels or blocks, as iOS 18 has them",
        "E",
        "confirmed",
        "coremltools#2688, #2716: mps.dequantize aborts",
        "use palettes without scales",
        only="GPU",
        function=scaled,
    ),
    Rule(
        "Q5",
        "4-bit palettes, which were seen to compute something else",
        "N",
        "reported",
        "coremltools#2716: cosine 0.03 on the CPU, 0.63 on the Neural Engine",
        "compare predictions on a device before publishing, or use 6 bits",
        function=four_bits,
    ),
    Rule(
        "Q6",
        "integer weights, which were seen to compute something else on GPU and Neural Engine",
        "N",
        "reported",
        "coremltools#2114",
        "compare predictions on every compute unit before publishing",
        function=linear,
    ),
    Rule(
        "Q7",
        "4-bit blocks in a small network run on the CPU, without a word",
        "W",
        "reported",
        "A. Videla, ANE book, chapter 3 (M4 Max)",
        "use a palette",
        function=small_blocks,
    ),
    Rule(
        "Q9",
        "8-bit integer weights in an encoder that attends",
        "E",
        "reported",
        "FluidAudio#828: loads on neither Neural Engine nor CPU",
        "use palettes where the A16 matters",
        only="A16",
        function=integers_in_transformers,
    ),
    Rule(
        "Q10",
        "palettes in a streaming network, whose error is carried on",
        "N",
        "confirmed",
        "FluidAudio Sortformer.md, #760",
        "measure a long run, not one call",
        function=carried_error,
    ),
    Rule(
        "R1",
        "a small network, which is usually not worth the way to the Neural Engine",
        "I",
        "reported",
        "FluidAudio ANE_Profiler; mobius ANE_Candidates 7",
        "time it on the CPU as well; a plan's preferred device is not where it runs",
        model=too_small,
    ),
)
