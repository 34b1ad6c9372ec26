"""A package with integers in place of its large weights: chosen, made, written, decoded and compared."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mil.package import Package, read_package
from mil.packing import pack
from mil.schema import MIL_pb2, Model_pb2
from mil.types import BY_NAME
from mil.values import decode
from optimizations.linear.integers import Integers, make, most_rms, spread
from optimizations.linear_quantize import Options
from optimizations.weights.difference import difference, shortened
from optimizations.weights.files import WeightFiles
from optimizations.weights.rewriting import Detached, rewritten
from optimizations.weights.selection import Large, large_weights, require
from pipeline.types import QuernError


@dataclass(frozen=True)
class _Replaced:
    large: Large
    original: np.ndarray
    integers: Integers


def rewrite(source: Path, options: Options, destination: Path) -> dict[str, Any]:
    """Do what `optimizations.linear_quantize.apply` promises."""
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    large = large_weights(spec, package, options.weight_threshold, options.exclude, source)
    require(6, "integer weights", large, source)
    if options.nbits == 4:
        require(8, "4-bit integer weights", large, source)
    if options.block_size is not None:
        require(8, "scales for blocks", large, source)
    judged = [_judged(each, options) for each in large]
    chosen = {id(each.constant): each for each in judged if not each.left_because}
    replaced: list[_Replaced] = []

    def hold(detached: Detached, files: WeightFiles) -> None:
        each = chosen[id(detached.constant)]
        integers = _made(each, detached.original, options)
        _put(each, integers, options.nbits, files, detached.file_name)
        replaced.append(_Replaced(each, detached.original, integers))

    sizes = rewritten(spec, package, [each.constant for each in chosen.values()], hold, destination)
    written = read_package(destination)
    return {
        "weights": [_compared(each, options.nbits, written) for each in replaced],
        "left": [
            {"name": each.label, "shape": list(each.shape), "reason": each.left_because}
            for each in judged
            if each.left_because
        ],
        "weight_bytes": sizes,
    }


def _judged(large: Large, options: Options) -> Large:
    """Return a weight, left if its channels are not known or do not fall into blocks."""
    if large.left_because:
        return large
    if large.channel_axis is None:
        return replace(large, left_because="its uses disagree on which axis counts output channels")
    channels = large.shape[_input_axis(large)]
    if options.block_size is not None and channels % options.block_size:
        reason = f"its {channels} input channels are not a multiple of {options.block_size}"
        return replace(large, left_because=reason)
    return large


def _input_axis(large: Large) -> int:
    """Return the axis that counts input channels: beside that of output channels, where what uses the weight has it."""
    assert large.channel_axis is not None
    if large.constant.uses[0].operation.type == "conv_transpose":
        return 0
    last = len(large.shape) - 1
    return large.channel_axis - 1 if large.channel_axis == last else large.channel_axis + 1


def _made(large: Large, original: np.ndarray, options: Options) -> Integers:
    blocks = [1] * original.ndim
    assert large.channel_axis is not None
    blocks[large.channel_axis] = original.shape[large.channel_axis]
    if options.block_size is not None:
        blocks[_input_axis(large)] = original.shape[_input_axis(large)] // options.block_size
    try:
        return make(original, options.nbits, tuple(blocks))
    except ValueError as error:
        raise QuernError(f"weight `{large.label}`: {error}") from None


def _put(large: Large, integers: Integers, nbits: int, files: WeightFiles, name: str) -> None:
    """Turn a `const` operation into one that multiplies integers: attributes before iOS 18, inputs from there on."""
    operation = large.constant.operation
    if large.opset >= 8:
        element = BY_NAME[f"int{nbits}"]
        operation.type = "constexpr_blockwise_shift_scale"
        data = files.stored(pack(integers.data, element), element, large.shape, name)
        for key, value in (("data", data), ("scale", files.array(integers.scales, name))):
            operation.inputs[key].arguments.add().value.CopyFrom(value)
        return
    operation.type = "constexpr_affine_dequantize"
    scales = integers.scales.reshape(-1)
    parts = {
        "quantized_data": files.array(integers.data, name),
        "zero_point": files.array(np.zeros(scales.size, np.int8), name),
        "scale": files.array(scales, name),
        "axis": _axis(large),
    }
    for key, value in parts.items():
        operation.attributes[key].CopyFrom(value)


def _axis(large: Large) -> MIL_pb2.Value:
    assert large.channel_axis is not None
    value = MIL_pb2.Value()
    value.type.tensorType.dataType = BY_NAME["int32"].proto
    value.immediateValue.tensor.ints.values.append(large.channel_axis)
    return value


def decoded(operation: MIL_pb2.Operation, package: Package) -> np.ndarray:
    """Return the weight that an operation written by `rewrite` stands for, in its own type."""
    if operation.type == "constexpr_blockwise_shift_scale":
        data, scales = (decode(operation.inputs[key].arguments[0].value, package) for key in ("data", "scale"))
        return Integers(data, scales).values()
    keys = ("quantized_data", "zero_point", "scale", "axis")
    data, zeros, scales, axis = (decode(operation.attributes[key], package) for key in keys)
    along = [-1 if i == int(axis) else 1 for i in range(data.ndim)]
    centred = data.astype(scales.dtype) - zeros.astype(scales.dtype).reshape(along)
    return centred * spread(scales.reshape(along), data.shape)


def _compared(each: _Replaced, nbits: int, written: Package) -> dict[str, Any]:
    """Return how far a weight, decoded from the files that were written, is from its original."""
    found = difference(each.original, decoded(each.large.constant.operation, written))
    if found.rms > most_rms(each.integers):
        raise QuernError(
            f"weight `{each.large.label}`: decoded values differ from the original by {found.rms:g} rms, more than "
            f"the {most_rms(each.integers):g} of rounding to {nbits} bits"
        )
    facts = {"name": each.large.label, "shape": list(each.large.shape), "nbits": nbits}
    return facts | {"blocks": each.integers.scales.size} | shortened(found)
