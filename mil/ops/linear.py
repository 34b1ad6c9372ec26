"""Matrix products: coremltools' `linear.py` of iOS15 and iOS17."""

import torch
import torch.nn.functional as F

from mil.ops.arguments import Bool, Str, Tensor, Tensors


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·weightᵀ + bias.

    x       (…, in)
    weight  (out, in)
    bias    (out,)
    """
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: Bool = False, transpose_y: Bool = False) -> Tensor:
    """The product of matrices in the last two axes; the axes before them broadcast, as in numpy.

    transpose_x, transpose_y  exchange the last two axes first; a vector stays as it is
    """
    left = x.mT if transpose_x and x.dim() > 1 else x
    right = y.mT if transpose_y and y.dim() > 1 else y
    return torch.matmul(left, right)


def einsum(values: Tensors, equation: Str) -> Tensor:
    """The sum of products that the equation spells out; axes of length one broadcast."""
    return torch.einsum(equation, values)
