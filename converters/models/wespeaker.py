"""WeSpeaker ResNet34: whose voice it is, as 256 numbers for each mask over ten seconds of audio.

Covers the checkpoints of pyannote.audio's WeSpeakerResNet34 (pyannote/wespeaker-voxceleb-resnet34-LM, the embedding of
community-1, and what is fine-tuned from them).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from converters.checkpoint import check_tensors, read_tensors
from converters.networks.wespeaker_layout import (
    BANDS,
    DIMENSION,
    FBANK_FRAMES,
    FEATURES,
    FRAMES,
    MASK_FRAMES,
    MEL_BANDS,
    RATE_HZ,
    SAMPLES,
    convolutions,
    counters,
    parameter_shapes,
)
from diarization.audio import resampled
from pipeline.types import Arrays, Example, QuernError, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.wespeaker import WeSpeaker

FILES = (("model.safetensors",), ("pytorch_model.bin",))

Program = Literal["waveforms", "first_waveform", "audio", "fbank", "encoder", "pooling"]
SPEAKERS = 3

_DTYPES = {"fp32": "float32", "fp16": "float16"}


@dataclass(frozen=True)
class Form:
    """What a variant may choose about the network's shape.

    program   waveforms        three waveforms and three masks; row i is waveform i under mask i, as upstream has it
              first_waveform   the same interface; row i is the first waveform under mask i, at a third of the work
              audio            one audio and three masks
              fbank            log-mel features and one mask; the embedding has length 1
              encoder          audio to features, which `pooling` turns into embeddings
              pooling          features and three masks
    io        type of what comes out; what goes in stays fp32, for half precision would damage quiet audio
    """

    program: Program = "audio"
    io: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        for name, known in (("program", get_args(Program)), ("io", tuple(_DTYPES))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: {getattr(self, name)!r}; expected one of {', '.join(known)}")


_AUDIO = Tensor("audio", ("batch", "channel", "sample"), (1, 1, SAMPLES), "float32", "sample")
_WAVEFORM = Tensor("waveform", ("row", "sample"), (SPEAKERS, SAMPLES), "float32", "sample")
_MASK = Tensor("mask", ("row", "frame"), (SPEAKERS, MASK_FRAMES), "float32", "weight")
_MASKS = Tensor("masks", ("speaker", "frame"), (SPEAKERS, MASK_FRAMES), "float32", "weight")
_WEIGHTS = Tensor("weights", ("batch", "frame"), (1, MASK_FRAMES), "float32", "weight")
_FBANK = Tensor(
    "fbank_features", ("batch", "channel", "band", "frame"), (1, 1, MEL_BANDS, FBANK_FRAMES), "float32", "log power"
)
_FEATURES = Tensor("features", ("batch", "feature", "frame"), (1, FEATURES, FRAMES), "float32", "activation")

_INPUTS: dict[Program, tuple[Tensor, ...]] = {
    "waveforms": (_WAVEFORM, _MASK),
    "first_waveform": (_WAVEFORM, _MASK),
    "audio": (_AUDIO, _MASKS),
    "fbank": (_FBANK, _WEIGHTS),
    "encoder": (_AUDIO,),
    "pooling": (_FEATURES, _MASKS),
}


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about window, masks and rows."""
    facts = {"sample_rate_hz": str(RATE_HZ), "window_s": f"{SAMPLES / RATE_HZ:g}"}
    if form.program == "encoder":
        return facts
    rows = {"waveforms": "waveform i under mask i", "first_waveform": "waveform 0 under mask i"}
    return facts | {
        "mask_frames": str(MASK_FRAMES),
        "embedding_row": rows.get(form.program, "mask i"),
        "normalised": str(form.program == "fbank").lower(),
    }


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the inputs of the form's program."""
    return _INPUTS[form.program]


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: embeddings, or the features that they are pooled from."""
    dtype = _DTYPES[form.io]
    match form.program:
        case "encoder":
            return (Tensor(_FEATURES.name, _FEATURES.axes, _FEATURES.shape, dtype, _FEATURES.unit),)
        case "fbank":
            return (Tensor("embedding", ("batch", "dimension"), (1, DIMENSION), dtype, "embedding"),)
        case "waveforms" | "first_waveform":
            return (Tensor("embedding", ("row", "dimension"), (SPEAKERS, DIMENSION), dtype, "embedding"),)
        case _:
            return (Tensor("embeddings", ("speaker", "dimension"), (SPEAKERS, DIMENSION), dtype, "embedding"),)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return the trained tensors of a checkpoint, float32, named as in pyannote.audio.

    Raises QuernError for a file that is not a WeSpeakerResNet34's, one sentence with what is missing, too many or
    misshapen.
    """
    (path,) = files.values()
    found = {name: tensor for name, tensor in read_tensors(path).items() if name not in counters()}
    check_tensors(found, parameter_shapes(), str(path))
    negative = [name for name, tensor in found.items() if name.endswith("running_var") and tensor.min() < 0]
    if negative:
        raise QuernError(f"{path}: {negative[0]}: a variance below zero; the file is damaged")
    return {name: tensor.astype(np.float32) for name, tensor in found.items()}


def load(state: Arrays, form: Form) -> "WeSpeaker":
    """Return the form's program of our network with these tensors."""
    from converters.networks import wespeaker as networks

    programs: dict[Program, type[WeSpeaker]] = {
        "waveforms": networks.EachWaveform,
        "first_waveform": networks.FirstWaveform,
        "audio": networks.OneAudio,
        "fbank": networks.FromFBank,
        "encoder": networks.ToFeatures,
        "pooling": networks.FromFeatures,
    }
    return networks.wespeaker(programs[form.program], state)


def reference(state: Arrays, form: Form) -> Runner:
    """Return pyannote.audio's own WeSpeakerResNet34 with these tensors; raises ImportError if it is not installed."""
    import torch

    from converters.upstream import pyannote_wespeaker

    upstream = pyannote_wespeaker()()
    # The counters of batches are the network's own: nothing depends on them.
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items()}
    upstream.load_state_dict(upstream.state_dict() | tensors)
    upstream.eval()
    [output] = outputs(form)

    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            found = _upstream(upstream, form.program, {name: torch.from_numpy(a) for name, a in arrays.items()})
            return {output.name: found.numpy().reshape(output.shape)}

    return run


def _upstream(network: Any, program: Program, given: dict[str, Any]) -> Any:
    """Return what upstream's methods make of the inputs of a program."""
    match program:
        case "waveforms":
            return network(given["waveform"].unsqueeze(1), weights=given["mask"])
        case "first_waveform":
            return network(given["waveform"][:1].unsqueeze(1), weights=given["mask"].unsqueeze(0))
        case "audio":
            return network(given["audio"], weights=given["masks"].unsqueeze(0))
        case "fbank":
            from torch.nn.functional import normalize

            fbank = given["fbank_features"].squeeze(1).transpose(1, 2)
            return normalize(network.resnet(fbank, weights=given["weights"])[1], dim=-1)
        case "encoder":
            return network.forward_frames(given["audio"])
        case "pooling":
            frames = given["features"].reshape(1, FEATURES // BANDS, BANDS, FRAMES)
            return network.forward_embedding(frames, weights=given["masks"].unsqueeze(0))


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield windows of the recordings, end to end, or one second apart if `thorough`, with masks made from them.

    An example is named for its window, "sample@10s", or for its three, joined by ",". Two sets of masks take turns: who
    could be speaking (all that is loud; of it every other two seconds; of it the rest and half a second before and
    behind, which overlaps), and the edges (all frames, none, and soft weights that follow the loudness). A program with
    one mask is shown the six in turn. Where three windows are needed and they run out, the first come again.
    A recording shorter than a window is one window, with silence at its end.
    """
    windows = list(_windows(recordings, RATE_HZ if thorough else SAMPLES))
    if form.program == "waveforms":
        yield from _in_threes(windows)
        return
    made_of = _maker(form.program)
    for i, (name, samples) in enumerate(windows):
        audio, masks = samples[np.newaxis, np.newaxis], _masks(samples, i)
        match form.program:
            case "first_waveform":
                waveform = np.stack([row for _, row in _three(windows, i)])
                yield Example(name, {"waveform": waveform, "mask": masks})
            case "audio":
                yield Example(name, {"audio": audio, "masks": masks})
            case "encoder":
                yield Example(name, {"audio": audio})
            case "fbank":
                six = np.concatenate([_masks(samples, 0), _masks(samples, 1)])
                yield Example(name, {"fbank_features": made_of(audio), "weights": six[[i % len(six)]]})
            case "pooling":
                yield Example(name, {"features": made_of(audio), "masks": masks})


def _in_threes(windows: list[tuple[str, np.ndarray]]) -> Iterator[Example]:
    """Yield three windows at a time, each under a mask of its own."""
    for i in range(0, len(windows), SPEAKERS):
        rows = _three(windows, i)
        mask = np.stack([_masks(samples, i)[row] for row, (_, samples) in enumerate(rows)])
        names = ",".join(name for name, _ in rows)
        yield Example(names, {"waveform": np.stack([samples for _, samples in rows]), "mask": mask})


def _three(windows: list[tuple[str, np.ndarray]], start: int) -> list[tuple[str, np.ndarray]]:
    """Return the windows from one on; behind the last comes the first."""
    return [windows[i % len(windows)] for i in range(start, start + SPEAKERS)]


def _maker(program: Program) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes the first input of a program from audio.

    Features are those of the stand-in, whatever the checkpoint: examples do not depend on it.
    """
    import torch

    from converters.networks.fbank import FBank

    module = load(synthetic(0), Form("encoder")) if program == "pooling" else FBank()

    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(audio)).numpy()

    return run


def _windows(recordings: Sequence[Recording], hop: int) -> Iterator[tuple[str, np.ndarray]]:
    for recording in recordings:
        samples = resampled(recording.samples, recording.rate_hz, RATE_HZ)
        samples = np.pad(samples, (0, max(0, SAMPLES - len(samples)))).astype(np.float32)
        for start in range(0, len(samples) - SAMPLES + 1, hop):
            yield f"{recording.name}@{start / RATE_HZ:g}s", samples[start : start + SAMPLES]


def _masks(samples: np.ndarray, turn: int) -> np.ndarray:
    """Return three masks (3, frame) of a window: the first set that `examples` has in even turns, else the second."""
    frames = samples[: SAMPLES // MASK_FRAMES * MASK_FRAMES].reshape(MASK_FRAMES, -1).astype(np.float64)
    loudness = np.sqrt(np.square(frames).mean(axis=1))
    if turn % 2:
        soft = loudness / max(loudness.max(), 1e-9)
        return np.stack([np.ones(MASK_FRAMES), np.zeros(MASK_FRAMES), soft]).astype(np.float32)
    loud = loudness > np.median(loudness)
    second = MASK_FRAMES * RATE_HZ // SAMPLES
    place = np.arange(MASK_FRAMES)
    turns = place // (2 * second) % 2 == 0
    rest = (~turns) | (~np.roll(turns, second // 2)) | (~np.roll(turns, -second // 2))
    return np.stack([loud, loud & turns, loud & rest]).astype(np.float32)


def synthetic(seed: int) -> Arrays:
    """Return a seeded stand-in for the trained tensors, the same bytes on every machine.

    It is decisive: other recordings and other masks give embeddings of other directions. Every layer weighs
    differences of neighbouring channels or bands, so that what all recordings have in common does not grow from layer
    to layer; and the variances match what arrives, so that activations stay far below the end of half precision.
    """
    generator = np.random.default_rng(seed)
    state: Arrays = {}
    for convolution, norm, shape in convolutions():
        state[f"{convolution}.weight"] = _differences(generator, shape)
        state |= _normalisation(generator, norm, shape)
    shape = parameter_shapes()["resnet.seg_1.weight"]
    state["resnet.seg_1.weight"] = _differences(generator, shape)
    state["resnet.seg_1.bias"] = _uniform(generator, shape[:1], 2.0**-3)
    return state


def _normalisation(generator: np.random.Generator, norm: str, shape: tuple[int, ...]) -> Arrays:
    """Return the statistics of a batch normalisation.

    A sum of n products with weights that are uniform in ±1/8 has n/192 times the mean square of what goes in.
    The second convolution of a block is halved, or sixteen blocks that each add to what they got would add up.
    """
    width = shape[:1]
    variance = np.float32(shape[1] * shape[2] * shape[3]) * np.float32(2.0**-6 / 3)
    return {
        f"{norm}.weight": (_uniform(generator, width, 2.0**-2) + np.float32(1)) * np.float32(_gain(norm)),
        f"{norm}.bias": _uniform(generator, width, 2.0**-3),
        f"{norm}.running_mean": _uniform(generator, width, 2.0**-3),
        f"{norm}.running_var": variance * (_uniform(generator, width, 2.0**-2) + np.float32(1)),
    }


def _gain(norm: str) -> float:
    return 2.0**-1 if norm.endswith("bn2") else 1.0


def _differences(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return draws in which every second input channel has the opposite weight of the one before it."""
    if shape[1] == 1:
        return _uniform(generator, shape, 2.0**-3)
    half = _uniform(generator, (shape[0], shape[1] // 2, *shape[2:]), 2.0**-3)
    return np.stack([half, -half], axis=2).reshape(shape)


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Return float32 draws from [−gain, gain): integers of 24 bits times a power of two, so nothing is ever rounded."""
    return (generator.integers(-(2**23), 2**23, size=shape) * (gain * 2.0**-23)).astype(np.float32)
