"""Compressed weights, decoded: coremltools' `iOS18/compression.py`, and what is left of `iOS16/constexpr_ops.py`.

Weights come as held tensors, sub-byte integers unpacked. The forms before ios18 that pack bits themselves are in
`older.py`.
"""

import math

import torch

from mil.errors import MilError
from mil.ops.arguments import Int, Str, Tensor


def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: Int) -> Tensor:
    """scale · (quantized_data − zero_point), with a scale and zero point for all or for each index along `axis`."""
    along = [1] * quantized_data.dim()
    along[axis] = -1
    centred = quantized_data.to(scale.dtype) - zero_point.to(scale.dtype).reshape(_spread(zero_point, along))
    return centred * scale.reshape(_spread(scale, along))


def _spread(vector: Tensor, along: list[int]) -> list[int]:
    return along if vector.numel() > 1 else [1] * len(along)


def constexpr_cast(source_val: Tensor, output_dtype: Str) -> Tensor:
    """The same values; the program declares them wider."""
    if output_dtype != "fp32":
        raise MilError(f"output_dtype: expected fp32, found {output_dtype}")
    return source_val


def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale · (data − offset), with a scale and offset for each block of the data.

    scale, offset   of the data's rank; each size divides the data's, and the quotient is the size of a block
    """
    wide = data.to(scale.dtype)
    if offset is not None:
        wide = wide - _repeated(offset.to(scale.dtype), wide.shape, "offset")
    return wide * _repeated(scale, wide.shape, "scale")


def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, vector_axis: Int | None = None) -> Tensor:
    """Each index replaced by its entry of a palette.

    lut   (groups along each axis of the indices…, entries, vector size); vectors longer than 1 lie along
          `vector_axis` of the result
    """
    dense, entries, size = _palette_checked(indices, lut)
    groups = math.prod(lut.shape[: indices.dim()])
    palette_of = _repeated(torch.arange(groups).reshape(lut.shape[: indices.dim()]), indices.shape, "lut")
    vectors = lut.reshape(groups * entries, size)[palette_of * entries + dense]
    if size == 1:
        return vectors.squeeze(-1)
    if vector_axis is None:
        raise MilError(f"vectors of {size} need `vector_axis`")
    return _along(vectors, vector_axis)


def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: Int | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and the kept values of a palettized sparse weight.

    indices_mask          1 where an index is kept
    indices_nonzero_data  the kept indices, in order
    returns               the mask of the values (longer by the vector size along `vector_axis`), the kept values
    """
    dense = constexpr_lut_to_dense(_scattered(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1 and vector_axis is not None:
        mask = indices_mask.repeat_interleave(lut.shape[-1], dim=vector_axis)
    return mask, dense[mask != 0]


def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and the kept values of a quantized sparse weight."""
    dense = constexpr_blockwise_shift_scale(_scattered(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """The kept values at the places where the mask is 1, and zeros elsewhere."""
    return _scattered(nonzero_data, mask)


def _scattered(kept: Tensor, mask: Tensor) -> Tensor:
    chosen = mask != 0
    if kept.dim() != 1 or int(chosen.sum()) != kept.numel():
        raise MilError(f"the mask keeps {int(chosen.sum())} values, {kept.numel()} are given")
    return torch.zeros(mask.shape, dtype=kept.dtype).masked_scatter_(chosen, kept)


def _palette_checked(indices: Tensor, lut: Tensor) -> tuple[Tensor, int, int]:
    if lut.dim() != indices.dim() + 2:
        raise MilError(f"a palette of rank {lut.dim()} for indices of rank {indices.dim()}: expected two more")
    entries, size = lut.shape[-2:]
    dense = indices.long()
    if dense.numel() and not 0 <= int(dense.min()) <= int(dense.max()) < entries:
        raise MilError(f"indices from {int(dense.min())} to {int(dense.max())} into a palette of {entries}")
    return dense, entries, size


def _repeated(blocks: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return one element per element of `shape`, from one per block."""
    if blocks.dim() != len(shape) or any(
        part == 0 or size % part for size, part in zip(shape, blocks.shape, strict=True)
    ):
        raise MilError(f"`{name}` has blocks of shape {list(blocks.shape)}, which do not divide {list(shape)}")
    for axis, size in enumerate(shape):
        if 1 < blocks.shape[axis] < size:
            blocks = blocks.repeat_interleave(size // blocks.shape[axis], dim=axis)
    return blocks.expand(shape)


def _along(vectors: Tensor, axis: int) -> Tensor:
    """Return (…, vector) with the last axis laid along another: that one becomes longer by the vector size."""
    rank, size = vectors.dim() - 1, vectors.shape[-1]
    axis = axis % rank if -rank <= axis < rank else _bad_axis(axis, rank)
    moved = vectors.movedim(-1, axis + 1)
    shape = list(vectors.shape[:-1])
    shape[axis] *= size
    return moved.reshape(shape)


def _bad_axis(axis: int, rank: int) -> int:
    raise MilError(f"vector_axis {axis} of a tensor of rank {rank}")
