"""From a window and who speaks in it to the waveforms and masks of an embedding network; it has no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.processors import speech
from converters.networks.processors.layout import SPEAKERS
from converters.networks.wespeaker_layout import MASK_FRAMES, SAMPLES
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.embedding_preprocessor import EmbeddingPreprocessor

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """Nothing to choose: one window of ten seconds and three speakers."""


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the masks."""
    return {"mask_frames": str(MASK_FRAMES), "overlap": "zero where two or more speak"}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the window, and who speaks in each frame of it."""
    return (
        Tensor("audio", ("batch", "channel", "sample"), (1, 1, SAMPLES), "float32", "sample"),
        Tensor("masks", ("batch", "frame", "speaker"), (1, MASK_FRAMES, SPEAKERS), "float32", "0 or 1"),
    )


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the window once for each speaker, and the frames where nobody else speaks."""
    return (
        Tensor("waveforms", ("speaker", "sample"), (SPEAKERS, SAMPLES), "float32", "sample"),
        Tensor("clean_masks", ("speaker", "frame"), (SPEAKERS, MASK_FRAMES), "float32", "0 or 1"),
    )


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "EmbeddingPreprocessor":
    """Return our processor."""
    from converters.networks.processors.embedding_preprocessor import EmbeddingPreprocessor

    return EmbeddingPreprocessor().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the definition: a mask is zero where two or more speak, and the audio is the same for all."""

    def run(arrays: Arrays) -> Arrays:
        [masks] = arrays["masks"]  # (frame, speaker)
        clean = np.where(masks.sum(axis=1) < 2, masks.T, np.float32(0))
        return {"waveforms": np.stack([arrays["audio"].ravel()] * SPEAKERS), "clean_masks": clean}

    return run


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield windows of the recordings with turns that overlap, then masks at their edges over quiet and loud noise.

    The edges: nobody, everybody, one after the other, two at once in every combination, and weights between 0 and 1.
    """
    for name, audio in speech.windows(recordings, thorough):
        yield Example(name, {"audio": audio, "masks": speech.masks(audio, SPEAKERS)})
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 1, SAMPLES)).astype(np.float32)
    quiet = np.float32(1e-6) * noise
    shape = (1, MASK_FRAMES, SPEAKERS)
    everyone = np.arange(2**SPEAKERS)[:, np.newaxis] >> np.arange(SPEAKERS) & 1  # every set of speakers
    sets: np.ndarray = np.resize(everyone, shape).astype(np.float32)
    soft = np.random.default_rng(1).integers(0, 9, shape).astype(np.float32) / 8  # sums are exact, also at two
    nobody, everybody = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    for name, masks in {"nobody": nobody, "everybody": everybody, "sets": sets, "soft": soft}.items():
        yield Example(name, {"audio": quiet if name == "sets" else noise, "masks": masks})
