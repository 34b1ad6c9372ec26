"""The interpreter against torch eager and onnxruntime on the same network: time of a run, of loading, and memory.

    python -m benchmarks.interpreter --weights-dir ../shared/fixtures [--threads 2] [--json]

The contenders take turns, so that whatever else the machine does falls on all of them, and are compared by their best
time, which is what the code costs when nothing else runs; the median is shown beside it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

import mil
from benchmarks.networks import DURATION_S, SAMPLE_RATE_HZ, Segmentation, converted

LIMITS = {"float32": 1.25, "declared": 1.6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights-dir", type=Path, required=True, help="holds segmentation-3.0/model.safetensors")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network = Segmentation(arguments.weights_dir / "segmentation-3.0" / "model.safetensors")
    example = torch.randn(arguments.batch, 1, SAMPLE_RATE_HZ * DURATION_S, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: converted(network, example, Path(folder), half=name == "declared") for name in LIMITS}
        contenders, loads = _contenders(network, example, paths, arguments.threads)
        times = in_turns(contenders, arguments.rounds)
        memory = {name: peak_memory(path, name) for name, path in paths.items()}
    eager = min(times["torch"])
    runs = {
        name: {"best_ms": 1000 * min(each), "median_ms": 1000 * statistics.median(each), "by_torch": min(each) / eager}
        for name, each in times.items()
    }
    if arguments.json:
        found = {"threads": arguments.threads, "batch": arguments.batch, "runs": runs, "load_s": loads}
        print(json.dumps(found | {"peak_bytes": memory}))
        return
    for name, run in runs.items():
        limit = f"   limit {LIMITS[name]}" if name in LIMITS else ""
        best, median = run["best_ms"], run["median_ms"]
        print(f"{name:12} {best:8.1f} ms   median {median:8.1f}   {run['by_torch']:.2f} × torch{limit}")
    for name, seconds in loads.items():
        print(f"{name:12} {1000 * seconds:8.1f} ms to load and bind   {memory[name] / 1e6:.1f} MB above baseline")


def in_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the times of each, in seconds, over rounds in which each runs once; two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 2):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def peak_memory(package: Path, precision: str) -> int:
    """Return the most bytes that loading and running takes above what the process holds after its imports."""
    command = [sys.executable, "-m", "benchmarks.peak_memory", str(package), precision]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _contenders(
    network: torch.nn.Module, example: torch.Tensor, paths: dict[str, Path], threads: int
) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(example).numpy()

    contenders: dict[str, Callable[[], object]] = {"torch": eager}
    loads: dict[str, float] = {}
    for name, path in paths.items():
        start = time.perf_counter()
        program = mil.load(path)
        program.bound(0, name)
        loads[name] = time.perf_counter() - start
        contenders[name] = partial(program.run, {"x": example.numpy()}, name)
    contenders["onnxruntime"] = _onnxruntime(network, example, paths["float32"].parent, threads)
    return contenders, loads


def _onnxruntime(network: torch.nn.Module, example: torch.Tensor, folder: Path, threads: int) -> Callable[[], object]:
    import onnxruntime

    path = folder / "network.onnx"
    torch.onnx.export(network, (example,), str(path), input_names=["x"], output_names=["y"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": example.numpy()})


if __name__ == "__main__":
    main()
