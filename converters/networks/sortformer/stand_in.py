"""Seeded stand-ins for the trained tensors: the same bytes on every machine, in a few seconds.

A stand-in is decisive: on speech each of its speakers comes and goes, speakers overlap, and there is silence, so that
comparing two versions of it tells them apart. That takes care. What frames have in common grows from layer to layer
in a random network, and after thirty of them nothing else is left. Three properties keep alive what differs:

- Every matrix weighs the difference of two neighbouring features, so what a rectifier gives all of them cancels.
- Kernels of the first convolution weigh differences of neighbouring bands, so loudness cancels; those of the
  FastConformer's weigh differences in time, so what all frames have in common cancels.
- What attention adds is scaled down, for what it adds is much the same for all frames.
"""

from math import prod

import numpy as np

from converters.networks.sortformer.layout import Sizes, parameter_shapes
from converters.networks.sortformer.mel_tables import hann, slaney_filters

# Gains of the stand-in, powers of two so that scaling is exact; a matrix is also divided by √(its inputs), rounded
# down to a power of two. Found by trying settings on five recordings of speech, which the tests measure again.
_GAINS = {
    "encoder.pre_encode": 2.0,
    "linear_out": 2.0**-2,
    "out_projection": 2.0**-2,
    "pointwise_conv2": 4.0,
    "single_hidden_to_spks": 16.0,
}
_DIFFERENTIAL = ("pre_encode.conv.0.weight", "depthwise_conv.weight")
_BIAS_GAIN = 2.0**-4
_SPEAKER_BIAS = -3.0


def stand_in(sizes: Sizes, seed: int) -> dict[str, np.ndarray]:
    """Return tensors of these sizes, named as in NeMo, and the settings."""
    generator = np.random.default_rng(seed)
    tables = {
        "preprocessor.featurizer.window": hann(sizes.window),
        "preprocessor.featurizer.fb": slaney_filters(sizes.mels)[np.newaxis],
    }
    shapes = {name: shape for name, shape in parameter_shapes(sizes).items() if name not in tables}
    drawn = {name: _tensor(generator, name, shape) for name, shape in shapes.items()}
    return tables | drawn | {name: np.array(value, np.int32) for name, value in sizes.settings.items()}


def _tensor(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "sortformer_modules.single_hidden_to_spks.bias":
        return np.full(shape, _SPEAKER_BIAS, np.float32)
    if len(shape) == 1 or "pos_bias" in name:
        centre = np.float32("norm" in name and name.endswith(("weight", "running_var")))
        return centre + _noise(generator, shape) * np.float32(_BIAS_GAIN)
    gain = next((gain for part, gain in _GAINS.items() if part in name), 1.0)
    scale = np.float32(gain * 2.0 ** -(prod(shape[1:]).bit_length() // 2))
    if shape[1] == 1:  # one kernel for each channel
        kernel = _noise(generator, shape) * scale
        return kernel - np.flip(kernel, -1) if name.endswith(_DIFFERENTIAL) else kernel
    half = _noise(generator, (shape[0], shape[1] // 2, *shape[2:])) * scale
    return np.stack([half, -half], axis=2).reshape(shape)


def _noise(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return draws around 0 of variance 1, nearly normal, float32: the sum of three uniform ones.

    Sums are rounded as IEEE 754 has it, in the order in which they are written: so, everywhere the same.
    """
    total = generator.random(shape, dtype=np.float32)
    total += generator.random(shape, dtype=np.float32)
    total += generator.random(shape, dtype=np.float32)
    total -= np.float32(1.5)
    total *= np.float32(2)
    return total
