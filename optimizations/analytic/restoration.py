"""Constants of a block that follow formulas, made exact."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mil.schema import MIL_pb2
from optimizations.analytic.recognition import families, recognised
from optimizations.analytic.stored import float_shape, stored
from optimizations.programs.edit import PENDING, Edits
from optimizations.programs.graph import Graph
from optimizations.programs.rewriting import Change

if TYPE_CHECKING:
    from optimizations.restore_analytic_constants import Options

_DIGITS = 6


def restore(graph: Graph, edits: Edits, options: "Options") -> Change:
    """Return exact constants for those of a block that follow a formula, and why others of their shape stay."""
    replacements: dict[str, list[MIL_pb2.Operation]] = {}
    restored: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    for operation in graph.block.operations:
        shape = float_shape(operation)
        if shape is None or not set(families(shape)) & set(options.kinds) or _is_part(graph, operation):
            continue
        constant = stored(operation, graph.block, graph.package)
        verdict = recognised(constant, options.kinds)
        if verdict is None:
            continue
        facts: dict[str, Any] = {"name": operation.outputs[0].name, "shape": list(shape), "stored_as": constant.form}
        if verdict.formula is None:
            left.append(facts | {"cosine": _shortened(verdict.cosine), "reason": verdict.reason})
            continue
        exact = verdict.formula.values.astype(_dtype(graph, operation))
        apart = np.abs(constant.values - exact.astype(np.float64))
        if not apart.any():
            left.append(facts | {"cosine": 1.0, "reason": f"is {verdict.formula.name} exactly"})
            continue
        replacements[facts["name"]] = [_exact(operation, exact, edits)]
        facts |= {"formula": verdict.formula.name, "max_difference": _shortened(apart.max())}
        restored.append(facts | {"rms_difference": _shortened(np.sqrt(np.square(apart).mean()))})
    return Change(replacements, {"restored": restored, "left": sorted(left, key=lambda row: -row["cosine"])})


def _shortened(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _is_part(graph: Graph, operation: MIL_pb2.Operation) -> bool:
    """Whether a constant is only the data of a compressed weight, which is judged as a whole."""
    name = operation.outputs[0].name
    users = [each for each in graph.block.operations if any(name in graph.names(each, key) for key in each.inputs)]
    return bool(users) and all(each.type.startswith("constexpr_") for each in users)


def _dtype(graph: Graph, operation: MIL_pb2.Operation) -> np.dtype:
    dtype = graph.element(operation.outputs[0].name).numpy
    assert dtype is not None
    return dtype


def _exact(operation: MIL_pb2.Operation, exact: np.ndarray, edits: Edits) -> MIL_pb2.Operation:
    """Return a `const` of the same name and type; its array is written with the package."""
    made = MIL_pb2.Operation(type="const")
    made.outputs.add().CopyFrom(operation.outputs[0])
    if "name" in operation.attributes:
        made.attributes["name"].CopyFrom(operation.attributes["name"])
    value = made.attributes["val"]
    value.type.CopyFrom(operation.outputs[0].type)
    value.blobFileValue.fileName, value.blobFileValue.offset = PENDING, len(edits.arrays)
    edits.arrays.append(exact)
    return made
