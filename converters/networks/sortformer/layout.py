"""What Sortformer's tensors are called, what shapes they have, and how many frames it makes; no torch needed.

Names and shapes are those of NeMo's checkpoints. Two numbers and a choice that decide what the network computes leave
no trace in the shapes; they travel beside the weights as tensors of their own, the SETTINGS.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RATE_HZ = 16_000
HOP = 160  # samples from one mel frame to the next: 10 ms
FFT = 512
SUBSAMPLING = 8  # mel frames in one frame of the network: 80 ms
STRIDES = 3  # stages of the pre-encode that halve time and frequency
# Frames of the longest low-latency context. Shorter ones hold its table of distances, so that
# all share it; the high-latency context, half as long again, has its own rather than make every other larger.
REACH = 390
# Frames that half precision can count, one by one.
MOST_FRAMES = 2048

CONFORMER_HEADS = "settings.conformer_heads"
TRANSFORMER_HEADS = "settings.transformer_heads"
SCALED = "settings.scaled"
SETTINGS = (CONFORMER_HEADS, TRANSFORMER_HEADS, SCALED)


@dataclass(frozen=True)
class Sizes:
    """The sizes in which two Sortformers may differ; the defaults are those of diar_streaming_sortformer_4spk-v2.

    channels    of the convolutions in the pre-encode
    width       of the FastConformer's frames, `inner` inside its feed-forward layers
    narrow      width of the transformer's frames, `narrow_inner` inside its feed-forward layers
    scaled      frames are multiplied by √width before the first FastConformer layer (NeMo: xscaling)
    """

    mels: int = 128
    window: int = 400
    channels: int = 256
    width: int = 512
    inner: int = 2048
    kernel: int = 9
    conformer_layers: int = 17
    conformer_heads: int = 8
    scaled: bool = True
    narrow: int = 192
    narrow_inner: int = 768
    transformer_layers: int = 18
    transformer_heads: int = 8
    speakers: int = 4

    @property
    def settings(self) -> dict[str, int]:
        """What the shapes of the tensors do not tell."""
        numbers = (self.conformer_heads, self.transformer_heads, int(self.scaled))
        return dict(zip(SETTINGS, numbers, strict=True))


def sizes_of(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, int]) -> Sizes:
    """Return the sizes that the tensors' names and shapes tell of, and the settings; what is missing is as published.

    The answer is a guess until the tensors are held against `parameter_shapes` of it.
    """
    default = Sizes()

    def length(name: str, axis: int, otherwise: int) -> int:
        shape = shapes.get(name, ())
        return shape[axis] if len(shape) > axis else otherwise

    def layers(prefix: str) -> int:
        # Three digits at most: a name is not ours, and must not make us build a million layers.
        found = (re.match(rf"{prefix}\.layers\.(\d{{1,3}})\.", name) for name in shapes)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    return Sizes(
        mels=length("preprocessor.featurizer.fb", 1, default.mels),
        window=length("preprocessor.featurizer.window", 0, default.window),
        channels=length("encoder.pre_encode.conv.0.weight", 0, default.channels),
        width=length("encoder.pre_encode.out.weight", 0, default.width),
        inner=length("encoder.layers.0.feed_forward1.linear1.weight", 0, default.inner),
        kernel=length("encoder.layers.0.conv.depthwise_conv.weight", 2, default.kernel),
        conformer_layers=layers("encoder"),
        conformer_heads=settings.get(CONFORMER_HEADS, default.conformer_heads),
        scaled=bool(settings.get(SCALED, default.scaled)),
        narrow=length("sortformer_modules.encoder_proj.weight", 0, default.narrow),
        narrow_inner=length("transformer_encoder.layers.0.second_sub_layer.dense_in.weight", 0, default.narrow_inner),
        transformer_layers=layers("transformer_encoder"),
        transformer_heads=settings.get(TRANSFORMER_HEADS, default.transformer_heads),
        speakers=length("sortformer_modules.single_hidden_to_spks.weight", 0, default.speakers),
    )


def sizes_in(state: Mapping[str, np.ndarray]) -> Sizes:
    """Return the sizes of a state: its tensors and, among them, the settings."""
    return sizes_of(
        {name: tensor.shape for name, tensor in state.items()}, {name: int(state[name]) for name in SETTINGS}
    )


def halved(length: int, times: int = STRIDES) -> int:
    """Return the length of an axis after convolutions of kernel 3, padding 1 and stride 2."""
    return -(-length // 2**times)


def parameter_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of numbers that the network computes with."""
    shapes: dict[str, tuple[int, ...]] = {"preprocessor.featurizer.window": (sizes.window,)}
    shapes |= {"preprocessor.featurizer.fb": (1, sizes.mels, FFT // 2 + 1)}
    shapes |= _pre_encode_shapes(sizes)
    for layer in range(sizes.conformer_layers):
        shapes |= _under(f"encoder.layers.{layer}", _conformer_shapes(sizes))
    shapes |= _affine("sortformer_modules.encoder_proj", (sizes.narrow, sizes.width))
    for layer in range(sizes.transformer_layers):
        shapes |= _under(f"transformer_encoder.layers.{layer}", _transformer_shapes(sizes))
    shapes |= _affine("sortformer_modules.first_hidden_to_hidden", (sizes.narrow, sizes.narrow))
    return shapes | _affine("sortformer_modules.single_hidden_to_spks", (sizes.speakers, sizes.narrow))


def unused_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the tensors that NeMo's checkpoints carry and no prediction depends on."""
    counters = {
        f"encoder.layers.{layer}.conv.batch_norm.num_batches_tracked": () for layer in range(sizes.conformer_layers)
    }
    return counters | _affine("sortformer_modules.hidden_to_spks", (sizes.speakers, 2 * sizes.narrow))


def _pre_encode_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    shapes = _affine("conv.0", (sizes.channels, 1, 3, 3))
    for stage in range(1, STRIDES):
        shapes |= _affine(f"conv.{3 * stage - 1}", (sizes.channels, 1, 3, 3))
        shapes |= _affine(f"conv.{3 * stage}", (sizes.channels, sizes.channels, 1, 1))
    shapes |= _affine("out", (sizes.width, sizes.channels * halved(sizes.mels)))
    return _under("encoder.pre_encode", shapes)


def _conformer_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    width, head = sizes.width, (sizes.conformer_heads, sizes.width // sizes.conformer_heads)
    shapes: dict[str, tuple[int, ...]] = {}
    for norm in ("norm_feed_forward1", "norm_self_att", "norm_conv", "norm_feed_forward2", "norm_out"):
        shapes |= _affine(norm, (width,))
    for part in ("feed_forward1", "feed_forward2"):
        shapes |= _affine(f"{part}.linear1", (sizes.inner, width)) | _affine(f"{part}.linear2", (width, sizes.inner))
    for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
        shapes |= _affine(f"self_attn.{part}", (width, width))
    shapes |= {"self_attn.linear_pos.weight": (width, width)}
    shapes |= {"self_attn.pos_bias_u": head, "self_attn.pos_bias_v": head}
    shapes |= _affine("conv.pointwise_conv1", (2 * width, width, 1))
    shapes |= _affine("conv.depthwise_conv", (width, 1, sizes.kernel))
    shapes |= _affine("conv.batch_norm", (width,))
    shapes |= {"conv.batch_norm.running_mean": (width,), "conv.batch_norm.running_var": (width,)}
    return shapes | _affine("conv.pointwise_conv2", (width, width, 1))


def _transformer_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    width = sizes.narrow
    shapes = _affine("layer_norm_1", (width,)) | _affine("layer_norm_2", (width,))
    for part in ("query_net", "key_net", "value_net", "out_projection"):
        shapes |= _affine(f"first_sub_layer.{part}", (width, width))
    shapes |= _affine("second_sub_layer.dense_in", (sizes.narrow_inner, width))
    return shapes | _affine("second_sub_layer.dense_out", (width, sizes.narrow_inner))


def _affine(name: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _under(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}
