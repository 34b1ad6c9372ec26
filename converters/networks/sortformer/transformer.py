"""Transformer layers that normalise behind each part (Vaswani et al. 2017), for a number of frames that is fixed."""

import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer.layout import Sizes


class Attention(nn.Module):
    """Attention among all frames; queries come divided by √(width / heads)."""

    linear: type[nn.Linear] = nn.Linear

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        width, self.heads, self.frames = sizes.narrow, sizes.transformer_heads, frames
        self.head = width // self.heads
        self.query_net, self.key_net, self.value_net, self.out_projection = (
            self.linear(width, width) for _ in range(4)
        )

    def forward(self, frames: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        query, key, value = (self._heads(net(frames)) for net in (self.query_net, self.key_net, self.value_net))
        weights = torch.softmax(torch.matmul(query, key.transpose(2, 3)) + unheard, dim=-1)
        heard = torch.matmul(weights, value).transpose(1, 2)  # (1, frame, head, feature)
        return self.out_projection(heard.reshape(1, self.frames, self.heads * self.head))

    def _heads(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.reshape(1, self.frames, self.heads, self.head).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, inner: int, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.dense_in = linear(width, inner)
        self.dense_out = linear(inner, width)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.dense_out(F.relu(self.dense_in(frames)))


class TransformerLayer(nn.Module):
    """Attention and a feed-forward layer, each added to what came in, and normalised."""

    linear: type[nn.Linear] = nn.Linear
    norm: type[nn.LayerNorm] = nn.LayerNorm
    attention: type[Attention] = Attention

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        self.first_sub_layer = self.attention(sizes, frames)
        self.layer_norm_1 = self.norm(sizes.narrow)
        self.second_sub_layer = FeedForward(sizes.narrow, sizes.narrow_inner, self.linear)
        self.layer_norm_2 = self.norm(sizes.narrow)

    def forward(self, frames: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        """Return frames (1, frame, width); unheard (frame,) is added to the scores of each frame."""
        frames = self.layer_norm_1(frames + self.first_sub_layer(frames, unheard))
        return self.layer_norm_2(frames + self.second_sub_layer(frames))
