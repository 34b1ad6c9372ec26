"""Writing a network as a folder that MLX loads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from safetensors.numpy import save_file

from converters.mlx_networks import pyannet, pyannet_weights, wespeaker, wespeaker_weights
from mil.links import link
from pipeline.types import Arrays, QuernError

VERSION = 1
CONFIG = "config.json"
BITS = {"q8": 8, "q4": 4}


def write(module: Any, metadata: Mapping[str, str], precision: str, group_size: int, destination: Path) -> None:
    """Write config.json, weights.safetensors, weights.npz and model.py; equal networks give equal bytes."""
    architecture, model, layout = _described(module)
    bits = BITS.get(precision)
    config = {
        "architecture": architecture,
        "version": VERSION,
        "network": layout.network_sizes(module),
        "quantization": {"group_size": group_size, "bits": bits} if bits else None,
        "metadata": dict(metadata),
    }
    tensors = layout.weights(module, precision)
    if bits:
        tensors = _quantized(model, config, tensors)
    destination.mkdir()
    _write_config(config, destination)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}
    save_file(tensors, destination / "weights.safetensors")
    np.savez(destination / "weights.npz", **tensors)  # type: ignore[arg-type]
    assert model.__file__  # it is a file's module
    (destination / "model.py").write_bytes(Path(model.__file__).read_bytes())


def labelled(source: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write a folder anew with these strings in the metadata of its configuration, and links to its other files."""
    config = json.loads((source / CONFIG).read_text())
    shutil.copytree(source, destination, copy_function=link, ignore=shutil.ignore_patterns(CONFIG))
    _write_config({**config, "metadata": config["metadata"] | dict(strings)}, destination)


def _write_config(config: Mapping[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _described(module: Any) -> tuple[str, ModuleType, ModuleType]:
    """Return the architecture of a network, its model file, and what turns its tensors into those of the model."""
    from converters.networks.pyannet import PyanNet
    from converters.networks.wespeaker import OneAudio

    known = {
        PyanNet: ("pyannet", pyannet, pyannet_weights),
        OneAudio: ("wespeaker_resnet34", wespeaker, wespeaker_weights),
    }
    if type(module) not in known:
        names = ", ".join(kind.__name__ for kind in known)
        raise QuernError(f"{type(module).__name__}: no MLX module for this network; those with one: {names}")
    return known[type(module)]


def _quantized(model: ModuleType, config: Mapping[str, Any], tensors: Arrays) -> Arrays:
    """Return the tensors as MLX quantizes them: packed integers, scales and biases in place of matrices."""
    network = model.build({**config, "quantization": None})
    network.load_weights([(name, mx.array(tensor)) for name, tensor in tensors.items()])
    model.quantize(network, **config["quantization"])
    return {name: np.array(value) for name, value in tree_flatten(network.parameters())}
