"""Quantization of activations: coremltools' `iOS17/quantization_ops.py`."""

import torch

from mil.errors import MilError
from mil.ops.arguments import Int, Str, Tensor

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


def quantize(input: Tensor, zero_point: Tensor | None, scale: Tensor, axis: Int | None, output_dtype: Str) -> Tensor:
    """clip(round(input / scale) + zero_point), halves rounded to even; what is not a number becomes zero_point."""
    if output_dtype not in _LIMITS:
        raise MilError(f"output_dtype: expected int8 or uint8, found {output_dtype}")
    steps = torch.round(input / _spread(scale, input, axis)).nan_to_num(nan=0.0)
    if zero_point is not None:
        steps = steps + _spread(zero_point, input, axis)
    return steps.clamp(*_LIMITS[output_dtype]).to(torch.int32)


def dequantize(input: Tensor, zero_point: Tensor | None, scale: Tensor, axis: Int | None = None) -> Tensor:
    """scale · (input − zero_point)."""
    wide = input.to(scale.dtype)
    if zero_point is not None:
        wide = wide - _spread(zero_point, input, axis)
    return wide * _spread(scale, input, axis)


def _spread(vector: Tensor, input: Tensor, axis: int | None) -> Tensor:
    if vector.dim() == 0:
        return vector
    if axis is None or vector.dim() != 1 or not -input.dim() <= axis < input.dim():
        raise MilError(f"a vector of {vector.numel()} scales or zero points needs an axis of the input, found {axis}")
    if vector.numel() != input.shape[axis]:
        raise MilError(f"{vector.numel()} scales or zero points for {input.shape[axis]} indices along axis {axis}")
    along = [1] * input.dim()
    along[axis] = -1
    return vector.reshape(along)
