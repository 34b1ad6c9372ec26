"""Features cut into the chunks that a streaming network hears, with context on either side."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from diarization.streaming.state import StreamingParameters


@dataclass(frozen=True)
class Chunk:
    """What one call hears.

    features      (feature frame, mel)
    left, right   frames of context in it, before and after; a frame is `subsampling_factor` feature frames, and at the
                  end of a recording the last may be less
    """

    features: np.ndarray
    left: int
    right: int

    @property
    def inside(self) -> slice:
        """Which of its frames are to be decided, the others being context."""
        return slice(self.left, -self.right or None)


def chunks(blocks: Iterable[np.ndarray], parameters: StreamingParameters) -> Iterator[Chunk]:
    """Yield the chunks of a recording as soon as their context has come in.

    blocks    the features (feature frame, mel) in pieces of any length; no more of them is kept than a chunk and the
              piece that completes it

    Every chunk but the last decides `chunk_len` frames. Context is cut off where the recording begins and ends.
    Source: NeMo 3.0, `SortformerModules.streaming_feat_loader`.
    """
    factor = parameters.subsampling_factor
    size, before, after = (
        frames * factor
        for frames in (parameters.chunk_len, parameters.chunk_left_context, parameters.chunk_right_context)
    )
    heard, left = None, 0
    for block in blocks:
        heard = block if heard is None else np.concatenate([heard, block])
        while len(heard) >= left + size + after:
            yield Chunk(heard[: left + size + after], left // factor, parameters.chunk_right_context)
            heard, left = _advanced(heard, left + size, before)
    while heard is not None and len(heard) > left:
        end = min(left + size, len(heard))
        hearing = heard[: end + after]
        yield Chunk(hearing, left // factor, -(-(len(hearing) - end) // factor))
        heard, left = _advanced(heard, end, before)


def _advanced(heard: np.ndarray, end: int, before: int) -> tuple[np.ndarray, int]:
    """Return the features from the next chunk's left context on, and how long that context is."""
    left = min(before, end)
    return heard[end - left :], left
