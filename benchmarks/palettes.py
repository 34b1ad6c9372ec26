"""Palettes against coremltools: time, squared error and size, on the same packages, in one run.

    python -m benchmarks.palettes MODEL.mlpackage … [--nbits 8 6 4] [--redrawn] [--theirs-at-most 12]
                                  [--rounds 3] [--json table.json] [--into docs/palettes.md]

Both are timed from one file to another: reading, palettes, writing, and, for ours only, holding every decoded weight
against its original. Both are warm: each has run once before, and they take turns, so that other work on the machine
hinders both; the best of three counts. Nothing is recalled from a store, so every palette is made each time; "again" is
ours with every palette recalled, as for another variant of the same checkpoint. Cold is a new process with all of its
imports, once compiled code is in numba's cache. Errors are squared differences between the weights of the source and
those of the result, as coremltools' own decoder gives them for both.

`fewest` is the least number of distinct fp16 values in a large matrix: a comparison is a claim only above 10,000. On
coarser weights a palette is nearly lossless and proves nothing. The exit status is 1 where an error of ours is above
theirs × (1 + 1e-6), or where the claim does not hold. In a package that is too coarse for it, `--redrawn` gives every
large weight normal numbers of its own root mean square first: stand-ins for trained weights are uniform, and a uniform
fp16 matrix has too few values.

`--theirs-at-most N` lets coremltools, which takes many minutes for a Sortformer, palettize N weights, spread over the
package, and none. Its time is then that for none, and the rest scaled up by the number of weights: "≈" in the table.
Ours still palettizes all; errors are compared on the N.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from converters.toolchain import coremltools
from mil.package import read_package
from mil.schema import Model_pb2
from optimizations.palettize import Options, apply
from optimizations.weights.files import WeightFiles
from optimizations.weights.rewriting import Detached, rewritten
from optimizations.weights.selection import large_weights
from pipeline import marks

# A matrix of fewer elements can hardly hold 10,000 distinct values.
LARGE = 20_000
FEWEST_DISTINCT = 10_000
ERROR_TOLERANCE = 1e-6
_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One package at one width; times in seconds, sizes of the weight files in bytes, errors as ours over theirs.

    theirs_tensors   how many weights coremltools palettized; its time is scaled up, and has no size, where not all
    """

    package: str
    nbits: int
    tensors: int
    theirs_tensors: int
    fewest: int
    ours_s: float
    ours_again_s: float
    ours_cold_s: float
    theirs_s: float
    times_faster: float
    worst_error_ratio: float
    total_error_ratio: float
    ours_bytes: int
    theirs_bytes: int | None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("packages", nargs="+", type=Path, metavar="MODEL.mlpackage")
    parser.add_argument("--nbits", nargs="+", type=int, default=[8, 6, 4])
    parser.add_argument("--redrawn", action="store_true", help="give coarse weights normal numbers first")
    parser.add_argument(
        "--theirs-at-most", type=int, metavar="N", help="let coremltools do so many weights, and scale its time up"
    )
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="how often both are timed")
    parser.add_argument("--json", type=Path, help="write the table there too")
    parser.add_argument("--into", type=Path, help="put the table there, between its marks")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        packages = [_claimable(each, Path(scratch)) if chosen.redrawn else each for each in chosen.packages]
        rows = [
            compare(package, nbits, chosen.theirs_at_most, chosen.rounds)
            for package in packages
            for nbits in chosen.nbits
        ]
    print(table(rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if chosen.into:
        marks.put(chosen.into, "palettes", f"{conditions()}\n\n{table(rows)}")
    return int(any(row.worst_error_ratio > 1 + ERROR_TOLERANCE or row.fewest <= FEWEST_DISTINCT for row in rows))


def conditions() -> str:
    """Return on what a table was measured: processors and how busy they were."""
    return f"{os.cpu_count()} cores, {platform.machine()}; load average {os.getloadavg()[0]:.1f} at the end."


def compare(source: Path, nbits: int, theirs_at_most: int | None = None, rounds: int = _ROUNDS) -> Row:
    """Palettize a package both ways and hold the results against each other."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours, theirs = folder / "ours.mlpackage", folder / "theirs.mlpackage"
        palettize_ours(source, nbits, ours)
        original = weights(source)
        ours_errors = errors(original, weights(ours))
        chosen = _spread(sorted(ours_errors), theirs_at_most)
        palettize_theirs(source, nbits, theirs, chosen)
        turns = [_turn(source, nbits, folder / str(i), chosen) for i in range(rounds)]
        warm_s, again_s, theirs_s = (min(times) for times in zip(*turns, strict=True))
        if chosen is not None:
            nothing_s = _seconds(partial(palettize_theirs, source, nbits, folder / "nothing.mlpackage", []))
            theirs_s = nothing_s + (theirs_s - nothing_s) * len(ours_errors) / len(chosen)
        cold_s = _seconds(partial(_in_new_process, source, nbits, folder / "cold.mlpackage"))
        theirs_errors = errors(original, weights(theirs))
        assert theirs_errors.keys() == (ours_errors.keys() if chosen is None else set(chosen)), "not the same weights"
        both = {name: (ours_errors[name], error) for name, error in theirs_errors.items()}
        return Row(
            source.name,
            nbits,
            len(ours_errors),
            len(theirs_errors),
            fewest_distinct([original[name] for name in ours_errors]),
            warm_s,
            again_s,
            cold_s,
            theirs_s,
            theirs_s / warm_s,
            max(one / other for one, other in both.values()),
            sum(one for one, _ in both.values()) / sum(other for _, other in both.values()),
            _size_bytes(ours),
            _size_bytes(theirs) if chosen is None else None,
        )


def _spread(names: list[str], most: int | None) -> list[str] | None:
    """Return at most so many of the names, evenly spread; None for all."""
    if most is None or most >= len(names):
        return None
    return [names[i * len(names) // most] for i in range(most)]


def fewest_distinct(found: Iterable[np.ndarray]) -> int:
    """Return the least number of distinct fp16 values in a large matrix."""
    return min((int(np.unique(each.astype(np.float16)).size) for each in found if each.size > LARGE), default=0)


def _claimable(source: Path, folder: Path) -> Path:
    """Return a package whose large weights have values enough for a claim: the same, or one with others drawn."""
    return source if fewest_distinct(weights(source).values()) > FEWEST_DISTINCT else redrawn(source, folder)


def redrawn(source: Path, folder: Path, seed: int = 0) -> Path:
    """Write a package with seeded normal numbers, of as much root mean square, in place of its large weights."""
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    large = large_weights(spec, package, Options.weight_threshold, (), source)
    generator = np.random.default_rng(seed)

    def hold(detached: Detached, files: WeightFiles) -> None:
        original = detached.original
        rms = np.sqrt(np.mean(original.astype(np.float64) ** 2))
        new = (generator.standard_normal(original.shape, np.float32) * rms).astype(original.dtype)
        detached.constant.operation.attributes["val"].CopyFrom(files.array(new, detached.file_name))

    destination = folder / source.name
    rewritten(spec, package, [each.constant for each in large if not each.left_because], hold, destination)
    return destination


def _turn(source: Path, nbits: int, folder: Path, chosen: Sequence[str] | None) -> tuple[float, float, float]:
    """Return the seconds that ours take, ours with every palette recalled, and theirs, one after the other."""
    folder.mkdir()
    store: dict[str, Path] = {}
    ours_s = _seconds(partial(palettize_ours, source, nbits, folder / "ours.mlpackage", store))
    again_s = _seconds(partial(palettize_ours, source, nbits, folder / "again.mlpackage", store))
    return ours_s, again_s, _seconds(partial(palettize_theirs, source, nbits, folder / "theirs.mlpackage", chosen))


def palettize_ours(source: Path, nbits: int, destination: Path, store: dict[str, Path] | None = None) -> None:
    """Palettize, with a store that keeps every palette beside the destination and recalls those it has."""
    kept = {} if store is None else store

    def memo(recipe: Mapping[str, Any], run: Callable[[Path], None], resumes: bool = False) -> Path:
        key = json.dumps(recipe, sort_keys=True)
        if key not in kept:
            kept[key] = Path(tempfile.mkdtemp(dir=destination.parent))
            run(kept[key])
        return kept[key]

    apply(source, Options(nbits), memo, destination)


def palettize_theirs(source: Path, nbits: int, destination: Path, names: Sequence[str] | None = None) -> None:
    """Palettize by coremltools all weights, or those named "function/name"."""
    ct = coremltools()
    from coremltools.optimize.coreml import OpPalettizerConfig, OptimizationConfig, palettize_weights

    kmeans = OpPalettizerConfig(mode="kmeans", nbits=nbits)
    config = OptimizationConfig(global_config=kmeans)
    if names is not None:
        chosen = {name.partition("/")[2]: kmeans for name in names}
        config = OptimizationConfig(global_config=None, op_name_configs=chosen)
    palettize_weights(ct.models.MLModel(str(source), skip_model_load=True), config).save(str(destination))


def _in_new_process(source: Path, nbits: int, destination: Path) -> None:
    code = "import sys; from pathlib import Path; from benchmarks.palettes import palettize_ours as ours;"
    code += "ours(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))"
    subprocess.run([sys.executable, "-c", code, source, str(nbits), destination], check=True)


def _seconds(work: Callable[[], None]) -> float:
    """Return how long work takes; what the work before it left behind is cleared away first, and not at its expense."""
    gc.collect()
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


def _size_bytes(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*.bin"))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    head = "| package | bits | tensors | fewest distinct | ours | again | cold | coremltools | faster "
    head += "| worst error ÷ theirs | total error ÷ theirs | MB | theirs |"
    return "\n".join([head, "|" + "---|" * head.count(" | ") + "---|", *map(_line, rows)])


def _line(row: Row) -> str:
    about = "" if row.theirs_tensors == row.tensors else f"≈ ({row.theirs_tensors} of {row.tensors}) "
    theirs_mb = "–" if row.theirs_bytes is None else f"{row.theirs_bytes / 1e6:.2f}"
    return (
        f"| {row.package} | {row.nbits} | {row.tensors} | {row.fewest} | {row.ours_s:.3g} s | {row.ours_again_s:.3g} s "
        f"| {row.ours_cold_s:.1f} s | {about}{row.theirs_s:.1f} s | {row.times_faster:.0f} × "
        f"| {row.worst_error_ratio:.6f} | {row.total_error_ratio:.6f} | {row.ours_bytes / 1e6:.2f} | {theirs_mb} |"
    )


if __name__ == "__main__":
    sys.exit(main())
