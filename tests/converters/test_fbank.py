"""The filter bank as a network, against its definition in double precision and against torchaudio's port of Kaldi."""

import importlib.util

import numpy as np
import pytest
import torch

from converters.formats import coreml
from converters.models import fbank
from converters.models.fbank import Form
from converters.networks.fbank import FBank, mel_filters, spectrum_kernels
from diarization.audio import read_recording
from mil.package import read_package
from tests.fixtures import FIXTURES, needs_fixtures

MOST = 1e-3  # of log-mel; torchaudio's own single precision is up to 4e-4 from the definition
SAMPLES = 160_000
LOG_FLOOR = float(np.finfo(np.float32).eps)

needs_upstream = pytest.mark.skipif(
    importlib.util.find_spec("pyannote") is None, reason="pyannote.audio is not installed; pip install -e .[reference]"
)


def _hz_to_mel(hz):
    return 1127 * np.log(1 + hz / 700)


def _hz_to_slaney_mel(hz):
    return np.where(hz < 1000, 3 * hz / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _definition(
    audio,
    *,
    scale=2.0**15,
    mel=_hz_to_mel,
    exponent=2,
    floor=LOG_FLOOR,
    window=np.hamming,
    emphasis=0.97,
    remove_mean=True,
    centre=True,
):
    """Kaldi's steps one after the other, in float64; the defaults are Kaldi's and WeSpeaker's choices."""
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64) * scale, 400)[::160]
    frames = frames - frames.mean(axis=1, keepdims=True) if remove_mean else frames
    before = np.hstack([frames[:, :1], frames[:, :-1]])
    spectrum = np.abs(np.fft.rfft((frames - emphasis * before) * window(400), 512))[:, :256] ** exponent
    edges = np.linspace(mel(np.array(20.0)), mel(np.array(8000.0)), 82)
    bins = mel(np.arange(256) * 16000 / 512)
    triangles = [np.interp(bins, edges[band : band + 3], [0, 1, 0]) for band in range(80)]
    log_mel = np.log(np.maximum(spectrum @ np.array(triangles).T, floor)).T
    return log_mel - log_mel.mean(axis=1, keepdims=True) if centre else log_mel


def _ours(audio):
    with torch.inference_mode():
        return FBank()(torch.from_numpy(audio.astype(np.float32))[None, None]).numpy()[0, 0]


def _speech_like():
    """Harmonics that come and go, a noise floor, and a quarter of digital silence; full scale at its loudest."""
    time = np.arange(SAMPLES) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 40))
    swell = np.sin(np.pi * time) ** 2 * (time > 2.5)
    noise = np.random.default_rng(0).uniform(-1e-3, 1e-3, SAMPLES) * (time > 2.5)
    signal = voice * swell + noise
    return (signal / np.abs(signal).max()).astype(np.float32)


SIGNALS = {
    "speech-like": _speech_like(),
    "quiet": _speech_like() * np.float32(1e-3),
    "silence": np.zeros(SAMPLES, np.float32),
    "square wave at full scale": np.sign(np.sin(np.arange(SAMPLES) * 0.0785 + 0.01)).astype(np.float32),
    "noise at full scale": np.random.default_rng(1).uniform(-1, 1, SAMPLES).astype(np.float32),
    "least significant bit": (np.random.default_rng(2).integers(-1, 2, SAMPLES) / 32768).astype(np.float32),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_features_are_those_of_the_definition(name):
    """[80, 998] log-mel values within 1e-3 of double precision, from silence to full scale."""
    found = _ours(SIGNALS[name])
    assert found.shape == (80, 998)
    assert np.abs(found - _definition(SIGNALS[name])).max() < MOST


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("int16 scale missing", {"scale": 1.0}),
        ("Slaney's mel scale", {"mel": _hz_to_slaney_mel}),
        ("magnitude for power", {"exponent": 1}),
        ("another floor under the logarithm", {"floor": 1e-10}),
        ("no floor to speak of", {"floor": 1e-300}),
        ("Hann window", {"window": np.hanning}),
        ("no pre-emphasis", {"emphasis": 0.0}),
        ("frames keep their mean", {"remove_mean": False}),
        ("bands keep their mean", {"centre": False}),
    ],
)
def test_every_wrong_choice_would_be_caught(name, wrong):
    """With one choice other than Kaldi's, features are off by a hundred times the limit or more."""
    audio = SIGNALS["speech-like"] + np.float32(0.01 if "remove_mean" in wrong else 0)
    assert np.abs(_ours(audio) - _definition(audio, **wrong)).max() > 100 * MOST


def test_the_constants_are_of_single_precision_and_have_the_filters_properties():
    """A constant offset passes no kernel; every band has a weight, and between the outer centres weights sum to 1."""
    kernels, filters = spectrum_kernels(), mel_filters()
    assert (kernels.shape, kernels.dtype) == ((510, 1, 400), np.float32)
    assert np.abs(kernels.astype(np.float64).sum(axis=2)).max() < 1e-6 * np.abs(kernels).sum(axis=2).max()
    assert (filters.shape, filters.dtype) == ((80, 255), np.float32)
    assert (filters.max(axis=1) > 0).all()
    np.testing.assert_allclose(filters.sum(axis=0)[2:-8], 1, atol=1e-6)


def test_examples_begin_with_the_recordings_and_end_with_the_extremes():
    """Without recordings there are still silence and a tone at full scale."""
    silence, tone = fbank.examples(Form(), [])
    assert not silence.inputs["audio"].any()
    assert np.abs(tone.inputs["audio"]).max() == 1
    assert silence.inputs["audio"].shape == tone.inputs["audio"].shape == (1, 1, SAMPLES)


def test_the_program_has_the_interface_that_apps_require(tmp_path):
    """audio [1, 1, 160000] → fbank_features [1, 1, 80, 998] in eight operations, none of them a slice."""
    destination = tmp_path / "FBank.mlpackage"
    form, options = Form(), coreml.Options(precision="fp32")
    coreml.convert(fbank.load({}, form), fbank.inputs(form), fbank.outputs(form), {}, options, destination)
    spec = read_package(destination).spec
    [function] = spec.mlProgram.functions.values()
    kinds = [op.type for op in function.block_specializations[function.opset].operations if op.type != "const"]
    assert kinds == ["conv", "mul", "conv", "maximum", "log", "expand_dims", "reduce_mean", "sub"]
    audio = _speech_like()[None, None]
    found = coreml.runner(destination, "declared")({"audio": audio})["fbank_features"]
    assert found.shape == (1, 1, 80, 998)
    np.testing.assert_allclose(found[0, 0], _ours(audio[0, 0]), atol=1e-4)


@pytest.mark.reference
@needs_upstream
@pytest.mark.parametrize("name", SIGNALS)
def test_ours_is_what_torchaudio_computes(name):
    """Within 1e-3 of what pyannote.audio makes with torchaudio; measured 4.4e-4, on noise in the lowest bit."""
    audio = SIGNALS[name][None, None]
    wanted = fbank.reference({}, Form())({"audio": audio})["fbank_features"][0, 0]
    assert np.abs(_ours(audio[0, 0]) - wanted).max() < MOST


@needs_fixtures
@pytest.mark.reference
@needs_upstream
def test_ours_is_nearer_to_the_definition_than_torchaudio():
    """On real speech the folded convolution loses less to rounding than the steps one by one in single precision."""
    recordings = [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]
    upstream = fbank.reference({}, Form())
    worst = {"ours": 0.0, "torchaudio": 0.0}
    for recording in recordings:
        audio = recording.samples[:SAMPLES]
        defined = _definition(audio)
        theirs = upstream({"audio": audio[None, None]})["fbank_features"][0, 0]
        worst["ours"] = max(worst["ours"], float(np.abs(_ours(audio) - defined).max()))
        worst["torchaudio"] = max(worst["torchaudio"], float(np.abs(theirs - defined).max()))
    assert worst["ours"] < worst["torchaudio"] < MOST
