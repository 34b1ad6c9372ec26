"""Eight mel frames become one frame of the network: NeMo's depthwise-striding subsampling."""

import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer.counting import count, counting
from converters.networks.sortformer.layout import STRIDES, Sizes, halved


class PreEncode(nn.Module):
    """Three convolutions that halve time and frequency, then one over all frequencies.

    Frames behind the end are silenced before each convolution that looks at neighbours, so that an output depends on
    nothing but the signal. The last layer is linear over channels and frequencies; as a convolution it needs no
    reshaping, and the pre-encode holds nothing but convolutions.
    """

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        channels = sizes.channels
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels) for _ in range(STRIDES - 1)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(STRIDES - 1))
        self.out = nn.Conv2d(channels, sizes.width, (1, halved(sizes.mels)))
        for stage in range(STRIDES + 1):
            self.register_buffer(f"start_{stage}", _starts(frames, stage), persistent=False)

    def forward(self, mel: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (1, ⌈mel frame / 8⌉, width) of mel (1, mel frame, mel), and how many of them are filled.

        length   (1,) int32, how many mel frames are filled
        """
        signal = F.relu(self.first(self._filled(mel.unsqueeze(1), length, 0)))  # (1, channel, frame, frequency)
        for stage, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise, strict=True), start=1):
            signal = F.relu(pointwise(depthwise(self._filled(signal, length, stage))))
        frames = self.out(self._filled(signal, length, STRIDES))  # (1, width, frame, 1)
        return frames.squeeze(3).transpose(1, 2), count(self._is_filled(length, STRIDES))

    def _filled(self, signal: torch.Tensor, length: torch.Tensor, stage: int) -> torch.Tensor:
        return signal * self._is_filled(length, stage).to(signal.dtype)

    def _is_filled(self, length: torch.Tensor, stage: int) -> torch.Tensor:
        return getattr(self, f"start_{stage}") < length


def _starts(frames: int, stage: int) -> torch.Tensor:
    """Return the first mel frame that each frame of a stage stands for: if that is filled, so is the frame.

    returns   (1, 1, frame, 1) int32
    """
    return (counting(halved(frames, stage)) * 2**stage).reshape(1, 1, -1, 1)
