"""pyannote segmentation: who speaks when within one window, as log probabilities of sets of speakers.

Covers every PyanNet whose last layer is a log-softmax over speaker sets (pyannote/segmentation-3.0, community-1, and
what is fine-tuned from them). A network trained to end in sigmoids is none of these, and its tensors do not show it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from converters.checkpoint import check_tensors, read_tensors
from converters.networks.pyannet_layout import (
    CONSTANTS,
    LOW_HZ,
    RATE_HZ,
    Sizes,
    frame_count,
    parameter_shapes,
    sizes_of,
)
from diarization.audio import resampled
from pipeline.types import Arrays, Example, QuernError, Range, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.pyannet import PyanNet


FILES = (("model.safetensors",), ("pytorch_model.bin",))

_DTYPES = {"fp32": "float32", "fp16": "float16"}


@dataclass(frozen=True)
class Form:
    """What a variant may choose about the network's shape.

    batch      windows per call: a number, or the least and the most where the caller chooses
    window_s   length of the window; a whole number of samples at 16 kHz
    io         type of the audio and of the log probabilities
    classes    how many speaker sets the checkpoint was trained to tell apart
    """

    batch: int | tuple[int, int] = 1
    window_s: float = 10.0
    io: Literal["fp32", "fp16"] = "fp32"
    classes: int = 7

    def __post_init__(self) -> None:
        if isinstance(self.batch, list):  # a pair, as YAML has it
            object.__setattr__(self, "batch", tuple(self.batch))
        _check_batch(self.batch)
        _check_window(self.window_s)
        if self.io not in _DTYPES:
            raise ValueError(f"io: {self.io!r}; expected one of {', '.join(_DTYPES)}")
        if type(self.classes) is not int or self.classes < 2:
            raise ValueError(f"classes: {self.classes!r}; expected a whole number from 2 on")

    @property
    def samples(self) -> int:
        return round(self.window_s * RATE_HZ)

    @property
    def batch_bounds(self) -> tuple[int, int]:
        """The least and the most windows in one call."""
        return self.batch if isinstance(self.batch, tuple) else (self.batch, self.batch)


def _check_batch(batch: Any) -> None:
    bounds = batch if isinstance(batch, tuple) else (batch,)
    if not all(type(bound) is int and bound >= 1 for bound in bounds):
        raise ValueError(f"batch: {batch!r}; expected a whole number from 1 on, or two of them")
    if isinstance(batch, tuple) and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"batch: {list(batch)!r}; expected two numbers, the lower one first")


def _check_window(window_s: Any) -> None:
    if isinstance(window_s, bool) or not isinstance(window_s, int | float) or not math.isfinite(window_s):
        raise ValueError(f"window_s: {window_s!r}; expected a number of seconds")
    samples = window_s * RATE_HZ
    if abs(samples - round(samples)) > 1e-6:
        raise ValueError(f"window_s: {window_s!r} s are {samples} samples at {RATE_HZ} Hz; expected a whole number")
    if frame_count(round(samples)) < 2:  # normalisation over the window's frames needs two
        raise ValueError(f"window_s: {window_s!r}; too short for two frames")


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the window."""
    return {"sample_rate_hz": str(RATE_HZ), "window_s": f"{form.window_s:g}", "frames": str(frame_count(form.samples))}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one input: windows of mono audio at 16 kHz."""
    return (
        Tensor("audio", ("batch", "channel", "sample"), (_batch(form), 1, form.samples), _DTYPES[form.io], "sample"),
    )


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: for each frame the natural log of the probability of each speaker set."""
    shape = (_batch(form), frame_count(form.samples), form.classes)
    return (Tensor("segments", ("batch", "frame", "class"), shape, _DTYPES[form.io], "log probability"),)


def _batch(form: Form) -> int | Range:
    return Range(*form.batch) if isinstance(form.batch, tuple) else form.batch


def read(files: Mapping[str, Path]) -> Arrays:
    """Return the trained tensors of a checkpoint, float32, named as in pyannote.audio.

    Raises QuernError for a file that is not a PyanNet's, one sentence with what is missing, too many or misshapen.
    """
    (path,) = files.values()
    found = read_tensors(path)
    sizes = sizes_of({name: tensor.shape for name, tensor in found.items()})
    constants = {name: shape for name, shape in CONSTANTS.items() if name in found}
    check_tensors(found, parameter_shapes(sizes) | constants, str(path))
    highest_hz = np.abs(found[LOW_HZ]).max()
    if highest_hz >= RATE_HZ / 2 - 50:
        raise QuernError(
            f"{path}: {LOW_HZ}: a band from {highest_hz:.0f} Hz on, where the signal ends at {RATE_HZ // 2}"
        )
    return {name: tensor.astype(np.float32) for name, tensor in found.items() if name not in constants}


def load(state: Arrays, form: Form) -> "PyanNet":
    """Return our network with these tensors; raises QuernError if it tells other classes apart than the form says."""
    from converters.networks.pyannet import pyannet

    _check_classes(state, form)
    return pyannet(state)


def _check_classes(state: Arrays, form: Form) -> None:
    classes = len(state["classifier.bias"])
    if classes != form.classes:
        raise QuernError(
            f"form.classes: the variant declares {form.classes} and the checkpoint has {classes}; "
            f"declare classes: {classes}"
        )


def reference(state: Arrays, form: Form) -> Runner:
    """Return pyannote.audio's own PyanNet with these tensors; raises ImportError where it is not installed."""
    import torch

    from converters.upstream import pyannote_segmentation

    _check_classes(state, form)
    upstream, task = pyannote_segmentation()
    sizes = sizes_of({name: tensor.shape for name, tensor in state.items()})
    network = upstream(
        sincnet={"stride": 10},
        lstm={
            "hidden_size": sizes.lstm_hidden,
            "num_layers": sizes.lstm_layers,
            "bidirectional": sizes.bidirectional,
        },
        linear={"hidden_size": sizes.linear_hidden, "num_layers": sizes.linear_layers},
    )
    # One label of many in each frame: the problem for which upstream ends the network in a log-softmax.
    network.specifications = task.Specifications(
        problem=task.Problem.MONO_LABEL_CLASSIFICATION,
        resolution=task.Resolution.FRAME,
        duration=form.window_s,
        classes=[str(i) for i in range(sizes.classes)],
    )
    network.build()
    # The buffers that a state may lack follow from the architecture, and the network has made them itself.
    network.load_state_dict(network.state_dict() | {name: torch.tensor(tensor) for name, tensor in state.items()})
    network.eval()

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            audio = torch.from_numpy(arrays["audio"].astype(np.float32))
            return {"segments": network(audio).numpy()}

    return run


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield windows of the recordings, one second apart, or a quarter of one if `thorough`, as full batches.

    An example of one window is named "sample@3s"; one of several has the names of its rows, joined by ",". The windows
    of all recordings follow each other through the batches; where they run out, the last batch is filled with the
    first windows once more. A range of batch sizes starts with the least and doubles up to the most.
    A recording shorter than a window is one window, with silence at its end.
    """
    windows = _windows(form, recordings, RATE_HZ // 4 if thorough else RATE_HZ)
    first: list[tuple[str, np.ndarray]] = []
    for size in _batch_sizes(form):
        rows = list(islice(windows, size))
        if not rows:
            return
        first += rows[: form.batch_bounds[0] - len(first)]
        while len(rows) < form.batch_bounds[0]:
            rows += first[: form.batch_bounds[0] - len(rows)]
        names, samples = zip(*rows, strict=True)
        yield Example(",".join(names), {"audio": np.stack(samples)[:, np.newaxis].astype(_DTYPES[form.io])})


def _batch_sizes(form: Form) -> Iterator[int]:
    low, high = form.batch_bounds
    size = low
    while True:
        yield size
        size = min(2 * size, high)


def _windows(form: Form, recordings: Sequence[Recording], hop: int) -> Iterator[tuple[str, np.ndarray]]:
    for recording in recordings:
        samples = resampled(recording.samples, recording.rate_hz, RATE_HZ)
        samples = np.pad(samples, (0, max(0, form.samples - len(samples))))
        for start in range(0, len(samples) - form.samples + 1, hop):
            yield f"{recording.name}@{start / RATE_HZ:g}s", samples[start : start + form.samples]


def synthetic(seed: int) -> Arrays:
    """Return a seeded stand-in for the trained tensors of segmentation-3.0, the same bytes on every machine.

    It is decisive: on speech each class wins some frames, by margins of all sizes, so that comparing two versions of it
    tells them apart. Two properties see to that, for any seed. Every layer weighs the difference of neighbouring
    features, so what they have in common cannot drown what changes in time; and the gains below are large enough to
    drive the LSTMs' gates and small enough that an error does not grow from layer to layer.
    """
    generator = np.random.default_rng(seed)
    return {name: _tensor(generator, name, shape) for name, shape in parameter_shapes(Sizes()).items()}


# Gains of the stand-in, powers of two so that scaling is exact. Found by trying some twenty settings on five recordings
# of speech: with these every class wins more than 1 % of the frames, the median margin of the best log probability is
# above 1, and a program in fp16 keeps 99 % of the frames. The tests measure the first two again.
_GAINS = {
    "sincnet.conv1d": 2.0**-2,
    "lstm.weight_ih_l0": 2.0**-1,
    "lstm.weight_ih": 2.0**-2,
    "linear": 2.0**-1,
    "classifier": 2.0**0,
}
_RECURRENT_GAIN = 2.0**-3
_BIAS_GAIN = 2.0**-3


def _tensor(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "filterbank" in name or "norm1d" in name:
        return _front_end(generator, name, shape)
    if "weight_hh" in name:
        return _uniform(generator, shape, _RECURRENT_GAIN)
    if "bias" in name:
        return _uniform(generator, shape, _BIAS_GAIN)
    gain = next(gain for prefix, gain in _GAINS.items() if name.startswith(prefix))
    half = _uniform(generator, (shape[0], shape[1] // 2, *shape[2:]), gain)
    return np.stack([half, -half], axis=2).reshape(shape)


def _front_end(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "filterbank" in name:
        # Bands that start at 50 Hz and grow wider towards 8 kHz, as mel bands do.
        band = np.arange(shape[0], dtype=np.float32)[:, np.newaxis]
        start = band * (4.5 * band + 10) if "low_hz_" in name else 9 * band + 60
        return (start + _uniform(generator, shape, 16.0)).astype(np.float32)
    if name.endswith("bias"):
        return _uniform(generator, shape, _BIAS_GAIN)
    return np.full(shape, 2.0**-6 if "wav" in name else 1.0, np.float32)


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Return float32 draws from [−gain, gain): integers of 24 bits times a power of two, so nothing is ever rounded."""
    return (generator.integers(-(2**23), 2**23, size=shape) * (gain * 2.0**-23)).astype(np.float32)
