"""Ten seconds of audio cut into the frames of a filter bank; it has no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.networks.processors import speech
from converters.networks.wespeaker_layout import FBANK_FRAMES, FRAME_SAMPLES, HOP_SAMPLES, RATE_HZ, SAMPLES
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.frame_extractor import FrameExtractor

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """Nothing to choose: ten seconds, frames of 25 ms, 10 ms apart, in single precision."""


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the frames."""
    return {
        "sample_rate_hz": str(RATE_HZ),
        "frame_s": f"{FRAME_SAMPLES / RATE_HZ:g}",
        "hop_s": f"{HOP_SAMPLES / RATE_HZ:g}",
    }


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one input: a window of mono audio at 16 kHz."""
    return (Tensor("audio", ("batch", "sample"), (1, SAMPLES), "float32", "sample"),)


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: the frames that lie wholly in the window."""
    return (Tensor("frames", ("frame", "sample"), (FBANK_FRAMES, FRAME_SAMPLES), "float32", "sample"),)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "FrameExtractor":
    """Return our processor."""
    from converters.networks.processors.frame_extractor import FrameExtractor

    return FrameExtractor().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the definition: frame i is samples 160·i to 160·i + 399."""

    def run(arrays: Arrays) -> Arrays:
        [samples] = arrays["audio"]
        starts = range(0, len(samples) - FRAME_SAMPLES + 1, HOP_SAMPLES)
        return {"frames": np.stack([samples[start : start + FRAME_SAMPLES] for start in starts])}

    return run


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield windows of the recordings, then a ramp in which no two samples are equal, full scale, and silence."""
    for name, audio in speech.windows(recordings, thorough):
        yield Example(name, {"audio": audio[0]})
    ramp = np.arange(1, SAMPLES + 1, dtype=np.float32) / np.float32(2**18)
    square = np.where(np.arange(SAMPLES) % 7 < 3, np.float32(1), np.float32(-1))
    for name, samples in (("ramp", ramp), ("full_scale", square), ("silence", np.zeros(SAMPLES, np.float32))):
        yield Example(name, {"audio": samples[np.newaxis]})
