"""PLDA: features as upstream computes them, from files that are checked, with the parameters beside them."""

import base64
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.models import plda as plugin
from converters.models.plda import Form
from converters.networks.processors import speech
from converters.networks.processors.plda import diagonal
from pipeline.types import Arrays, QuernError, Range
from tests.converters.processors import converted, examples, furthest, operations, ours
from tests.fixtures import FIXTURES, needs_fixtures

ROOT = Path(__file__).parents[2]
FOLDER = FIXTURES / "plda-community-1"
MOST = 1e-5

needs_upstream = pytest.mark.skipif(
    importlib.util.find_spec("pyannote") is None, reason="pyannote.audio is not installed; pip install -e .[reference]"
)


def _trained() -> Arrays:
    return plugin.read({name: FOLDER / name for name in plugin.SHAPES})


def _states() -> list:
    return [pytest.param(_trained, id="trained", marks=needs_fixtures), pytest.param(_stand_in, id="synthetic")]


def _stand_in() -> Arrays:
    return plugin.synthetic(0)


def _definition(state: Arrays):
    """The features step by step, in float64, with the diagonalisation left to LAPACK."""
    within = np.linalg.inv(state["tr"].T @ state["tr"])
    between = np.linalg.inv(state["tr"].T @ np.diag(1 / state["psi"]) @ state["tr"])
    whitening = np.linalg.inv(np.linalg.cholesky(within))
    _, rotation = np.linalg.eigh(whitening @ between @ whitening.T)
    transform = (rotation.T @ whitening)[::-1]

    def run(arrays: Arrays) -> Arrays:
        centred = arrays["embeddings"].astype(np.float64) - state["mean1"]
        narrow = 16 * _unit(centred) @ state["lda"] - state["mean2"]
        return {"rho": (np.sqrt(128) * _unit(narrow) - state["mu"]) @ transform.T}

    return run


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt(np.square(rows).sum(axis=1, keepdims=True))


def test_names_and_shapes_are_those_of_the_contract() -> None:
    """embeddings [b, 256] → rho [b, 128] for any b from 1 to 32, float32."""
    [embeddings], [rho] = plugin.inputs(Form()), plugin.outputs(Form())
    assert (embeddings.name, embeddings.shape, embeddings.dtype) == ("embeddings", (Range(1, 32), 256), "float32")
    assert (rho.name, rho.shape, rho.dtype) == ("rho", (Range(1, 32), 128), "float32")


@needs_fixtures
def test_features_are_those_of_the_validation_file(tmp_path) -> None:
    """Inputs and outputs that come with the checkpoint: in torch and converted within 1e-5, of values up to 5.9."""
    with np.load(FOLDER / "plda_validation.npz", allow_pickle=False) as file:
        given, wanted = {"embeddings": file["test_embeddings"]}, file["plda_transform_output"]
    for run in (ours(plugin, Form(), _trained()), converted(plugin, Form(), _trained(), tmp_path)):
        assert np.abs(run(given)["rho"] - wanted).max() <= MOST


@pytest.mark.parametrize("state", _states())
def test_features_are_those_of_the_definition(tmp_path, state) -> None:
    """For one to 32 embeddings, long, short and zero, in torch and converted within 1e-5; 27 operations."""
    cases, definition = examples(plugin, Form()), _definition(state())
    assert {len(case.inputs["embeddings"]) for case in cases} >= {1, 32}
    for run in (ours(plugin, Form(), state()), converted(plugin, Form(), state(), tmp_path)):
        assert furthest(run, definition, cases)["rho"] <= MOST
    assert sum(operations(tmp_path).values()) == 27


@pytest.mark.reference
@needs_upstream
@pytest.mark.parametrize("state", _states())
def test_the_definition_is_upstreams(state) -> None:
    """pyannote.audio's own code on the same tensors, in double precision, signs included."""
    upstream = plugin.reference(state(), Form())
    assert furthest(_definition(state()), upstream, examples(plugin, Form()))["rho"] <= 1e-9


def test_an_embedding_at_the_mean_is_a_number() -> None:
    """Upstream divides zero by zero there; here its direction is that of no embedding."""
    state = _stand_in()
    mean = state["mean1"].astype(np.float32)[np.newaxis]
    assert np.isfinite(ours(plugin, Form(), state)({"embeddings": mean})["rho"]).all()


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    """A row of 32 gives what it gives alone, up to the rounding of another order of sums."""
    run, rows = ours(plugin, Form(), _stand_in()), speech.embeddings(32, seed=0)
    alone = np.concatenate([run({"embeddings": row[np.newaxis]})["rho"] for row in rows])
    np.testing.assert_allclose(run({"embeddings": rows})["rho"], alone, atol=MOST)


def _covariances(tr: np.ndarray, psi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.linalg.inv(tr.T @ tr), np.linalg.inv((tr.T / psi) @ tr)


@pytest.mark.parametrize("state", _states())
def test_the_transform_makes_both_covariances_diagonal(state) -> None:
    """Identity within speakers, psi between them, the largest first; and its rows are the checkpoint's, to the bit."""
    tensors = state()
    found = diagonal(tensors["tr"], tensors["psi"])
    within, between = _covariances(tensors["tr"], tensors["psi"])
    np.testing.assert_allclose(found.transform @ within @ found.transform.T, np.eye(128), atol=1e-10)
    np.testing.assert_allclose(found.transform @ between @ found.transform.T, np.diag(found.psi), atol=1e-10)
    assert (np.diff(found.psi) < 0).all()
    order = np.argsort(-tensors["psi"])
    np.testing.assert_array_equal(np.abs(found.transform), np.abs(tensors["tr"][order]))


@given(st.integers(0, 2**32), st.integers(2, 12))
@settings(max_examples=30, deadline=None)
def test_rows_of_the_transform_are_the_generalised_eigenvectors(seed: int, size: int) -> None:
    """For any invertible matrix and any psi: Bv = ψWv, which is why no decomposition is needed for the values."""
    generator = np.random.default_rng(seed)
    tr = 2 * np.eye(size) + generator.uniform(-0.3, 0.3, (size, size))
    psi = generator.permutation(size) + generator.uniform(0.1, 0.9, size)
    found, (within, between) = diagonal(tr, psi), _covariances(tr, psi)
    np.testing.assert_allclose(between @ found.transform.T, within @ found.transform.T * found.psi, atol=1e-9)


_DIGEST = """
import hashlib
from converters.models import plda
state = plda.synthetic(3)
total = hashlib.sha256(b"".join(name.encode() + state[name].tobytes() for name in sorted(state)))
total.update(plda.sidecars(state, plda.Form())["plda-parameters.json"])
network = plda.load(state, plda.Form())
total.update(b"".join(buffer.numpy().tobytes() for _, buffer in network.named_buffers()))
print(total.hexdigest())
"""


def test_stand_in_and_parameters_are_the_same_bytes_whatever_the_cpu_can_do() -> None:
    """With kernels of another processor in the linear algebra, and numpy's vector instructions off."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    present = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    old = {"NPY_DISABLE_CPU_FEATURES": present, "OPENBLAS_CORETYPE": "Prescott", "PYTHONHASHSEED": "7"}
    digests = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            cwd=ROOT,
            env=os.environ | other,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for other in ({}, old)
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("state", _states())
def test_the_sidecar_is_all_that_the_features_need(state) -> None:
    """Float32 in base64, 128 values of psi among them; from it alone features follow as the docstring says."""
    [(name, content)] = plugin.sidecars(state(), Form()).items()
    assert name == "plda-parameters.json"
    tensors = json.loads(content)["tensors"]
    decoded = {}
    for tensor, described in tensors.items():
        raw = base64.b64decode(described["data_base64"], validate=True)
        assert hashlib.sha256(raw).hexdigest() == described["sha256"]
        assert (described["dtype"], described["byte_order"]) == ("float32", "little")
        decoded[tensor] = np.frombuffer(raw, "<f4").reshape(described["shape"]).astype(np.float64)
    assert decoded["psi"].shape == (128,)
    np.testing.assert_allclose(decoded["psi"], np.sort(state()["psi"])[::-1], rtol=1e-7)
    embeddings = speech.embeddings(4, seed=0)
    narrow = 16 * _unit(embeddings - decoded["mean1"]) @ decoded["lda"] - decoded["mean2"]
    features = (np.sqrt(128) * _unit(narrow) - decoded["mu"]) @ decoded["transform"].T
    np.testing.assert_allclose(features, _definition(state())({"embeddings": embeddings})["rho"], atol=MOST)


def _written(folder: Path, **changes: np.ndarray) -> dict[str, Path]:
    state = _stand_in() | changes
    for file, shapes in plugin.SHAPES.items():
        np.savez(folder / file, **{name: state[name] for name in shapes})
    return {file: folder / file for file in plugin.SHAPES}


def test_a_checkpoint_is_read_in_double_precision(tmp_path) -> None:
    """Tensors that are float32 in the file are widened, which is exact."""
    state = _stand_in()
    found = plugin.read(_written(tmp_path, lda=state["lda"].astype(np.float32)))
    assert found.keys() == state.keys()
    assert all(found[name].dtype == np.float64 and np.array_equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tr": np.eye(64)}, "plda.npz: array 'tr': shape [64, 64] instead of [128, 128]"),
        ({"lda": np.zeros((128, 256))}, "xvec_transform.npz: array 'lda': shape [128, 256]"),
        ({"psi": np.full(128, np.nan)}, "plda.npz: not finite floating-point numbers: psi"),
        ({"mu": np.full(128, None)}, "plda.npz: array 'mu': holds Python objects"),
        ({"psi": np.arange(128.0)}, "plda.npz: psi: a covariance of 0; expected all above zero"),
        ({"tr": np.ones((128, 128))}, "plda.npz: tr: rows that depend on each other"),
    ],
)
def test_foreign_checkpoints_are_refused(tmp_path, changes: dict, expected: str) -> None:
    """One sentence with the file's name and what is wrong."""
    with pytest.raises(QuernError) as caught:
        plugin.read(_written(tmp_path, **changes))
    assert expected in str(caught.value).replace("foreign checkpoint, of another network or cut short: ", "")


def test_files_that_are_swapped_or_cut_short_are_refused(tmp_path) -> None:
    """By what they hold, not by their name."""
    files = _written(tmp_path)
    with pytest.raises(QuernError, match=r"plda\.npz|xvec_transform\.npz.*expected the arrays"):
        plugin.read(dict(zip(files, reversed(files.values()), strict=True)))
    files["plda.npz"].write_bytes(files["plda.npz"].read_bytes()[:1000])
    with pytest.raises(QuernError, match=r"plda\.npz: truncated"):
        plugin.read(files)
