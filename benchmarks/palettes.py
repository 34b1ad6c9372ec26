"""Palettes against coremltools: time, squared error and size, on the same package, in one run.

    python -m benchmarks.palettes MODEL.mlpackage [--nbits 8 6 4] [--out table.json]

Ours is measured as a user waits for it: reading the package, palettes, writing, and comparing every weight with its
original; cold, in a new process with imports and compiled code loaded from its cache, and warm, with nothing recalled
from a store. coremltools is measured in-process with the package loaded as MLModel, through `palettize_weights` and
`save`. Squared errors are of decoded weights, ours by our decoder and theirs by coremltools' own.

Exit status 1 where an error of ours is above theirs × (1 + 1e-6). A table is a claim only where large matrices hold
more than 10,000 distinct fp16 values, so it says how many there are at least: on coarser weights a palette is
lossless and proves nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimizations.palettize import Options, apply

# Matrices of fewer elements cannot hold 10,000 distinct values to speak of.
LARGE = 20_000
ERROR_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Row:
    """One width on one package: seconds, the worst ratio of squared errors, and bytes of the weight files."""

    nbits: int
    tensors: int
    ours_cold_s: float
    ours_warm_s: float
    theirs_s: float
    speedup: float
    worst_error_ratio: float
    mean_error_ratio: float
    ours_bytes: int
    theirs_bytes: int


def forgetful(recipe: Mapping[str, Any], run: Callable[[Path], None]) -> Path:
    """A store that never recalls: every palette is made."""
    folder = Path(tempfile.mkdtemp(dir=_scratch()))
    run(folder)
    return folder
