"""The pre-encode over (mel, mel frame): what comes out has its frames last."""

import torch
from torch import nn

from converters.networks.sortformer import preencode
from converters.networks.sortformer.layout import STRIDES, Sizes


class _Turned(nn.Conv2d):
    """A convolution whose kernels, trained for (frame, frequency), go over (frequency, frame)."""

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(signal, self.weight.transpose(2, 3), self.bias)


class PreEncode(preencode.PreEncode):
    """Three convolutions that halve time and frequency, then one over all frequencies."""

    convolution = _Turned

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__(sizes, frames)
        self.places = self.places.transpose(2, 3)

    def forward(self, mel: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (1, width, 1, ⌈mel frame / 8⌉) of mel (1, mel, mel frame), and how many are filled (1,).

        length   (1,) int32, how many mel frames are filled
        """
        filled = (self.places < length).to(mel.dtype)
        stages = [filled[:, :, :, :: 2**stage] for stage in range(STRIDES + 1)]
        return self.encoded(mel.unsqueeze(1), stages), stages[-1].reshape(-1).sum(dim=0, keepdim=True)
