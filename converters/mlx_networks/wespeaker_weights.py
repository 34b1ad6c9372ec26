"""WeSpeaker's trained tensors in the names and layouts of its MLX module."""

import re
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.wespeaker_layout import BLOCKS
from pipeline.types import Arrays

if TYPE_CHECKING:
    from converters.networks.wespeaker import WeSpeaker

_BEFORE = [0, *accumulate(BLOCKS)]  # how many blocks stand before each stage


def network_sizes(network: "WeSpeaker") -> dict[str, int]:
    """Return what the MLX module is made with: nothing, for there is one size."""
    return {}


def weights(network: "WeSpeaker", precision: str) -> Arrays:
    """Return every tensor of the MLX module; with precision "fp16" halved, but for the filter bank.

    A kernel is (filter, channel, …) in torch and (filter, …, channel) in MLX; blocks are counted through the stages.
    """
    state = {_renamed(name): np.moveaxis(tensor.numpy(), 1, -1) if tensor.ndim > 2 else tensor.numpy()
             for name, tensor in network.state_dict().items()}  # fmt: skip
    half = precision == "fp16"
    return {n: t.astype(np.float16) if half and not n.startswith("fbank.") else t for n, t in state.items()}


def _renamed(name: str) -> str:
    name = name.replace(".shortcut.0.", ".shortcut.")
    return re.sub(r"\.layer(\d)\.(\d)\.", lambda m: f".blocks.{_BEFORE[int(m[1]) - 1] + int(m[2])}.", name)
