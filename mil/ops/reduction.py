"""Reductions along axes: coremltools' `reduction.py` of iOS15 and iOS17.

`axes` may count from the end; None is all of them, and an empty list none: each element is then reduced by itself.
Of integers the result is an integer, cut off towards zero where it is not whole.
"""

import torch

from mil.ops.arguments import Bool, Int, Ints, Str, Tensor
from mil.ops.elementwise_unary import cast


def reduce_argmax(x: Tensor, axis: Int = -1, keep_dims: Bool = False, output_dtype: Str = "int32") -> Tensor:
    """The index of the largest element along an axis: the first of equals, or the first NaN."""
    return torch.argmax(x, axis, keep_dims)


def reduce_argmin(x: Tensor, axis: Int = -1, keep_dims: Bool = False, output_dtype: Str = "int32") -> Tensor:
    """The index of the smallest element along an axis: the first of equals, or the first NaN."""
    return torch.argmin(x, axis, keep_dims)


def reduce_l1_norm(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """Σ|x|."""
    return reduce_sum(x.abs(), axes, keep_dims)


def reduce_l2_norm(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """√Σx²."""
    return _like(x, reduce_sum_square(_floats(x), axes, keep_dims).sqrt_())


def reduce_log_sum(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """log Σx."""
    return _like(x, reduce_sum(_floats(x), axes, keep_dims).log())


def reduce_log_sum_exp(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """log Σeˣ, without overflow on the way."""
    values, dims, keep = _along(_floats(x), axes, keep_dims)
    return _like(x, torch.logsumexp(values, dims, keep))


def reduce_max(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """The largest element; NaN if there is one."""
    return torch.amax(*_along(x, axes, keep_dims))


def reduce_mean(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """Σx over the number of elements."""
    return _like(x, torch.mean(*_along(_floats(x), axes, keep_dims)))


def reduce_min(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """The smallest element; NaN if there is one."""
    return torch.amin(*_along(x, axes, keep_dims))


def reduce_prod(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """The product of the elements."""
    product, dims, keep = _along(x, axes, keep_dims)
    for dim in dims:
        product = product.prod(dim, keepdim=True)
    return product if keep else product.squeeze(dims)


def reduce_sum(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """Σx."""
    return torch.sum(*_along(x, axes, keep_dims))


def reduce_sum_square(x: Tensor, axes: Ints | None = None, keep_dims: Bool = False) -> Tensor:
    """Σx²."""
    return reduce_sum(x.square(), axes, keep_dims)


def _along(x: Tensor, axes: Ints | None, keep_dims: Bool) -> tuple[Tensor, Ints, Bool]:
    # torch reads an empty list of axes as all of them: no axis is written as a new one of length one.
    dims = list(range(x.dim())) if axes is None else axes
    return (x, dims, keep_dims) if dims else (x.unsqueeze(0), [0], False)


def _floats(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.double()


def _like(x: Tensor, y: Tensor) -> Tensor:
    return y if x.is_floating_point() else cast(y, "int64")
