"""Cosine distances that are never not a number."""

import torch


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors (row, dimension) with length one; zero stays zero."""
    scaled, _, length = _scaled(vectors)
    return scaled / length


def length(vectors: torch.Tensor) -> torch.Tensor:
    """Return the lengths (row, 1) of vectors (row, dimension); 1 for zero, so that it can be divided by."""
    _, scale, length = _scaled(vectors)
    return scale * length


def _scaled(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return rows whose largest component is 1 or −1, what they were divided by, and how long they are now.

    Then squares neither overflow nor vanish in half precision, and there is no smallest number to be added, which half
    precision would round to nothing. Rows of zeros are divided by 1 and said to be of length 1.
    """
    largest = vectors.abs().amax(dim=-1, keepdim=True)
    zero = (largest == 0).float()
    scale = largest + zero
    scaled = vectors / scale
    return scaled, scale, (scaled.square().sum(dim=-1, keepdim=True) + zero).sqrt()


def cosine_distances(queries: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Return 1 − cosine (query, row) between two sets of rows; a row of zeros is at distance 1 from everything."""
    return 1 - unit(queries) @ unit(bank).transpose(0, 1)
