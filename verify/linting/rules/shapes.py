"""Dimensions, ranks, layouts and shapes that vary."""

from collections.abc import Callable, Iterator, Sequence

from mil.values import TensorType
from verify.linting.graph import attention, is_transformer, palettes
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Scope

LARGEST_INNER, LARGEST_OUTER = 16384, 65536
_MEL_BANDS = (80, 128)
_MOST_MEL_FRAMES = 1376
_MOST_SHAPES = 128
_PADDED_BYTES = 64
_WORTH_TELLING_BYTES = 1 << 20


def too_long(scope: Scope) -> Iterator[Hit]:
    """Yield operations that read or make a tensor with an axis that the Neural Engine cannot address.

    Its tensors have at most 16384 along the last two axes (and the depth), 65536 along batch and channels.
    """
    for operation in scope.operations:
        tensors = (*operation.variables, *operation.results)
        reasons = [reason for tensor in tensors for reason in _over(tensor.shape)]
        if reasons:
            yield Hit(reasons[0], operation)


def _over(shape: Sequence[int | None]) -> Iterator[str]:
    for place, size in enumerate(reversed(shape)):
        inner = place == 0 or (place == 1 and len(shape) > 3) or (place == 2 and len(shape) > 4)
        most = LARGEST_INNER if inner else LARGEST_OUTER
        if size is not None and size > most:
            yield f"reads or makes a tensor with an axis of {size}; the most is {most}"


def rank_over_five(scope: Scope) -> Iterator[Hit]:
    yield from _of_rank(scope, lambda rank: rank > 5, "Core ML knows no rank above 5")


def rank_five(scope: Scope) -> Iterator[Hit]:
    yield from _of_rank(scope, lambda rank: rank == 5, "makes a tensor of rank 5")


def _of_rank(scope: Scope, matches: Callable[[int], bool], sentence: str) -> Iterator[Hit]:
    for operation in scope.operations:
        if any(matches(len(result.shape)) for result in operation.results):
            yield Hit(sentence, operation)


def padded(scope: Scope) -> Iterator[Hit]:
    """Yield operations whose result has a last axis of one and grows by a megabyte or more when that is padded."""
    for operation in scope.operations:
        for result in operation.results:
            if (
                result.type
                and result.shape[-1:] == (1,)
                and (result.type.count or 0) * _PADDED_BYTES >= _WORTH_TELLING_BYTES
            ):
                times = _PADDED_BYTES * 8 // max(result.type.element.bits, 1)
                yield Hit(f"makes a tensor with a last axis of 1, which takes {times} times its memory", operation)


def empty(scope: Scope) -> Iterator[Hit]:
    """Yield operations that read or make a tensor without elements."""
    for operation in scope.operations:
        if any(0 in tensor.shape for tensor in (*operation.variables, *operation.results)):
            yield Hit("reads or makes a tensor of length zero", operation)


def many_mel_frames(scope: Scope) -> Iterator[Hit]:
    """Yield a transformer that is fed more frames of mel features than were seen to compile."""
    if not is_transformer(scope):
        return
    for feature in scope.inputs:
        shape = [size or 0 for size in feature.type.shape or ()]
        bands = next((size for size in shape[1:] if size in _MEL_BANDS), None)
        frames = max((size for size in shape[1:] if size != bands), default=0)
        if bands is not None and frames > _MOST_MEL_FRAMES:
            yield Hit(f"input `{feature.name}` has {frames} mel frames; {_MOST_MEL_FRAMES} compiled, 1536 did not")


def batched_transformer(scope: Scope) -> Iterator[Hit]:
    """Yield a transformer whose attention, (batch, head, query, …), has a batch; other inputs may lead with layers."""
    if not is_transformer(scope):
        return
    batch = max((o.result.shape[0] or 1 for o in attention(scope) if len(o.result.shape) == 4), default=1)
    if batch > 1:
        yield Hit(f"attends in a batch of {batch}")


def odd_states(scope: Scope) -> Iterator[Hit]:
    for feature in scope.states:
        last = (feature.type.shape or (0,))[-1]
        if last is not None and last % 32:
            yield Hit(f"state `{feature.name}` is {last} wide, which is no multiple of 32")


def dynamic(scope: Scope) -> Iterator[Hit]:
    """Yield operations that make a tensor of a length that is known only at run time; not those of listed shapes."""
    if any(feature.choices for feature in scope.inputs) and not any(feature.ranges for feature in scope.inputs):
        return
    for operation in scope.operations:
        if any(_varies(result.type) for result in operation.results):
            yield Hit("makes a tensor of a length that is known only at run time", operation)


def _varies(kind: TensorType | None) -> bool:
    return kind is not None and kind.element.kind != "string" and (kind.shape is None or None in kind.shape)


def wrong_lists_of_shapes(scope: Scope) -> Iterator[Hit]:
    listed = [feature for feature in scope.inputs if feature.choices]
    for feature in listed:
        if len(feature.choices) > _MOST_SHAPES:
            yield Hit(f"input `{feature.name}` has {len(feature.choices)} shapes; the most is {_MOST_SHAPES}")
    if len(listed) > 1 and scope.opset.specification < 9:
        yield Hit(f"{len(listed)} inputs have lists of shapes; before iOS 18 only one may")
    elif len({len(feature.choices) for feature in listed}) > 1:
        yield Hit("inputs have lists of shapes of different lengths; they are matched one by one")


def lists_of_shapes(scope: Scope) -> Iterator[Hit]:
    for feature in scope.inputs:
        if feature.choices:
            packed = " and its weights are palettes" if palettes(scope) else ""
            yield Hit(f"input `{feature.name}` has a list of {len(feature.choices)} shapes{packed}")


def dynamic_tile(scope: Scope) -> Iterator[Hit]:
    for operation in scope.operations:
        repetitions = operation.argument("reps")
        if operation.type == "tile" and scope.opset.specification >= 9 and repetitions and repetitions.value is None:
            yield Hit("repeats as often as is known only at run time", operation)


RULES = (
    Rule(
        "D1",
        "an axis is longer than the Neural Engine can address, such as that of a raw waveform or a flattened matrix",
        "W",
        "confirmed",
        "FluidAudio#121; mobius parakeet notes; onnxruntime#19543",
        "cut a waveform into frames by a strided convolution, or feed features; do not flatten two long axes into one",
        leaves=True,
        function=too_long,
    ),
    Rule(
        "D2",
        "a tensor has more than five axes",
        "E",
        "confirmed",
        "coremltools#1723, #2291; executorch#11694",
        "merge axes before the operation and part them after it",
        leaves=True,
        function=rank_over_five,
    ),
    Rule(
        "D3",
        "a tensor has five axes, which the compiler of the Neural Engine rejects in practice",
        "W",
        "reported",
        "mobius ANE_Candidates 1",
        "merge two axes",
        leaves=True,
        function=rank_five,
    ),
    Rule(
        "D4",
        "the last axis of a large tensor is one element, and is padded to 64 bytes",
        "W",
        "documented",
        "Apple, Deploying Transformers on the Apple Neural Engine",
        "put the longest axis last: (batch, channel, 1, sequence)",
        function=padded,
    ),
    Rule(
        "D5",
        "a transformer over more mel frames than the compiler of the Neural Engine takes",
        "W",
        "inferred",
        "mobius nemotron3, by bisection; the same family as Sortformer v2",
        "shorten the chunk, or plan for the GPU",
        leaves=True,
        function=many_mel_frames,
    ),
    Rule(
        "D6",
        "a transformer with a batch",
        "W",
        "reported",
        "mobius nemotron3 README 9: none of it ran on the Neural Engine",
        "convert with a batch of one and call it more often",
        leaves=True,
        function=batched_transformer,
    ),
    Rule(
        "D7",
        "a state's width is no multiple of 32",
        "E",
        "reported",
        "coremltools#2631",
        "pad the state to a multiple of 32",
        function=odd_states,
    ),
    Rule(
        "O7",
        "a tensor of length zero, which crashes the Neural Engine",
        "E",
        "reported",
        "mobius convert_to_coreml.py",
        "pack by a gather of fixed length, and mask",
        function=empty,
    ),
    Rule(
        "S1",
        "lengths that vary within a range are not placed on the Neural Engine",
        "W",
        "disputed",
        "FluidAudio ANE_Profiler; coremltools flexible-inputs; coremltools#2370 saw the default shape run there",
        "publish a fixed shape beside the flexible one",
        leaves=True,
        function=dynamic,
    ),
    Rule(
        "S2",
        "lists of shapes that Core ML refuses",
        "E",
        "documented",
        "coremltools flexible-inputs",
        "list at most 128 shapes, for one input; since iOS 18 for several, as many for each",
        function=wrong_lists_of_shapes,
    ),
    Rule(
        "S3",
        "lists of shapes crash some systems, above all with palettes",
        "E",
        "confirmed",
        "speech-swift#313, #314, #290",
        "use a range, or one fixed shape",
        only="M5; virtual machines",
        function=lists_of_shapes,
    ),
    Rule(
        "S4",
        "tile by a number that is known only at run time",
        "E",
        "reported",
        "speech-swift#314",
        "broadcast instead, or fix the number",
        function=dynamic_tile,
    ),
)
