"""Compressed weights against plain numpy loops and against what coremltools decodes from the same arrays."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mil
from mil.errors import MilError
from mil.ops import older
from mil.ops.compression import (
    constexpr_affine_dequantize,
    constexpr_blockwise_shift_scale,
    constexpr_cast,
    constexpr_lut_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_blockwise_shift_scale,
    constexpr_sparse_to_dense,
)

GENERATOR = np.random.default_rng(11)


def integers(low: int, high: int, *shape: int) -> np.ndarray:
    return GENERATOR.integers(low, high, shape)


def floats(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def tensor(array: np.ndarray) -> torch.Tensor:
    """An array as the executor holds it."""
    return torch.from_numpy(array.astype(np.int32) if array.dtype.kind in "iu" else array.astype(np.float32))


def theirs(ct: Any, name: str, generation: str) -> Callable[..., Any]:
    """coremltools' own decoder of an operation."""
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression

    return getattr({"iOS16": constexpr_ops, "iOS18": compression}[generation], name).decompress


@pytest.mark.parametrize(("axis", "each"), itertools.product([0, 1, -1], [True, False]))
def test_affine_weights(ct: Any, axis: int, each: bool) -> None:
    """scale · (q − zero), for each index along the axis or for all."""
    data = integers(-128, 128, 4, 3, 5).astype(np.int8)
    size = data.shape[axis]
    scale, zero = (floats(size), integers(-8, 8, size)) if each else (floats(1)[0], np.array(3))
    expected = np.empty(data.shape)
    for place in np.ndindex(data.shape):
        k = place[axis]
        expected[place] = (scale[k] if each else scale) * (float(data[place]) - (zero[k] if each else zero))
    found = constexpr_affine_dequantize(tensor(data), tensor(zero), torch.as_tensor(scale), axis)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    decoded = theirs(ct, "constexpr_affine_dequantize", "iOS16")(data, zero.astype(np.int8), scale, axis)
    np.testing.assert_array_equal(found.numpy(), decoded)


@pytest.mark.parametrize("blocks", [(1, 1, 1), (4, 1, 1), (2, 3, 1), (4, 6, 2), (1, 3, 2)])
@pytest.mark.parametrize("offset", [True, False])
def test_blockwise_weights(ct: Any, blocks: tuple[int, ...], offset: bool) -> None:
    """Each block of the data has its scale and offset."""
    data = integers(0, 16, 4, 6, 2)
    scale, shift = floats(*blocks), integers(0, 16, *blocks)
    expected = np.empty(data.shape)
    for place in np.ndindex(data.shape):
        block = tuple(k * parts // size for k, parts, size in zip(place, blocks, data.shape, strict=True))
        expected[place] = scale[block] * float(data[place] - (shift[block] if offset else 0))
    found = constexpr_blockwise_shift_scale(tensor(data), tensor(scale), tensor(shift) if offset else None)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    decoded = theirs(ct, "constexpr_blockwise_shift_scale", "iOS18")(data, scale, shift if offset else None)
    np.testing.assert_array_equal(found.numpy(), decoded.astype(np.float32))


def packed_bits(indices: np.ndarray, bits: int) -> np.ndarray:
    """Indices as the older operations store them, one bit at a time."""
    stream = [(int(index) >> bit) & 1 for index in indices.reshape(-1) for bit in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return np.array(
        [
            sum(bit << place for place, bit in enumerate(stream[start : start + 8]))
            for start in range(0, len(stream), 8)
        ],
        np.uint8,
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 2, 3, 1), (1,)])
def test_older_palettes(ct: Any, bits: int, shape: tuple[int, ...]) -> None:
    """Indices packed into bytes, also where the last byte is not full."""
    indices, lut = integers(0, 1 << bits, *shape), floats(1 << bits)
    stored = packed_bits(indices, bits)
    found = older.constexpr_lut_to_dense(tensor(stored), torch.from_numpy(lut), list(shape))
    np.testing.assert_array_equal(found.numpy(), lut[indices])
    decoded = theirs(ct, "constexpr_lut_to_dense", "iOS16")(lut, stored, shape)
    np.testing.assert_array_equal(found.numpy(), decoded)


def palette_loop(indices: np.ndarray, lut: np.ndarray, axis: int | None) -> np.ndarray:
    """Every index looked up in the palette of its group; vectors laid along the axis."""
    size = lut.shape[-1]
    shape = list(indices.shape)
    if size > 1:
        shape[axis] *= size
    dense = np.empty(shape, lut.dtype)
    for place in np.ndindex(indices.shape):
        group = tuple(k * parts // whole for k, parts, whole in zip(place, lut.shape[:-2], indices.shape, strict=True))
        for k in range(size):
            target = list(place)
            if size > 1:
                target[axis] = place[axis] * size + k
            dense[tuple(target)] = lut[group][indices[place], k]
    return dense


@pytest.mark.parametrize("groups", [(1, 1), (4, 1), (2, 3), (1, 6), (4, 6)])
@pytest.mark.parametrize(("size", "axis"), [(1, None), (1, 0), (2, 0), (3, 1), (2, -1)])
def test_grouped_and_vector_palettes(ct: Any, groups: tuple[int, ...], size: int, axis: int | None) -> None:
    """One palette for all or per group of channels, of single values or vectors."""
    indices, lut = integers(0, 8, 4, 6), floats(*groups, 8, size)
    found = constexpr_lut_to_dense(tensor(indices), torch.from_numpy(lut), axis)
    np.testing.assert_array_equal(found.numpy(), palette_loop(indices, lut, axis))
    decoded = theirs(ct, "constexpr_lut_to_dense", "iOS18")(indices, lut, axis)
    if size == 1 or groups == (1, 1):  # with both, coremltools swaps an axis of the palette that is not the vector's
        np.testing.assert_array_equal(found.numpy(), decoded)


def sparse_mask(*shape: int) -> np.ndarray:
    return integers(0, 3, *shape) == 0


def test_older_sparse_weights(ct: Any) -> None:
    """A mask of packed bits over a shape that leaves some over."""
    mask = sparse_mask(3, 7)
    kept = floats(int(mask.sum()))
    stored = packed_bits(mask, 1)
    expected = np.zeros(mask.shape, np.float32)
    expected[mask] = kept
    found = older.constexpr_sparse_to_dense(torch.from_numpy(kept), tensor(stored), [3, 7])
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("shape", [(3, 7), (1,), (2, 3, 4)])
def test_sparse_weights(ct: Any, shape: tuple[int, ...]) -> None:
    """Values go to where the mask is 1, in order."""
    mask = sparse_mask(*shape)
    kept = floats(int(mask.sum()))
    expected, source = np.zeros(shape, np.float32), iter(kept)
    for place in np.ndindex(shape):
        if mask[place]:
            expected[place] = next(source)
    found = constexpr_sparse_to_dense(torch.from_numpy(kept), tensor(mask.astype(np.uint8)))
    np.testing.assert_array_equal(found.numpy(), expected)
    decoded = theirs(ct, "constexpr_sparse_to_dense", "iOS18")(kept, mask.astype(np.uint8))
    np.testing.assert_array_equal(found.numpy(), decoded)


@pytest.mark.parametrize(("size", "axis"), [(1, None), (2, 0), (2, 1)])
def test_sparse_palettes(ct: Any, size: int, axis: int | None) -> None:
    """Only kept indices are looked up; with vectors the mask grows with them."""
    mask = sparse_mask(4, 6)
    kept, lut = integers(0, 4, int(mask.sum())), floats(2, 1, 4, size) if size == 1 else floats(1, 1, 4, size)
    found_mask, found = constexpr_lut_to_sparse(
        tensor(mask.astype(np.uint8)), tensor(kept), torch.from_numpy(lut), axis
    )
    indices = np.zeros(mask.shape, int)
    indices[mask] = kept
    wide = np.repeat(mask, size, axis) if axis is not None else mask
    np.testing.assert_array_equal(found_mask.numpy() != 0, wide)
    np.testing.assert_array_equal(found.numpy(), palette_loop(indices, lut, axis)[wide])
    decoded = theirs(ct, "constexpr_lut_to_sparse", "iOS18")(mask.astype(np.uint8), kept, lut, axis)
    np.testing.assert_array_equal(found.numpy(), decoded[1])


@pytest.mark.parametrize("offset", [True, False])
def test_sparse_blockwise_weights(ct: Any, offset: bool) -> None:
    """The example of coremltools' documentation, in general."""
    mask = sparse_mask(4, 6)
    kept, scale, shift = integers(0, 16, int(mask.sum())), floats(1, 6), integers(0, 16, 1, 6)
    arguments = (scale, shift if offset else None)
    found_mask, found = constexpr_sparse_blockwise_shift_scale(
        tensor(mask.astype(np.uint8)), tensor(kept), *(None if a is None else tensor(a) for a in arguments)
    )
    expected = [
        scale[0, column] * float(value - (shift[0, column] if offset else 0))
        for value, column in zip(kept, np.nonzero(mask)[1], strict=True)
    ]
    np.testing.assert_array_equal(found_mask.numpy() != 0, mask)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    decoded = theirs(ct, "constexpr_sparse_blockwise_shift_scale", "iOS18")(mask.astype(np.uint8), kept, *arguments)
    np.testing.assert_array_equal(found.numpy(), decoded[1].astype(np.float32))


@given(st.integers(1, 8), st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_any_indices_come_back(bits: int, values: list[int]) -> None:
    """Packing bit by bit and looking up in the identity palette gives the indices."""
    indices = np.array(values) % (1 << bits)
    lut = torch.arange(1 << bits, dtype=torch.float32)
    found = older.constexpr_lut_to_dense(tensor(packed_bits(indices, bits)), lut, [len(values)])
    np.testing.assert_array_equal(found.numpy(), indices)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda: older.constexpr_lut_to_dense(torch.zeros(3), torch.zeros(4), [5]), "3 bytes do not hold 2 bits"),
        (lambda: older.constexpr_lut_to_dense(torch.zeros(1), torch.zeros(3), [1]), "a palette of 3 entries"),
        (lambda: older.constexpr_lut_to_dense(torch.zeros(0), torch.zeros(2), [-1]), "do not hold"),
        (lambda: constexpr_lut_to_dense(torch.full((2,), 4), torch.zeros(1, 4, 1)), "indices from 4 to 4"),
        (lambda: constexpr_lut_to_dense(torch.zeros(2), torch.zeros(1, 4, 2)), "need `vector_axis`"),
        (lambda: constexpr_lut_to_dense(torch.zeros(2), torch.zeros(1, 4, 2), 1), "vector_axis 1"),
        (lambda: constexpr_lut_to_dense(torch.zeros(3), torch.zeros(2, 4, 1)), "which do not divide"),
        (lambda: constexpr_sparse_to_dense(torch.zeros(3), torch.ones(2, 2)), "the mask keeps 4 values, 3 are given"),
        (lambda: constexpr_blockwise_shift_scale(torch.zeros(3), torch.zeros(2)), "which do not divide"),
        (lambda: constexpr_cast(torch.zeros(3), "int8"), "expected fp32"),
    ],
)
def test_what_does_not_fit_is_refused(compute: Callable[[], Any], said: str) -> None:
    """Sizes that disagree, and indices outside their palette."""
    with pytest.raises(MilError, match=said):
        compute()


WHOLE = {
    "affine": ("iOS16", "constexpr_affine_dequantize"),
    "older palette": ("iOS16", "constexpr_lut_to_dense"),
    "older sparse": ("iOS16", "constexpr_sparse_to_dense"),
    "cast": ("iOS16", "constexpr_cast"),
    "blockwise": ("iOS18", "constexpr_blockwise_shift_scale"),
    "palette": ("iOS18", "constexpr_lut_to_dense"),
    "sparse": ("iOS18", "constexpr_sparse_to_dense"),
    "sparse palette": ("iOS18", "constexpr_lut_to_sparse"),
    "sparse blockwise": ("iOS18", "constexpr_sparse_blockwise_shift_scale"),
    "palette then blockwise": ("iOS18", "constexpr_lut_to_dense"),
}


def compressed(mb: Any, kind: str) -> tuple[Any, np.ndarray]:
    """A weight (32, 64) as the named operation stores it, and what it decodes to."""
    generator = np.random.default_rng(3)
    scale = generator.uniform(0.01, 0.1, (32, 1)).astype(np.float32)
    data = generator.integers(-8, 8, (32, 64))
    lut = generator.standard_normal(16).astype(np.float32)
    index = generator.integers(0, 16, (32, 64))
    mask = generator.integers(0, 3, (32, 64)) == 0
    from coremltools.converters.mil.mil import types

    def narrow(array: np.ndarray, name: str) -> np.ndarray:
        return array.astype(types.nptype_from_builtin(types.string_to_builtin(name)))

    ones, u4, i4 = narrow(mask, "uint1"), narrow(index, "uint4"), narrow(data, "int4")
    grouped = np.stack([lut, lut[::-1]]).reshape(2, 1, 16, 1)
    half = np.repeat([0, 1], 16)
    match kind:
        case "affine":
            zero, row = np.arange(32, dtype=np.int8) - 16, scale[:, 0]
            built = mb.constexpr_affine_dequantize(
                quantized_data=data.astype(np.int8), zero_point=zero, scale=row, axis=0
            )
            return built, scale * (data - zero[:, None])
        case "older palette":
            built = mb.constexpr_lut_to_dense(
                indices=packed_bits(index, 4), lut=lut, shape=np.array(index.shape, np.uint32)
            )
            return built, lut[index]
        case "older sparse":
            kept = data[mask].astype(np.float32)
            built = mb.constexpr_sparse_to_dense(
                nonzero_data=kept, mask=packed_bits(mask, 1), shape=np.array(mask.shape, np.uint32)
            )
            return built, data * mask
        case "cast":
            return mb.constexpr_cast(source_val=data.astype(np.float16), output_dtype="fp32"), data
        case "blockwise":
            return mb.constexpr_blockwise_shift_scale(data=i4, scale=scale), scale * data
        case "palette":
            return mb.constexpr_lut_to_dense(indices=u4, lut=grouped), grouped[half[:, None], 0, index, 0]
        case "sparse":
            return mb.constexpr_sparse_to_dense(nonzero_data=data[mask].astype(np.float32), mask=ones), data * mask
        case "sparse palette":
            where, kept = mb.constexpr_lut_to_sparse(indices_mask=ones, indices_nonzero_data=u4[mask], lut=grouped)
            dense = grouped[half[:, None], 0, index, 0]
            return mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=where), dense * mask
        case "sparse blockwise":
            where, kept = mb.constexpr_sparse_blockwise_shift_scale(data_mask=ones, nonzero_data=i4[mask], scale=scale)
            return mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=where), scale * data * mask
        case _:
            codes = np.arange(-8, 8, dtype=np.int8).reshape(1, 1, 16, 1)
            quantized = mb.constexpr_lut_to_dense(indices=u4, lut=codes)
            return mb.constexpr_blockwise_shift_scale(data=quantized, scale=scale), scale * (index - 8)


@pytest.mark.parametrize("kind", WHOLE)
def test_a_saved_program_decodes_its_weights(ct: Any, save: Callable[..., Path], kind: str) -> None:
    """Written by coremltools into a package, sub-byte types packed in the weight file, read and run here."""
    mb = ct.converters.mil.Builder
    target, operation = WHOLE[kind]
    expected = []

    @mb.program(input_specs=[mb.TensorSpec(shape=(32, 64))], opset_version=getattr(ct.target, target))
    def program(x: Any) -> Any:
        weight, decoded = compressed(mb, kind)
        expected.append(decoded)
        return mb.add(x=x, y=weight, name="y")

    path = save(program, kind.replace(" ", "_"), target)
    loaded = mil.load(path)
    assert operation in {each.type for each in mil.values.specialization(loaded.stages[0].function(None)).operations}
    found = loaded.run({"x": np.zeros((32, 64), np.float32)})["y"]
    np.testing.assert_allclose(found, expected[0], rtol=1e-6, atol=1e-7)
