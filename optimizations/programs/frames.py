"""Groups of slices that cut frames out of one tensor: found, and made one convolution."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.schema import MIL_pb2
from optimizations.programs.edit import Chain, Edits
from optimizations.programs.graph import DeclinedError, Graph
from optimizations.programs.rewriting import Change
from optimizations.programs.slices import Cut, Slice, read_slice

if TYPE_CHECKING:
    from optimizations.fold_frame_slices import Options

_VIEWS = frozenset(["expand_dims", "squeeze", "reshape"])
_GROUPS = frozenset(["stack", "concat"])


@dataclass(frozen=True)
class Frames:
    """N equal cuts at a constant stride from one axis of one tensor.

    shape    of the source
    first    the cut that the first frame is
    stride   from the begin of one frame to that of the next
    member   the shape in which each frame enters the group
    """

    source: str
    shape: tuple[int, ...]
    first: Cut
    stride: int
    count: int
    member: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements of the axis lie between the begin of the first frame and the end of the last."""
        return (self.count - 1) * self.stride + self.first.extent


@dataclass(frozen=True)
class _Kernel:
    """Taps, the first of which a frame begins at, and whether the frames' part is cut out of the axis before."""

    begin: int
    taps: int
    cut_out: bool


def fold(graph: Graph, edits: Edits, options: "Options") -> Change:
    """Return convolutions for the groups of slices in a block, and why other groups stay."""
    replacements: dict[str, Sequence[MIL_pb2.Operation]] = {}
    folded: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    for operation in graph.block.operations:
        slices = _slices(graph, operation)
        if not slices:
            continue
        name = operation.outputs[0].name
        try:
            frames = _frames(graph, operation, slices, options)
            kernel = _kernel(frames, options)
        except DeclinedError as reason:
            left.append({"name": name, "slices": len(slices), "reason": str(reason)})
            continue
        replacements[name] = _convolution(graph, edits, operation, frames, kernel)
        folded.append(_told(name, frames, kernel))
    return Change(replacements, {"folded": folded, "left": left})


def _told(name: str, frames: Frames, kernel: _Kernel) -> dict[str, Any]:
    facts = {"name": name, "source": frames.source, "slices": frames.count, "length": frames.first.length}
    return facts | {"stride": frames.stride, "kernel": [frames.first.length, kernel.taps]}


def _slices(graph: Graph, operation: MIL_pb2.Operation) -> dict[int, list[MIL_pb2.Operation]]:
    """Return the values of a stack or concat that are slices, by position: the slice and the views behind it."""
    if operation.type not in _GROUPS:
        return {}
    paths = {place: _path(graph, name) for place, name in enumerate(graph.names(operation, "values"))}
    return {place: path for place, path in paths.items() if path}


def _path(graph: Graph, name: str) -> list[MIL_pb2.Operation]:
    """Return the slice that a value is and the views that lead from it to the value; nothing where it is none."""
    path: list[MIL_pb2.Operation] = []
    while name in graph.own:
        path.append(graph.producers[name])
        if path[-1].type == "slice_by_index":
            return path[::-1]
        if path[-1].type not in _VIEWS:
            return []
        name = graph.names(path[-1], "x")[0]
    return []


def _frames(
    graph: Graph, operation: MIL_pb2.Operation, paths: dict[int, list[MIL_pb2.Operation]], options: "Options"
) -> Frames:
    """Return the frames that a group puts together; declines where they are none."""
    values = graph.names(operation, "values")
    if len(paths) < len(values):
        missing = next(place for place in range(len(values)) if place not in paths)
        raise DeclinedError(
            f"{len(values) - len(paths)} of {len(values)} values are no slices, such as value {missing}"
        )
    if len(values) < options.fewest:
        raise DeclinedError(f"only {len(values)} slices, fewer than {options.fewest}")
    if operation.type == "concat" and bool(graph.constant(operation, "interleave", False)):
        raise DeclinedError("it interleaves its values")
    _check_uses(graph, list(paths.values()))
    slices = [_read(graph, paths[place][0]) for place in range(len(values))]
    first = slices[0]
    if graph.element(first.source).name not in ("fp16", "fp32"):
        raise DeclinedError(f"`{first.source}` is of {graph.element(first.source).name}, which cannot be convolved")
    members = {graph.shape(name) for name in values}
    cut, stride = _regular(slices)
    if len(members) > 1:
        raise DeclinedError(f"the slices are reshaped differently, to {' and '.join(map(str, sorted(members)))}")
    return Frames(first.source, first.shape, cut, stride, len(slices), members.pop())


def _read(graph: Graph, operation: MIL_pb2.Operation) -> Slice:
    try:
        return read_slice(graph, operation)
    except DeclinedError as reason:
        raise DeclinedError(f"slice `{operation.outputs[0].name}`: {reason}") from None


def _check_uses(graph: Graph, paths: list[list[MIL_pb2.Operation]]) -> None:
    """Decline slices that something else uses too: they would stay."""
    for path in paths:
        for operation in path:
            name = operation.outputs[0].name
            if graph.reads[name] > 1:
                raise DeclinedError(f"slice `{path[0].outputs[0].name}` is used more than once, as `{name}`")


def _regular(slices: list[Slice]) -> tuple[Cut, int]:
    """Return the first cut and the stride to the next; declines slices that are not frames of one axis."""
    if len({each.source for each in slices}) > 1:
        other = next(each for each in slices if each.source != slices[0].source)
        raise DeclinedError(f"the slices are of different tensors, `{slices[0].source}` and `{other.source}`")
    for each in slices:
        if len(each.cuts) != 1:
            raise DeclinedError(f"slice `{each.name}` cuts {len(each.cuts)} axes, not one")
    cuts = [each.cuts[0] for each in slices]
    for what in ("axis", "length", "stride"):
        found = sorted({getattr(cut, what) for cut in cuts})
        if len(found) > 1:
            raise DeclinedError(f"the slices differ in {what}: {', '.join(map(str, found[:4]))}")
    steps = sorted({after.begin - before.begin for before, after in itertools.pairwise(cuts)})
    if len(steps) > 1:
        raise DeclinedError(f"the slices begin at no constant stride, but {', '.join(map(str, steps[:4]))} apart")
    if steps[0] < 1:
        raise DeclinedError(f"the slices do not run forwards: each begins {steps[0]} after the one before")
    return cuts[0], steps[0]


def _kernel(frames: Frames, options: "Options") -> _Kernel:
    """Return the shortest kernel with which a convolution of the whole axis has exactly the frames as its outputs."""
    size = frames.shape[frames.first.axis]
    taps = max(frames.first.begin + frames.first.extent, size - frames.count * frames.stride + 1)
    kernel = _Kernel(frames.first.begin, taps, False)
    if taps > 2 * frames.first.extent:  # most taps would be zeros
        kernel = _Kernel(0, frames.first.extent, True)
    if frames.first.length * kernel.taps > options.largest_kernel:
        raise DeclinedError(
            f"a kernel of {frames.first.length} × {kernel.taps} has more than {options.largest_kernel} elements"
        )
    return kernel


def _convolution(
    graph: Graph, edits: Edits, operation: MIL_pb2.Operation, frames: Frames, kernel: _Kernel
) -> list[MIL_pb2.Operation]:
    """Return the operations that put the frames together as a group does.

    Along (before, axis, after) of the source, a convolution gives (before, sample, frame, after). The group wants the
    frame between those axes of its members that lie left and right of its own.
    """
    axis, length = frames.first.axis, frames.first.length
    kind = graph.types[frames.source]
    assert kind is not None
    name = operation.outputs[0].name
    chain = Chain(edits, frames.source, kind, name)
    if kernel.cut_out:
        _cut_out(chain, frames)
    before, after = math.prod(frames.shape[:axis]), math.prod(frames.shape[axis + 1 :])
    chain.reshape([before, 1, chain.shape[axis], *([after] if after > 1 else [])])
    weight = np.zeros((length, 1, kernel.taps), np.float32)
    weight[np.arange(length), 0, kernel.begin + np.arange(length) * frames.first.stride] = 1
    chain.convolve(weight, frames.stride)
    if after > 1:
        chain.transpose(0, 1, 3, 2)
    place = int(graph.constant(operation, "axis"))
    place += 0 if place >= 0 else len(frames.member) + (operation.type == "stack")
    left, right = math.prod(frames.member[:place]), math.prod(frames.member[place:])
    if right > 1:
        chain.reshape([left, right, frames.count])
        chain.transpose(0, 2, 1)
    chain.reshape(graph.shape(name))
    return chain.instead_of(operation)


def _cut_out(chain: Chain, frames: Frames) -> None:
    """Add the one slice that holds all frames."""
    axis, begin = frames.first.axis, frames.first.begin
    whole = np.arange(len(frames.shape)) != axis
    first, last, shape = np.zeros(len(frames.shape), np.int32), np.array(frames.shape, np.int32), list(frames.shape)
    first[axis], last[axis], shape[axis] = begin, begin + frames.span, frames.span
    chain.add("slice_by_index", shape, begin=first, end=last, begin_mask=whole, end_mask=whole)
