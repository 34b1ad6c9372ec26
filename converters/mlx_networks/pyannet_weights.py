"""PyanNet's trained tensors in the names and layouts of its MLX module."""

import re
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.pyannet_layout import sizes_of
from pipeline.types import Arrays, QuernError

if TYPE_CHECKING:
    from converters.networks.pyannet import PyanNet

_DIRECTIONS = {"": "forward", "_reverse": "backward"}


def network_sizes(network: "PyanNet") -> dict[str, int]:
    """Return what the MLX module is made with; raises QuernError for an LSTM of one direction, which it has not."""
    sizes = sizes_of({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    if not sizes.bidirectional:
        raise QuernError("PyanNet: an LSTM of one direction; the MLX network has two")
    names = ("lstm_layers", "lstm_hidden", "linear_layers", "linear_hidden", "classes")
    return {name: getattr(sizes, name) for name in names}


def weights(network: "PyanNet", precision: str) -> Arrays:
    """Return every tensor of the MLX module, halved with precision "fp16".

    A kernel is (filter, channel, tap) in torch and (filter, tap, channel) in MLX; an LSTM's two biases are only ever
    added to each other, and are one here.
    """
    found: Arrays = {}
    for name, tensor in network.state_dict().items():
        place, value = _placed(name, tensor.numpy())
        found[place] = found[place] + value if place in found else value
    return {name: tensor.astype(np.float16 if precision == "fp16" else np.float32) for name, tensor in found.items()}


def _placed(name: str, tensor: np.ndarray) -> tuple[str, np.ndarray]:
    lstm = re.fullmatch(r"lstm\.(weight|bias)_(ih|hh)_l(\d+)(_reverse)?", name)
    if lstm:
        kind, source, layer, reverse = lstm.groups("")
        part = "recurrent" if (kind, source) == ("weight", "hh") else "input"
        return f"lstm.{layer}.{_DIRECTIONS[reverse]}.{part}.{kind}", tensor
    place = re.sub(r"^sincnet\.(\w+)1d\.", r"sincnet.\1.", name)
    return place, tensor.transpose(0, 2, 1) if tensor.ndim == 3 else tensor
