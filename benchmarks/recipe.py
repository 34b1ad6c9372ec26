"""The plain recipe against the build: what the packages of one Sortformer checkpoint cost to make.

    python -m benchmarks.recipe [--contexts default efficient] [--nbits 8 6] [--into docs/sortformer.md]
    python -m benchmarks.recipe --layers 2 2     the recipe alone, on fewer layers

The plain recipe is what people run by hand, for one variant at a time: NeMo's modules are traced, coremltools converts
them with its own passes, and its `palettize_weights` makes the palettes. (NeMo's packing of cache, fifo and chunk does
not trace; ours stands in for it.) It is given weights that are loaded. The build is `build_all_variants.py` up to the
packages of the same variants, from an empty store, weights included.

Both run on one thread and are counted in seconds of processor time, which others on the machine change least. Memory is
the largest resident set of a process. `all 24` is eight contexts in fp16, 8 and 6 bits: of the recipe that many times
its means, of the build what building them takes.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from benchmarks.networks import Sortformer
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.stand_in import stand_in
from converters.toolchain import coremltools
from pipeline import marks
from pipeline.code import ROOT
from pipeline.config import read_matrix

CHECKPOINT, MEL = "sortformer-v2.1", "preprocessor"
CONTEXTS = ("default", "low", "high", "efficient")


@dataclass(frozen=True)
class Plain:
    """One variant by the recipe: processor seconds to convert, and to palettize and save."""

    variant: str
    convert_s: float
    palettize_s: float


@dataclass(frozen=True)
class Built:
    """What a build took: processor seconds, and the largest resident set of a process in bytes."""

    seconds: float
    peak_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    whole = Sizes()
    layers = (whole.conformer_layers, whole.transformer_layers)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", choices=CONTEXTS, default=["default", "efficient"])
    parser.add_argument("--nbits", nargs="+", type=int, choices=(8, 6), default=[8, 6])
    parser.add_argument("--layers", type=int, nargs=2, default=layers, metavar=("FASTCONFORMER", "TRANSFORMER"))
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the table there, between its marks")
    args = parser.parse_args(arguments)
    if args.into:
        marks.around(args.into, "recipe")
    torch.set_num_threads(1)
    sizes = Sizes(conformer_layers=args.layers[0], transformer_layers=args.layers[1])
    asked = [_id(context, f"w{nbits}") for context in args.contexts for nbits in args.nbits]
    as_published = sizes == whole
    # First, while this process is small: Linux counts it into the largest resident set of those that it begins.
    ours = [built(asked), built(published())] if as_published else []
    recipe = list(plain(args.contexts, args.nbits, sizes))
    text = table(recipe, ours)
    print(text)
    if args.into and as_published:
        marks.put(args.into, "recipe", text)


def published() -> list[str]:
    """Return the variants that take audio's mel to speakers: every context at every width."""
    found = [each for each in read_matrix(ROOT / "variants.yaml").variants if each.network == "sortformer"]
    mel_to_speakers = [v for v in found if v.format == "coreml" and not v.functions and v.form.kind != MEL]
    return [v.id for v in mel_to_speakers if v.form.layout == "frames"]


def plain(contexts: Sequence[str], widths: Sequence[int], sizes: Sizes) -> Iterator[Plain]:
    """Make every variant as by hand, and yield what it took."""
    forms = {variant.id: variant.form for variant in read_matrix(ROOT / "variants.yaml").variants}
    state = stand_in(sizes, seed=0)
    for context in contexts:
        network = Sortformer(state, forms[_id(context, "fp16")])
        for nbits in widths:
            with tempfile.TemporaryDirectory() as folder:
                start = _spent()
                model = converted(network)
                done = _spent()
                palettized(model, nbits).save(str(Path(folder) / "model.mlpackage"))
                found = Plain(f"{context}, {nbits} bits", done - start, _spent() - done)
            print(f"{found.variant}: {found.convert_s:.0f} s + {found.palettize_s:.0f} s", file=sys.stderr, flush=True)
            yield found


def _id(context: str, precision: str) -> str:
    return f"{CHECKPOINT}/{precision}" + ("" if context == "default" else f"-{context}")


def converted(network: Sortformer) -> Any:
    """Return what coremltools makes of NeMo's modules, in fp16."""
    ct = coremltools()
    example = network.example()
    with torch.inference_mode():
        traced = torch.jit.trace(network, tuple(example.values()), check_trace=False)
    types = {torch.float32: np.float32, torch.int32: np.int32}
    return ct.convert(
        traced,
        inputs=[ct.TensorType(name, tuple(each.shape), dtype=types[each.dtype]) for name, each in example.items()],
        outputs=[ct.TensorType(name) for name in network.outputs],
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )


def palettized(model: Any, nbits: int) -> Any:
    coremltools()
    from coremltools.optimize.coreml import OpPalettizerConfig, OptimizationConfig, palettize_weights

    return palettize_weights(model, OptimizationConfig(OpPalettizerConfig(mode="kmeans", nbits=nbits)))


def _spent() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def built(names: Sequence[str]) -> Built:
    """Build packages from nothing, in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        command = ["build_all_variants.py", *names, "--weights", "synthetic", "--until", "optimize", "--out", out]
        process = subprocess.Popen(
            [sys.executable, *command, "--jobs", "1"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    kilobytes = 1 if platform.system() == "Darwin" else 1024
    return Built(used.ru_utime + used.ru_stime, used.ru_maxrss * kilobytes)


def table(recipe: Sequence[Plain], ours: Sequence[Built]) -> str:
    """Return a Markdown table of what was made by the recipe and by the build, and of all 24."""
    lines = ["| | plain recipe: convert | palettize | build | faster |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {one.variant} | {one.convert_s:.0f} s | {one.palettize_s:.0f} s | | |" for one in recipe]
    if ours:
        some, everything = ours
        convert_s, palettize_s = sum(one.convert_s for one in recipe), sum(one.palettize_s for one in recipe)
        lines.append(_line(f"these {len(recipe)}", convert_s, palettize_s, some.seconds))
        each_s, count = mean(one.convert_s for one in recipe), len(published())
        lines.append(
            _line(f"all {count} (≈)", each_s * count, palettize_s / len(recipe) * count * 2 / 3, everything.seconds)
        )
        lines.append(f"\nThe largest process of the build of all took {everything.peak_bytes / 1e9:.2f} GB.")
    return "\n".join(lines)


def _line(name: str, convert_s: float, palettize_s: float, built_s: float) -> str:
    faster = (convert_s + palettize_s) / built_s
    return f"| {name} | {convert_s:.0f} s | {palettize_s:.0f} s | {built_s:.0f} s | {faster:.1f} × |"


if __name__ == "__main__":
    main()
