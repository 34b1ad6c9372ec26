"""Eight mel frames become one frame of the network: NeMo's depthwise-striding subsampling."""

from collections.abc import Sequence

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

    convolution: type[nn.Conv2d] = nn.Conv2d
    places: torch.Tensor  # (1, 1, mel frame, 1)

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        channels, convolution = sizes.channels, self.convolution
        self.first = convolution(1, channels, 3, stride=2, padding=1)
        self.depthwise = nn.ModuleList(
            convolution(channels, channels, 3, stride=2, padding=1, groups=channels) for _ in range(STRIDES - 1)
        )
        self.pointwise = nn.ModuleList(convolution(channels, channels, 1) for _ in range(STRIDES - 1))
        self.out = convolution(channels, sizes.width, (1, halved(sizes.mels)))
        self.register_buffer("places", counting(frames).reshape(1, 1, -1, 1), persistent=False)

    def forward(self, mel: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames (1, ⌈mel frame / 8⌉, width) of mel (1, mel frame, mel), and how many of them are filled.

        length   (1,) int32, how many mel frames are filled
        """
        filled = (self.places < length).to(mel.dtype)
        stages = [filled[:, :, :: 2**stage] for stage in range(STRIDES + 1)]
        frames = self.encoded(mel.unsqueeze(1), stages)  # (1, width, frame, 1)
        return frames.squeeze(3).transpose(1, 2), count(stages[-1])

    def encoded(self, signal: torch.Tensor, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what the convolutions make of a signal (1, 1, mel frame, mel), with an axis of one for its mel.

        stages   which frames are filled, 1 or 0, before each convolution and behind the last that halves: a frame is
                 if the first mel frame that it stands for is
        """
        signal = F.relu(self.first(signal * stages[0]))  # (1, channel, frame, frequency)
        for depthwise, pointwise, filled in zip(self.depthwise, self.pointwise, stages[1:-1], strict=True):
            signal = F.relu(pointwise(depthwise(signal * filled)))
        return self.out(signal * stages[-1])
