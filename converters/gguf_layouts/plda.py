"""PLDA as ggml runtimes for pyannote diarization load it: architecture `plda`.

All tensors are F64, for the runtimes compute this part in double precision, by themselves: ggml has no F64 arithmetic.
`tr` and `psi` are those after the joint diagonalisation, which runtimes do not do; the other four are the checkpoint's,
which our network, rounding to single precision, has folded into each other.
Source: the converter of github.com/predict-woo/pyannote-ggml, convert_plda.py, and diarization-ggml/src/plda.cpp.
"""

from typing import TYPE_CHECKING

import numpy as np

from converters.gguf_layouts.contents import Contents
from converters.gguf_layouts.trained import trained_tensors
from converters.networks.wespeaker_layout import DIMENSION

if TYPE_CHECKING:
    from converters.networks.processors.plda import PldaRho

ARCHITECTURE = "plda"
PRECISIONS = ("fp64",)

FEATURES = 128

KEYS = {"plda.xvec_dim": DIMENSION, "plda.lda_dim": FEATURES}

SHAPES: dict[str, tuple[int, ...]] = {
    "plda.mean1": (DIMENSION,),
    "plda.mean2": (FEATURES,),
    "plda.lda": (DIMENSION, FEATURES),
    "plda.mu": (FEATURES,),
    "plda.tr": (FEATURES, FEATURES),
    "plda.psi": (FEATURES,),
}


def contents(network: "PldaRho", precision: str) -> Contents:
    """Return what the file of a network holds."""
    from converters.networks.processors.plda import diagonal

    trained = trained_tensors(network)
    found = diagonal(trained["tr"], trained["psi"])
    tensors = trained | {"tr": found.transform, "psi": found.psi}
    named = {name: tensors[name.removeprefix("plda.")].astype(np.float64) for name in SHAPES}
    return Contents(ARCHITECTURE, KEYS, named)
