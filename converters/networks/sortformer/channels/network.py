"""Sortformer for the Neural Engine: the same network, with frames (1, channel, 1, frame) all the way.

Counts and places are real numbers here, for whole ones would be computed elsewhere: half precision tells them apart up
to MOST_FRAMES. Only the lengths of the mel, which may be larger, are compared as whole numbers, before anything else.
"""

import torch
from torch import nn

from converters.networks.sortformer import network
from converters.networks.sortformer.channels.layers import ConformerLayer, Linear, TransformerLayer
from converters.networks.sortformer.channels.preencode import PreEncode
from converters.networks.sortformer.counting import counting
from converters.networks.sortformer.layout import SUBSAMPLING, Sizes, halved


class Head(network.Head):
    """From packed frames to predictions."""

    linear, conformer_layer, transformer_layer = Linear, ConformerLayer, TransformerLayer

    def forward(self, frames: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Return P(speaker is active) (1, frame, speaker), 0 in frames that are not filled.

        frames   (1, width, 1, frame), the first length (1,) of them filled; the others may hold anything finite
        """
        return super().forward(frames, length).squeeze(2).transpose(1, 2)

    def masks(self, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what frames are multiplied by, (1, 1, 1, frame), and what is added to scores, (1, frame, 1, 1)."""
        return filled.reshape(1, 1, 1, -1), ((filled - 1) * network.UNHEARD).reshape(1, -1, 1, 1)


class Streaming(nn.Module):
    """One step: pre-encode the chunk, put it behind what is kept of the past, predict for all of it."""

    places: torch.Tensor  # (1, 1, frame)
    rows: torch.Tensor  # (1, row, 1)

    def __init__(self, sizes: Sizes, spkcache: int, fifo: int, chunk: int) -> None:
        super().__init__()
        frames = spkcache + fifo + chunk
        self.pre_encode = PreEncode(sizes, SUBSAMPLING * chunk)
        self.head = Head(sizes, frames)
        self.register_buffer("places", counting(frames).float().reshape(1, 1, -1), persistent=False)
        self.register_buffer("rows", counting(frames).float().reshape(1, -1, 1), persistent=False)

    def forward(
        self,
        chunk: torch.Tensor,
        chunk_lengths: torch.Tensor,
        spkcache: torch.Tensor,
        spkcache_lengths: torch.Tensor,
        fifo: torch.Tensor,
        fifo_lengths: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return predictions (1, cache + fifo + chunk frames, speaker), and the chunk's frames with their number.

        chunk           (1, 8 · frame, mel); spkcache, fifo (1, frame, width): frames of earlier chunks. What of them
                        is not filled may hold anything finite
        …_lengths       (1,) int32, how much of each is filled, from none to all
        """
        frames, filled = self.pre_encode(chunk.transpose(1, 2), chunk_lengths)
        embeddings = frames.squeeze(2).transpose(1, 2)  # (1, frame, width)
        cached, queued = spkcache_lengths.to(frames.dtype), fifo_lengths.to(frames.dtype)
        past = cached + queued
        stored = torch.cat([spkcache, fifo, embeddings], dim=1)
        picked = self._picked(spkcache.shape[1] - cached, cached, fifo.shape[1] - queued, past).to(frames.dtype)
        packed = torch.matmul(stored.transpose(1, 2), picked).unsqueeze(2)
        return self.head(packed, past + filled), embeddings, filled.to(torch.int32)

    def _picked(
        self, cache_gap: torch.Tensor, cached: torch.Tensor, fifo_gap: torch.Tensor, past: torch.Tensor
    ) -> torch.Tensor:
        """Return which row of cache, fifo and chunk, one behind the other, stands at each place (1, row, frame).

        The gap behind the cached rows is skipped from place `cached` on, that behind the fifo's from `past` on. Behind
        the last filled row any will do, or none. As ones and zeros it is a matrix that packs by a product.
        """
        behind_cache = (self.places >= cached).to(cached.dtype) * cache_gap
        behind_fifo = (self.places >= past).to(cached.dtype) * fifo_gap
        return self.rows == self.places + behind_cache + behind_fifo


class Offline(nn.Module):
    """A whole window at once, without a past."""

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        self.pre_encode = PreEncode(sizes, frames)
        self.head = Head(sizes, halved(frames))

    def forward(self, mel: torch.Tensor, mel_length: torch.Tensor) -> torch.Tensor:
        """Return predictions (1, ⌈frame / 8⌉, speaker) of mel (1, mel, frame), of which mel_length (1,) are filled."""
        frames, filled = self.pre_encode(mel, mel_length)
        return self.head(frames, filled)
