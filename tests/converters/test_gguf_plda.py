"""PLDA as a GGUF file: what public runtimes find in it, and the features that follow from it."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gguf", reason="gguf is not installed; pip install -e '.[gguf]'")
pytest.importorskip("ggml", reason="ggml-python is not installed; pip install -e '.[gguf]'")

from gguf import GGUFReader

from converters.formats import gguf
from converters.formats.gguf import Options
from converters.models import plda
from converters.models.plda import Form
from converters.networks.processors import speech
from converters.networks.processors.plda import diagonal
from pipeline.types import QuernError
from tests.converters.gguf_files import DAMAGE, refusal, rewritten
from tests.converters.processors import ours
from tests.fixtures import FIXTURES, needs_fixtures


def _converted(folder, state, precision="fp64"):
    network, path = plda.load(state, Form()), folder / "plda.gguf"
    network.trained = state
    gguf.convert(network, plda.inputs(Form()), plda.outputs(Form()), {}, Options(precision), path)
    return path


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("plda"), plda.synthetic(0))


def test_the_file_is_what_the_public_runtime_loads(synthetic):
    """Six tensors in double precision, the innermost axis first, and the two keys that say how long they are."""
    reader = GGUFReader(synthetic)
    assert {tensor.name: tensor.shape.tolist() for tensor in reader.tensors} == {
        "plda.mean1": [256],
        "plda.mean2": [128],
        "plda.lda": [128, 256],
        "plda.mu": [128],
        "plda.tr": [128, 128],
        "plda.psi": [128],
    }
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F64"}
    keys = {name: field.contents() for name, field in reader.fields.items() if name.startswith("plda.")}
    assert keys == {"plda.xvec_dim": 256, "plda.lda_dim": 128}
    assert {reader.fields[name].types[0].name for name in keys} == {"UINT32"}
    assert reader.fields["general.architecture"].contents() == "plda"


def test_tensors_are_the_trained_ones_made_diagonal(synthetic):
    """tr and psi of the joint diagonalisation, the rest as in the checkpoint, all to the bit."""
    state = plda.synthetic(0)
    found = diagonal(state["tr"], state["psi"])
    wanted = state | {"tr": found.transform, "psi": found.psi}
    for tensor in GGUFReader(synthetic).tensors:
        np.testing.assert_array_equal(tensor.data, wanted[tensor.name.removeprefix("plda.")])
    assert (np.diff(found.psi) < 0).all()


@needs_fixtures
def test_features_are_those_of_the_validation_file(tmp_path):
    """Inputs and outputs that come with the checkpoint: within 1e-5, of values up to 5.9 (measured 2.4e-7)."""
    folder = FIXTURES / "plda-community-1"
    path = _converted(tmp_path, plda.read({name: folder / name for name in plda.SHAPES}))
    with np.load(folder / "plda_validation.npz", allow_pickle=False) as file:
        embeddings, wanted = file["test_embeddings"], file["plda_transform_output"]
    found = gguf.runner(path, "declared")({"embeddings": embeddings})["rho"]
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= 1e-5


def test_features_are_those_of_our_network(synthetic):
    """For one embedding and for 32, and for zeros; every step is there to be looked at."""
    run, network = gguf.runner(synthetic, "declared"), ours(plda, Form(), plda.synthetic(0))
    for embeddings in (speech.embeddings(1, seed=0), speech.embeddings(32, seed=1), np.zeros((2, 256), np.float32)):
        given = {"embeddings": embeddings}
        np.testing.assert_allclose(run(given)["rho"], network(given)["rho"], atol=1e-5)
    layers = gguf.layers(synthetic, "declared", given)
    assert list(layers) == ["centred", "projected", "scaled", "rho"]
    np.testing.assert_allclose(np.linalg.norm(layers["scaled"], axis=1), np.sqrt(128))


def test_an_embedding_at_the_mean_is_a_number(tmp_path):
    """Its direction is that of no embedding, as in the runtimes."""
    state = plda.synthetic(0)
    state["mean1"] = state["mean1"].astype(np.float32).astype(np.float64)
    path = _converted(tmp_path, state)
    mean = state["mean1"].astype(np.float32)[np.newaxis]
    assert np.isfinite(gguf.runner(path, "declared")({"embeddings": mean})["rho"]).all()


def test_other_precisions_are_refused(tmp_path):
    """Runtimes read doubles, whatever the file says; the exact options are the declared ones."""
    with pytest.raises(QuernError, match="plda: precision fp16; its runtimes read fp64"):
        _converted(tmp_path, plda.synthetic(0), "fp16")
    assert gguf.exact(Options("fp64")) == Options("fp64")


@pytest.mark.parametrize("shape", [(256,), (0, 256), (3, 128)])
def test_embeddings_of_another_shape_are_refused(synthetic, shape):
    """One sentence with the shape that is expected."""
    with pytest.raises(QuernError, match=r"embeddings of shape .*; expected \[batch, 256\]"):
        gguf.runner(synthetic, "declared")({"embeddings": np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"architecture": "vbx"}, "architecture 'vbx'; expected pyannet or wespeaker_resnet34 or plda"),
        ({"keys": {"plda.lda_dim": 64}}, "plda.lda_dim is 64, and its tensors make it 128"),
        ({"tensors": {"plda.lda": np.zeros((128, 256))}}, "plda.lda: expected shape [256, 128], found [128, 256]"),
        ({"tensors": {"plda.psi": np.zeros(128, np.float32)}}, "plda.psi: expected F64, found F32"),
        ({"tensors": {"plda.mu": None}}, "plda.mu is missing"),
        ({"tensors": {"plda.more": np.zeros(3)}}, "unexpected tensor 'plda.more'"),
    ],
)
def test_files_of_another_network_are_refused(synthetic, tmp_path, change, expected):
    """Architecture, keys, shapes, types, names: one sentence with the file's name."""
    other = rewritten(synthetic, tmp_path / "other.gguf", **change)
    assert expected in refusal(gguf.runner, other, QuernError)


@pytest.mark.parametrize(("damage", "expected"), DAMAGE)
def test_damaged_files_are_refused(synthetic, tmp_path, damage, expected):
    """Truncated, foreign, of another version: one sentence."""
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(synthetic.read_bytes()))
    assert expected in refusal(gguf.runner, path, QuernError)


ALONE = """
import sys
from gguf import GGUFReader
print(sum(tensor.data.size for tensor in GGUFReader(sys.argv[1]).tensors))
assert not [name for name in sys.modules if name.split(".")[0] in ("converters", "pipeline", "mil", "diarization")]
"""


def test_the_file_loads_where_nothing_of_ours_is(synthetic, tmp_path):
    """Another process, isolated and elsewhere, reads it with gguf alone."""
    command = [sys.executable, "-I", "-c", ALONE, str(synthetic)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 256 + 128 + 256 * 128 + 128 + 128 * 128 + 128
