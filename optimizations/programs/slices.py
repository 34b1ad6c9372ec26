"""What a `slice_by_index` cuts out of which axes."""

import math
from dataclasses import dataclass

import numpy as np

from mil.schema import MIL_pb2
from optimizations.programs.graph import DeclinedError, Graph


@dataclass(frozen=True)
class Cut:
    """The elements begin, begin + stride, … of one axis, `length` of them."""

    axis: int
    begin: int
    length: int
    stride: int

    @property
    def extent(self) -> int:
        """How many neighbouring elements the cut lies in."""
        return (self.length - 1) * self.stride + 1


@dataclass(frozen=True)
class Slice:
    """A `slice_by_index` of fixed bounds.

    shape    of the source
    cuts     of the axes that are not taken whole
    result   the declared shape of the result, which may lack axes of one element
    """

    name: str
    source: str
    shape: tuple[int, ...]
    cuts: tuple[Cut, ...]
    result: tuple[int, ...]


def read_slice(graph: Graph, operation: MIL_pb2.Operation) -> Slice:
    """Return what an operation cuts out; declines bounds that are computed, run backwards or leave the axis."""
    name, source = operation.outputs[0].name, graph.names(operation, "x")[0]
    shape = graph.shape(source)
    rank = len(shape)
    begin, end = (np.asarray(graph.constant(operation, key)).reshape(-1) for key in ("begin", "end"))
    stride = np.asarray(graph.constant(operation, "stride", np.ones(rank, np.int32))).reshape(-1)
    masks = {
        key: np.asarray(graph.constant(operation, key, np.zeros(rank, bool))).reshape(-1)
        for key in ("begin_mask", "end_mask", "squeeze_mask")
    }
    cuts, result = [], []
    for axis, size in enumerate(shape):
        squeezed = bool(masks["squeeze_mask"][axis])
        first = 0 if masks["begin_mask"][axis] and not squeezed else int(begin[axis])
        last = size if masks["end_mask"][axis] else int(end[axis])
        cut = _cut(axis, size, first, last, int(stride[axis]), squeezed)
        if cut.length != size:
            cuts.append(cut)
        if not squeezed:
            result.append(cut.length)
    if tuple(result) != graph.shape(name):
        raise DeclinedError(f"its bounds give {result}, and it is declared as {list(graph.shape(name))}")
    return Slice(name, source, shape, tuple(cuts), tuple(result))


def _cut(axis: int, size: int, begin: int, end: int, stride: int, squeezed: bool) -> Cut:
    begin = begin + size if begin < 0 else begin
    if squeezed:
        end, stride = begin + 1, 1
    elif end < 0:
        end += size
    if stride < 1:
        raise DeclinedError(f"it runs backwards, with a stride of {stride}")
    if not 0 <= begin < end <= size:
        raise DeclinedError(f"it takes {begin} to {end} of the {size} elements of axis {axis}")
    return Cut(axis, begin, math.ceil((end - begin) / stride), stride)
