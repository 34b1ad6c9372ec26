"""Embeddings of three speakers: one audio under three masks against upstream's three copies of it, side by side.

    python -m benchmarks.embedding [--threads 2] [--rounds 8] [--json]

Weights are seeded stand-ins: time does not depend on them. Contenders run in turns; medians are compared, and the
quotient is given with its interval (`benchmarks/interleaved.py`).
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

import mil
from benchmarks.interleaved import abba, quotient
from benchmarks.networks import WeSpeaker, converted
from converters.formats import coreml
from converters.models import wespeaker
from converters.models.wespeaker import Form
from pipeline.types import Arrays

Contenders = dict[str, Callable[[], object]]

# name of the quotient → what is divided by what, and what is expected of it: ("at least" | "at most", limit)
QUOTIENTS = {
    "torch: upstream's three waveforms / one audio": (
        "upstream, three waveforms",
        "ours, one audio",
        ("at least", 2.2),
    ),
    "interpreter: three waveforms / one audio": ("program, three waveforms", "program, one audio", ("at least", 2.2)),
    "interpreter / torch, fp32": ("interpreter, fp32", "torch, behind log-mel", ("at most", 1.25)),
    "interpreter / torch, fp16": ("interpreter, fp16", "torch, behind log-mel", ("at most", 1.6)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    state = wespeaker.synthetic(0)
    with tempfile.TemporaryDirectory() as folder:
        contenders = _forms(state, Path(folder)) | _interpreter(state, Path(folder))
        times = abba(contenders, arguments.rounds)
    quotients = {name: quotient(times[a], times[b]) for name, (a, b, _) in QUOTIENTS.items()}
    if arguments.json:
        medians = {name: float(np.median(each)) for name, each in times.items()}
        print(json.dumps({"threads": arguments.threads, "median_s": medians, "quotients": quotients}))
        return
    for name, each in times.items():
        print(f"{name:26} median {1000 * np.median(each):8.1f} ms   best {1000 * min(each):8.1f}")
    for name, (value, low, high) in quotients.items():
        side, limit = QUOTIENTS[name][2]
        print(f"{name:48} {value:.2f}   {low:.2f} to {high:.2f}   {side} {limit}")


def _forms(state: Arrays, folder: Path) -> Contenders:
    """Return upstream's three copies of one audio under three masks, and our one audio under the same."""
    generator = np.random.default_rng(0)
    audio = generator.uniform(-0.3, 0.3, (1, 1, 160_000)).astype(np.float32)
    masks = (generator.uniform(0, 1, (3, 589)) > 0.5).astype(np.float32)
    one = {"audio": audio, "masks": masks}
    three = {"waveform": np.repeat(audio[0], 3, axis=0), "mask": masks}
    network = wespeaker.load(state, Form("audio"))

    def ours() -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(audio), torch.from_numpy(masks)).numpy()

    return {
        "upstream, three waveforms": partial(wespeaker.reference(state, Form("waveforms")), three),
        "ours, one audio": ours,
        "program, three waveforms": partial(_program(state, Form("waveforms"), folder).run, three),
        "program, one audio": partial(_program(state, Form("audio"), folder).run, one),
    }


def _program(state: Arrays, form: Form, folder: Path) -> mil.Program:
    path = folder / f"{form.program}.mlpackage"
    network, options = wespeaker.load(state, form), coreml.Options(precision="fp32")
    coreml.convert(network, wespeaker.inputs(form), wespeaker.outputs(form), {}, options, path)
    return mil.load(path)


def _interpreter(state: Arrays, folder: Path) -> Contenders:
    """Return upstream's network behind its log-mel features in torch, and what plain coremltools makes of it."""
    network = WeSpeaker(state)
    features = torch.randn(1, 998, 80, generator=torch.Generator().manual_seed(0))

    def eager() -> np.ndarray:
        with torch.inference_mode():
            return network(features).numpy()

    contenders: Contenders = {"torch, behind log-mel": eager}
    for name, half in (("interpreter, fp32", False), ("interpreter, fp16", True)):
        program = mil.load(converted(network, features, folder, half))
        contenders[name] = partial(program.run, {"x": features.numpy()}, "declared" if half else "float32")
    return contenders


if __name__ == "__main__":
    main()
