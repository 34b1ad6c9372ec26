"""Every format of segmentation against torch in one run: seconds for ten seconds of audio, and the most memory taken.

    python -m benchmarks.formats --weights-dir ../shared/fixtures [--rounds 5] [--json]

The contenders take turns in one process, and are compared by their best time; processor time stands beside it, for it
says more where others use the machine. Memory is what loading and running once takes above what a process holds after
its imports, each in a process of its own. torch runs on one thread, and so does ggml.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from converters.models import segmentation
from converters.models.segmentation import Form
from pipeline import plugins
from pipeline.types import Arrays, Runner

FORM = Form()

# Name of the contender → its format, the options that it is converted with, and what its runner imports.
FORMATS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "interpreter fp16": ("coreml", {"precision": "fp16"}, ("mil.ops.lstm_kernel", "torch")),
    "ggml fp32": ("gguf", {"precision": "fp32"}, ("ggml",)),
    "ggml fp16": ("gguf", {"precision": "fp16"}, ("ggml",)),
    "onnxruntime fp32": ("onnx", {"precision": "fp32"}, ("onnx", "onnxruntime")),
    "onnxruntime fp16": ("onnx", {"precision": "fp16"}, ("onnx", "onnxruntime")),
    "onnxruntime int8": ("onnx", {"precision": "int8"}, ("onnx", "onnxruntime")),
    "mlx fp32": ("mlx", {"precision": "fp32"}, ("mlx.core", "mlx.nn")),
    "mlx fp16": ("mlx", {"precision": "fp16"}, ("mlx.core", "mlx.nn")),
    "mlx q8": ("mlx", {"precision": "q8"}, ("mlx.core", "mlx.nn")),
}


@dataclass(frozen=True)
class Time:
    """The best of several runs, in seconds: on the clock, and of the processor."""

    clock_s: float
    processor_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights-dir", type=Path, required=True, help="holds segmentation-3.0/model.safetensors")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory-of", nargs=2, metavar=("CONTENDER", "ARTIFACT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print(_memory(arguments.memory_of[0], Path(arguments.memory_of[1]), arguments.weights_dir))
        return
    with tempfile.TemporaryDirectory() as folder:
        artifacts = dict(_converted(arguments.weights_dir, Path(folder)))
        runners = {"torch": _torch(arguments.weights_dir)} | {n: _runner(n, path) for n, path in artifacts.items()}
        times = _in_turns(runners, arguments.rounds)
        memory = {name: _memory_elsewhere(name, path, arguments.weights_dir) for name, path in artifacts.items()}
        memory["torch"] = _memory_elsewhere("torch", Path(folder), arguments.weights_dir)
    found = {
        name: {"clock_s": t.clock_s, "processor_s": t.processor_s, "memory_bytes": memory[name]}
        for name, t in times.items()
    }
    if arguments.json:
        print(json.dumps(found))
        return
    for name, row in found.items():
        memory_mb = row["memory_bytes"] / 1e6
        print(f"{name:18} {row['clock_s']:7.3f} s   processor {row['processor_s']:7.3f} s   {memory_mb:7.1f} MB")


def _state(weights_dir: Path) -> Arrays:
    return segmentation.read({"model.safetensors": weights_dir / "segmentation-3.0" / "model.safetensors"})


def _converted(weights_dir: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield an artifact for each contender whose format is installed."""
    state = _state(weights_dir)
    module = segmentation.load(state, FORM)
    module.trained = state  # type: ignore[assignment]
    inputs, outputs = segmentation.inputs(FORM), segmentation.outputs(FORM)
    for name, (format_name, options, _) in FORMATS.items():
        target = plugins.format_(format_name)
        if target.missing():
            continue
        path = folder / f"{name.replace(' ', '-')}{target.SUFFIX}"
        target.convert(module, inputs, outputs, {}, target.Options(**options), path)
        yield name, path


def _torch(weights_dir: Path) -> Runner:
    network = segmentation.load(_state(weights_dir), FORM)

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            return {"segments": network(torch.from_numpy(arrays["audio"])).numpy()}

    return run


def _runner(name: str, artifact: Path) -> Runner:
    return plugins.format_(FORMATS[name][0]).runner(artifact, "declared")


def _audio() -> Arrays:
    audio = np.random.default_rng(0).normal(0, 0.1, (1, 1, FORM.samples))
    return {"audio": audio.astype(np.float32)}


def _in_turns(runners: Mapping[str, Runner], rounds: int) -> dict[str, Time]:
    """Return the best times over rounds in which each runs once, after one that sets it up."""
    times: dict[str, list[Time]] = {name: [] for name in runners}
    arrays = _audio()
    for turn in range(rounds + 1):
        for name, run in runners.items():
            taken = _timed(lambda run=run: run(arrays))  # type: ignore[misc]
            if turn:
                times[name].append(taken)
    return {name: Time(min(t.clock_s for t in ts), min(t.processor_s for t in ts)) for name, ts in times.items()}


def _timed(run: Callable[[], object]) -> Time:
    clock, processor = time.perf_counter(), time.process_time()
    run()
    return Time(time.perf_counter() - clock, time.process_time() - processor)


def _memory_elsewhere(name: str, artifact: Path, weights_dir: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.formats", "--weights-dir", str(weights_dir)]
    command += ["--memory-of", name, str(artifact)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory(name: str, artifact: Path, weights_dir: Path) -> int:
    """Return the most bytes that are resident while a contender is loaded and run once, above what its imports take."""
    from benchmarks.peak_memory import RESET_PEAK, status_bytes

    for module in FORMATS[name][2] if name in FORMATS else ():
        import_module(module)
    audio, before = _audio(), status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    run = _torch(weights_dir) if name == "torch" else _runner(name, artifact)
    run(audio)
    return status_bytes("VmHWM") - before


if __name__ == "__main__":
    main()
