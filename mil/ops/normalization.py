"""Normalisations: coremltools' `normalization.py` of iOS15 and iOS17.

Means and variances are computed in the width of x and never rounded to the declared type on the way; a device that
computes in fp16 may round them. Variances are biased: divided by the number of elements.
"""

import torch
import torch.nn.functional as F

from mil.ops.arguments import Float, Int, Ints, Tensor


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Float = 1e-5,
) -> Tensor:
    """gamma·(x − mean) / √(variance + epsilon) + beta, each channel with its own.

    x                            (batch, channel, …)
    mean, variance, gamma, beta  (channel,)
    """
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: Float = 1e-5) -> Tensor:
    """gamma·(x − mean) / √(variance + epsilon) + beta, mean and variance over each channel of each instance.

    x            (batch, channel, …)
    gamma, beta  (channel,)
    """
    if x.numel() == 0:
        return x
    # F.instance_norm refuses a channel of one element, where MIL and this have beta.
    return torch.instance_norm(x, gamma, beta, None, None, True, 0.0, epsilon, False)


def l2_norm(x: Tensor, epsilon: Float = 1e-6) -> Tensor:
    """x / √(Σx² + epsilon), the sum over the last three axes."""
    return x * x.square().sum((-3, -2, -1), keepdim=True).add_(epsilon).rsqrt_()


def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Float = 1e-5,
) -> Tensor:
    """gamma·(x − mean) / √(variance + epsilon) + beta, mean and variance over the axes (all of them if none is given).

    gamma, beta  of x's shape without the axes not named, in x's order of axes
    """
    rank = x.dim()
    normalized = list(range(rank)) if axes is None else sorted(axis + rank if axis < 0 else axis for axis in axes)
    if normalized == list(range(rank - len(normalized), rank)):
        return F.layer_norm(x, [x.shape[axis] for axis in normalized], gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, normalized, correction=0, keepdim=True)
    y = (x - mean).mul_(variance.add_(epsilon).rsqrt_())
    spread = [x.shape[axis] if axis in normalized else 1 for axis in range(rank)]
    y = y if gamma is None else y.mul_(gamma.reshape(spread))
    return y if beta is None else y.add_(beta.reshape(spread))


def local_response_norm(x: Tensor, size: Int, alpha: Float = 1e-4, beta: Float = 0.75, k: Float = 1.0) -> Tensor:
    """x / (k + alpha / size · Σx²)^beta, the sum over the `size` channels around each; zeros beyond the ends.

    x  (batch, channel, …)

    Of an even size, the channel before is in and the one after is not, as PyTorch has it: Apple's own tests hold
    devices against `torch.nn.LocalResponseNorm`. ONNX has it the other way round.
    """
    squares = F.pad(x.square().movedim(1, -1), (size // 2, (size - 1) // 2))
    sums = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / sums.mul_(alpha / size).add_(k).pow_(beta)
