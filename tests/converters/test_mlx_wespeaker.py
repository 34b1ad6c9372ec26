"""The embedding network as an MLX folder, and what MLX computes from it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("mlx.core", reason="mlx is not installed; pip install -e '.[mlx]'")

import mlx.core as mx

from converters.formats import mlx
from converters.formats.mlx import Options
from converters.mlx_networks import wespeaker as model
from converters.models import wespeaker
from converters.models.wespeaker import Form


def _converted(folder, precision):
    network = wespeaker.load(wespeaker.synthetic(0), Form())
    path = folder / f"{precision}.mlx"
    mlx.convert(network, wespeaker.inputs(Form()), wespeaker.outputs(Form()), {}, Options(precision), path)
    return network, path


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp32"), "fp32")


def _audio(seconds):
    generator = np.random.default_rng(0)
    loudness = np.repeat(generator.uniform(0.01, 0.3, (1, 1, int(4 * seconds))), 4000, axis=-1)
    return (generator.standard_normal(loudness.shape) * loudness).astype(np.float32)


def _masks():
    masks = np.zeros((3, 589), np.float32)  # half the frames, none, and soft weights
    masks[0, :300], masks[2] = 1, np.linspace(0, 1, 589)
    return masks


def _cosine(one, other):
    one, other = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def test_the_parts_compute_as_torch_does(single):
    """Filter bank and trunk on a second of audio, statistics under hard, empty and soft masks: cosines of 0.99999."""
    network, folder = single
    ours, audio = model.load(folder), _audio(1)
    features = np.random.default_rng(1).standard_normal((1, 2560, 125)).astype(np.float32)
    with torch.inference_mode():
        fbank = network.fbank(torch.from_numpy(audio))
        trunk = network.trunk(fbank).numpy()
        pooled = network.pool(torch.from_numpy(features), torch.from_numpy(_masks())[None]).numpy()
    found = ours.fbank(mx.array(audio[:, 0]))
    assert _cosine(np.array(found).swapaxes(1, 2), fbank.numpy()[:, 0]) > 0.99999
    assert _cosine(np.array(ours.trunk(found)).swapaxes(1, 2), trunk) > 0.99999
    statistics = np.array(model.statistics(mx.array(features.swapaxes(1, 2)), mx.array(_masks()[None])))
    np.testing.assert_allclose(statistics, pooled, atol=1e-4)


@pytest.mark.slow
def test_embeddings_are_torchs(single):
    """Of ten seconds under three masks, from the folder alone: a cosine of 0.999999 at least."""
    network, folder = single
    inputs = {"audio": _audio(10), "masks": _masks()}
    with torch.inference_mode():
        wanted = network(*(torch.from_numpy(inputs[name]) for name in ("audio", "masks"))).numpy()
    found = mlx.runner(folder, "declared")(inputs)["embeddings"]
    assert min(_cosine(*pair) for pair in zip(found, wanted, strict=True)) > 0.999999


@pytest.mark.parametrize("bits", [8, 4])
def test_the_last_layer_is_quantized_as_mlx_does_it(tmp_path, bits):
    """It multiplies by the matrix that MLX's own quantization leaves, and no other layer is quantized."""
    network, folder = _converted(tmp_path, f"q{bits}")
    weight, bias = (tensor.numpy() for tensor in (network.seg_1.weight, network.seg_1.bias))
    rounded = mx.dequantize(*mx.quantize(mx.array(weight), 64, bits), 64, bits)
    statistics = np.random.default_rng(0).standard_normal((3, weight.shape[1])).astype(np.float32)
    found = np.array(model.load(folder).seg_1(mx.array(statistics)))
    assert _cosine(found, statistics @ np.array(rounded).T + bias) > 0.999999
    packed = [n for n, t in mx.load(str(folder / "weights.safetensors")).items() if t.dtype == mx.uint32]
    assert packed == ["seg_1.weight"]


def test_half_precision_spares_the_filter_bank(tmp_path):
    """In half it would be off by up to 2 in log-mel; all else is halved."""
    _, folder = _converted(tmp_path, "fp16")
    kinds = {name: str(tensor.dtype) for name, tensor in mx.load(str(folder / "weights.safetensors")).items()}
    assert {kind for name, kind in kinds.items() if name.startswith("fbank.")} == {"mlx.core.float32"}
    assert {kind for name, kind in kinds.items() if not name.startswith("fbank.")} == {"mlx.core.float16"}


def test_the_folder_loads_where_nothing_of_ours_is(single, tmp_path):
    """Another process, isolated and elsewhere, makes an embedding with mlx alone."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mlx.core as mx, model;"
        "print(model.load(sys.argv[1])(mx.zeros((1, 4000)), mx.ones((1, 2, 15))).shape);"
        "assert not {'converters', 'pipeline', 'torch', 'numpy'} & set(sys.modules)"
    )
    command = [sys.executable, "-I", "-c", program, str(single[1])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 2, 256)"
