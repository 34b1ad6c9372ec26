"""FastConformer layers with relative positions, for a number of frames that is fixed.

Gulati et al. 2020 ("Conformer"), Dai et al. 2019 ("Transformer-XL", section 3.3) and Rekesh et al. 2023 ("Fast
Conformer"); tensors are named as in NeMo. What is constant for a number of frames is a constant here: the positions,
projected by each layer.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer.layout import REACH, Sizes


def positions(width: int, frames: int) -> np.ndarray:
    """Return the encoding (2·frames, width) of each distance, from `frames` (the key is earlier) down to 1 − frames.

    Even columns are sin(distance · 10000^(−column/width)), odd ones the cosine of their neighbour's angle. The network
    was trained with angles of hundreds of radians in float32, whose rounding is part of its encoding: so the angles are
    rounded as they were then, and all that follows is float64.
    Source: Vaswani et al. 2017, section 3.5.
    """
    distance = np.arange(frames, -frames, -1, dtype=np.float32)[:, np.newaxis]
    exponent = np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(10000.0) / width)
    angle = (distance * np.exp(exponent.astype(np.float64)).astype(np.float32)).astype(np.float64)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(2 * frames, width)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, inner: int, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.linear1 = linear(width, inner)
        self.linear2 = linear(inner, width)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.linear2(F.silu(self.linear1(frames)))


class RelativeAttention(nn.Module):
    """Attention to what a frame holds and to how far it is away.

    Queries, and the biases that they meet contents and distances with, come divided by √(width / heads).

    The table of distances is that of REACH frames, of which fewer frames take the middle: so programs for different
    numbers of frames have equal weights, which the functions of one model store once.
    """

    linear: type[nn.Linear] = nn.Linear
    slices_constants = True
    distances: torch.Tensor  # (1, head, feature, distance), the encodings of distances as this layer projects them

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        width, self.heads, self.frames = sizes.width, sizes.conformer_heads, frames
        self.head = width // self.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (self.linear(width, width) for _ in range(4))
        self.pos_bias_u = nn.Parameter(torch.empty(self.heads, 1, self.head))
        self.pos_bias_v = nn.Parameter(torch.empty(self.heads, 1, self.head))
        self.reach = max(frames, REACH)
        self.register_buffer("distances", torch.empty(1, self.heads, self.head, 2 * self.reach))

    def forward(self, frames: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        """Return what each of the frames (1, frame, width) hears from the others.

        unheard   (frame,) added to the scores: 0, and for frames that are not filled a large negative number
        """
        query, key, value = (self._heads(linear(frames)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        by_content = torch.matmul(query + self.pos_bias_u, key.transpose(2, 3))  # (1, head, query, key)
        by_distance = self.by_distance(query + self.pos_bias_v)
        weights = torch.softmax(by_content + by_distance + unheard, dim=-1)
        heard = torch.matmul(weights, value).transpose(1, 2)  # (1, frame, head, feature)
        return self.linear_out(heard.reshape(1, self.frames, self.heads * self.head))

    def _heads(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.reshape(1, self.frames, self.heads, self.head).transpose(1, 2)

    def by_distance(self, query: torch.Tensor) -> torch.Tensor:
        """Return what the distance adds to the scores (1, head, query, key) of queries (1, head, query, feature)."""
        near = self.distances[:, :, :, self.reach - self.frames : self.reach + self.frames]
        return self._by_key(torch.matmul(query, near))

    def _by_key(self, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (1, head, query, key) of scores (1, head, query, distance).

        With n frames, key j stands in column n − i + j of row i, of 2n. In one row behind the other, that is element
        n + i·(2n − 1) + j: without the first n elements, and in rows of 2n − 1, it is column j. To take off n elements
        they are one row of n; so no axis is long, as one of all elements would be.
        """
        n = self.frames
        narrow = scores.reshape(1, self.heads, 2 * n, n)[:, :, 1:]
        return narrow.reshape(1, self.heads, n, 2 * n - 1)[:, :, :, :n]


class Convolution(nn.Module):
    """A gate, a convolution over time for each channel, and a mix of the channels.

    The batch normalisation that follows the convolution is part of its weights.
    """

    linear: type[nn.Linear] = nn.Linear

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.pointwise_conv1 = self.linear(width, 2 * width)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.pointwise_conv2 = self.linear(width, width)

    def forward(self, frames: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
        gated = F.glu(self.pointwise_conv1(frames), dim=-1) * filled
        return self.pointwise_conv2(F.silu(self.depthwise_conv(gated.transpose(1, 2))).transpose(1, 2))


class ConformerLayer(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half; the halves are part of `linear2`."""

    linear: type[nn.Linear] = nn.Linear
    norm: type[nn.LayerNorm] = nn.LayerNorm
    attention: type[RelativeAttention] = RelativeAttention
    convolution: type[Convolution] = Convolution

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        width = sizes.width
        self.norm_feed_forward1, self.norm_self_att, self.norm_conv, self.norm_feed_forward2, self.norm_out = (
            self.norm(width) for _ in range(5)
        )
        self.feed_forward1 = FeedForward(width, sizes.inner, self.linear)
        self.self_attn = self.attention(sizes, frames)
        self.conv = self.convolution(width, sizes.kernel)
        self.feed_forward2 = FeedForward(width, sizes.inner, self.linear)

    def forward(self, frames: torch.Tensor, filled: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        """Return frames (1, frame, width); filled (frame, 1) is 1 or 0, `unheard` as in RelativeAttention."""
        frames = frames + self.feed_forward1(self.norm_feed_forward1(frames))
        frames = frames + self.self_attn(self.norm_self_att(frames), unheard)
        frames = frames + self.conv(self.norm_conv(frames), filled)
        frames = frames + self.feed_forward2(self.norm_feed_forward2(frames))
        return self.norm_out(frames)
