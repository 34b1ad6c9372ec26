"""WeSpeaker's ResNet34 as ggml runtimes for pyannote embeddings load it: architecture `wespeaker_resnet34`.

Kernels and the matrix of the last layer are F16 and vectors F32, or all is F32. Runtimes normalise batches behind the
convolutions, as in training, and our network has that folded into them: the tensors are the checkpoint's, not ours.
The filter bank follows from its definition, and runtimes bring their own.
Source: the loader of github.com/predict-woo/pyannote-ggml, embedding-ggml/src/model.cpp.
"""

from typing import TYPE_CHECKING

import numpy as np

from converters.gguf_layouts.contents import Contents
from converters.gguf_layouts.trained import trained_tensors
from converters.networks.wespeaker_layout import (
    DIMENSION,
    FRAME_SAMPLES,
    HOP_SAMPLES,
    MEL_BANDS,
    RATE_HZ,
    parameter_shapes,
)

if TYPE_CHECKING:
    from converters.networks.wespeaker import WeSpeaker

ARCHITECTURE = "wespeaker_resnet34"
PRECISIONS = ("fp32", "fp16")

KEYS = {
    "wespeaker.sample_rate": RATE_HZ,
    "wespeaker.num_mel_bins": MEL_BANDS,
    "wespeaker.frame_length": 1000 * FRAME_SAMPLES // RATE_HZ,  # in milliseconds, as the next
    "wespeaker.frame_shift": 1000 * HOP_SAMPLES // RATE_HZ,
    "wespeaker.embed_dim": DIMENSION,
    "wespeaker.feat_dim": MEL_BANDS,
}


def contents(network: "WeSpeaker", precision: str) -> Contents:
    """Return what the file of a network holds; with precision "fp16" its matrices and kernels are halved."""
    trained = trained_tensors(network)
    tensors = {name: trained[name] for name in parameter_shapes()}
    if precision == "fp16":
        tensors = {name: t.astype(np.float16) if t.ndim > 1 else t for name, t in tensors.items()}
    return Contents(ARCHITECTURE, KEYS, tensors)
