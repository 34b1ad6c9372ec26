"""MLX folders: what is in them, what MLX computes from them, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

pytest.importorskip("mlx.core", reason="mlx is not installed; pip install -e '.[mlx]'")

import mlx.core as mx

from converters.formats import mlx
from converters.formats.mlx import Options
from converters.mlx_networks import pyannet
from converters.models import segmentation
from converters.models.segmentation import Form
from diarization.audio import read_recording
from pipeline.types import QuernError
from tests.fixtures import FIXTURES, needs_fixtures

SHORT = Form(window_s=1.0)
MODEL = Path(pyannet.__file__)


def _trained():
    return segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})


def _converted(folder, options=None, state=None, form=SHORT):
    network = segmentation.load(state or segmentation.synthetic(0), form)
    destination = folder / "model.mlx"
    inputs, outputs = segmentation.inputs(form), segmentation.outputs(form)
    mlx.convert(network, inputs, outputs, {"window_s": "1"}, options or Options(), destination)
    return network, destination


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp32"), Options("fp32"))


def _speech_like(batch, seconds):
    generator = np.random.default_rng(0)
    loudness = np.repeat(generator.uniform(0.01, 0.3, (batch, 1, int(seconds * 4))), 4000, axis=-1)
    return (generator.standard_normal(loudness.shape) * loudness).astype(np.float32)


def _torch(network, audio):
    with torch.inference_mode():
        return network(torch.from_numpy(audio)).numpy()


def test_a_folder_is_whole_and_its_two_weight_files_hold_the_same(single):
    """config.json, model.py as it stands in the repository, and every tensor in both files, in MLX's layouts."""
    _, folder = single
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.py",
        "weights.npz",
        "weights.safetensors",
    ]
    assert (folder / "model.py").read_bytes() == MODEL.read_bytes()
    weights, archive = load_file(folder / "weights.safetensors"), np.load(folder / "weights.npz")
    assert sorted(weights) == sorted(archive.files)
    assert all(np.array_equal(weights[name], archive[name]) for name in weights)
    state = segmentation.synthetic(0)
    biases = state["lstm.bias_ih_l1_reverse"] + state["lstm.bias_hh_l1_reverse"]
    np.testing.assert_array_equal(weights["lstm.1.backward.input.bias"], biases)
    np.testing.assert_array_equal(weights["sincnet.conv.1.weight"], state["sincnet.conv1d.1.weight"].transpose(0, 2, 1))


def test_mlx_says_what_torch_says_on_every_frame(single):
    """In single precision, for a batch of two; either weight file gives the same."""
    network, folder = single
    audio = _speech_like(2, 1.0)
    wanted = _torch(network, audio)
    found = mlx.runner(folder, "declared")({"audio": audio})["segments"]
    np.testing.assert_array_equal(found.argmax(-1), wanted.argmax(-1))
    np.testing.assert_allclose(np.exp(found), np.exp(wanted), atol=2e-4)
    np.testing.assert_array_equal(mlx.runner(folder / "weights.npz", "declared")({"audio": audio})["segments"], found)


@pytest.mark.parametrize(("precision", "size_mb", "least"), [("fp16", 2.99, 0.9), ("q8", 2.05, 0.9), ("q4", 1.4, 0.4)])
def test_other_precisions_are_smaller_and_run(tmp_path, precision, size_mb, least):
    """Of a stand-in, which is harder than a trained network, frames keep their class, and probabilities their sum."""
    network, folder = _converted(tmp_path, Options(precision))
    audio = _speech_like(1, 1.0)
    wanted = _torch(network, audio).argmax(-1)
    for how in ("declared", "float32"):
        found = mlx.runner(folder, how)({"audio": audio})["segments"]
        assert (found.argmax(-1) == wanted).mean() >= least
        np.testing.assert_allclose(np.exp(found).sum(-1), 1, atol=1e-5)
    assert (folder / "weights.safetensors").stat().st_size / 1e6 == pytest.approx(size_mb, abs=0.1)


@pytest.mark.parametrize("precision", ["fp16", "q4"])
def test_equal_networks_give_equal_bytes(tmp_path, precision):
    """Converted twice, every file is the same."""
    folders = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folders.append(_converted(tmp_path / name, Options(precision))[1])
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_exact_options_are_single_precision():
    """The rung before the declared one."""
    assert mlx.exact(Options("q4", 32)) == Options("fp32", 32)
    assert mlx.compiler("auto") == {}
    assert mlx.missing() == ""


def test_long_signals_are_normalised_to_the_last_digits():
    """Ten seconds of quiet audio, to 2e-6 of double precision; added up one by one, squares would lose the fourth."""
    audio = np.random.default_rng(0).normal(0, 0.01, (2, 160_000, 1)).astype(np.float32)
    exact = audio.astype(np.float64) - audio.mean(axis=1, keepdims=True, dtype=np.float64)
    exact /= np.sqrt(np.square(exact).mean(axis=1, keepdims=True) + 1e-5)
    found = np.array(pyannet.Normalisation(1)(mx.array(audio)))
    assert np.abs(found - exact).max() < 2e-6 * np.abs(exact).max()


def test_a_cell_adds_up_in_single_precision():
    """Four thousand small steps of a halved LSTM: in half precision it would stop at a half, where they round away."""
    direction = pyannet.Direction(1, 1)
    new = np.float16(2**-12)  # and its hyperbolic tangent, to a part in 10^7
    direction.input.weight, direction.input.bias = mx.zeros((4, 1)), mx.array([20, 20, float(new), 20])
    direction.recurrent.weight = mx.zeros((4, 1))
    direction.set_dtype(mx.float16)
    states = direction(mx.zeros((1, 4000, 1), mx.float16))
    assert states.dtype == mx.float16
    assert states[0, -1, 0].item() == pytest.approx(np.tanh(4000 * 2**-12), abs=1e-3)


def _edited_config(**changes):
    def edit(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def _edited_weights(**changes):
    def edit(folder):
        path = folder / "weights.safetensors"
        tensors = load_file(path) | {name.replace("__", "."): array for name, array in changes.items()}
        save_file({name: array for name, array in tensors.items() if array is not None}, path)

    return edit


def _edited_archive(**changes):
    def edit(folder):
        path = folder / "weights.npz"
        np.savez(path, **dict(np.load(path)) | {name.replace("__", "."): array for name, array in changes.items()})

    return edit


def _truncated(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "file", "expected"),
    [
        (_truncated("weights.safetensors", 100_000), "weights.safetensors", "damaged, truncated or absent"),
        (_truncated("weights.safetensors", 4), "weights.safetensors", "damaged, truncated or absent"),
        (_truncated("weights.npz", 100_000), "weights.npz", "damaged, truncated or absent"),
        (_truncated("config.json", 20), "config.json", "damaged or truncated"),
        (lambda folder: (folder / "config.json").unlink(), "config.json", "cannot read the file"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors", "absent"),
        (_edited_config(architecture="llama"), "config.json", "architecture 'llama'; expected pyannet or"),
        (_edited_config(architecture="wespeaker_resnet34", network={}), "weights.safetensors", "tensor .* is missing"),
        (_edited_config(version=2), "config.json", "version 2; expected 1"),
        (_edited_config(network={"classes": 7}), "config.json", "does not describe a pyannet"),
        (_edited_weights(classifier__bias=np.zeros(3, np.float32)), "weights", r"expected shape \[7\], found \[3\]"),
        (_edited_weights(classifier__bias=None), "weights.safetensors", "classifier.bias is missing"),
        (_edited_weights(more=np.zeros(3, np.float32)), "weights.safetensors", "unexpected tensor 'more'"),
        (
            _edited_archive(classifier__bias=np.zeros(3, np.float32)),
            "weights.npz",
            r"expected shape \[7\], found \[3\]",
        ),
        (_edited_archive(more=np.zeros(3, np.float32)), "weights.npz", "unexpected tensor 'more'"),
        (lambda folder: (folder / "weights.npz").write_bytes(b"PNG"), "weights.npz", "damaged, truncated or absent"),
    ],
)
def test_bad_folders_are_refused(single, tmp_path, damage, file, expected):
    """Truncated, of another architecture or version, of wrong shapes: one sentence with the file's name."""
    folder = tmp_path / "model.mlx"
    shutil.copytree(single[1], folder)
    damage(folder)
    with pytest.raises(QuernError, match=expected) as caught:
        mlx.runner(folder / file if file.endswith("npz") else folder, "declared")
    assert str(folder / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_networks_without_a_module_are_refused(tmp_path):
    """By the name of their class; and half-precision inputs, which the module does not take."""
    with pytest.raises(QuernError, match="Linear: no MLX module"):
        mlx.convert(nn.Linear(2, 2), (), (), {}, Options(), tmp_path / "model.mlx")
    with pytest.raises(QuernError, match="audio: declared float16"):
        _converted(tmp_path, form=Form(window_s=1.0, io="fp16"))


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import mlx.core as mx
import model
print(model.load(sys.argv[1])(mx.zeros((1, 16000))).shape)
ours = ("converters", "pipeline", "mil", "diarization", "torch", "numpy")
assert not [name for name in sys.modules if name.split(".")[0] in ours]
"""


def test_the_folder_loads_where_nothing_of_ours_is(single, tmp_path):
    """Another process, isolated and elsewhere, runs it with mlx alone, without numpy even."""
    command = [sys.executable, "-I", "-c", ALONE, str(single[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 56, 7)"


@needs_fixtures
@pytest.mark.slow
def test_the_model_file_prints_who_talks(tmp_path):
    """On ten seconds of the real sample, as a command: lines of from, to and speakers, as torch's classes say."""
    network, folder = _converted(tmp_path, Options("fp32"), _trained(), Form())
    with (
        wave.open(str(FIXTURES / "audio" / "sample.wav")) as whole,
        wave.open(str(tmp_path / "talk.wav"), "wb") as part,
    ):
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(160_000))
    command = [sys.executable, "-I", str(folder / "model.py"), str(tmp_path / "talk.wav")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    samples = read_recording(tmp_path / "talk.wav").samples[np.newaxis, np.newaxis]
    classes = _torch(network, samples)[0].argmax(-1)
    changes = [0, *(np.flatnonzero(np.diff(classes)) + 1)]
    starts = [frame for frame in changes if classes[frame]]
    assert [float(line.split()[0]) for line in done.stdout.splitlines()] == [
        pytest.approx(270 * frame / 16000, abs=0.006) for frame in starts
    ]


def _wav(path, rate_hz=16000, channels=1, seconds=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        samples = np.random.default_rng(0).normal(0, 3000, rate_hz * seconds * channels)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def _model(folder, *arguments, **options):
    command = [sys.executable, "-I", str(folder / "model.py"), *map(str, arguments)]
    return subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False, **options)


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        (lambda folder: folder / "absent.wav", "absent.wav: cannot be read as WAV: "),
        (lambda folder: MODEL, "cannot be read as WAV: file does not start with RIFF id"),
        (lambda folder: _wav(folder / "a.wav", rate_hz=8000), "8000 Hz, 1 channels, 16 bits; expected 16000 Hz, mono"),
        (lambda folder: _wav(folder / "b.wav", channels=2), "2 channels"),
    ],
)
def test_the_model_file_says_what_it_cannot_read(single, tmp_path, recording, expected):
    """One sentence and a status, and no traceback; without a recording it says how it is called."""
    done = _model(single[1], recording(tmp_path))
    assert expected in done.stderr
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert _model(single[1]).stderr == "usage: python model.py talk.wav\n"


def test_a_reader_of_the_model_file_may_stop(single, tmp_path):
    """As `head` does: nothing is said of it."""
    reading, writing = os.pipe()
    os.close(reading)
    done = _model(single[1], _wav(tmp_path / "talk.wav"), stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.999), ("q8", 0.995), ("q4", 0.95)])
def test_trained_weights_on_real_audio(tmp_path, precision, least):
    """On one real window of each recording, in single precision every frame keeps its class."""
    network, folder = _converted(tmp_path, Options(precision), _trained(), Form())
    recordings = [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]
    audio = np.concatenate([e.inputs["audio"] for e in list(segmentation.examples(Form(), recordings))[10::21]])
    found = mlx.runner(folder, "declared")({"audio": audio})["segments"]
    assert (found.argmax(-1) == _torch(network, audio).argmax(-1)).mean() >= least
