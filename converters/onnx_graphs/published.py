"""What public ONNX runtimes read from the metadata of a network's file.

sherpa-onnx and what is built on it take the geometry of a segmentation network from there, and refuse a file that
lacks a key (k2-fsa/sherpa-onnx, csrc/offline-speaker-segmentation-pyannote-model.cc).
"""

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from converters.networks.pyannet import PyanNet
from converters.networks.pyannet_layout import RATE_HZ, STAGES
from diarization.powerset import powerset
from pipeline.types import Tensor

_AT_ONCE = 2  # speakers who may talk at the same time, in every network of this kind that is published
_MOST_SPEAKERS = 20


def runtime_keys(module: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, str]:
    """Return the metadata that runtimes look for in this network's file; empty for networks that none knows."""
    if not isinstance(module, PyanNet):
        return {}
    [audio], [segments] = inputs, outputs
    size, shift = receptive_field()
    geometry = {
        "model_type": "pyannote-segmentation-3.0",
        "version": 1,
        "sample_rate": RATE_HZ,
        "window_size": audio.shape[-1],
        "receptive_field_size": size,
        "receptive_field_shift": shift,
        "num_classes": segments.shape[-1],
    }
    return {key: str(value) for key, value in geometry.items()} | _powerset_keys(module.classifier.out_features)


def receptive_field() -> tuple[int, int]:
    """Return how many samples one frame sees before the LSTM, and how many lie between two frames."""
    size = 1
    for kernel, stride in reversed(STAGES):
        size = (size - 1) * stride + kernel
    return size, prod(stride for _, stride in STAGES)


def _powerset_keys(classes: int) -> dict[str, str]:
    """Return how many speakers the classes tell apart, and which of them each class stands for.

    Empty where the classes are not the sets of at most two speakers.
    """
    by_count = {len(sets): sets for sets in (powerset(n, _AT_ONCE) for n in range(_AT_ONCE, _MOST_SPEAKERS + 1))}
    if classes not in by_count:
        return {}
    sets = by_count[classes]
    return {
        "num_speakers": str(sets.shape[1]),
        "powerset_max_classes": str(_AT_ONCE),
        "powerset_mapping": json.dumps([np.flatnonzero(members).tolist() for members in sets]),
    }
