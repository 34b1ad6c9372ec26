"""MLX: a folder with weights in MLX's layouts and the model file that loads them, and a runner on MLX itself."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.types import QuernError, Runner, Tensor

SUFFIX = ".mlx"
RUNNER = "MLX"
TOOLS = ("mlx",)


@dataclass(frozen=True)
class Options:
    """How weights are stored.

    precision    fp32, fp16, or MLX's affine quantization of the linear layers, the LSTM's among them, to 8 or 4 bits,
                 all else in fp32: MLX computes a quantized layer in the type of its scales, which takes a processor
                 thirty times as long in fp16
    group_size   how many neighbouring weights share a scale, where they are quantized
    """

    precision: Literal["fp32", "fp16", "q8", "q4"] = "fp16"
    group_size: Literal[32, 64, 128] = 64


def exact(options: Options) -> Options:
    """Return the options that convert without loss of precision."""
    return replace(options, precision="fp32")


def missing() -> str:
    """Return the command that installs what this format needs, empty where it is installed."""
    # The bare package is there on Linux without its native half, and fails to import.
    there = importlib.util.find_spec("mlx") and importlib.util.find_spec("mlx.core")
    return "" if there else "pip install -e '.[mlx]'"


def convert(
    module: Any,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    options: Options,
    destination: Path,
) -> None:
    """Write config.json, weights.safetensors, weights.npz (the same weights) and model.py into a folder.

    Raises QuernError for a network that has no MLX module, and for a declared type other than float32.
    """
    from converters.mlx_networks.write import write

    for tensor in (*inputs, *outputs):
        if tensor.dtype != "float32":
            raise QuernError(f"{tensor.name}: declared {tensor.dtype}; the MLX networks take and return float32")
    write(module, metadata, options.precision, options.group_size, destination)


def label(artifact: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write a copy of a folder whose configuration carries these strings too; it shares the other files."""
    from converters.mlx_networks.write import labelled

    labelled(artifact, strings, destination)


def compiler(choice: str) -> dict[str, str]:
    """Return nothing: MLX loads the folder as it is."""
    return {}


def compile(artifact: Path, name: str, choice: str, destination: Path) -> None:
    """Refuse: there is no compiled form."""
    raise QuernError(f"{name}: MLX has no compiled form")


def runner(artifact: Path, precision: str) -> Runner:
    """Return a folder, or one of the weight files in it, as a function on MLX; precision is "declared" or "float32".

    Raises QuernError for what is damaged, of another architecture or version, or of wrong shapes.
    """
    from converters.mlx_networks.run import network_runner

    return network_runner(artifact, widened=precision != "declared")
