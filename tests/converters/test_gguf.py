"""GGUF files: what public runtimes find in them, what ggml computes from them, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("gguf", reason="gguf is not installed; pip install -e '.[gguf]'")
pytest.importorskip("ggml", reason="ggml-python is not installed; pip install -e '.[gguf]'")

from gguf import GGUFReader

from converters.formats import gguf
from converters.formats.gguf import Options
from converters.gguf_layouts.pyannet import halved_with_sums
from converters.models import segmentation
from converters.models.segmentation import Form
from converters.networks.pyannet import sinc_filters
from diarization.audio import read_recording
from pipeline.types import QuernError
from tests.converters.gguf_files import DAMAGE, refusal, rewritten
from tests.converters.layer_outputs import pyannet_layers
from tests.fixtures import FIXTURES, needs_fixtures

SHORT = Form(window_s=2.0)


def _trained():
    return segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})


def _windows(hop=1):
    recordings = [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]
    return [example.inputs for example in segmentation.examples(Form(), recordings)][::hop]


def _converted(folder, options=None, state=None, form=SHORT):
    state = state or segmentation.synthetic(0)
    network = segmentation.load(state, form)
    network.trained = state
    destination = folder / "model.gguf"
    inputs, outputs = segmentation.inputs(form), segmentation.outputs(form)
    gguf.convert(
        network, inputs, outputs, {"quern.weights": "a test", "window_s": "2"}, options or Options(), destination
    )
    return network, destination


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp32"), Options("fp32"))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp16"), Options("fp16"))


def _speech_like(batch, seconds, seed=0):
    noise = np.random.default_rng(seed).standard_normal((batch, 1, int(seconds * 16000)))
    loudness = np.repeat(np.random.default_rng(seed).uniform(0.01, 0.3, (batch, 1, int(seconds * 4))), 4000, axis=-1)
    return (noise * loudness).astype(np.float32)


def _expected_tensors():
    """The names and shapes that the public runtime's loader asks for, the innermost axis first, as it writes them."""
    expected = {"sincnet.wav_norm.weight": [1], "sincnet.wav_norm.bias": [1]}
    kernels = ([251, 1, 80], [5, 80, 60], [5, 60, 60])
    for i, kernel in enumerate(kernels):
        expected[f"sincnet.{i}.conv.weight"] = kernel
        expected |= {f"sincnet.{i}.norm.weight": kernel[2:], f"sincnet.{i}.norm.bias": kernel[2:]}
        expected |= {f"sincnet.{i}.conv.bias": kernel[2:]} if i else {}
    for layer in range(4):
        for end in ("", "_reverse"):
            expected[f"lstm.weight_ih_l{layer}{end}"] = [256 if layer else 60, 512]
            expected[f"lstm.weight_hh_l{layer}{end}"] = [128, 512]
            expected |= {f"lstm.bias_{side}_l{layer}{end}": [512] for side in ("ih", "hh")}
    for name, matrix in {"linear.0": [256, 128], "linear.1": [128, 128], "classifier": [128, 7]}.items():
        expected |= {f"{name}.weight": matrix, f"{name}.bias": matrix[1:]}
    return expected


@pytest.mark.parametrize("precision", ["single", "half"])
def test_the_file_is_what_the_public_runtime_loads(precision, request):
    """51 tensors by its names, axes and types, and the six keys that it reads, 32-bit and unsigned."""
    _, path = request.getfixturevalue(precision)
    reader = GGUFReader(path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert {name: tensor.shape.tolist() for name, tensor in found.items()} == _expected_tensors()
    assert len(found) == 51
    matrix = "F16" if precision == "half" else "F32"
    assert all(t.tensor_type.name == (matrix if len(t.shape) > 1 else "F32") for t in found.values())
    keys = {name: field.contents() for name, field in reader.fields.items() if name.startswith("pyannet.")}
    assert keys == {
        "pyannet.sample_rate": 16000,
        "pyannet.num_classes": 7,
        "pyannet.lstm_layers": 4,
        "pyannet.lstm_hidden": 128,
        "pyannet.sincnet_kernel_size": 251,
        "pyannet.sincnet_stride": 10,
    }
    assert {reader.fields[name].types[0].name for name in keys} == {"UINT32"}
    assert reader.fields["general.architecture"].contents() == "pyannet"
    assert reader.fields["quern.weights"].contents() == "a test"


def test_tensors_are_the_trained_ones(single):
    """The filters are the computed ones; the offset of the waveform stands before them, and not behind, as in ours."""
    state = segmentation.synthetic(0)
    found = {tensor.name: tensor.data for tensor in GGUFReader(single[1]).tensors}
    low, band = (state[f"sincnet.conv1d.0.filterbank.{name}_hz_"] for name in ("low", "band"))
    np.testing.assert_array_equal(found["sincnet.0.conv.weight"], sinc_filters(low, band))
    np.testing.assert_array_equal(found["sincnet.wav_norm.bias"], state["sincnet.wav_norm1d.bias"])
    np.testing.assert_array_equal(found["lstm.weight_hh_l2_reverse"], state["lstm.weight_hh_l2_reverse"])
    np.testing.assert_array_equal(found["sincnet.2.conv.weight"], state["sincnet.conv1d.2.weight"])


def test_halved_filters_keep_their_sums():
    """To a hundredth of what plain rounding loses, and no tap is off by more than the largest one's step."""
    state = segmentation.synthetic(0)
    low, band = (state[f"sincnet.conv1d.0.filterbank.{name}_hz_"] for name in ("low", "band"))
    filters = sinc_filters(low, band)
    halved = halved_with_sums(filters)
    plain = filters.astype(np.float16)

    def lost(rounded):
        return np.abs((rounded.astype(np.float64) - filters).sum(axis=-1)).max()

    assert lost(halved) < 1e-2 * lost(plain)
    off = np.abs(halved.astype(np.float64) - filters).max(axis=-1)
    assert (off <= np.spacing(np.abs(plain).max(axis=-1))).all()


def test_equal_networks_give_equal_bytes(half, tmp_path):
    """Converted again, the file is the same."""
    _, again = _converted(tmp_path, Options("fp16"))
    assert again.read_bytes() == half[1].read_bytes()


@pytest.mark.parametrize(("batch", "seconds"), [(1, 2.0), (3, 1.25)])
def test_ggml_computes_every_layer_as_torch_does(single, batch, seconds):
    """In single precision each layer has a cosine of 0.99999 at least with torch's, for batches and other lengths too.

    A stand-in amplifies rounding more than trained networks do.
    """
    network, path = single
    audio = _speech_like(batch, seconds)
    wanted = pyannet_layers(network, audio)
    found = gguf.layers(path, "declared", {"audio": audio})
    assert list(found) == list(wanted)
    for name in wanted:
        assert found[name].shape == wanted[name].shape
        assert _cosine(found[name], wanted[name]) > 0.99999, name


def _cosine(one, other):
    one, other = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_a_runner_takes_one_length_after_another(single):
    """Its graph follows the input; the first shape gives the same numbers when it comes again."""
    run = gguf.runner(single[1], "declared")
    first, second = _speech_like(1, 2.0), _speech_like(2, 1.0)
    before = run({"audio": first})["segments"]
    assert run({"audio": second})["segments"].shape == (2, 56, 7)
    np.testing.assert_array_equal(run({"audio": first})["segments"], before)
    np.testing.assert_allclose(np.exp(before).sum(-1), 1, atol=1e-5)


def test_other_sizes_run_too(tmp_path):
    """Two layers, four classes: what the keys and tensors say is what is built."""
    state = segmentation.synthetic(1)
    state = {name: tensor for name, tensor in state.items() if "_l2" not in name and "_l3" not in name}
    state |= {"classifier.weight": state["classifier.weight"][:4], "classifier.bias": state["classifier.bias"][:4]}
    network, path = _converted(tmp_path, Options("fp32"), state, Form(window_s=2.0, classes=4))
    audio = _speech_like(1, 2.0)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(audio)).numpy()
    np.testing.assert_allclose(gguf.runner(path, "declared")({"audio": audio})["segments"], wanted, atol=5e-3)


def test_exact_options_are_single_precision():
    """The rung before the declared one."""
    assert gguf.exact(Options("fp16")) == Options("fp32")
    assert gguf.compiler("auto") == {}
    assert gguf.missing() == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architecture": "llama"}, "architecture 'llama'; expected pyannet or wespeaker_resnet34 or plda"),
        ({"keys": {"pyannet.num_classes": 9}}, "pyannet.num_classes is 9, and its tensors make it 7"),
        ({"tensors": {"linear.1.bias": np.zeros(3, np.float32)}}, "linear.1.bias: expected shape [128], found [3]"),
        ({"tensors": {"linear.1.bias": np.zeros(128)}}, "linear.1.bias: expected F32 or F16, found F64"),
        ({"tensors": {"classifier.bias": None}}, "classifier.bias is missing"),
        ({"tensors": {"more": np.zeros(3, np.float32)}}, "unexpected tensor 'more'"),
    ],
)
def test_files_of_another_network_are_refused(half, tmp_path, change, expected):
    """Architecture, keys, shapes, types, names: one sentence with the file's name."""
    other = rewritten(half[1], tmp_path / "other.gguf", **change)
    assert expected in refusal(gguf.runner, other, QuernError)


@pytest.mark.parametrize(("damage", "expected"), DAMAGE)
def test_damaged_files_are_refused(half, tmp_path, capfd, damage, expected):
    """Truncated, foreign, of another version: one sentence, and ggml's own lines are not printed."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(half[1].read_bytes()))
    assert expected in refusal(gguf.runner, path, QuernError)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_named(tmp_path):
    """With the system's reason."""
    with pytest.raises(QuernError, match=r"absent\.gguf: cannot read the file: No such file"):
        gguf.runner(tmp_path / "absent.gguf", "declared")


@pytest.mark.parametrize("shape", [(1, 16000), (1, 2, 16000), (1, 1, 300)])
def test_audio_of_another_shape_is_refused(half, shape):
    """One sentence with the shape that is expected; ggml itself would abort the process."""
    with pytest.raises(QuernError, match="audio of shape"):
        gguf.runner(half[1], "declared")({"audio": np.zeros(shape, np.float32)})


def test_networks_without_a_layout_are_refused(tmp_path):
    """By the name of their class; and double precision and half-precision inputs, which no runtime takes."""
    with pytest.raises(QuernError, match="Linear: no GGUF layout"):
        gguf.convert(nn.Linear(2, 2), (), (), {}, Options(), tmp_path / "model.gguf")
    with pytest.raises(QuernError, match="pyannet: precision fp64; its runtimes read fp32 or fp16"):
        _converted(tmp_path, Options("fp64"))
    with pytest.raises(QuernError, match="audio: declared float16"):
        _converted(tmp_path, form=Form(window_s=2.0, io="fp16"))


def test_networks_without_the_trained_tensors_are_refused(tmp_path):
    """Ours have folded some away, and runtimes want them as they were."""
    network = segmentation.load(segmentation.synthetic(0), SHORT)
    with pytest.raises(QuernError, match="PyanNet: a GGUF file holds the tensors of the checkpoint"):
        gguf.convert(network, (), (), {}, Options(), tmp_path / "model.gguf")


ALONE = """
import sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
print(reader.fields["general.architecture"].contents(), len(reader.tensors), sum(t.data.size for t in reader.tensors))
assert not [name for name in sys.modules if name.split(".")[0] in ("converters", "pipeline", "mil", "diarization")]
"""


def test_the_file_loads_where_nothing_of_ours_is(half, tmp_path):
    """Another process, isolated and elsewhere, reads it with gguf alone."""
    command = [sys.executable, "-I", "-c", ALONE, str(half[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    architecture, count, elements = done.stdout.split()
    assert (architecture, count) == ("pyannet", "51")
    assert int(elements) == 1_473_265 - 80 + 80 * 251  # the filters instead of their 80 parameters


@needs_fixtures
@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "least", "most"), [("fp32", 1.0, 1e-4), ("fp16", 0.999, 0.02)], ids=["fp32", "fp16"]
)
def test_trained_weights_on_real_audio(tmp_path, precision, least, most):
    """A tenth of the real windows: fp32 keeps every frame's class, fp16 weights 99.9 % of them.

    Measured: largest difference of probability 3e-5 and 3e-3.
    """
    network, path = _converted(tmp_path, Options(precision), _trained(), Form())
    run, audio = gguf.runner(path, "declared"), [inputs["audio"] for inputs in _windows(hop=10)]
    with torch.inference_mode():
        wanted = np.concatenate([network(torch.from_numpy(window)).numpy() for window in audio])
    found = np.concatenate([run({"audio": window})["segments"] for window in audio])
    assert (found.argmax(-1) == wanted.argmax(-1)).mean() >= least
    assert np.abs(np.exp(found) - np.exp(wanted)).max() < most


@needs_fixtures
def test_every_layer_of_the_trained_network(tmp_path):
    """On a real window the cosine with torch's layers is 0.99999 at least in fp32 (measured 1 − 1e-11)."""
    network, path = _converted(tmp_path, Options("fp32"), _trained(), Form())
    [window] = _windows(hop=1000)
    wanted = pyannet_layers(network, window["audio"])
    found = gguf.layers(path, "declared", window)
    cosines = {name: _cosine(found[name], wanted[name]) for name in wanted}
    assert min(cosines.values()) >= 0.99999, cosines
