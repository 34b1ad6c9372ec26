"""Audio cut into overlapping frames by one convolution."""

import torch
from torch import nn

from converters.networks.wespeaker_layout import FRAME_SAMPLES, HOP_SAMPLES


class FrameExtractor(nn.Module):
    """Cuts audio (1, sample) into frames (frame, 400), 160 samples apart, as many as are whole.

    The kernels of the convolution are the rows of the identity: output channel i is sample i of each frame. Every
    sample is multiplied by one and added to zeros, so finite audio comes out as it went in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv1d(1, FRAME_SAMPLES, FRAME_SAMPLES, stride=HOP_SAMPLES, bias=False)
        self.cut.weight = nn.Parameter(torch.eye(FRAME_SAMPLES).unsqueeze(1), requires_grad=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return self.cut(audio.unsqueeze(1)).squeeze(0).transpose(0, 1)
