"""The interpreter against torch eager and onnxruntime on the same network: time of a run, load, memory.

    python -m benchmarks.interpreter --weights-dir ../shared/fixtures [--threads 2] [--json]

The contenders take turns, so that whatever else the machine does falls on all of them.
"""

import argparse
import json
import statistics
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
        contenders, loads = _contenders(network, example, Path(folder), arguments.threads)
        times = in_turns(contenders, arguments.rounds)
    eager = times["torch"]
    rows = {name: {"ms": 1000 * seconds, "by_torch": seconds / eager} for name, seconds in times.items()}
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "batch": arguments.batch, "runs": rows, "load_s": loads}))
        return
    for name, row in rows.items():
        limit = f"   limit {LIMITS[name]}" if name in LIMITS else ""
        print(f"{name:12} {row['ms']:8.1f} ms   {row['by_torch']:.2f} × torch{limit}")
    for name, seconds in loads.items():
        print(f"{name:12} {1000 * seconds:8.1f} ms to load and bind")


def in_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each, in seconds, over rounds in which each runs once; two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 2):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _contenders(
    network: torch.nn.Module, example: torch.Tensor, folder: Path, threads: int
) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(example).numpy()

    contenders: dict[str, Callable[[], object]] = {"torch": eager}
    loads: dict[str, float] = {}
    for name, half in (("float32", False), ("declared", True)):
        path = converted(network, example, folder, half)
        start = time.perf_counter()
        program = mil.load(path)
        program.bound(0, name)
        loads[name] = time.perf_counter() - start
        contenders[name] = partial(program.run, {"x": example.numpy()}, name)
    contenders["onnxruntime"] = _onnxruntime(network, example, folder, threads)
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
