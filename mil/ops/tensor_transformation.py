"""Operations that rearrange, reshape or cut out the elements of one tensor."""

import math

import torch

from mil.errors import MilError
from mil.ops.arguments import Bools, Int, Ints, Tensor, Tensors
from mil.ops.axes import axes_of, axis_of
from mil.ops.limits import check_size
from mil.ops.windows import padded


def batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    """Return blocks of batch entries laid out in space, then cropped; undoes `space_to_batch`.

    x            (bh * bw * n, C, H, W)
    block_shape  bh, bw
    crops        rows at the top and bottom, columns at the left and right
    returns      (n, C, H * bh - top - bottom, W * bw - left - right)
    """
    _check_blocks(x, block_shape, crops)
    (bh, bw), (n, c, h, w) = block_shape, x.shape
    if n % (bh * bw):
        raise MilError(f"expected x (n, C, H, W) with n divided by {bh * bw}, found {list(x.shape)}")
    blocks = x.reshape(bh, bw, n // (bh * bw), c, h, w).permute(2, 3, 4, 0, 5, 1)
    top, bottom, left, right = crops
    return padded(blocks.reshape(n // (bh * bw), c, h * bh, w * bw), [(-top, -bottom), (-left, -right)], 0)


def space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    """Return x zero-padded, each place within a block a batch entry of its own, as TensorFlow's SpaceToBatchND.

    x            (n, C, H, W)
    block_shape  bh, bw
    paddings     rows at the top and bottom, columns at the left and right
    returns      (bh * bw * n, C, (H + top + bottom) / bh, (W + left + right) / bw)
    """
    _check_blocks(x, block_shape, paddings)
    top, bottom, left, right = paddings
    x = padded(x, [(top, bottom), (left, right)], 0)
    (bh, bw), (n, c, h, w) = block_shape, x.shape
    if h % bh or w % bw:
        raise MilError(f"expected a padded x that divides into blocks of {block_shape}, found {list(x.shape)}")
    blocks = x.reshape(n, c, h // bh, bh, w // bw, bw).permute(3, 5, 0, 1, 2, 4)
    return blocks.reshape(bh * bw * n, c, h // bh, w // bw)


def _check_blocks(x: Tensor, block_shape: Ints, edges: Ints) -> None:
    fits = x.ndim == 4 and len(block_shape) == 2 and min(block_shape) > 0
    if not fits or len(edges) != 4 or min(edges) < 0:
        raise MilError(
            f"expected x (n, C, H, W), two block sizes and four edges of 0 or more, found x {list(x.shape)}, blocks "
            f"{block_shape}, edges {edges}"
        )


def depth_to_space(x: Tensor, block_size: Int) -> Tensor:
    """Return channels laid out in blocks, block position outermost in the channel, as TensorFlow's DepthToSpace.

    x        (n, b * b * C, H, W)
    returns  (n, C, H * b, W * b)
    """
    b = block_size
    n, c, h, w = _image(x, channels=b * b, height=1, width=1, block=b)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(x: Tensor, block_size: Int) -> Tensor:
    """Return blocks gathered in channels, block position outermost; undoes `depth_to_space`.

    x        (n, C, H, W)
    returns  (n, b * b * C, H / b, W / b)
    """
    b = block_size
    n, c, h, w = _image(x, channels=1, height=b, width=b, block=b)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, b * b * c, h // b, w // b)


def pixel_shuffle(x: Tensor, upscale_factor: Int) -> Tensor:
    """Return channels laid out in blocks, block position innermost in the channel.

    x        (n, C * f * f, H, W)
    returns  (n, C, H * f, W * f)
    """
    f = upscale_factor
    n, c, h, w = _image(x, channels=f * f, height=1, width=1, block=f)
    return x.reshape(n, c // (f * f), f, f, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


def pixel_unshuffle(x: Tensor, downscale_factor: Int) -> Tensor:
    """Return blocks gathered in channels, block position innermost; undoes `pixel_shuffle`.

    x        (n, C, H, W)
    returns  (n, C * f * f, H / f, W / f)
    """
    f = downscale_factor
    n, c, h, w = _image(x, channels=1, height=f, width=f, block=f)
    return x.reshape(n, c, h // f, f, w // f, f).permute(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)


def _image(x: Tensor, channels: int, height: int, width: int, block: int) -> torch.Size:
    """Return the shape of x; raises MilError unless it is (n, C, H, W) and divides by these numbers."""
    if block < 1 or x.ndim != 4 or x.shape[1] % channels or x.shape[2] % height or x.shape[3] % width:
        raise MilError(f"expected x (n, C, H, W) that divides into blocks of {block}, found {list(x.shape)}")
    return x.shape


def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Return x with axes of size 1 that stand at `axes` of the result, counted from its end where negative."""
    rank = x.ndim + len(axes)
    if any(not -rank <= axis < rank for axis in axes):
        raise MilError(f"expected axes of a result of rank {rank}, found {axes}")
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def reshape(x: Tensor, shape: Ints) -> Tensor:
    """Return the elements of x in another shape.

    shape  -1, once, stands for what remains; 0 for the size of x at that place counted from the end, or 1 where x
           has none

    Raises MilError where the numbers of elements differ.
    """
    if 0 in shape:
        known = [1] * (len(shape) - x.ndim) + list(x.shape[max(x.ndim - len(shape), 0) :])
        sizes = [size or other for size, other in zip(shape, known, strict=True)]
    else:
        sizes = shape
    try:
        return x.reshape(sizes)
    except RuntimeError:
        raise MilError(f"expected a shape of {x.numel()} elements as x {list(x.shape)} has, found {shape}") from None


def reshape_like(x: Tensor, ref_tensors: Tensors, begins: Ints, ends: Ints, end_masks: Bools) -> Tensor:
    """Return x in the shape that is joined from the sizes begins[i] to ends[i] of each reference.

    end_masks  if true, up to the last size of that reference
    """
    if not len(ref_tensors) == len(begins) == len(ends) == len(end_masks):
        raise MilError(
            f"expected as many begins, ends and end_masks as the {len(ref_tensors)} references, "
            f"found {len(begins)}, {len(ends)} and {len(end_masks)}"
        )
    parts = zip(ref_tensors, begins, ends, end_masks, strict=True)
    shape = [size for ref, begin, end, mask in parts for size in ref.shape[begin : None if mask else end]]
    if math.prod(shape) != x.numel():
        raise MilError(f"expected {x.numel()} elements as x has, found shape {shape}")
    return x.reshape(shape)


def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Return x in reverse order along `axes`, by default along all."""
    return x.flip(list(range(x.ndim)) if axes is None else axes_of(axes, x))


def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: Int = 0, batch_axis: Int = 0) -> Tensor:
    """Return x with the first lengths[i] elements along `seq_axis` of entry i of `batch_axis` in reverse order.

    Raises MilError for lengths beyond the axis, or axes that are the same.
    """
    seq_axis, batch_axis = axes_of([seq_axis, batch_axis], x)
    size = x.shape[seq_axis]
    if list(lengths.shape) != [x.shape[batch_axis]] or ((lengths < 0) | (lengths > size)).any():
        raise MilError(f"expected {x.shape[batch_axis]} lengths from 0 to {size}, found {lengths.tolist()}")
    ends, places = lengths.long().unsqueeze(1), torch.arange(size)
    places = torch.where(places < ends, ends - 1 - places, places)  # (batch, sequence)
    if seq_axis < batch_axis:
        places = places.T
    sizes = [s if n in (seq_axis, batch_axis) else 1 for n, s in enumerate(x.shape)]
    return x.take_along_dim(places.reshape(sizes), seq_axis)


def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """Return x[begin[0]:end[0]:stride[0], …] as numpy slices, a view where no stride is negative.

    begin_mask, end_mask  where true, the slice begins, or ends, with the axis
    squeeze_mask          where true, the element at `begin` is taken and the axis dropped
    """
    places, flipped = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    part = x[places]
    return part.flip(flipped) if flipped else part


def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """Return x with the part that `slice_by_index` would return replaced by `update`, of the same shape."""
    places, flipped = _slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x.clone(memory_format=torch.contiguous_format)
    part = result[places]
    if part.shape != update.shape:
        raise MilError(f"expected an update of {list(part.shape)}, found {list(update.shape)}")
    part.copy_(update.flip(flipped) if flipped else update)
    return result


def _slices(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[tuple[slice | int, ...], list[int]]:
    """Return what to index x with, and which axes of the result to reverse: torch slices only forwards."""
    rank = x.ndim
    stride = stride or [1] * rank
    masks = [mask or [False] * rank for mask in (begin_mask, end_mask, squeeze_mask)]
    lengths = {len(begin), len(end), len(stride), *map(len, masks)}
    if lengths != {rank} or 0 in stride:
        raise MilError(
            f"expected begin, end, masks and strides other than 0 for {rank} axes, found begin "
            f"{begin}, end {end}, stride {stride}"
        )
    places: list[slice | int] = []
    flipped: list[int] = []
    kept = 0
    for size, first, last, step, from_start, to_end, squeezed in zip(x.shape, begin, end, stride, *masks, strict=True):
        if squeezed:
            places.append(_element(0 if from_start else first, size))
            continue
        wanted = slice(None if from_start else first, None if to_end else last, step)
        if step < 0:
            wanted = _forwards(wanted, size)
            flipped.append(kept)
        places.append(wanted)
        kept += 1
    return tuple(places), flipped


def _element(index: int, size: int) -> int:
    if not -size <= index < size:
        raise MilError(f"expected an element of {size} to squeeze, found {index}")
    return index


def _forwards(backwards: slice, size: int) -> slice:
    """Return the slice of the same elements in rising order."""
    places = range(*backwards.indices(size))
    return slice(places[-1], places[0] + 1, -places.step) if places else slice(0, 0)


def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """Return size[i] elements from begin[i] on along each axis, a view.

    begin  counts from the end where negative
    size   -1 means all that are left

    Raises MilError where that leaves x.
    """
    if not len(begin) == len(size) == x.ndim:
        raise MilError(f"expected begin and size for {x.ndim} axes, found {begin} and {size}")
    places = []
    for whole, first, count in zip(x.shape, begin, size, strict=True):
        start = first + whole if first < 0 else first
        stop = whole if count == -1 else start + count
        if not 0 <= start <= stop <= whole:
            raise MilError(f"expected a part of x {list(x.shape)}, found begin {begin} and size {size}")
        places.append(slice(start, stop))
    return x[tuple(places)]


def sliding_windows(x: Tensor, axis: Int, size: Int, stride: Int = 1) -> Tensor:
    """Return every window of `size` elements, `stride` apart, along `axis`: a view.

    x        (…, D, …)
    returns  (…, (D - size) // stride + 1, size, …)
    """
    axis = axis_of(axis, x)
    if not 1 <= size <= x.shape[axis] or stride < 1:
        raise MilError(f"expected windows that fit {x.shape[axis]} elements, found size {size}, stride {stride}")
    windows = x.unfold(axis, size, stride)
    check_size(windows.shape, x.dtype)
    return windows.movedim(-1, axis + 1)


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Return x without those of `axes`, by default of all axes, that have size 1."""
    return x.squeeze() if axes is None else x.squeeze(axes_of(axes, x))


def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Return x with its axes in the order `perm`, a view."""
    try:
        return x.permute(perm)
    except (RuntimeError, IndexError):
        raise MilError(f"expected each axis of x {list(x.shape)} once in perm, found {perm}") from None
