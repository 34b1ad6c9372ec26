"""WeSpeaker as a plugin: forms, checkpoints, stand-ins, examples, and upstream beside it."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from converters.models import wespeaker
from converters.models.wespeaker import Form, Program
from converters.networks.wespeaker import StatisticsPool, nearest_frames
from converters.networks.wespeaker_layout import counters, parameter_shapes
from diarization.audio import read_recording
from pipeline.types import QuernError, Recording
from tests.fixtures import FIXTURES, needs_fixtures

ROOT = Path(__file__).parents[2]
PROGRAMS = get_args(Program)
needs_upstream = pytest.mark.skipif(
    importlib.util.find_spec("pyannote") is None, reason="pyannote.audio is not installed; pip install -e .[reference]"
)


def _recordings():
    return [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]


def _noise(seconds, name="a", seed=0):
    """A recording whose loudness swells and falls, so that masks made from it are neither empty nor full."""
    time = np.arange(round(seconds * 16000)) / 16000
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, len(time)) * np.sin(time) ** 2
    return Recording(name, samples.astype(np.float32), 16000, "")


def _run(network, form, inputs):
    arguments = [torch.from_numpy(inputs[tensor.name]) for tensor in wespeaker.inputs(form)]
    with torch.inference_mode():
        return network(*arguments).numpy()


def _interface(form):
    tensors = [*wespeaker.inputs(form), *wespeaker.outputs(form)]
    return [(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors]


def test_the_forms_that_apps_load_have_their_names_and_shapes():
    """wespeaker_v2 and Embedding, as the consumers' contract has them."""
    for program in ("waveforms", "first_waveform"):
        assert _interface(Form(program)) == [
            ("waveform", (3, 160000), "float32"),
            ("mask", (3, 589), "float32"),
            ("embedding", (3, 256), "float32"),
        ]
    assert _interface(Form("fbank")) == [
        ("fbank_features", (1, 1, 80, 998), "float32"),
        ("weights", (1, 589), "float32"),
        ("embedding", (1, 256), "float32"),
    ]


def test_the_encoder_puts_out_what_pooling_takes():
    """Features [1, 2560, 125] on both sides; pooling and the whole have the same masks and embeddings."""
    assert wespeaker.outputs(Form("encoder")) == wespeaker.inputs(Form("pooling"))[:1]
    assert wespeaker.inputs(Form("pooling"))[1:] == wespeaker.inputs(Form("audio"))[1:]
    assert wespeaker.outputs(Form("pooling")) == wespeaker.outputs(Form("audio"))


def test_half_precision_is_declared_for_what_comes_out_alone():
    """io: fp16 changes the embeddings' type; audio and masks stay fp32."""
    assert [kind for *_, kind in _interface(Form("audio", io="fp16"))] == ["float32", "float32", "float16"]


@pytest.mark.parametrize(("options", "expected"), [({"program": "all"}, "program: 'all'"), ({"io": "int8"}, "io: ")])
def test_forms_that_cannot_be_are_refused(options, expected):
    """One sentence, with the option's name first."""
    with pytest.raises(ValueError, match=expected):
        Form(**options)


def test_the_trained_parameters_number_as_published():
    """6,634,336 trained numbers, as in WeSpeakerResNet34, and two statistics for each channel."""
    trained = {name: shape for name, shape in parameter_shapes().items() if "running" not in name}
    assert sum(np.prod(shape, dtype=int) for shape in trained.values()) == 6_634_336


def test_a_checkpoint_is_read_whatever_form_it_has(tmp_path):
    """A .bin as upstream's and a .safetensors give the same tensors, without the counters of batches."""
    state = wespeaker.synthetic(3)
    save_file(state, tmp_path / "model.safetensors")
    counted = {name: torch.tensor(7) for name in counters()}
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items()} | counted
    torch.save({"state_dict": tensors, "epoch": 1}, tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        found = wespeaker.read({name: tmp_path / name})
        assert found.keys() == state.keys()
        assert all(found[key].dtype == np.float32 and np.array_equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state.pop("resnet.seg_1.bias"), "missing: resnet.seg_1.bias"),
        (lambda state: state.update({"resnet.seg_2.weight": np.zeros(1, np.float32)}), "unexpected: 'resnet.seg_2"),
        (lambda state: state.update({"resnet.bn1.bias": np.zeros(3, np.float32)}), "wrong shape: resnet.bn1.bias"),
        (lambda state: state.update({"resnet.bn1.bias": np.full(32, np.nan, np.float32)}), "not finite"),
        (lambda state: state.update({"resnet.bn1.running_var": np.full(32, -1, np.float32)}), "below zero"),
    ],
)
def test_foreign_checkpoints_are_refused(tmp_path, change, expected):
    """Missing, unexpected, misshapen, not finite, impossible: one sentence with the file's name."""
    state = wespeaker.synthetic(0)
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(QuernError, match=expected) as caught:
        wespeaker.read({"model.safetensors": tmp_path / "model.safetensors"})
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(("length", "wanted"), [(589, 125), (125, 125), (100, 125), (293, 63), (7, 3)])
def test_masks_are_interpolated_as_torch_does(length, wanted):
    """Multiplying by the matrix is interpolation in mode "nearest", to the bit."""
    masks = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (2, 3, length)).astype(np.float32))
    found = masks @ torch.from_numpy(nearest_frames(length, wanted))
    torch.testing.assert_close(
        found, torch.nn.functional.interpolate(masks, size=wanted, mode="nearest"), rtol=0, atol=0
    )


def _single_frame_mask(weight):
    mask = np.zeros((1, 1, 589), np.float32)
    mask[0, 0, 300:310] = weight
    return mask


def test_statistics_are_always_finite():
    """Without any weight they are zeros; with all weight on a frame or three the deviation is finite."""
    features = torch.from_numpy(np.random.default_rng(0).uniform(0, 5, (1, 2560, 125)).astype(np.float32))
    pool = StatisticsPool()
    assert not pool(features, torch.zeros(1, 1, 589)).any()
    for weight in (1.0, 0.8, 0.5, 0.4, 0.3, 1 / 3, 1e-3, 1e-7, 1e-9):
        assert torch.isfinite(pool(features, torch.from_numpy(_single_frame_mask(weight)))).all(), weight


def _digest(state):
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode() + state[name].tobytes())
    return total.hexdigest()


def test_a_stand_in_is_the_same_bytes_whatever_the_cpu_can_do():
    """Another process, with numpy's vector instructions switched off, draws the same tensors and makes the same tables.

    So do the folded weights and the filters of the network that is converted.
    """
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    present = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    program = "from tests.converters.test_wespeaker import _digests; print(_digests())"
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(present), "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == _digests()


def _digests():
    state = wespeaker.synthetic(5)
    network = wespeaker.load(state, Form())
    return f"{_digest(state)} {_digest({name: tensor.numpy() for name, tensor in network.state_dict().items()})}"


def test_a_stand_in_has_the_tensors_of_the_true_architecture():
    """Names, shapes and float32; another seed draws other numbers."""
    state = wespeaker.synthetic(0)
    assert {name: tensor.shape for name, tensor in state.items()} == parameter_shapes()
    assert {tensor.dtype for tensor in state.values()} == {np.dtype(np.float32)}
    assert _digest(state) != _digest(wespeaker.synthetic(1))


@needs_fixtures
@pytest.mark.parametrize("seed", [0, 1])
def test_a_stand_in_is_decisive(seed):
    """Other recordings and other masks give embeddings of other directions, and activations that fp16 can hold.

    Measured with seed 0: cosine 0.6 on average and 0.9 at most between recordings under the same mask, 0.98 at most
    between masks that overlap.
    """
    network = wespeaker.load(wespeaker.synthetic(seed), Form("audio"))
    largest = []
    for part in network.trunk.modules():
        part.register_forward_hook(lambda _, __, out: largest.append(float(out.abs().max())))
    examples = list(wespeaker.examples(Form("audio"), _recordings()))[::3]  # the first window of each recording
    found = np.stack([_run(network, Form("audio"), example.inputs) for example in examples])  # (window, mask, 256)
    assert max(largest) < 200
    assert np.abs(found).max() > 1
    unit = found / np.linalg.norm(found, axis=-1, keepdims=True)
    ordinary = unit[::2]  # in every other window all masks have weight
    for mask in range(3):
        cosines = (ordinary[:, mask] @ ordinary[:, mask].T)[np.triu_indices(len(ordinary), 1)]
        assert cosines.max() < 0.95
    between = [window @ window.T for window in ordinary]
    assert max(cosines[np.triu_indices(3, 1)].max() for cosines in between) < 0.99


def test_examples_are_windows_end_to_end_with_two_sets_of_masks():
    """Every other window is under loud, turn and rest; the others under all, none and soft weights."""
    first, second, third = wespeaker.examples(Form("audio"), [_noise(30)])
    assert [example.name for example in (first, second, third)] == ["a@0s", "a@10s", "a@20s"]
    loud, turn, rest = first.inputs["masks"]
    assert set(np.unique(first.inputs["masks"])) == {0, 1}
    assert 0.4 < loud.mean() < 0.6
    assert (turn <= loud).all()
    assert (rest <= loud).all()
    assert 0 < (turn * rest).sum() < turn.sum()  # they overlap, and not altogether
    full, empty, soft = second.inputs["masks"]
    assert full.min() == 1
    assert empty.max() == 0
    assert soft.max() == 1
    assert len(np.unique(soft)) > 500
    assert not np.array_equal(first.inputs["masks"], third.inputs["masks"])


def test_thorough_examples_are_one_second_apart():
    """They hold the usual ones, and nine between each two."""
    names = [example.name for example in wespeaker.examples(Form("encoder"), [_noise(20)], thorough=True)]
    assert names == [f"a@{start}s" for start in range(11)]


def test_every_program_is_shown_what_it_takes():
    """Names, shapes and types of the examples are the declared ones; the short recording is padded."""
    for program in PROGRAMS:
        example, *_ = wespeaker.examples(Form(program), [_noise(4)])
        declared = {tensor.name: (tensor.shape, tensor.dtype) for tensor in wespeaker.inputs(Form(program))}
        assert {name: (array.shape, str(array.dtype)) for name, array in example.inputs.items()} == declared


def test_three_waveforms_are_three_windows_each_under_its_own_mask():
    """Rows differ in audio and mask; where windows run out, the first come again."""
    one, two = wespeaker.examples(Form("waveforms"), [_noise(30, "a"), _noise(20, "b", seed=1)])
    assert (one.name, two.name) == ("a@0s,a@10s,a@20s", "b@0s,b@10s,a@0s")
    np.testing.assert_array_equal(two.inputs["waveform"][2], one.inputs["waveform"][0])
    assert len(np.unique(one.inputs["waveform"], axis=0)) == len(np.unique(one.inputs["mask"], axis=0)) == 3


def test_one_waveform_of_three_is_each_window_in_turn():
    """The first row is the window that names the example, under its own masks; the others must not matter."""
    found = list(wespeaker.examples(Form("first_waveform"), [_noise(20)]))
    assert [example.name for example in found] == ["a@0s", "a@10s"]
    alone = list(wespeaker.examples(Form("audio"), [_noise(20)]))
    for three, one in zip(found, alone, strict=True):
        np.testing.assert_array_equal(three.inputs["waveform"][0], one.inputs["audio"][0, 0])
        np.testing.assert_array_equal(three.inputs["mask"], one.inputs["masks"])


def test_one_mask_at_a_time_goes_through_all_six():
    """A program with one mask is shown loud, turn, rest, all, none and soft."""
    found = [example.inputs["weights"][0] for example in wespeaker.examples(Form("fbank"), [_noise(60)])]
    assert len(found) == 6
    assert (found[3].min(), found[4].max()) == (1, 0)
    assert len({mask.tobytes() for mask in found}) == 6


def test_programs_agree_with_each_other():
    """Row 0 of three waveforms, of the first waveform, of the one audio, and of encoder and pooling: one embedding."""
    state = wespeaker.synthetic(0)
    [example] = wespeaker.examples(Form("waveforms"), [_noise(10)])
    waveform, mask = example.inputs["waveform"], example.inputs["mask"]
    waveform[1:] = waveform[1:, ::2].repeat(2, axis=1)  # another sound, which row 0 must not depend on
    audio = {"audio": waveform[:1, np.newaxis], "masks": mask}
    features = _run(wespeaker.load(state, Form("encoder")), Form("encoder"), audio)
    rows = {
        "waveforms": {"waveform": waveform, "mask": mask},
        "first_waveform": {"waveform": waveform, "mask": mask},
        "audio": audio,
        "pooling": {"features": features, "masks": mask},
    }
    found = {name: _run(wespeaker.load(state, Form(name)), Form(name), given) for name, given in rows.items()}
    for name in rows:
        np.testing.assert_allclose(found[name][0], found["audio"][0], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["first_waveform"], found["audio"], atol=1e-5)
    assert np.abs(found["waveforms"][1] - found["audio"][1]).max() > 0.01


def test_an_embedding_of_features_has_length_one():
    """Also under an empty mask, where it is the direction of the last layer's bias."""
    examples = list(wespeaker.examples(Form("fbank"), [_noise(60)]))
    network = wespeaker.load(wespeaker.synthetic(0), Form("fbank"))
    for example in (examples[0], examples[4]):
        np.testing.assert_allclose(np.linalg.norm(_run(network, Form("fbank"), example.inputs)), 1, atol=1e-6)


@pytest.mark.reference
@needs_upstream
@pytest.mark.parametrize("program", PROGRAMS)
def test_ours_says_what_upstream_says(program):
    """Embeddings within 1e-5 of the largest norm, under loud, partial, full, empty and soft masks alike.

    Features, with nothing averaged, are within 1e-4 of the largest one: what is left of differences in log-mel.
    """
    state, form = wespeaker.synthetic(0), Form(program)
    [output] = wespeaker.outputs(form)
    upstream, network = wespeaker.reference(state, form), wespeaker.load(state, form)
    recordings = _recordings()[:1] if FIXTURES.is_dir() else [_noise(30)]
    for example in list(wespeaker.examples(form, recordings))[:2]:
        wanted = upstream(example.inputs)[output.name]
        found = _run(network, form, example.inputs)
        assert found.shape == wanted.shape == output.shape
        most = 1e-4 * wanted.max() if program == "encoder" else 1e-5 * np.linalg.norm(wanted, axis=-1).max()
        assert np.abs(found - wanted).max() < most


@pytest.mark.reference
@needs_upstream
@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_single_frame_is_pooled_as_upstream_does(weight):
    """All weight on one or three frames is where a shorter formula for the variance cancels."""
    state, form = wespeaker.synthetic(0), Form("pooling")
    features = np.random.default_rng(0).uniform(0, 2, (1, 2560, 125)).astype(np.float32)
    masks = np.repeat(_single_frame_mask(weight)[0], 3, axis=0)
    wanted = wespeaker.reference(state, form)({"features": features, "masks": masks})["embeddings"]
    found = _run(wespeaker.load(state, form), form, {"features": features, "masks": masks})
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_reading_the_matrix_imports_nothing_heavy():
    """The plugins' modules are imported without torch or coremltools."""
    program = (
        "import sys, converters.models.wespeaker, converters.models.fbank;"
        "print([m for m in ('torch', 'coremltools') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
