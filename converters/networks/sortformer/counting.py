"""Counting places, which is how lengths become masks."""

import torch


def counting(length: int) -> torch.Tensor:
    """Return 0, 1, 2 … up to a length, (length,) int32; real numbers even while a network is made without any."""
    return torch.arange(length, dtype=torch.int32, device="cpu")


def count(places: torch.Tensor) -> torch.Tensor:
    """Return how many of the places hold, (1,) int32.

    A length divided by a number would be the same, but programs divide in the precision that they compute in, and half
    precision tells whole numbers apart only up to 2048.
    """
    return places.reshape(-1).to(torch.int32).sum(dim=0, keepdim=True, dtype=torch.int32)
