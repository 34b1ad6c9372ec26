"""PyanNet as ggml runtimes for pyannote segmentation load it: architecture `pyannet`.

Matrices and kernels are F16 and vectors F32, or all is F32. The runtimes read the LSTM's weights as F16 whatever the
file says, so a file that is all F32 is for exact comparison. They also halve the waveform, offset and all, before the
first convolution: on 105 windows of real recordings that keeps 99.785 % of the frames' classes, and 99.99 % where the
waveform stays whole, as in our runner. The tensors are the checkpoint's, for our network has moved the offset of the
waveform behind the first convolution, where the format has no place for it.
Source: the loader of github.com/predict-woo/pyannote-ggml, models/segmentation-ggml/src/model.cpp.
"""

import re
from typing import TYPE_CHECKING

import numpy as np

from converters.gguf_layouts.contents import Contents
from converters.gguf_layouts.trained import trained_tensors
from converters.networks.pyannet_layout import (
    BAND_HZ,
    FILTERS,
    LOW_HZ,
    RATE_HZ,
    STAGES,
    Sizes,
    parameter_shapes,
    sizes_of,
)

if TYPE_CHECKING:
    from converters.networks.pyannet import PyanNet

ARCHITECTURE = "pyannet"
PRECISIONS = ("fp32", "fp16")

_FILTERS = "sincnet.0.conv.weight"


def keys(sizes: Sizes) -> dict[str, int]:
    """Return the keys that describe the network, all of unsigned 32-bit type."""
    kernel, stride = STAGES[0]
    return {
        "pyannet.sample_rate": RATE_HZ,
        "pyannet.num_classes": sizes.classes,
        "pyannet.lstm_layers": sizes.lstm_layers,
        "pyannet.lstm_hidden": sizes.lstm_hidden,
        "pyannet.sincnet_kernel_size": kernel,
        "pyannet.sincnet_stride": stride,
    }


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by the name that it has in the file, as numpy has it."""
    kernel, _ = STAGES[0]
    trained = {name: shape for name, shape in parameter_shapes(sizes).items() if name not in (LOW_HZ, BAND_HZ)}
    return {_FILTERS: (FILTERS, 1, kernel)} | {_renamed(name): shape for name, shape in trained.items()}


def contents(network: "PyanNet", precision: str) -> Contents:
    """Return what the file of a network holds; with precision "fp16" its matrices and kernels are halved."""
    from converters.networks.pyannet import sinc_filters

    trained = trained_tensors(network)
    sizes = sizes_of({name: tensor.shape for name, tensor in trained.items()})
    tensors = {_FILTERS: sinc_filters(trained[LOW_HZ], trained[BAND_HZ])}
    tensors |= {_renamed(name): tensor for name, tensor in trained.items() if name not in (LOW_HZ, BAND_HZ)}
    if precision == "fp16":
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    return Contents(ARCHITECTURE, keys(sizes), tensors)


def _halved(name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.ndim == 1:
        return tensor
    return halved_with_sums(tensor) if name == _FILTERS else tensor.astype(np.float16)


def halved_with_sums(filters: np.ndarray) -> np.ndarray:
    """Return filters (filter, 1, tap) in half precision, each with the sum that it had.

    The waveform comes to them with an offset several times as large as the signal, and what a filter makes of an
    offset is its sum. Rounding each tap by itself changes the sums, and with them a bias of every channel: 0.4 % of the
    frames of speech then get another class. So the rounding error of a tap is carried over to the next; the last taps
    are tiny, and so is what is left over.
    """
    halved = np.empty(filters.shape, np.float16)
    carried = np.zeros(filters.shape[:-1])  # (filter, 1)
    for tap in range(filters.shape[-1]):
        wanted = filters[..., tap] + carried
        halved[..., tap] = wanted
        carried = wanted - halved[..., tap]
    return halved


def _renamed(name: str) -> str:
    name = name.replace("sincnet.wav_norm1d.", "sincnet.wav_norm.")
    return re.sub(r"^sincnet\.(conv|norm)1d\.(\d)\.", r"sincnet.\2.\1.", name)
