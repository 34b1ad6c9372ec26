"""From one window and its masks to what the embedding network of three waveforms takes."""

import torch
from torch import nn


class EmbeddingPreprocessor(nn.Module):
    """Gives every speaker the audio, and takes the frames where several speak out of their masks.

    Takes audio (1, 1, sample) and masks (1, frame, speaker); returns waveforms (speaker, sample) and clean masks
    (speaker, frame).
    """

    def forward(self, audio: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at_most_one = (masks.sum(dim=-1, keepdim=True) < 2).float()
        clean = (masks * at_most_one).squeeze(0).transpose(0, 1)
        return audio.squeeze(0).repeat(masks.shape[-1], 1), clean
