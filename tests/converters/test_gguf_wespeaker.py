"""The embedding network as a GGUF file: what public runtimes find in it, and what ggml computes from it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("gguf", reason="gguf is not installed; pip install -e '.[gguf]'")
pytest.importorskip("ggml", reason="ggml-python is not installed; pip install -e '.[gguf]'")

from gguf import GGUFReader

from converters.formats import gguf
from converters.formats.gguf import Options
from converters.models import wespeaker
from converters.models.wespeaker import Form
from converters.networks.wespeaker_layout import parameter_shapes
from pipeline.types import QuernError
from tests.converters.gguf_files import DAMAGE, refusal, rewritten


def _converted(folder, precision):
    network = wespeaker.load(wespeaker.synthetic(0), Form())
    network.trained = wespeaker.synthetic(0)
    path = folder / f"{precision}.gguf"
    gguf.convert(network, wespeaker.inputs(Form()), wespeaker.outputs(Form()), {}, Options(precision), path)
    return network, path


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp32"), "fp32")


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp16"), "fp16")


def _inputs():
    generator = np.random.default_rng(0)
    loudness = np.repeat(generator.uniform(0.01, 0.3, (1, 1, 40)), 4000, axis=-1)
    masks = np.zeros((3, 589), np.float32)  # half the frames, none, and soft weights
    masks[0, :300], masks[2] = 1, np.linspace(0, 1, 589)
    return {"audio": (generator.standard_normal((1, 1, 160_000)) * loudness).astype(np.float32), "masks": masks}


def _layers(network, inputs):
    """Return the results of our torch network's parts, in the order of the network."""
    audio, masks = (torch.from_numpy(inputs[name]) for name in ("audio", "masks"))
    with torch.inference_mode():
        found = {"fbank": network.fbank(audio)}
        found["conv1"] = torch.relu(network.trunk.conv1(found["fbank"]))
        signal = found["conv1"]
        for stage in range(1, 5):
            signal = found[f"layer{stage}"] = network.trunk.get_submodule(f"layer{stage}")(signal)
        found["statistics"] = network.pool(signal.flatten(1, 2), masks.unsqueeze(0))
        found["embeddings"] = network.seg_1(found["statistics"])
    return {name: tensor[0].numpy() for name, tensor in found.items()}


def _cosine(one, other):
    one, other = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_the_file_is_what_the_public_runtime_loads(half):
    """Upstream's tensor names without the counters; convolutions and the last matrix F16, statistics F32; six keys."""
    reader = GGUFReader(half[1])
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found.keys() == {name for name in wespeaker.synthetic(0) if not name.endswith("num_batches_tracked")}
    assert all(tensor.tensor_type.name == ("F16" if len(tensor.shape) > 1 else "F32") for tensor in found.values())
    assert found["resnet.layer2.0.shortcut.0.weight"].shape.tolist() == [1, 1, 32, 64]
    assert found["resnet.seg_1.weight"].shape.tolist() == [5120, 256]
    keys = {name: field.contents() for name, field in reader.fields.items() if name.startswith("wespeaker.")}
    assert keys == {
        "wespeaker.sample_rate": 16000,
        "wespeaker.num_mel_bins": 80,
        "wespeaker.frame_length": 25,
        "wespeaker.frame_shift": 10,
        "wespeaker.embed_dim": 256,
        "wespeaker.feat_dim": 80,
    }
    assert reader.fields["general.architecture"].contents() == "wespeaker_resnet34"


def test_tensors_are_the_trained_ones(single, half):
    """To the bit, batch normalisations among them; in half precision the vectors still are."""
    state = wespeaker.synthetic(0)
    for _, path in (single, half):
        for tensor in GGUFReader(path).tensors:
            np.testing.assert_array_equal(tensor.data, state[tensor.name].astype(tensor.data.dtype))


@pytest.mark.slow
def test_ggml_computes_every_stage_as_torch_does(single):
    """In single precision each has a cosine of 0.99999 at least; a mask without frames gives upstream's embedding."""
    network, path = single
    wanted = _layers(network, _inputs())
    found = gguf.layers(path, "declared", _inputs())
    assert list(found) == list(wanted)
    for name in wanted:
        assert _cosine(found[name], wanted[name]) > 0.99999, name
    np.testing.assert_allclose(found["embeddings"], wanted["embeddings"], atol=1e-3)


@pytest.mark.slow
def test_half_precision_keeps_the_embeddings(half):
    """A cosine of 0.9999 for every mask (measured 0.999998)."""
    network, path = half
    found = gguf.runner(path, "declared")(_inputs())["embeddings"]
    wanted = _layers(network, _inputs())["embeddings"]
    assert min(_cosine(*pair) for pair in zip(found, wanted, strict=True)) > 0.9999


@pytest.mark.parametrize("change", [{"audio": np.zeros((3, 16000))}, {"masks": np.zeros(589)}, {"masks": None}])
def test_inputs_of_another_shape_are_refused(half, change):
    """One sentence with the shape that is expected."""
    arrays = {name: array for name, array in (_inputs() | change).items() if array is not None}
    with pytest.raises(QuernError, match=f"{next(iter(change))} of shape"):
        gguf.runner(half[1], "declared")(arrays)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architecture": "pyannet"}, "tensor sincnet.0.conv.weight is missing"),
        ({"architecture": "resnet34"}, "architecture 'resnet34'; expected pyannet or wespeaker_resnet34 or plda"),
        ({"keys": {"wespeaker.num_mel_bins": 40}}, "wespeaker.num_mel_bins is 40, and its tensors make it 80"),
        ({"tensors": {"resnet.bn1.bias": np.zeros(16, np.float32)}}, "expected shape [32], found [16]"),
        ({"tensors": {"resnet.seg_1.bias": np.zeros(256)}}, "resnet.seg_1.bias: expected F32 or F16, found F64"),
        ({"tensors": {"resnet.layer4.2.bn2.running_var": None}}, "resnet.layer4.2.bn2.running_var is missing"),
        ({"tensors": {"resnet.seg_2.bias": np.zeros(256, np.float32)}}, "unexpected tensor 'resnet.seg_2.bias'"),
    ],
)
def test_files_of_another_network_are_refused(half, tmp_path, change, expected):
    """Architecture, keys, shapes, types, names: one sentence with the file's name."""
    other = rewritten(half[1], tmp_path / "other.gguf", **change)
    assert expected in refusal(gguf.runner, other, QuernError)


@pytest.mark.parametrize(("damage", "expected"), DAMAGE)
def test_damaged_files_are_refused(half, tmp_path, damage, expected):
    """Truncated, foreign, of another version: one sentence."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(half[1].read_bytes()))
    assert expected in refusal(gguf.runner, path, QuernError)


ALONE = """
import sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
print(reader.fields["general.architecture"].contents(), sum(tensor.data.size for tensor in reader.tensors))
assert not [name for name in sys.modules if name.split(".")[0] in ("converters", "pipeline", "mil", "diarization")]
"""


def test_the_file_loads_where_nothing_of_ours_is(half, tmp_path):
    """Another process, isolated and elsewhere, reads every tensor of it with gguf alone."""
    command = [sys.executable, "-I", "-c", ALONE, str(half[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    elements = sum(np.prod(shape) for shape in parameter_shapes().values())
    assert done.stdout.split() == ["wespeaker_resnet34", str(elements)]
