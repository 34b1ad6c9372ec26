"""WeSpeaker's ResNet34 as ggml runtimes for pyannote embeddings load it: architecture `wespeaker_resnet34`.

Kernels and the matrix of the last layer are F16 and vectors F32, or all is F32. Our network has its batch
normalisations folded into the convolutions, and so has the file: what stands there as a normalisation adds a bias and
does nothing else. The filter bank follows from its definition, and runtimes bring their own.
Source: the loader of github.com/predict-woo/pyannote-ggml, embedding-ggml/src/model.cpp.
"""

from typing import TYPE_CHECKING

import numpy as np

from converters.gguf_layouts.contents import Contents
from converters.networks.wespeaker_layout import (
    DIMENSION,
    EPSILON,
    FRAME_SAMPLES,
    HOP_SAMPLES,
    MEL_BANDS,
    RATE_HZ,
    convolutions,
)
from pipeline.types import Arrays

if TYPE_CHECKING:
    from converters.networks.wespeaker import WeSpeaker

ARCHITECTURE = "wespeaker_resnet34"

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
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    tensors: Arrays = {}
    for convolution, norm, _ in convolutions():
        name = convolution.replace("resnet.", "trunk.", 1)
        tensors[f"{convolution}.weight"] = state[f"{name}.weight"]
        tensors |= {f"{norm}.{part}": values for part, values in _bias_alone(state[f"{name}.bias"]).items()}
    tensors |= {f"resnet.{name}": state[name] for name in ("seg_1.weight", "seg_1.bias")}
    if precision == "fp16":
        tensors = {name: t.astype(np.float16) if t.ndim > 1 else t for name, t in tensors.items()}
    return Contents(ARCHITECTURE, KEYS, tensors)


def _bias_alone(bias: np.ndarray) -> Arrays:
    """Return the statistics of a batch normalisation that adds a bias: √(variance + ε) is one."""
    one = np.ones_like(bias)
    return {"weight": one, "bias": bias, "running_mean": 0 * one, "running_var": one - np.float32(EPSILON)}
