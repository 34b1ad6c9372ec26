"""The layers of Sortformer for frames (1, channel, 1, frame), as the Neural Engine lays them out.

What is trained is held as in the other layout, module by module and name by name: the shapes that convolutions want
are made when a program is. Every tensor has four axes, the frames last; scores are kept one head at a time.
Source: Apple, "Deploying Transformers on the Apple Neural Engine", 2022.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer import conformer, transformer

# Stands for a gain of zero, by which biases cannot be divided.
_NEXT_TO_NOTHING = 1e-20
# The one equation that Core ML has, matrices of the axes 1 and 3: none of its operands is turned.
_PRODUCT = "nchw,nwhu->nchu"


class Linear(nn.Linear):
    """A linear layer over channels, which is a convolution of one frame."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return F.conv2d(frames, self.weight.reshape(*self.weight.shape, 1, 1), self.bias)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over channels, in the order of operations that coremltools takes for one.

    Source: Apple's ml-ane-transformers, where the bias comes before the gain.
    """

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        centred = frames - frames.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        gain = torch.where(self.weight == 0, _NEXT_TO_NOTHING, self.weight)
        return (centred * (variance + self.eps).rsqrt() + _column(self.bias / gain)) * _column(gain)


class RelativeAttention(conformer.RelativeAttention):
    """Attention to what a frame holds and to how far it is away."""

    linear = Linear

    def forward(self, frames: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        """Return what each of the frames (1, width, 1, frame) hears from the others.

        unheard   (1, frame, 1, 1) added to the scores: 0, and for frames that are not filled a large negative number
        """
        query, key, value = (linear(frames) for linear in (self.linear_q, self.linear_k, self.linear_v))
        far = (query + _column(self.pos_bias_v)).reshape(1, self.heads, self.head, self.frames)
        by_distance = self.by_distance(far.transpose(2, 3)).permute(0, 3, 1, 2) + unheard  # (1, key, head, query)
        added = by_distance.split(1, dim=2)
        return self.linear_out(heard(query + _column(self.pos_bias_u), key, value, added, self.head))


class Attention(transformer.Attention):
    """Attention among all frames."""

    linear = Linear

    def forward(self, frames: torch.Tensor, unheard: torch.Tensor) -> torch.Tensor:
        query, key, value = (net(frames) for net in (self.query_net, self.key_net, self.value_net))
        return self.out_projection(heard(query, key, value, [unheard] * self.heads, self.head))


def heard(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, added: Sequence[torch.Tensor], feature: int
) -> torch.Tensor:
    """Return what each frame hears (1, width, 1, frame), head by head.

    query, key, value   (1, width, 1, frame), the features of each head behind those of the one before
    added               for each head, what is added to its scores (1, key, 1, query)
    feature             how many features a head has
    """
    queries, values = query.split(feature, dim=1), value.split(feature, dim=1)
    keys = key.transpose(1, 3).split(feature, dim=3)  # (1, key, 1, feature)
    parts = []
    for head, plus in enumerate(added):
        scores = torch.einsum(_PRODUCT, keys[head], queries[head]) + plus
        parts.append(torch.einsum(_PRODUCT, values[head], torch.softmax(scores, dim=1)))
    return torch.cat(parts, dim=1)


class Convolution(conformer.Convolution):
    """A gate, a convolution over time for each channel, and a mix of the channels."""

    linear = Linear

    def forward(self, frames: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
        gated = F.glu(self.pointwise_conv1(frames), dim=1) * filled
        over_time = self.depthwise_conv
        kernels, padding = over_time.weight.unsqueeze(2), (0, over_time.kernel_size[0] // 2)
        convolved = F.conv2d(gated, kernels, over_time.bias, padding=padding, groups=over_time.groups)
        return self.pointwise_conv2(F.silu(convolved))


class ConformerLayer(conformer.ConformerLayer):
    """Half a feed-forward layer, attention, convolution, the other half."""

    linear, norm, attention, convolution = Linear, LayerNorm, RelativeAttention, Convolution


class TransformerLayer(transformer.TransformerLayer):
    """Attention and a feed-forward layer, each added to what came in, and normalised."""

    linear, norm, attention = Linear, LayerNorm, Attention


def _column(vector: torch.Tensor) -> torch.Tensor:
    """Return numbers of channels (…) as (1, channel, 1, 1)."""
    return vector.reshape(1, -1, 1, 1)
