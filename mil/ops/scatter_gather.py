"""Reading elements at computed places, and writing or combining elements there.

An index counts from the end of its axis where it is negative, as the opsets before ios17 say; with
`validate_indices`, as ios17 says, a negative index is out of range. An index out of range is always an error: MIL
leaves open what becomes of it, and there is nothing right to return.
"""

import math
from collections.abc import Sequence

import torch

from mil.errors import MilError
from mil.ops.arguments import Bool, Int, Str, Tensor
from mil.ops.axes import axis_of
from mil.ops.limits import check_size


def gather(x: Tensor, indices: Tensor, axis: Int = 0, batch_dims: Int = 0, validate_indices: Bool = False) -> Tensor:
    """Return slices of x along `axis`, as `tf.gather`.

    indices  of any rank, the first `batch_dims` axes shared with x
    returns  shape x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:]
    """
    axis = axis_of(axis, x)
    if not 0 <= batch_dims <= min(axis, indices.ndim) or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise MilError(
            f"expected {batch_dims} batch axes shared by x {list(x.shape)} and indices "
            f"{list(indices.shape)}, before axis {axis}"
        )
    shape = [*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :]]
    check_size(shape, x.dtype)
    places = _in_range(indices, x.shape[axis], validate_indices)
    if not batch_dims:
        return x.index_select(axis, places.reshape(-1)).reshape(shape)
    batch, inner = math.prod(x.shape[:batch_dims]), math.prod(x.shape[batch_dims:axis])
    rows = x.reshape(batch, inner, x.shape[axis], math.prod(x.shape[axis + 1 :])).transpose(1, 2)
    found = rows[torch.arange(batch).unsqueeze(1), places.reshape(batch, -1).long()]
    return found.transpose(1, 2).reshape(shape)


def gather_along_axis(x: Tensor, indices: Tensor, axis: Int = 0, validate_indices: Bool = False) -> Tensor:
    """Return x at `indices` along `axis`, every other coordinate kept; the result has the shape of `indices`.

    Raises MilError where x and indices differ in another axis.
    """
    axis = axis_of(axis, x)
    _check_alike(x, indices, axis)
    return x.gather(axis, _in_range(indices, x.shape[axis], validate_indices).long())


def gather_nd(x: Tensor, indices: Tensor, batch_dims: Int = 0, validate_indices: Bool = False) -> Tensor:
    """Return the elements or slices of x that the last axis of `indices` points at, as `tf.gather_nd`.

    indices  (*batch, *outer, depth)  the first `batch_dims` axes shared with x
    returns  shape indices.shape[:-1] + x.shape[batch_dims + depth:]
    """
    if not 0 <= batch_dims < max(indices.ndim, 1) or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise MilError(
            f"expected {batch_dims} batch axes shared by x {list(x.shape)} and indices {list(indices.shape)}"
        )
    batch, inner = x.shape[:batch_dims], x.shape[batch_dims:]
    places, depth = _flat_places(indices, inner, validate_indices)
    shape = [*indices.shape[:-1], *inner[depth:]]
    check_size(shape, x.dtype)
    count, size = math.prod(batch), math.prod(inner[:depth])
    starts = (torch.arange(count) * size).reshape([*batch, *[1] * (indices.ndim - 1 - batch_dims)])
    rows = x.reshape(count * size, math.prod(inner[depth:]))
    return rows.index_select(0, (places + starts).reshape(-1)).reshape(shape)


def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Int = 0,
    mode: Str = "add",
    validate_indices: Bool = False,
) -> Tensor:
    """Return data with slices along `axis` combined with `updates` in the places `indices`; see `_combined`.

    updates  shape data.shape[:axis] + indices.shape + data.shape[axis + 1:]
    """
    axis = axis_of(axis, data)
    _check_updates(updates, [*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]])
    places = _in_range(indices, data.shape[axis], validate_indices).long().reshape(-1)
    rows = updates.reshape([*data.shape[:axis], places.numel(), *data.shape[axis + 1 :]])
    places = places.view(-1, *[1] * (data.ndim - 1 - axis)).expand(rows.shape)
    return _combined(data, axis, places, rows, mode)


def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: Int = 0,
    mode: Str = "add",
    validate_indices: Bool = False,
) -> Tensor:
    """Return data combined with `updates` at `indices` along `axis`, every other coordinate kept; see `_combined`.

    Raises MilError where indices and updates differ in shape, or either from data in another axis.
    """
    axis = axis_of(axis, data)
    _check_alike(data, indices, axis)
    _check_updates(updates, indices.shape)
    places = _in_range(indices, data.shape[axis], validate_indices).long()
    return _combined(data, axis, places, updates, mode)


def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, mode: Str = "add", validate_indices: Bool = False
) -> Tensor:
    """Return data combined with `updates` where the last axis of `indices` points, as `tf.scatter_nd`; see `_combined`.

    indices  (*outer, depth)
    updates  shape indices.shape[:-1] + data.shape[depth:]
    """
    places, depth = _flat_places(indices, data.shape, validate_indices)
    _check_updates(updates, [*indices.shape[:-1], *data.shape[depth:]])
    width = math.prod(data.shape[depth:])
    rows = updates.reshape(places.numel(), width)
    places = places.reshape(-1, 1).expand(rows.shape)
    table = data.reshape(math.prod(data.shape[:depth]), width)
    return _combined(table, 0, places, rows, mode).reshape(data.shape)


def _combined(data: Tensor, axis: int, places: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Return data with each update combined into its place along `axis`, one after the other where places repeat.

    mode  "update" (the last one stays), "add", "sub", "mul", "div" (integers towards zero), "max" or "min"
    """
    updates = updates.to(data.dtype)
    match mode:
        case "update":
            return data.scatter(axis, places, updates)
        case "add":
            return data.scatter_add(axis, places, updates)
        case "sub":
            return data.scatter_add(axis, places, -updates)
        case "mul":
            return data.scatter_reduce(axis, places, updates, "prod")
        case "max":
            return data.scatter_reduce(axis, places, updates, "amax")
        case "min":
            return data.scatter_reduce(axis, places, updates, "amin")
        case "div":
            return _divided(data, axis, places, updates)
    raise MilError(f'expected mode update, add, sub, mul, div, max or min, found "{mode}"')


def _divided(data: Tensor, axis: int, places: Tensor, updates: Tensor) -> Tensor:
    """Return data divided by the product of the updates of each place, which float64 holds without overflow."""
    wide = data.double()
    quotients = wide / torch.ones_like(wide).scatter_reduce(axis, places, updates.double(), "prod")
    if data.is_floating_point():
        return quotients.to(data.dtype)
    if not updates.all():
        raise MilError("expected integers other than 0 in updates with mode div")
    return quotients.trunc().to(data.dtype)


def _in_range(indices: Tensor, size: int, validate: bool) -> Tensor:
    """Return indices in [0, size); those below 0 count from the end unless they are to be validated."""
    if not indices.numel():
        return indices
    least, greatest = (int(end) for end in indices.aminmax())
    lowest = 0 if validate else -size
    if least < lowest or greatest >= size:
        wrong = least if least < lowest else greatest
        raise MilError(f"expected indices from {lowest} to {size - 1}, found {wrong}")
    return indices if least >= 0 else torch.where(indices < 0, indices + size, indices)


def _flat_places(indices: Tensor, sizes: Sequence[int], validate: bool) -> tuple[Tensor, int]:
    """Return the row-major position that the last axis of `indices` points at, and how many axes it spans."""
    depth = indices.shape[-1] if indices.ndim else 0
    if not indices.ndim or depth > len(sizes):
        raise MilError(f"expected a last axis of indices of at most {len(sizes)}, found {list(indices.shape)}")
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for size, places in zip(sizes, indices.unbind(-1), strict=False):
        flat = flat * size + _in_range(places, size, validate)
    return flat, depth


def _check_alike(x: Tensor, indices: Tensor, axis: int) -> None:
    if x.ndim != indices.ndim or any(
        a != b for n, (a, b) in enumerate(zip(x.shape, indices.shape, strict=True)) if n != axis
    ):
        raise MilError(
            f"expected indices of the shape {list(x.shape)} but for axis {axis}, found {list(indices.shape)}"
        )


def _check_updates(updates: Tensor, shape: Sequence[int]) -> None:
    if list(updates.shape) != list(shape):
        raise MilError(f"expected updates of shape {list(shape)}, found {list(updates.shape)}")
