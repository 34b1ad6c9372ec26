"""How much memory it takes to load a package and run it once, in a process of its own.

    python -m benchmarks.peak_memory PACKAGE PRECISION

Prints bytes: the largest resident set above what the process holds once everything is imported.
"""

import resource
import sys

import numpy as np

import mil
from mil.interface import drawn
from mil.ops import registered


def main() -> None:
    package, precision = sys.argv[1:]
    registered()  # imports torch and every operation
    program = mil.load(package)
    inputs = {feature.name: drawn(feature, np.random.default_rng(0)) for feature in program.inputs()}
    baseline = _resident_bytes()
    program.run(inputs, precision)
    print(_resident_bytes() - baseline)


def _resident_bytes() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    main()
