"""Single slices, made convolutions with a kernel that has a single 1."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.schema import MIL_pb2
from optimizations.programs.edit import Chain, Edits
from optimizations.programs.graph import DeclinedError, Graph
from optimizations.programs.rewriting import Change
from optimizations.programs.slices import Cut, Slice, read_slice

if TYPE_CHECKING:
    from optimizations.replace_slices import Options


def replace(graph: Graph, edits: Edits, options: "Options") -> Change:
    """Return equivalents of the slices of a block, and why other slices stay."""
    replacements: dict[str, Sequence[MIL_pb2.Operation]] = {}
    replaced: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    for operation in graph.block.operations:
        if operation.type != "slice_by_index":
            continue
        name = operation.outputs[0].name
        try:
            found = read_slice(graph, operation)
            chain = _equivalent(graph, edits, found, options)
        except DeclinedError as reason:
            left.append({"name": name, "reason": str(reason)})
            continue
        replacements[name] = chain.instead_of(operation)
        replaced.append({"name": name, "source": found.source, "now": _last_kind(chain)})
    return Change(replacements, {"replaced": replaced, "left": left})


def _last_kind(chain: Chain) -> str:
    kinds = [each.type for each in chain.operations if each.type != "const"]
    return "conv" if "conv" in kinds else kinds[-1]


def _equivalent(graph: Graph, edits: Edits, found: Slice, options: "Options") -> Chain:
    kind = graph.types[found.source]
    assert kind is not None
    chain = Chain(edits, found.source, kind, found.name)
    if len(found.cuts) > 1:
        raise DeclinedError(f"it cuts {len(found.cuts)} axes, not one")
    if found.cuts:
        if kind.element.name not in ("fp16", "fp32"):
            raise DeclinedError(f"`{found.source}` is of {kind.element.name}, which cannot be convolved")
        _convolve(chain, found.cuts[0], found.shape, options)
    if not found.cuts and found.result == found.shape:
        chain.add("identity", found.result)
    chain.reshape(found.result)
    return chain


def _convolve(chain: Chain, cut: Cut, shape: tuple[int, ...], options: "Options") -> None:
    size = shape[cut.axis]
    taps = max(cut.begin + 1, size - cut.length * cut.stride + 1)
    if taps > options.most_taps:
        raise DeclinedError(f"a kernel of {taps} taps is longer than {options.most_taps}")
    before, after = math.prod(shape[: cut.axis]), math.prod(shape[cut.axis + 1 :])
    chain.reshape([before, 1, size, *([after] if after > 1 else [])])
    weight = np.zeros((1, 1, taps), np.float32)
    weight[0, 0, cut.begin] = 1
    chain.convolve(weight, cut.stride)
