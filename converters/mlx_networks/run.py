"""A folder that MLX loads as a function from named arrays to named arrays."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from converters.mlx_networks import pyannet, wespeaker
from converters.mlx_networks.write import VERSION
from pipeline.types import Arrays, QuernError, Runner


def network_runner(path: Path, widened: bool) -> Runner:
    """Return the network of a folder, or of one of its weight files; `widened` runs it in single precision."""
    folder, weights = (path, path / "weights.safetensors") if path.is_dir() else (path.parent, path)
    config = _read_config(folder / "config.json")
    network = _built(config, folder / "config.json")
    found = _read_weights(weights)
    _check_weights(dict(tree_flatten(network.parameters())), found, weights)
    if widened:
        found = {n: t.astype(mx.float32) if mx.issubdtype(t.dtype, mx.floating) else t for n, t in found.items()}
    network.load_weights(list(found.items()))
    _, run = _NETWORKS[config["architecture"]]
    return partial(run, network)


def _segments(network: nn.Module, arrays: Arrays) -> Arrays:
    return {"segments": np.array(network(mx.array(arrays["audio"][:, 0])))}


def _embeddings(network: nn.Module, arrays: Arrays) -> Arrays:
    audio, masks = mx.array(arrays["audio"][:, 0]), mx.array(arrays["masks"])
    return {"embeddings": np.array(network(audio, masks[None])[0])}


# Architecture → the model file, and how it is called.
_NETWORKS: dict[str, tuple[ModuleType, Callable[[nn.Module, Arrays], Arrays]]] = {
    "pyannet": (pyannet, _segments),
    "wespeaker_resnet34": (wespeaker, _embeddings),
}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise QuernError(f"{path}: cannot read the file: {error.strerror or error}") from None
    except ValueError as error:
        raise QuernError(f"{path}: damaged or truncated: {error}; build or fetch it again") from None
    if not isinstance(config, dict) or config.get("architecture") not in _NETWORKS:
        found = config.get("architecture") if isinstance(config, dict) else None
        raise QuernError(f"{path}: architecture {found!r}; expected {' or '.join(_NETWORKS)}")
    if config.get("version") != VERSION:
        raise QuernError(f"{path}: version {config.get('version')!r}; expected {VERSION}")
    return config


def _built(config: dict[str, Any], path: Path) -> nn.Module:
    model, _ = _NETWORKS[config["architecture"]]
    try:
        return model.build(config)
    except (KeyError, TypeError, ValueError) as error:
        raise QuernError(f"{path}: does not describe a {config['architecture']}: {error!r}") from None


def _read_weights(path: Path) -> dict[str, mx.array]:
    try:
        found = mx.load(str(path))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise QuernError(f"{path}: damaged, truncated or absent (MLX: {reason}); build or fetch it again") from None
    assert isinstance(found, dict)  # of arrays, for these suffixes
    return dict(found)


def _check_weights(expected: dict[str, Any], found: dict[str, mx.array], path: Path) -> None:
    for name, parameter in expected.items():
        if name not in found:
            raise QuernError(f"{path}: tensor {name} is missing; expected one of shape {list(parameter.shape)}")
        if found[name].shape != parameter.shape:
            shapes = f"expected shape {list(parameter.shape)}, found {list(found[name].shape)}"
            raise QuernError(f"{path}: tensor {name}: {shapes}")
    for name in found.keys() - expected.keys():
        raise QuernError(f"{path}: unexpected tensor {name!r}; the network has no such tensor")
