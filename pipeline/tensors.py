"""Named arrays on disk, as safetensors."""

from pathlib import Path

import numpy as np

from pipeline.types import Arrays


def write_tensors(arrays: Arrays, path: Path) -> None:
    """Write named arrays; the same arrays give the same bytes, whatever the order of the names."""
    from safetensors.numpy import save

    path.write_bytes(save({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}))


def read_tensors(path: Path) -> Arrays:
    """Return the named arrays of a file that `write_tensors` wrote."""
    from safetensors.numpy import load_file

    return load_file(path)
