"""Kaldi's log-mel filter bank by itself, for apps that keep it apart from the embedding; it has no weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters.models import wespeaker
from converters.networks.wespeaker_layout import FRAME_SAMPLES, HOP_SAMPLES, MEL_BANDS, RATE_HZ, SAMPLES
from pipeline.types import Arrays, Example, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.fbank import FBank

FILES: tuple[tuple[str, ...], ...] = ((),)


@dataclass(frozen=True)
class Form:
    """Nothing to choose: ten seconds in single precision, as WeSpeaker was trained on."""


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the features."""
    frame = {"frame_s": f"{FRAME_SAMPLES / RATE_HZ:g}", "hop_s": f"{HOP_SAMPLES / RATE_HZ:g}"}
    return {"sample_rate_hz": str(RATE_HZ), "window_s": f"{SAMPLES / RATE_HZ:g}", "bands": str(MEL_BANDS)} | frame


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one input: a window of mono audio at 16 kHz."""
    return wespeaker.inputs(wespeaker.Form("encoder"))


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: for each band and frame the natural log of the power, without the band's mean."""
    features, _ = wespeaker.inputs(wespeaker.Form("fbank"))
    return (features,)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return no tensors: there are none to train."""
    return {}


def synthetic(seed: int) -> Arrays:
    """Return no tensors: there are none to stand in for."""
    return {}


def load(state: Arrays, form: Form) -> "FBank":
    """Return our filter bank."""
    from converters.networks.fbank import FBank

    return FBank().eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return the features of pyannote.audio's own WeSpeaker, made by torchaudio's port of Kaldi.

    Raises ImportError where these are not installed.
    """
    import torch

    from converters.upstream import pyannote_wespeaker

    upstream = pyannote_wespeaker()().eval()

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            features = upstream.compute_fbank(torch.from_numpy(arrays["audio"]))  # (batch, frame, band)
            return {"fbank_features": features.transpose(1, 2).unsqueeze(1).numpy()}

    return run


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield windows of the recordings, as WeSpeaker is shown them; then silence, and a tone at full scale."""
    yield from wespeaker.examples(wespeaker.Form("encoder"), recordings, thorough)
    # Eight samples make one period of 2 kHz, so its samples need no sine.
    tone = np.tile(np.array([0, 0.5, 1, 0.5, 0, -0.5, -1, -0.5], np.float32), SAMPLES // 8)
    for name, samples in (("silence", np.zeros(SAMPLES, np.float32)), ("tone", tone)):
        yield Example(name, {"audio": samples[np.newaxis, np.newaxis]})
