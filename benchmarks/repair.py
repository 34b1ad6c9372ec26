"""A shipped bundle repaired without its source: slices, operations and interpreter time, before and after each pass.

    python -m benchmarks.repair BUNDLE --audio FILE.wav [--rounds 5] [--threads 2] [--palettes even] [--json]

BUNDLE is the published WeSpeaker program without its weights, which are filled in (`filled_weights.py`). Programs take
turns, so that whatever else the machine does falls on all of them, and are compared by their best time. The last two
columns are the largest differences of log-mel and embedding from the program before the pass.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import mil
from benchmarks.filled_weights import filled
from benchmarks.interpreter import in_turns
from diarization.audio import read_recording, resampled
from mil.bound import Call
from mil.decompile import decompile_bundle
from mil.diff import Side, compare
from optimizations.__main__ import apply, module
from optimizations.programs.rewriting import counted

PASSES = ("fold_frame_slices", "replace_slices", "restore_analytic_constants")
SAMPLES, FRAMES, RATE_HZ = 160000, 589, 16000


@dataclass(frozen=True)
class Row:
    """A program after a pass.

    load_s          to read and bind
    front_end_ms    of a run as far as the log-mel, best
    run_ms          of a whole run, best
    differences     embedding, log-mel → largest difference from the program before
    """

    program: str
    slices: int
    operations: int
    size_bytes: int
    load_s: float
    front_end_ms: float
    run_ms: float
    differences: Mapping[str, float]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--palettes", choices=("optimal", "even"), default="even")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(chosen.threads)
    inputs = inputs_of(chosen.audio)
    with tempfile.TemporaryDirectory() as folder:
        packages = repaired(filled(chosen.bundle, Path(folder) / "filled.mlmodelc", chosen.palettes), Path(folder))
        rows = measured(packages, inputs, chosen.rounds)
    print(json.dumps([asdict(row) for row in rows], indent=1) if chosen.json else text(rows))
    return 0


def inputs_of(audio: Path) -> dict[str, np.ndarray]:
    """Return 10 s of a recording for three speakers, who are active always, at first, and now and then."""
    recording = read_recording(audio)
    samples = resampled(recording.samples, recording.rate_hz, RATE_HZ)[:SAMPLES].astype(np.float32)
    mask = np.ones((3, FRAMES), np.float32)
    mask[1, FRAMES // 3 :] = 0
    mask[2] = np.arange(FRAMES) % 7 < 3
    return {"waveform": np.tile(samples, (3, 1)), "mask": mask}


def repaired(bundle: Path, folder: Path) -> dict[str, Path]:
    """Return the package of a bundle, and what each pass makes of the one before."""
    packages = {"as published": decompile_bundle(bundle, folder / "published.mlpackage").path}
    for name in PASSES:
        source, made = list(packages.values())[-1], folder / f"{name}.mlpackage"
        chosen = module(name)
        apply(chosen, source, chosen.Options(), folder / "memo", made)
        packages[name] = made
    return packages


def measured(packages: Mapping[str, Path], inputs: dict[str, np.ndarray], rounds: int) -> list[Row]:
    """Return one row for each program."""
    programs, loads = {}, {}
    mil.load(next(iter(packages.values()))).bound(0, "declared")  # imports what binding needs
    for name, path in packages.items():
        start = time.perf_counter()
        programs[name] = mil.load(path)
        programs[name].bound(0, "declared")
        loads[name] = time.perf_counter() - start
    runs = in_turns({name: partial(program.run, inputs) for name, program in programs.items()}, rounds)
    fronts = in_turns({name: partial(_to_log_mel, program, inputs) for name, program in programs.items()}, 6 * rounds)
    rows: list[Row] = []
    before: mil.Program | None = None
    for name, program in programs.items():
        counts = counted(program.spec)
        rows.append(
            Row(
                name,
                counts["slices"],
                counts["operations"],
                sum(file.stat().st_size for file in packages[name].rglob("*") if file.is_file()),
                loads[name],
                1000 * min(fronts[name]),
                1000 * min(runs[name]),
                {} if before is None else _differences(before, program, inputs),
            )
        )
        before = program
    return rows


def _to_log_mel(program: mil.Program, inputs: Mapping[str, Any]) -> None:
    """Run a program until it has taken a logarithm."""
    import torch

    with torch.inference_mode():
        next(step for step, _, _ in program.walk(inputs) if isinstance(step, Call) and step.operation == "log")


def _differences(before: mil.Program, after: mil.Program, inputs: Mapping[str, Any]) -> dict[str, float]:
    found = compare(Side(before, inputs), Side(after, inputs)).differences
    names = {"embedding": "embedding"} | {each.name: "log-mel" for each in found if each.operation == "log"}
    return {names[each.name]: each.largest for each in found if each.name in names}


def text(rows: list[Row]) -> str:
    """Return the table as it stands in docs/repair.md."""
    lines = [
        "| program | slices | operations | package MB | load s | front end ms | run ms | log-mel | embedding |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        apart = " | ".join(f"{row.differences[key]:.2g}" if row.differences else "" for key in ("log-mel", "embedding"))
        facts = f"{row.slices} | {row.operations} | {row.size_bytes / 1e6:.2f} | {row.load_s:.2f}"
        lines.append(f"| {row.program} | {facts} | {row.front_end_ms:.1f} | {row.run_ms:.0f} | {apart} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
