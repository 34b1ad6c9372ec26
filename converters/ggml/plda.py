"""PLDA from a GGUF file of architecture `plda`: ggml reads the file, and numpy computes.

ggml has no arithmetic on F64, and runtimes compute this part outside it too, in double precision.
"""

from collections.abc import Mapping

import numpy as np

from converters.ggml.file import GgufFile
from converters.gguf_layouts import plda as layout
from pipeline.types import Arrays, QuernError

OUTPUTS = {"rho": "rho"}


def check(file: GgufFile) -> None:
    """Raise QuernError unless a file holds a whole PLDA."""
    file.check(layout.KEYS, layout.SHAPES, ("F64",))


def session(file: GgufFile, shapes: Mapping[str, tuple[int, ...]], widened: bool, every_layer: bool) -> Arrays:
    """Return the parameters for embeddings (batch, 256): they are F64 and every step is computed, whatever is asked.

    Raises QuernError for embeddings of another shape.
    """
    shape, dimension = shapes.get("embeddings", ()), layout.KEYS["plda.xvec_dim"]
    if len(shape) != 2 or shape[0] < 1 or shape[1] != dimension:
        raise QuernError(f"{file.path}: embeddings of shape {list(shape)}; expected [batch, {dimension}]")
    return {name.removeprefix("plda."): file.doubles(name) for name in layout.SHAPES}


def results(session: Arrays, arrays: Arrays) -> Arrays:
    """Return each step, float64, and the features, `rho`, rounded to float32 as declared."""
    wide, narrow = session["lda"].shape
    layers = {"centred": _unit(arrays["embeddings"].astype(np.float64) - session["mean1"])}
    layers["projected"] = np.sqrt(wide) * layers["centred"] @ session["lda"]
    layers["scaled"] = np.sqrt(narrow) * _unit(layers["projected"] - session["mean2"])
    return layers | {"rho": ((layers["scaled"] - session["mu"]) @ session["tr"].T).astype(np.float32)}


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length one; zeros stay zeros, as in the runtimes."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
