"""From the log probabilities of a segmentation network to who speaks when; it has no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.processors import speech
from converters.networks.processors.layout import CLASSES, SPEAKERS
from converters.networks.processors.sizes import Size, axis, checked_size, lengths
from converters.networks.wespeaker_layout import MASK_FRAMES
from diarization.powerset import powerset_to_speakers
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.segmentation_postprocessor import SegmentationPostprocessor

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """What a variant may choose.

    batch   windows per call: a number, or the least and the most where the caller chooses
    """

    batch: Size = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", checked_size("batch", self.batch))


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the masks."""
    return {"frames": str(MASK_FRAMES), "ties": "the first of the likeliest classes"}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one input: what the segmentation network puts out."""
    shape = (axis(form.batch), MASK_FRAMES, CLASSES)
    return (Tensor("segments", ("batch", "frame", "class"), shape, "float32", "log probability"),)


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: who speaks in each frame, float32, 0 or 1, for Core ML passes on no booleans."""
    shape = (axis(form.batch), MASK_FRAMES, SPEAKERS)
    return (Tensor("masks", ("batch", "frame", "speaker"), shape, "float32", "0 or 1"),)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "SegmentationPostprocessor":
    """Return our processor."""
    from converters.networks.processors.segmentation_postprocessor import SegmentationPostprocessor

    return SegmentationPostprocessor().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the definition: the speakers of the first likeliest class."""
    return lambda arrays: {"masks": powerset_to_speakers(arrays["segments"]).astype(np.float32)}


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield log probabilities that move with the recordings, then the edges: classes that are certain, and that tie.

    A batch holds the same window over and over, each row rolled by one frame more.
    """
    cases = {name: speech.log_probabilities(audio) for name, audio in speech.windows(recordings, thorough)}
    for name, window in (cases | _edges()).items():
        for batch in lengths(form.batch):
            rows = np.concatenate([np.roll(window, row, axis=1) for row in range(batch)])
            yield Example(f"{name}_{batch}", {"segments": rows})


def _edges() -> dict[str, np.ndarray]:
    """Return windows (1, frame, class) where classes tie, or where one is all there is."""
    frame = np.arange(MASK_FRAMES)
    shape = (1, MASK_FRAMES, CLASSES)
    silence = np.full(shape, -20, np.float32)
    silence[..., 0] = 0
    sets = np.full(shape, -np.inf, np.float32)  # one class after the other, certain
    sets[0, frame, frame % CLASSES] = 0
    pairs = np.full(shape, -5, np.float32)  # every two classes are equally likely in some frame
    pairs[0, frame, frame % CLASSES] = pairs[0, frame, frame // CLASSES % CLASSES] = -0.7
    ends = np.full(shape, -3, np.float32)
    ends[0, :, [0, -1]] = np.nextafter(np.float32(-3), np.float32(0))  # by the last digit of single precision
    return {"silence": silence, "certain": sets, "pairs": pairs, "digit": ends, "all": np.full(shape, -2, np.float32)}
