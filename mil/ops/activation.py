"""Activation functions: coremltools' `activation.py` of iOS15 and iOS17."""

import math

import torch
import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Float, Int, Str, Tensor


def clamped_relu(x: Tensor, alpha: Float, beta: Float) -> Tensor:
    """min(x, beta) where x ≥ 0, else min(alpha·x, beta)."""
    return F.leaky_relu(x, alpha).clamp_max_(beta)


def elu(x: Tensor, alpha: Float) -> Tensor:
    """x where x > 0, else alpha·(eˣ − 1)."""
    return F.elu(x, alpha)


def gelu(x: Tensor, mode: Str = "EXACT") -> Tensor:
    """x·Φ(x), exactly or by one of MIL's two approximations; raises MilError for a mode that MIL does not have."""
    match mode:
        case "EXACT":
            return _exact_gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            return x.mul(1.702).sigmoid_().mul_(x)
        case _:
            raise MilError(f"gelu: mode {mode!r}; expected EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION")


def leaky_relu(x: Tensor, alpha: Float) -> Tensor:
    """x where x ≥ 0, else alpha·x."""
    return F.leaky_relu(x, alpha)


def linear_activation(x: Tensor, alpha: Float, beta: Float) -> Tensor:
    """alpha·x + beta."""
    return x.mul(alpha).add_(beta)


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, else alpha·x with one alpha per channel.

    x      (batch, channel, …)
    alpha  (channel,)
    """
    return F.prelu(x, alpha)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


def relu6(x: Tensor) -> Tensor:
    """x limited to 0 … 6."""
    return x.clamp(0, 6)


def scaled_tanh(x: Tensor, alpha: Float, beta: Float) -> Tensor:
    """alpha·tanh(beta·x)."""
    return x.mul(beta).tanh_().mul_(alpha)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return torch.sigmoid(x)


def sigmoid_hard(x: Tensor, alpha: Float, beta: Float) -> Tensor:
    """alpha·x + beta limited to 0 … 1."""
    return x.mul(alpha).add_(beta).clamp_(0, 1)


def silu(x: Tensor) -> Tensor:
    """x·sigmoid(x)."""
    return F.silu(x)


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ)."""
    # From 40 on, x and log(1 + e**x) are the same float64; below it e**x is far from overflow.
    return F.softplus(x, threshold=40)


def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha·log(1 + e^(beta·x)) with one alpha and one beta per channel.

    x            (batch, channel, …)
    alpha, beta  (channel,)
    """
    per_channel = (-1, *[1] * (x.dim() - 2))
    return softplus(x * beta.reshape(per_channel)).mul_(alpha.reshape(per_channel))


def softmax(x: Tensor, axis: Int = -1) -> Tensor:
    """eˣ over its sum along an axis; NaN along an axis of nothing but −inf."""
    return torch.softmax(x, axis)


def softsign(x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return F.softsign(x)


def thresholded_relu(x: Tensor, alpha: Float) -> Tensor:
    """x where x ≥ alpha, else 0."""
    return x.masked_fill(x < alpha, 0)


def _exact_gelu(x: Tensor) -> Tensor:
    # oneDNN's kernel is four times as fast as erf, but has NaN where x is infinite.
    y = F.gelu(x)
    return y if y.sum().isfinite() else x.mul(math.sqrt(0.5)).erf_().add_(1).mul_(x).mul_(0.5)
