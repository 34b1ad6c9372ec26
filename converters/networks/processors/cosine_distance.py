"""Distances between embeddings, at capacities of which only some rows are in use."""

import torch
from torch import nn

from converters.networks.processors.cosine import cosine_distances

FARTHEST = 2.0  # of any cosine distance: a row that is off is nobody's nearest


class CosineDistance(nn.Module):
    """Distances (query, row) of queries (query, 256) to a bank (row, 256).

    Masks (query,) and (row,) say with 1 and 0 which rows are in use; whatever stands in the others, numbers or not, has
    no influence.
    """

    def forward(
        self, queries: torch.Tensor, bank: torch.Tensor, query_mask: torch.Tensor, bank_mask: torch.Tensor
    ) -> torch.Tensor:
        both = query_mask.unsqueeze(1) * bank_mask.unsqueeze(0) > 0.5
        distances = cosine_distances(queries, bank)
        return torch.where(both, distances, torch.full_like(distances, FARTHEST))
