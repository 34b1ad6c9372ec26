"""Sortformer: who of four speakers is active, in frames of 80 ms; as a step of a stream, over a window, and its mel.

Covers every SortformerEncLabelModel of NeMo whose FastConformer has relative positions and whose transformer
normalises behind its layers (nvidia/diar_streaming_sortformer_4spk-v2, v2.1, and what is fine-tuned from them).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from converters.checkpoint import check_tensors
from converters.nemo import CONFIG, WEIGHTS, read_nemo
from converters.networks.sortformer.configuration import settings_of
from converters.networks.sortformer.layout import (
    HOP,
    MOST_FRAMES,
    RATE_HZ,
    SUBSAMPLING,
    Sizes,
    halved,
    parameter_shapes,
    sizes_in,
    sizes_of,
    unused_shapes,
)
from converters.networks.sortformer.stand_in import stand_in
from diarization.audio import resampled
from diarization.streaming.drive import stream
from diarization.streaming.examples import FEATURES, feature_frames
from diarization.streaming.examples import drive as run_stream
from diarization.streaming.state import StreamingParameters
from pipeline.types import Arrays, Example, QuernError, Recording, Runner, Tensor

FILES = (("*.nemo",),)

FRAME_S = SUBSAMPLING * HOP / RATE_HZ


@dataclass(frozen=True)
class Form:
    """What a variant may choose about the network's shape. Lengths are in frames of 80 ms unless they say otherwise.

    kind            "streaming": one step, with what is kept of the past; "offline": a whole window; "preprocessor":
                    mel spectrogram of a window
    chunk           new frames in a step
    left, right     frames before and behind them that a step sees as well
    fifo, spkcache  room for frames of the recent and of the whole past
    update_period   frames that leave the fifo at a time
    window_s        length of a window, in seconds, a multiple of 10 ms; a step has none
    speakers, width, mels   sizes that the checkpoint was trained in
    layout          of what is between inputs and outputs: "frames" (1, frame, channel), or "channels" (1, channel, 1,
                    frame), the same computed as the Neural Engine would have it
    """

    kind: Literal["streaming", "offline", "preprocessor"] = "streaming"
    chunk: int = 6
    left: int = 1
    right: int = 7
    fifo: int = 40
    spkcache: int = 188
    update_period: int = 31
    window_s: float = 30.72
    speakers: int = 4
    width: int = 512
    mels: int = 128
    layout: Literal["frames", "channels"] = "frames"

    def __post_init__(self) -> None:
        if self.kind not in ("streaming", "offline", "preprocessor"):
            raise ValueError(f"kind: {self.kind!r}; expected streaming, offline or preprocessor")
        for name in ("chunk", "left", "right", "fifo", "spkcache", "update_period", "speakers", "width", "mels"):
            value, least = getattr(self, name), 0 if name in ("left", "right") else 1
            if type(value) is not int or value < least:
                raise ValueError(f"{name}: {value!r}; expected a whole number from {least} on")
        _check_window(self.window_s)
        self._check_layout()

    def _check_layout(self) -> None:
        if self.layout not in ("frames", "channels"):
            raise ValueError(f"layout: {self.layout!r}; expected frames or channels")
        if self.layout == "channels" and self.kind == "preprocessor":
            raise ValueError("layout: a preprocessor has none; leave it out")
        if self.layout == "channels" and self.frames > MOST_FRAMES:
            raise ValueError(f"layout: channels: {self.frames} frames; it counts up to {MOST_FRAMES}; use frames")

    @property
    def chunk_frames(self) -> int:
        """Frames that a step is given of the present, contexts included."""
        return self.left + self.chunk + self.right

    @property
    def frames(self) -> int:
        """Frames that predictions are made for."""
        if self.kind == "streaming":
            return self.spkcache + self.fifo + self.chunk_frames
        return halved(self.mel_frames)

    @property
    def mel_frames(self) -> int:
        """Mel frames that the network is given, or makes."""
        return SUBSAMPLING * self.chunk_frames if self.kind == "streaming" else self.samples // HOP

    @property
    def samples(self) -> int:
        return round(self.window_s * RATE_HZ)


def _check_window(window_s: Any) -> None:
    if isinstance(window_s, bool) or not isinstance(window_s, int | float) or not math.isfinite(window_s):
        raise ValueError(f"window_s: {window_s!r}; expected a number of seconds")
    hops = window_s * RATE_HZ / HOP
    if hops < 1 or abs(hops - round(hops)) > 1e-6:
        raise ValueError(f"window_s: {window_s!r}; expected a multiple of {HOP / RATE_HZ:g} s, which a mel frame lasts")


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know, under the names that apps look for.

    mel_feature_frames   new mel frames in a step;  frame_duration   in seconds
    """
    if form.kind == "preprocessor":
        window = {"sample_rate_hz": RATE_HZ, "window_s": form.window_s, "mel_features": form.mels}
        return {name: f"{value:g}" for name, value in window.items()}
    shared = {"subsampling_factor": str(SUBSAMPLING), "frame_duration": f"{FRAME_S:g}"}
    if form.kind == "offline":
        return shared | {"window_s": f"{form.window_s:g}", "mel_feature_frames": str(form.mel_frames)}
    lengths = {
        "chunk_len": form.chunk,
        "chunk_left_context": form.left,
        "chunk_right_context": form.right,
        "fifo_len": form.fifo,
        "spkcache_len": form.spkcache,
        "spkcache_update_period": form.update_period,
        "mel_feature_frames": SUBSAMPLING * form.chunk,
    }
    return shared | {name: str(length) for name, length in lengths.items()}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the present and the past of a step, or a window; each with how much of it is filled."""
    if form.kind == "preprocessor":
        audio = Tensor("audio", ("batch", "sample"), (1, form.samples), "float32", "sample")
        return audio, _count("audio_length", "samples")
    if form.kind == "offline":
        mel = Tensor("mel", ("batch", "mel", "mel frame"), (1, form.mels, form.mel_frames), "float32", "log power")
        return mel, _count("mel_length", "mel frames")
    chunk = Tensor("chunk", ("batch", "mel frame", "mel"), (1, form.mel_frames, form.mels), "float32", "log power")
    return (
        chunk,
        _count("chunk_lengths", "mel frames"),
        _embeddings("spkcache", form.spkcache, form),
        _count("spkcache_lengths", "frames"),
        _embeddings("fifo", form.fifo, form),
        _count("fifo_lengths", "frames"),
    )


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the predictions, of a step also the chunk's frames, which become the past; of a preprocessor, the mel.

    Of the names that apps accept for the chunk's frames these are the ones that are no input of anything.
    """
    if form.kind == "preprocessor":
        mel = Tensor("mel", ("batch", "mel", "mel frame"), (1, form.mels, form.mel_frames), "float32", "log power")
        return mel, _count("mel_length", "mel frames")
    shape = (1, form.frames, form.speakers)
    speakers = Tensor("speaker_preds", ("batch", "frame", "speaker"), shape, "float32", "probability")
    if form.kind == "offline":
        return (speakers,)
    embeddings = _embeddings("chunk_pre_encoder_embs_out", form.chunk_frames, form)
    return speakers, embeddings, _count("chunk_pre_encoder_lengths_out", "frames")


def _embeddings(name: str, frames: int, form: Form) -> Tensor:
    return Tensor(name, ("batch", "frame", "feature"), (1, frames, form.width), "float32", "embedding")


def _count(name: str, unit: str) -> Tensor:
    return Tensor(name, ("batch",), (1,), "int32", unit)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return the tensors of a `.nemo` archive, float32, named as in NeMo, and the settings of its configuration.

    Raises QuernError for a file that is not a Sortformer's, one sentence with what is missing, too many, misshapen,
    or not to be converted.
    """
    (path,) = files.values()
    config, found = read_nemo(path)
    settings = settings_of(config, f"{path}: {CONFIG}")
    sizes = sizes_of({name: tensor.shape for name, tensor in found.items()}, settings)
    for width, heads in ((sizes.width, sizes.conformer_heads), (sizes.narrow, sizes.transformer_heads)):
        if width % heads:
            raise QuernError(f"{path}: {CONFIG}: {heads} attention heads cannot share a width of {width}")
    used = {name: tensor for name, tensor in found.items() if name not in unused_shapes(sizes)}
    check_tensors(used, parameter_shapes(sizes), f"{path}: {WEIGHTS}")
    tensors = {name: tensor.astype(np.float32, copy=False) for name, tensor in used.items()}
    return tensors | {name: np.array(value, np.int32) for name, value in settings.items()}


def load(state: Arrays, form: Form) -> Any:
    """Return our network with these tensors; raises QuernError if it has other sizes than the form says."""
    from converters.networks.sortformer import folding

    _check_sizes(state, form)
    if form.kind == "preprocessor":
        return folding.mel_spectrogram(state, form.samples)
    if form.kind == "offline":
        return folding.offline(state, form.layout, form.mel_frames)
    return folding.streaming(state, form.layout, form.spkcache, form.fifo, form.chunk_frames)


def _check_sizes(state: Arrays, form: Form) -> None:
    sizes = sizes_in(state)
    for name in ("speakers", "width", "mels"):
        declared, found = getattr(form, name), getattr(sizes, name)
        if declared != found:
            raise QuernError(
                f"form.{name}: the variant declares {declared} and the checkpoint has {found}; declare {name}: {found}"
            )


def reference(state: Arrays, form: Form) -> Runner:
    """Return NeMo's own model with these tensors; raises ImportError where NeMo is not installed."""
    from converters.networks.sortformer.upstream import nemo_model, nemo_runner

    _check_sizes(state, form)
    frames = form.mel_frames if form.kind == "preprocessor" else form.frames
    return nemo_runner(nemo_model(state, sizes_in(state)), form.kind, frames)


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield what each form is tried on.

    streaming      one example of many steps: the recordings, one behind the other, as long as it takes to compress the
                   speaker cache once, or all of them if `thorough`; its input is the mel (mel frame, mel) of it all,
                   which `drive` takes to the network step by step
    offline        windows one after the other, or overlapping by three quarters if `thorough`, named "sample@30.72s".
                   What a window has more than its recording is silence, and counted as not filled
    preprocessor   the same windows of audio
    """
    if form.kind == "streaming":
        yield from _streams(form, recordings, thorough)
        return
    for name, samples in _windows(form, recordings, form.samples // 4 if thorough else form.samples):
        audio = np.pad(samples, (0, form.samples - len(samples)))[np.newaxis]
        filled = np.array([len(samples)], np.int32)
        if form.kind == "preprocessor":
            yield Example(name, {"audio": audio, "audio_length": filled})
        else:
            yield Example(name, {"mel": _mel(audio, form)[np.newaxis], "mel_length": filled // HOP})


def _windows(form: Form, recordings: Sequence[Recording], hop: int) -> Iterator[tuple[str, np.ndarray]]:
    for recording in recordings:
        samples = resampled(recording.samples, recording.rate_hz, RATE_HZ)
        for start in range(0, max(1, len(samples) - form.samples + hop), hop):
            yield f"{recording.name}@{start / RATE_HZ:g}s", samples[start : start + form.samples]


def _streams(form: Form, recordings: Sequence[Recording], thorough: bool) -> Iterator[Example]:
    if not recordings:
        return
    shortest = feature_frames(1, streaming_parameters(form))
    mel = _joined_mel(form, recordings, shortest, everything=thorough)
    yield Example(f"{recordings[0].name}+{len(mel) * HOP / RATE_HZ:.4g}s", {FEATURES: mel})


def is_recorded(form: Form, thorough: bool) -> bool:
    """Return whether a form is measured on single calls: all streaming ones but the default, unless `thorough`.

    A roll-out takes as long as the cache takes to fill; in one context and layout that is enough, for all share their
    weights.
    """
    return form.kind == "streaming" and _decisive(form) != _decisive(Form()) and not thorough


def _decisive(form: Form) -> tuple[int | str, ...]:
    return form.chunk, form.left, form.right, form.fifo, form.layout


def recorded(state: Arrays, form: Form, recordings: Sequence[Recording]) -> Iterator[Example]:
    """Yield single calls of a streaming form, in the states cold, half_full, steady and final of our own network.

    They are the same for both layouts, to the last bit.
    """
    from converters.networks.sortformer.recorded import recorded as of_network

    if form.kind != "streaming" or not recordings:
        return
    parameters = streaming_parameters(form)
    mel = _joined_mel(form, recordings, feature_frames(1, parameters))
    for name, call in of_network(load(state, replace(form, layout="frames")), mel, parameters).items():
        yield Example(name, call)


def _joined_mel(form: Form, recordings: Sequence[Recording], shortest: int, everything: bool = False) -> np.ndarray:
    """Return the log mel power (mel frame, mel) of the recordings one behind the other, and once more from the first.

    shortest     how many mel frames; with `everything`, all that there are if they are more
    """
    samples = np.concatenate([resampled(each.samples, each.rate_hz, RATE_HZ) for each in recordings])
    frames = max(shortest, len(samples) // HOP) if everything else shortest
    return np.ascontiguousarray(_mel(np.resize(samples, frames * HOP)[np.newaxis], form).T)


def _mel(audio: np.ndarray, form: Form) -> np.ndarray:
    """Return the log mel power (mel, mel frame) of audio (1, sample), by the tables that all checkpoints share."""
    from converters.networks.sortformer.mel import log_mel

    return log_mel(audio, form.mels)


def drive(runner: Runner, inputs: Arrays, form: Form) -> Arrays:
    """Return the outputs of an example: of a call, or of a whole recording, step by step with the past fed back.

    Predictions come without the frames that were not filled: (frame, speaker).
    """
    if form.kind == "streaming":
        return run_stream(runner, inputs, streaming_parameters(form))
    found = runner(inputs)
    if form.kind == "offline":
        return {name: preds[0, : halved(int(inputs["mel_length"][0]))] for name, preds in found.items()}
    return found


def predictions(runner: Runner, blocks: Iterable[np.ndarray], form: Form) -> Iterator[np.ndarray]:
    """Yield who speaks in a recording (frame, speaker), as probabilities, FRAME_S seconds each, as it is heard.

    blocks   samples (sample,) at RATE_HZ

    Raises QuernError for a form that hears a window and not a stream.
    """
    from converters.networks.sortformer.mel_stream import mel_blocks

    if form.kind != "streaming":
        raise QuernError(f"form.kind: a recording is streamed, and this is the {form.kind} form; take a streaming one")
    for turn in stream(runner, mel_blocks(blocks, form.mels), streaming_parameters(form)):
        yield turn.preds


def streaming_parameters(form: Form) -> StreamingParameters:
    """Return how much a streaming form hears and remembers, for what goes on between its steps."""
    return StreamingParameters(
        chunk_len=form.chunk,
        chunk_left_context=form.left,
        chunk_right_context=form.right,
        fifo_len=form.fifo,
        spkcache_len=form.spkcache,
        spkcache_update_period=form.update_period,
        subsampling_factor=SUBSAMPLING,
        embedding_size=form.width,
        speakers=form.speakers,
    )


def synthetic(seed: int) -> Arrays:
    """Return a seeded stand-in for the trained tensors of v2 and v2.1, the same bytes on every machine."""
    return stand_in(Sizes(), seed)
