"""The segmentation network as a plugin: forms, checkpoints, stand-ins, examples, and upstream beside it."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from converters.models import segmentation
from converters.models.segmentation import Form
from diarization.audio import read_recording
from pipeline.types import QuernError, Range, Recording
from tests.fixtures import FIXTURES, needs_fixtures

ROOT = Path(__file__).parents[2]
needs_upstream = pytest.mark.skipif(
    importlib.util.find_spec("pyannote") is None, reason="pyannote.audio is not installed; pip install -e .[reference]"
)
FILTERBANK = "sincnet.conv1d.0.filterbank"


def _recordings():
    return [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]


def _trained():
    return segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})


def _run(network, examples):
    with torch.inference_mode():
        return {e.name: network(torch.from_numpy(e.inputs["audio"])).numpy() for e in examples}


def test_the_default_form_is_what_apps_expect():
    """audio [1, 1, 160000] in, segments [1, 589, 7] out, both fp32."""
    [audio], [segments] = segmentation.inputs(Form()), segmentation.outputs(Form())
    assert (audio.name, audio.shape, audio.dtype) == ("audio", (1, 1, 160000), "float32")
    assert (segments.name, segments.shape, segments.dtype) == ("segments", (1, 589, 7), "float32")
    assert segments.unit == "log probability"


def test_a_form_sets_batch_window_type_and_classes():
    """A range of batches, five seconds, fp16 and four classes show in inputs and outputs."""
    form = Form(batch=[1, 32], window_s=5, io="fp16", classes=4)
    [audio], [segments] = segmentation.inputs(form), segmentation.outputs(form)
    assert (audio.shape, audio.dtype) == ((Range(1, 32), 1, 80000), "float16")
    assert (segments.shape, segments.dtype) == ((Range(1, 32), 293, 4), "float16")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": 0}, "batch: 0; expected"),
        ({"batch": True}, "batch: True; expected"),
        ({"batch": (4, 4)}, "the lower one first"),
        ({"batch": (1, 2, 3)}, "expected two numbers"),
        ({"batch": (0, 3)}, "from 1 on"),
        ({"batch": 2.0}, "a whole number"),
        ({"window_s": 0.00001}, "expected a whole number"),
        ({"window_s": 0.06}, "too short"),
        ({"window_s": -1.0}, "too short"),
        ({"window_s": float("nan")}, "number of seconds"),
        ({"window_s": "10"}, "number of seconds"),
        ({"io": "int8"}, "one of fp32, fp16"),
        ({"classes": 1}, "from 2 on"),
    ],
)
def test_forms_that_cannot_be_are_refused(options, expected):
    """One sentence, with the option's name first."""
    with pytest.raises(ValueError, match=expected) as caught:
        Form(**options)
    assert str(caught.value).startswith(next(iter(options)))


def test_a_checkpoint_is_read_whatever_form_it_has(tmp_path):
    """A .bin as upstream's and a .safetensors give the same tensors, without the buffers that torch recomputes."""
    state = segmentation.synthetic(3)
    buffers = {f"{FILTERBANK}.window_": np.ones(125, np.float32), f"{FILTERBANK}.n_": np.ones((1, 125), np.float32)}
    save_file(state | buffers, tmp_path / "model.safetensors")
    content = {"state_dict": {name: torch.tensor(tensor) for name, tensor in (state | buffers).items()}, "epoch": 1}
    torch.save(content, tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        found = segmentation.read({name: tmp_path / name})
        assert found.keys() == state.keys()
        assert all(found[key].dtype == np.float32 and np.array_equal(found[key], state[key]) for key in state)


def _without(name):
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_without("classifier.bias"), "missing: classifier.bias"),
        (_without("lstm.weight_ih_l3"), "missing: lstm.weight_ih_l3"),
        (lambda state: state.update({"extra": np.zeros(1, np.float32)}), "unexpected: 'extra'"),
        (lambda state: state.update({"linear.1.bias": np.zeros(3, np.float32)}), "wrong shape: linear.1.bias"),
        (lambda state: state.update({"classifier.bias": np.full(7, np.nan, np.float32)}), "not finite"),
        (lambda state: state.update({f"{FILTERBANK}.low_hz_": np.full((40, 1), 9e3, np.float32)}), "9000 Hz"),
        (lambda state: state.update({f"{FILTERBANK}.window_": np.ones(3, np.float32)}), "wrong shape"),
        (lambda state: [state.clear(), state.update({"conv.weight": np.zeros(3, np.float32)})], "foreign checkpoint"),
    ],
)
def test_foreign_checkpoints_are_refused(tmp_path, change, expected):
    """Missing, unexpected, misshapen, not finite: one sentence with the file's name."""
    state = segmentation.synthetic(0)
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(QuernError, match=expected) as caught:
        segmentation.read({"model.safetensors": tmp_path / "model.safetensors"})
    assert str(tmp_path) in str(caught.value)


def test_a_checkpoint_with_other_classes_needs_a_form_that_says_so():
    """A fine-tuned network of three classes is refused under the default form, and runs under its own."""
    state = segmentation.synthetic(0)
    state |= {"classifier.weight": state["classifier.weight"][:3], "classifier.bias": state["classifier.bias"][:3]}
    with pytest.raises(QuernError, match="declare classes: 3"):
        segmentation.load(state, Form())
    network = segmentation.load(state, Form(classes=3))
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, 16000)).shape[-1] == 3


def _digest(state):
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode() + state[name].tobytes())
    return total.hexdigest()


def test_a_stand_in_is_the_same_bytes_whatever_the_cpu_can_do():
    """Another process, with numpy's vector instructions switched off and another hash seed, draws the same tensors."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    present = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    program = (
        "import hashlib, json\nfrom converters.models import segmentation\nfrom tests.converters.test_segmentation "
        "import _digest\nprint(json.dumps(_digest(segmentation.synthetic(5))))"
    )
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(present), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == _digest(segmentation.synthetic(5))
    assert _digest(segmentation.synthetic(5)) != _digest(segmentation.synthetic(6))


@needs_fixtures
def test_stand_ins_are_decisive_on_speech():
    """Every class wins frames, margins spread, and every window changes its mind: else parity would prove nothing."""
    examples = list(segmentation.examples(Form(), _recordings()))[::3]
    for seed in (0, 1):
        log_probs = np.concatenate(
            list(_run(segmentation.load(segmentation.synthetic(seed), Form()), examples).values())
        )
        winners = log_probs.argmax(-1)
        share = np.bincount(winners.ravel(), minlength=7) / winners.size
        best, second = -np.sort(-log_probs, axis=-1)[..., :2].transpose(2, 0, 1)
        assert share.min() >= 0.01
        assert np.median(best - second) > 0.5
        assert np.quantile(best - second, 0.05) < 0.5
        assert all(len(np.unique(window)) > 1 for window in winners)


def _recording(seconds, name="a", rate_hz=16000):
    samples = np.arange(seconds * rate_hz, dtype=np.float32) / (seconds * rate_hz)
    return Recording(name, samples, rate_hz, "")


def test_examples_are_windows_one_second_apart():
    """12.5 s hold three windows of ten seconds, named by where they start."""
    recording = _recording(12.5)
    found = list(segmentation.examples(Form(), [recording]))
    assert [example.name for example in found] == ["a@0s", "a@1s", "a@2s"]
    for start_s, example in enumerate(found):
        window = recording.samples[start_s * 16000 :][:160000]
        np.testing.assert_array_equal(example.inputs["audio"], window[np.newaxis, np.newaxis])


def test_thorough_examples_are_a_quarter_of_a_second_apart():
    """They hold the usual ones, and three between each two."""
    recording = Recording("talk", np.zeros(12 * 16000, np.float32), 16000, "")
    usual = [example.name for example in segmentation.examples(Form(), [recording])]
    thorough = [example.name for example in segmentation.examples(Form(), [recording], thorough=True)]
    assert usual == ["talk@0s", "talk@1s", "talk@2s"]
    assert thorough[:3] == ["talk@0s", "talk@0.25s", "talk@0.5s"]
    assert set(usual) <= set(thorough)
    assert len(thorough) == 9


def test_a_short_recording_is_one_window_with_silence_behind():
    """Three seconds are padded to the window."""
    [example] = segmentation.examples(Form(), [_recording(3)])
    audio = example.inputs["audio"]
    assert audio.shape == (1, 1, 160000)
    assert audio[0, 0, 47999] > 0
    assert not audio[0, 0, 48000:].any()


def _sizes(form, *recordings):
    return [
        (len(example.inputs["audio"]), example.name.split(",")) for example in segmentation.examples(form, recordings)
    ]


def test_a_fixed_batch_is_always_full():
    """Five windows in batches of four: the second is filled with the first windows again."""
    found = _sizes(Form(batch=4), _recording(12, "a"), _recording(11, "b"))
    assert found == [(4, ["a@0s", "a@1s", "a@2s", "b@0s"]), (4, ["b@1s", "a@0s", "a@1s", "a@2s"])]
    assert _sizes(Form(batch=4), _recording(11)) == [(4, ["a@0s", "a@1s", "a@0s", "a@1s"])]


def test_a_range_of_batches_grows_to_the_top_and_shows_every_window_once():
    """Batches of 1, 2, 4, 8, 8 … and what is left."""
    found = _sizes(Form(batch=(1, 8)), _recording(37))
    assert [size for size, _ in found] == [1, 2, 4, 8, 8, 5]
    names = [name for _, batch in found for name in batch]
    assert names == [f"a@{start}s" for start in range(28)]


def test_recordings_of_another_rate_are_resampled():
    """A recording at 8 kHz fills as many windows as its length in seconds."""
    assert len(list(segmentation.examples(Form(), [_recording(12, rate_hz=8000)]))) == 3


def test_examples_have_the_declared_type():
    """fp16 networks are shown fp16 audio."""
    [example] = segmentation.examples(Form(io="fp16"), [_recording(10)])
    assert example.inputs["audio"].dtype == np.float16


def test_reading_the_matrix_imports_nothing_heavy():
    """The plugin's module is imported without torch or coremltools."""
    program = (
        "import sys, converters.models.segmentation; print([m for m in ('torch', 'coremltools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_fixtures
def test_the_trained_weights_are_those_of_the_fixture():
    """Nothing is lost or changed but the window, which is recomputed."""
    raw = load_file(FIXTURES / "segmentation-3.0" / "model.safetensors")
    found = _trained()
    assert raw.keys() - found.keys() == {f"{FILTERBANK}.window_"}
    assert all(np.array_equal(found[name], raw[name]) for name in found)


@needs_fixtures
@pytest.mark.reference
@needs_upstream
@pytest.mark.parametrize("weights", ["trained", "synthetic"])
def test_ours_says_what_upstream_says(weights):
    """On real audio, to 1e-4 in probability (measured 3e-5) with trained weights, with every frame's class the same.

    What is left is the rounding of upstream's filters, made in float32; the stand-in amplifies it more.
    """
    state = _trained() if weights == "trained" else segmentation.synthetic(0)
    examples = list(segmentation.examples(Form(), _recordings()))[::5]
    upstream = segmentation.reference(state, Form())
    ours = _run(segmentation.load(state, Form()), examples)
    wanted = {example.name: upstream(example.inputs)["segments"] for example in examples}
    difference = max(np.abs(np.exp(ours[name]) - np.exp(wanted[name])).max() for name in wanted)
    same = np.mean([ours[name].argmax(-1) == wanted[name].argmax(-1) for name in wanted])
    assert difference < (1e-4 if weights == "trained" else 2e-3)
    assert same == 1 if weights == "trained" else same > 0.999


@pytest.mark.reference
@needs_upstream
def test_upstream_takes_other_sizes_too():
    """The reference is built in the sizes that the tensors tell of, and agrees with ours."""
    state = segmentation.synthetic(1)
    state = {name: tensor for name, tensor in state.items() if "_l2" not in name and "_l3" not in name}
    state |= {"classifier.weight": state["classifier.weight"][:4], "classifier.bias": state["classifier.bias"][:4]}
    form = Form(window_s=5.0, classes=4, batch=2)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1, 80000)).astype(np.float32)
    with torch.inference_mode():
        ours = segmentation.load(state, form)(torch.from_numpy(audio)).numpy()
    wanted = segmentation.reference(state, form)({"audio": audio})["segments"]
    assert ours.shape == (2, 293, 4)
    np.testing.assert_allclose(np.exp(ours), np.exp(wanted), atol=2e-3)
