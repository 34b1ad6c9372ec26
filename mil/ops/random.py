"""Random values: coremltools' `iOS15/random.py`.

The same seed gives the same values in every call, whatever else has been drawn. They are not the values that Apple's
generators give, which are not published: compare distributions, not numbers. The default
seed, −1, asks a device for values that differ in every call; here it is a seed like any other.

Values are drawn in float32 steps, below `high` and 1. Rounding to a declared fp16 may reach them.
"""

import torch

from mil.errors import MilError
from mil.ops.arguments import Float, Int, Ints, Str, Tensor
from mil.ops.limits import check_size


def random_bernoulli(shape: Ints, prob: Float = 0.5, seed: Int = -1) -> Tensor:
    """1.0 with probability prob, else 0.0."""
    return (_uniform(shape, seed) < prob).float()


def random_categorical(x: Tensor, mode: Str = "logits", size: Int = 1, seed: Int = -1) -> Tensor:
    """Return `size` class indices, as floats, drawn with replacement from each distribution along the last axis.

    x        (…, class)  logarithms of probabilities (mode "logits") or probabilities ("probs"), up to a factor
    returns  (…, size)

    Raises MilError for another mode.
    """
    if mode not in ("logits", "probs"):
        raise MilError(f"random_categorical: mode {mode!r}; expected logits or probs")
    probabilities = torch.softmax(x.double(), -1) if mode == "logits" else x.double()
    cumulative = probabilities.cumsum(-1)
    drawn = _uniform([*x.shape[:-1], size], seed).mul_(cumulative[..., -1:])
    return torch.searchsorted(cumulative, drawn, right=True).clamp_max_(x.shape[-1] - 1).to(x.dtype)


def random_normal(shape: Ints, mean: Float = 0.0, stddev: Float = 1.0, seed: Int = -1) -> Tensor:
    """Values of a normal distribution."""
    # The Box-Muller transform: a pair of uniform values for each normal one, the first never zero.
    first, second = _uniform([2, *shape], seed)
    return (1 - first).log_().mul_(-2).sqrt_().mul_(second.mul_(2 * torch.pi).cos_()).mul_(stddev).add_(mean)


def random_uniform(shape: Ints, low: Float = 0.0, high: Float = 1.0, seed: Int = -1) -> Tensor:
    """Values evenly spread over low ≤ value < high."""
    return _uniform(shape, seed).mul_(high - low).add_(low)


def _uniform(shape: Ints, seed: Int) -> Tensor:
    check_size(shape, torch.float64)
    generator = torch.Generator().manual_seed(seed)
    # Of 24 bits each, so that float32 holds them exactly and none becomes 1.
    return torch.randint(0, 2**24, shape, generator=generator, dtype=torch.int64).double().mul_(2.0**-24)
