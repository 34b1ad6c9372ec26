"""Sortformer, written so that it exports: mel frames → who of four speakers is active in each frame of 80 ms.

Park et al. 2024 ("Sortformer") and Medennikov et al. 2025 ("Streaming Sortformer"). A streaming step sees what its
caller has kept of the past: the speaker cache, the fifo, and the chunk, all of fixed size and filled as far as their
lengths say.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from converters.networks.sortformer.conformer import ConformerLayer
from converters.networks.sortformer.counting import counting
from converters.networks.sortformer.layout import SUBSAMPLING, Sizes, halved
from converters.networks.sortformer.preencode import PreEncode
from converters.networks.sortformer.transformer import TransformerLayer

# Added to the scores of frames that are not filled: exp of it is 0 in half precision too, and it is finite there.
UNHEARD = 1e4


class Head(nn.Module):
    """From packed frames to predictions: FastConformer, projection, transformer, two linear layers, sigmoid."""

    linear: type[nn.Linear] = nn.Linear
    conformer_layer: type[ConformerLayer] = ConformerLayer
    transformer_layer: type[TransformerLayer] = TransformerLayer
    places: torch.Tensor  # (frame,)

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        self.scale = math.sqrt(sizes.width) if sizes.scaled else 1.0
        self.conformer = nn.ModuleList(self.conformer_layer(sizes, frames) for _ in range(sizes.conformer_layers))
        self.projection = self.linear(sizes.width, sizes.narrow)
        self.transformer = nn.ModuleList(self.transformer_layer(sizes, frames) for _ in range(sizes.transformer_layers))
        self.hidden = self.linear(sizes.narrow, sizes.narrow)
        self.speakers = self.linear(sizes.narrow, sizes.speakers)
        self.register_buffer("places", counting(frames), persistent=False)

    def forward(self, frames: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Return P(speaker is active) (1, frame, speaker), 0 in frames that are not filled.

        frames   (1, frame, width), the first length (1,) of them filled; the others may hold anything finite
        """
        filled, unheard = self.masks((self.places < length).to(frames.dtype))
        frames = frames * self.scale
        for conformer in self.conformer:
            frames = conformer(frames, filled, unheard)
        frames = self.projection(frames)
        for transformer in self.transformer:
            frames = transformer(frames, unheard)
        return torch.sigmoid(self.speakers(F.relu(self.hidden(F.relu(frames))))) * filled

    def masks(self, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what frames are multiplied by, (frame, 1), and what is added to their scores, (frame,)."""
        return filled.unsqueeze(1), (filled - 1) * UNHEARD


class Streaming(nn.Module):
    """One step: pre-encode the chunk, put it behind what is kept of the past, predict for all of it."""

    places: torch.Tensor  # (frame,)

    def __init__(self, sizes: Sizes, spkcache: int, fifo: int, chunk: int) -> None:
        super().__init__()
        self.pre_encode = PreEncode(sizes, SUBSAMPLING * chunk)
        self.head = Head(sizes, spkcache + fifo + chunk)
        self.register_buffer("places", counting(spkcache + fifo + chunk), persistent=False)

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

        chunk           (1, 8 · frame, mel); spkcache, fifo (1, frame, width): frames of earlier chunks
        …_lengths       (1,) int32, how much of each is filled, from none to all
        """
        frames, filled = self.pre_encode(chunk, chunk_lengths)
        past = spkcache_lengths + fifo_lengths
        index = sources(self.places, spkcache_lengths, past, spkcache.shape[1], fifo.shape[1])
        packed = torch.cat([spkcache, fifo, frames], dim=1).index_select(1, index)
        return self.head(packed, past + filled), frames, filled


def sources(places: torch.Tensor, cached: torch.Tensor, past: torch.Tensor, spkcache: int, fifo: int) -> torch.Tensor:
    """Return for each place (frame,) the row of cache, fifo and chunk, one behind the other, that stands there.

    The gap behind the cached rows is skipped from place `cached` on, that behind the fifo's from `past` on. Behind the
    last filled row any will do.
    """
    behind_cache = (places >= cached).to(torch.int32) * (spkcache - cached)
    behind_fifo = (places >= past).to(torch.int32) * (fifo + cached - past)
    return torch.minimum(places + behind_cache + behind_fifo, places[-1:])


class Offline(nn.Module):
    """A whole window at once, without a past."""

    def __init__(self, sizes: Sizes, frames: int) -> None:
        super().__init__()
        self.pre_encode = PreEncode(sizes, frames)
        self.head = Head(sizes, halved(frames))

    def forward(self, mel: torch.Tensor, mel_length: torch.Tensor) -> torch.Tensor:
        """Return predictions (1, ⌈frame / 8⌉, speaker) of mel (1, mel, frame), of which mel_length (1,) are filled."""
        frames, filled = self.pre_encode(mel.transpose(1, 2), mel_length)
        return self.head(frames, filled)
