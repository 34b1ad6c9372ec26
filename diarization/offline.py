"""Who spoke when in a recording: a segmentation network is slid over it, and voices are compared where they are known.

windows -> segmentation -> local speakers -> [embeddings -> clustering] or linking -> reconstruction -> turns
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from diarization.audio_stream import Window, windows
from diarization.clustering import Clustering, clustered
from diarization.linking import linked
from diarization.local import LocalSpeakers, local_speakers, until
from diarization.reconstruction import reconstructed
from diarization.turns import Shaping, Turn, turns
from pipeline.types import Arrays, Runner

RATE_HZ = 16000
# The front end of PyanNet moves 10 samples at a time and is pooled by 3, three times over. Source: SincNet and
# pyannote.audio's `PyanNet`, `sincnet_stride` 10.
STEP = 270
FRAME_S = STEP / RATE_HZ
LEAST_CLEAN_FRAMES = 8  # of a speaker alone, below which overlapped speech is used as well


@dataclass(frozen=True)
class Segmenter:
    """A segmentation network: `audio` (batch, 1, window) in, `segments` (batch, frame, class) out, log probabilities.

    A network of batch one may put out `embeddings` (speaker, dimension) too, and then needs no embedder.

    window   samples
    batch    how many windows one call takes, exactly
    """

    runner: Runner
    window: int
    batch: int = 1


@dataclass(frozen=True)
class Embedder:
    """An embedding network: `audio` (1, 1, window) and `masks` (speaker, frame) in, `embeddings` (speaker, ·) out."""

    runner: Runner


@dataclass(frozen=True)
class Options:
    """How a recording is diarized.

    hop_s   seconds from one window to the next
    """

    hop_s: float = 1.0
    clustering: Clustering = field(default_factory=Clustering)
    shaping: Shaping = field(default_factory=Shaping)


Progress = Callable[[float], None]  # how many seconds have been heard


def diarized(
    blocks: Iterable[np.ndarray],
    segmenter: Segmenter,
    embedder: Embedder | None,
    options: Options,
    progress: Progress = lambda seconds: None,
) -> list[Turn]:
    """Return who speaks when in a recording, given as blocks of samples (sample,) at RATE_HZ.

    What is kept of a window is its activity and its embeddings: a hundredth of its audio.
    """
    heard = _Heard(blocks)
    hop = round(options.hop_s * RATE_HZ)
    found: list[LocalSpeakers] = []
    voices: list[np.ndarray] = []
    for window, outputs in segmented(windows(heard, segmenter.window, hop), segmenter):
        local = local_speakers(round(window.start / STEP), outputs["segments"])
        if embedder:
            outputs |= embedder.runner(_embedder_inputs(window, local))
        if "embeddings" in outputs:
            spoke = local.active.any(axis=0)  # (speaker,)
            voices.append(np.where(spoke[:, np.newaxis], outputs["embeddings"], np.nan))  # type: ignore[index]
        found.append(local)
        progress(min(heard.samples, window.start + segmenter.window) / RATE_HZ)
    found = [until(local, -(-heard.samples // STEP)) for local in found]
    labels = clustered(found, np.stack(voices), options.clustering) if voices else linked(found)
    return turns(reconstructed(found, labels), FRAME_S, options.shaping)


class _Heard:
    """Blocks, and how many samples they were."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks = iter(blocks)
        self.samples = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        block = next(self._blocks)
        self.samples += len(block)
        return block


def segmented(found: Iterator[Window], segmenter: Segmenter) -> Iterator[tuple[Window, Arrays]]:
    """Yield every window with the outputs for it; a last batch is filled with silence."""
    while batch := list(islice(found, segmenter.batch)):
        audio = np.zeros((segmenter.batch, 1, segmenter.window), np.float32)
        for row, window in zip(audio, batch, strict=False):
            row[0] = window.samples
        outputs = segmenter.runner({"audio": audio})
        segments = outputs.pop("segments")
        for window, log_probs in zip(batch, segments, strict=False):
            yield window, {"segments": log_probs, **outputs}


def _embedder_inputs(window: Window, local: LocalSpeakers) -> Arrays:
    return {"audio": window.samples[np.newaxis, np.newaxis], "masks": masks(local).astype(np.float32)}


def masks(local: LocalSpeakers) -> np.ndarray:
    """Return the frames that tell a speaker's voice (speaker, frame): where nobody else speaks, if they are enough."""
    enough = local.alone.sum(axis=0) >= LEAST_CLEAN_FRAMES
    return np.where(enough, local.alone, local.active).T


def from_windows(log_probs: Sequence[tuple[float, np.ndarray]], length_s: float, shaping: Shaping) -> list[Turn]:
    """Return who speaks when from windows that were run before: the start of each in seconds, and (frame, class)."""
    end = -(-round(length_s * RATE_HZ) // STEP)
    found = [until(local_speakers(round(start_s / FRAME_S), values), end) for start_s, values in log_probs]
    return turns(reconstructed(found, linked(found)), FRAME_S, shaping)
