"""A package with some operations of its program replaced, written anew."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil.liveness import names_defined
from mil.package import Package, read_package, write_package
from mil.schema import MIL_pb2, Model_pb2
from mil.traverse import blobs, operations
from optimizations.programs.edit import PENDING, Edits, prune, put, unneeded
from optimizations.programs.graph import Graph, graphs
from optimizations.weights.constants import programs
from optimizations.weights.files import WeightFiles
from pipeline.types import QuernError


@dataclass(frozen=True)
class Change:
    """What a pass found in one block.

    replacements   name of the first result of an operation → what stands in its place
    findings       heading → what to tell
    """

    replacements: Mapping[str, Sequence[MIL_pb2.Operation]]
    findings: Mapping[str, list[dict[str, Any]]]


# Looks at one block and says what to do with it.
Look = Callable[[Graph, Edits], Change]


def rewritten(source: Path, look: Look, destination: Path) -> dict[str, Any]:
    """Write the package at `source` with every block changed as `look` says, less what nothing needs then.

    Returns the findings of all blocks, each with the `function` it was made in, and counts: the `operations` that are
    no constants and the `slices`, before and after. Raises QuernError for a model without ML programs.
    """
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    if not programs(spec):
        raise QuernError(f"{source}: holds no ML program, so it has no operations to replace")
    before = counted(package.spec)
    arrays = Edits(set())
    found: dict[str, list[dict[str, Any]]] = {}
    for program in programs(spec):
        for name, function in sorted(program.functions.items()):
            for block in (block for _, block in sorted(function.block_specializations.items())):
                for change in _changed(function, block, package, look, arrays):
                    for heading, rows in change.findings.items():
                        found.setdefault(heading, []).extend({"function": name} | row for row in rows)
    _write(spec, package, arrays, destination)
    return found | {"counts": {"before": before, "after": counted(spec)}}


def counted(spec: Model_pb2.Model) -> dict[str, int]:
    """Return how many operations the programs of a model have, constants apart, and how many of them are slices."""
    kinds: Counter[str] = Counter()
    for program in programs(spec):
        for function in program.functions.values():
            for block in function.block_specializations.values():
                kinds.update(each.type for each in operations(block))
    constant = sum(count for kind, count in kinds.items() if kind == "const" or kind.startswith("constexpr_"))
    return {"operations": kinds.total() - constant, "slices": kinds["slice_by_index"]}


def _changed(
    function: MIL_pb2.Function, block: MIL_pb2.Block, package: Package, look: Look, arrays: Edits
) -> list[Change]:
    spared = unneeded(block)
    edits = Edits({value.name for value in function.inputs} | set(names_defined(block)), arrays.arrays)
    changes = []
    for graph in reversed(list(graphs(function, block, package))):  # `put` copies nested blocks, so they come first
        change = look(graph, edits)
        if change.replacements:
            put(graph.block, change.replacements)
        changes.append(change)
    prune(block, spared)
    return changes[::-1]


def _write(spec: Model_pb2.Model, package: Package, edits: Edits, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights.", dir=destination.parent) as folder:
        files = WeightFiles(package, Path(folder))
        for program in programs(spec):
            for value in list(blobs(program)):
                if value.blobFileValue.fileName == PENDING:
                    value.CopyFrom(files.array(edits.arrays[value.blobFileValue.offset]))
                else:
                    files.move(value)
        write_package(spec, files.close(), destination)
