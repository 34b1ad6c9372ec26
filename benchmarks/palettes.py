"""Palettes against coremltools: time, squared error and size, on the same packages, in one run.

    python -m benchmarks.palettes MODEL.mlpackage … [--nbits 8 6 4] [--json table.json] [--into docs/palettes.md]

Both are timed from one file to another: reading, palettes, writing, and, for ours only, holding every decoded weight
against its original. Both are warm: each has run once before, and they take turns, so that other work on the machine
hinders both; the best of each counts. Nothing is recalled from a store, so every palette is made each time. Cold is a
new process with all of its imports, once compiled code is in numba's cache. Errors are squared differences between the
weights of the source and those of the result, as coremltools' own decoder gives them for both.

`fewest` is the least number of distinct fp16 values in a large matrix: a comparison is a claim only above 10,000. On
coarser weights a palette is nearly lossless and proves nothing. The exit status is 1 where an error of ours is above
theirs × (1 + 1e-6), or where the claim does not hold.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.toolchain import coremltools
from optimizations.palettize import Options, apply

# A matrix of fewer elements can hardly hold 10,000 distinct values.
LARGE = 20_000
FEWEST_DISTINCT = 10_000
ERROR_TOLERANCE = 1e-6
_RUNS = 3


@dataclass(frozen=True)
class Row:
    """One package at one width; times in seconds, sizes of the weight files in bytes, errors as ours over theirs."""

    package: str
    nbits: int
    tensors: int
    fewest: int
    ours_s: float
    ours_cold_s: float
    theirs_s: float
    times_faster: float
    worst_error_ratio: float
    total_error_ratio: float
    ours_bytes: int
    theirs_bytes: int


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="+", type=Path, metavar="MODEL.mlpackage")
    parser.add_argument("--nbits", nargs="+", type=int, default=[8, 6, 4])
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument(
        "--into", type=Path, help="replace the table between the marks `palettes:` and `:palettes` there"
    )
    chosen = parser.parse_args(arguments)
    rows = [compare(package, nbits) for package in chosen.packages for nbits in chosen.nbits]
    print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if chosen.into:
        chosen.into.write_text(replaced(chosen.into.read_text(), f"{conditions()}\n\n{table(rows)}"))
    return int(any(row.worst_error_ratio > 1 + ERROR_TOLERANCE or row.fewest <= FEWEST_DISTINCT for row in rows))


def replaced(document: str, text: str) -> str:
    """Return a document with other text between its marks; raises ValueError where it has none."""
    before, opening, rest = document.partition("<!-- palettes: -->\n")
    _, closing, after = rest.partition("<!-- :palettes -->")
    if not opening or not closing:
        raise ValueError("the document has no marks <!-- palettes: --> and <!-- :palettes -->")
    return f"{before}{opening}{text}\n{closing}{after}"


def conditions() -> str:
    """Return on what a table was measured: processors and how busy they were."""
    return f"{os.cpu_count()} cores, {platform.machine()}; load average {os.getloadavg()[0]:.1f} at the end."


def compare(source: Path, nbits: int) -> Row:
    """Palettize a package both ways and hold the results against each other."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours, theirs = folder / "ours.mlpackage", folder / "theirs.mlpackage"
        _palettize_theirs(source, nbits, theirs)
        palettize_ours(source, nbits, ours)
        turns = [_turn(source, nbits, folder / str(i)) for i in range(_RUNS)]
        warm_s, theirs_s = (min(times) for times in zip(*turns, strict=True))
        cold_s = _seconds(partial(_in_new_process, source, nbits, folder / "cold.mlpackage"))
        original = weights(source)
        ours_errors, theirs_errors = (errors(original, weights(package)) for package in (ours, theirs))
        assert ours_errors.keys() == theirs_errors.keys(), "not the same weights are palettized"
        return Row(
            source.name,
            nbits,
            len(ours_errors),
            min((_distinct(original[name]) for name in ours_errors if original[name].size > LARGE), default=0),
            warm_s,
            cold_s,
            theirs_s,
            theirs_s / warm_s,
            max((ours_errors[name] / theirs_errors[name] for name in ours_errors if theirs_errors[name]), default=1.0),
            sum(ours_errors.values()) / max(sum(theirs_errors.values()), np.finfo(float).tiny),
            _size_bytes(ours),
            _size_bytes(theirs),
        )


def _turn(source: Path, nbits: int, folder: Path) -> tuple[float, float]:
    """Return the seconds that ours and theirs take, one after the other."""
    folder.mkdir()
    ours_s = _seconds(partial(palettize_ours, source, nbits, folder / "ours.mlpackage"))
    return ours_s, _seconds(partial(_palettize_theirs, source, nbits, folder / "theirs.mlpackage"))


def palettize_ours(source: Path, nbits: int, destination: Path) -> None:
    """Palettize with a store beside the destination that keeps every palette and recalls none."""

    def memo(recipe: Mapping[str, Any], run: Callable[[Path], None]) -> Path:
        folder = Path(tempfile.mkdtemp(dir=destination.parent))
        run(folder)
        return folder

    apply(source, Options(nbits), memo, destination)


def _palettize_theirs(source: Path, nbits: int, destination: Path) -> None:
    ct = coremltools()
    from coremltools.optimize.coreml import OpPalettizerConfig, OptimizationConfig, palettize_weights

    config = OptimizationConfig(global_config=OpPalettizerConfig(mode="kmeans", nbits=nbits))
    palettize_weights(ct.models.MLModel(str(source), skip_model_load=True), config).save(str(destination))


def _in_new_process(source: Path, nbits: int, destination: Path) -> None:
    code = "import sys; from pathlib import Path; from benchmarks.palettes import palettize_ours as ours;"
    code += "ours(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", code, source, str(nbits), destination], check=True)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def weights(package: Path) -> dict[str, np.ndarray]:
    """Return every constant of a package and every compressed one, decoded by coremltools, by the name it has there."""
    model = coremltools().models.MLModel(str(package), skip_model_load=True)
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, model.weights_dir)
    return {
        f"{function}/{op.outputs[0].name.removesuffix('_palettized')}": value
        for function, block in program.functions.items()
        for op, value in _constants(block)
    }


def _constants(block: Any) -> Iterator[tuple[Any, np.ndarray]]:
    for op in block.operations:
        for nested in op.blocks:
            yield from _constants(nested)
        if op.op_type == "const" and isinstance(op.outputs[0].val, np.ndarray):
            yield op, op.outputs[0].val
        elif op.op_type == "constexpr_lut_to_dense":
            yield op, op.materialized_val_inference()


def errors(original: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the squared error of each weight that is not what it was."""
    differences = {
        name: float(((value.astype(np.float64) - original[name].astype(np.float64)) ** 2).sum())
        for name, value in found.items()
        if name in original and original[name].dtype.kind == "f"
    }
    return {name: error for name, error in differences.items() if error > 0}


def _distinct(weight: np.ndarray) -> int:
    return int(np.unique(weight.astype(np.float16)).size)


def _size_bytes(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*.bin"))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = "| package | bits | tensors | fewest distinct | ours | cold | coremltools | faster "
    head += "| worst error ÷ theirs | total error ÷ theirs | MB | theirs |"
    lines = [head, "|" + "---|" * head.count(" | ") + "---|"]
    for row in rows:
        lines.append(
            f"| {row.package} | {row.nbits} | {row.tensors} | {row.fewest} | {row.ours_s:.3f} s "
            f"| {row.ours_cold_s:.1f} s | {row.theirs_s:.1f} s | {row.times_faster:.0f} × "
            f"| {row.worst_error_ratio:.6f} | {row.total_error_ratio:.6f} "
            f"| {row.ours_bytes / 1e6:.2f} | {row.theirs_bytes / 1e6:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
