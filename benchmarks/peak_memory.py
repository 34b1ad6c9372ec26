"""How much memory it takes to load a package and run it once, in a process of its own.

    python -m benchmarks.peak_memory PACKAGE PRECISION

Prints bytes: the largest resident set above what the process holds once everything is imported. Linux only.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

import mil
from mil.interface import drawn
from mil.ops import registered

STATUS, RESET_PEAK = Path("/proc/self/status"), "5"


def main() -> None:
    package, precision = sys.argv[1:]
    registered()  # imports torch and every operation …
    importlib.import_module("mil.ops.lstm_kernel")  # … and this one numba
    program = mil.load(package)
    inputs = {feature.name: drawn(feature, np.random.default_rng(0)) for feature in program.inputs()}
    baseline = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text(RESET_PEAK)
    program.run(inputs, precision)
    print(status_bytes("VmHWM") - baseline)


def status_bytes(field: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
