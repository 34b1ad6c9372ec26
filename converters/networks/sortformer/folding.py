"""From NeMo's trained tensors to those of our modules: what is constant is worked out once, here."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from converters.networks.sortformer import network as frames_network
from converters.networks.sortformer.channels import network as channels_network
from converters.networks.sortformer.conformer import positions
from converters.networks.sortformer.layout import REACH, STRIDES, Sizes, halved, sizes_in
from converters.networks.sortformer.mel import MelSpectrogram, mel_tensors

State = dict[str, np.ndarray]

_NETWORKS: Mapping[str, ModuleType] = {"frames": frames_network, "channels": channels_network}
_BATCH_NORM_EPSILON = 1e-5


def streaming(state: State, layout: str, spkcache: int, fifo: int, chunk: int) -> nn.Module:
    """Return the network for steps of that many frames, in evaluation mode."""
    sizes = sizes_in(state)
    with torch.device("meta"):
        network = _NETWORKS[layout].Streaming(sizes, spkcache, fifo, chunk)
    frames = spkcache + fifo + chunk
    return _filled(network, _pre_encode(state, sizes) | _head(state, sizes, frames))


def offline(state: State, layout: str, frames: int) -> nn.Module:
    """Return the network for windows of that many mel frames, in evaluation mode."""
    sizes = sizes_in(state)
    with torch.device("meta"):
        network = _NETWORKS[layout].Offline(sizes, frames)
    return _filled(network, _pre_encode(state, sizes) | _head(state, sizes, halved(frames)))


def mel_spectrogram(state: State, samples: int) -> MelSpectrogram:
    """Return the preprocessor for windows of that many samples, in evaluation mode."""
    with torch.device("meta"):
        network = MelSpectrogram(sizes_in(state), samples)
    return _filled(
        network, mel_tensors(state["preprocessor.featurizer.window"], state["preprocessor.featurizer.fb"][0])
    )


def _filled(network: nn.Module, tensors: dict[str, np.ndarray]) -> Any:
    network.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)


def _pre_encode(state: State, sizes: Sizes) -> State:
    names = {"conv.0": "first", "out": "out"}
    for stage in range(1, STRIDES):
        names |= {f"conv.{3 * stage - 1}": f"depthwise.{stage - 1}", f"conv.{3 * stage}": f"pointwise.{stage - 1}"}
    found = _renamed(state, {f"encoder.pre_encode.{old}": f"pre_encode.{new}" for old, new in names.items()})
    shape = (sizes.width, sizes.channels, 1, halved(sizes.mels))
    return found | {"pre_encode.out.weight": found["pre_encode.out.weight"].reshape(shape)}


def _head(state: State, sizes: Sizes, frames: int) -> State:
    modules = {"encoder_proj": "projection", "first_hidden_to_hidden": "hidden", "single_hidden_to_spks": "speakers"}
    tensors = _renamed(state, {f"sortformer_modules.{old}": f"head.{new}" for old, new in modules.items()})
    distances = positions(sizes.width, max(frames, REACH))
    for layer in range(sizes.conformer_layers):
        found = _conformer(_below(state, f"encoder.layers.{layer}."), sizes, distances)
        tensors |= {f"head.conformer.{layer}.{name}": tensor for name, tensor in found.items()}
    for layer in range(sizes.transformer_layers):
        found = _transformer(_below(state, f"transformer_encoder.layers.{layer}."), sizes)
        tensors |= {f"head.transformer.{layer}.{name}": tensor for name, tensor in found.items()}
    return tensors


def _conformer(layer: State, sizes: Sizes, distances: np.ndarray) -> State:
    """Return the tensors of a ConformerLayer."""
    tensors = {name: tensor for name, tensor in layer.items() if "batch_norm" not in name and "_pos." not in name}
    for part in ("feed_forward1", "feed_forward2"):
        tensors |= _scaled(layer, f"{part}.linear2", 0.5)
    return tensors | _relative_attention(layer, sizes, distances) | _convolution(layer)


def _relative_attention(layer: State, sizes: Sizes, distances: np.ndarray) -> State:
    heads, head = sizes.conformer_heads, sizes.width // sizes.conformer_heads
    projected = distances @ layer["self_attn.linear_pos.weight"].astype(np.float64).T  # (distance, head · feature)
    by_head = projected.reshape(-1, heads, head).transpose(1, 2, 0)[np.newaxis]
    tensors = _scaled(layer, "self_attn.linear_q", head**-0.5)
    for bias in ("self_attn.pos_bias_u", "self_attn.pos_bias_v"):
        tensors[bias] = (layer[bias] * head**-0.5).astype(np.float32)[:, np.newaxis]
    return tensors | {"self_attn.distances": np.ascontiguousarray(by_head, np.float32)}


def _convolution(layer: State) -> State:
    """Return the tensors of a Convolution, with the batch normalisation folded into the convolution before it."""
    norm = {name: tensor.astype(np.float64) for name, tensor in _below(layer, "conv.batch_norm.").items()}
    gain = norm["weight"] / np.sqrt(norm["running_var"] + _BATCH_NORM_EPSILON)  # (channel,)
    bias = (layer["conv.depthwise_conv.bias"] - norm["running_mean"]) * gain + norm["bias"]
    tensors = {
        "conv.depthwise_conv.weight": (layer["conv.depthwise_conv.weight"] * gain[:, None, None]).astype(np.float32),
        "conv.depthwise_conv.bias": bias.astype(np.float32),
    }
    for part in ("conv.pointwise_conv1.weight", "conv.pointwise_conv2.weight"):
        tensors[part] = layer[part][:, :, 0]
    return tensors


def _transformer(layer: State, sizes: Sizes) -> State:
    """Return the tensors of a TransformerLayer."""
    head = sizes.narrow // sizes.transformer_heads
    return dict(layer) | _scaled(layer, "first_sub_layer.query_net", head**-0.5)


def _scaled(tensors: State, name: str, factor: float) -> dict[str, np.ndarray]:
    """Return weight and bias of a linear layer whose outputs are multiplied with a factor."""
    return {f"{name}.{part}": (tensors[f"{name}.{part}"] * factor).astype(np.float32) for part in ("weight", "bias")}


def _below(tensors: State, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _renamed(tensors: State, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return weight and bias of each of the modules, under new names."""
    return {f"{new}.{part}": tensors[f"{old}.{part}"] for old, new in names.items() for part in ("weight", "bias")}
