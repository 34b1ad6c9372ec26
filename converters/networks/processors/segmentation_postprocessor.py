"""From log probabilities of speaker sets to who speaks."""

import numpy as np
import torch
from torch import nn

from diarization.powerset import powerset


class SegmentationPostprocessor(nn.Module):
    """Turns log probabilities (batch, frame, class) into masks (batch, frame, speaker), 0 or 1.

    Where several classes are likeliest, the first of them counts. Core ML's argmax leaves open which one does, and in
    half precision ties are common; so each likeliest class is reduced by the number of those before it, and what is
    left above zero is the first, one-hot.
    """

    first: torch.Tensor
    members: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        members = torch.from_numpy(powerset().astype(np.float32))  # (class, speaker)
        before = torch.triu(torch.ones(len(members), len(members)), diagonal=1)  # 1 from each class to those behind it
        self.register_buffer("first", torch.eye(len(members)) - before, persistent=False)
        self.register_buffer("members", members, persistent=False)

    def forward(self, segments: torch.Tensor) -> torch.Tensor:
        likeliest = (segments == segments.amax(dim=-1, keepdim=True)).float()
        return torch.relu(likeliest @ self.first) @ self.members
