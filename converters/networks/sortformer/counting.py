"""Counting places, which is how lengths become masks."""

import torch


def counting(length: int) -> torch.Tensor:
    """Return 0, 1, 2 … up to a length, (length,) int32; real numbers even while a network is made without any."""
    return torch.arange(length, dtype=torch.int32, device="cpu")
