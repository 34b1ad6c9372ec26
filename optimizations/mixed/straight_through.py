"""Rounding that lets gradients through: what is learned is continuous, what is computed with is what will be stored.

Source: Bengio, Léonard and Courville 2013, "Estimating or Propagating Gradients Through Stochastic Neurons".
"""

from typing import Any

import torch


class Looked(torch.autograd.Function):
    """The entry nearest to each latent value; entries are rounded to a type first, and ascend.

    A latent value takes the gradient of what stands for it; an entry the sum over all that it stands for.
    """

    @staticmethod
    def forward(ctx: Any, latent: torch.Tensor, entries: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        rounded = entries.to(dtype).to(entries.dtype)
        indices = nearest(latent, rounded)
        ctx.save_for_backward(indices)
        ctx.count = len(entries)
        return rounded[indices]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (gradient,), (indices,) = gradients, ctx.saved_tensors
        sums = gradient.new_zeros(ctx.count).index_add_(0, indices.reshape(-1), gradient.reshape(-1))
        return gradient, sums, None


class Rounded(torch.autograd.Function):
    """Values rounded to a type."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return values.to(dtype).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def nearest(latent: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """Return the index of the ascending entry that is nearest to each value."""
    return torch.bucketize(latent, (entries[1:] + entries[:-1]) / 2)
