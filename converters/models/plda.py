"""Probabilistic linear discriminant analysis: embeddings in the space where VBx tells speakers apart.

Covers the PLDA of pyannote/speaker-diarization-community-1, made for the embeddings of its WeSpeaker network.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.networks.processors import speech
from converters.networks.processors.sizes import Size, axis, checked_size
from converters.networks.wespeaker_layout import DIMENSION
from converters.npz import read_npz
from pipeline.types import Arrays, Example, QuernError, Recording, Runner, Tensor

if TYPE_CHECKING:
    from converters.networks.processors.plda import PldaRho

FILES = (("plda.npz", "xvec_transform.npz"),)

FEATURES = 128
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "plda.npz": {"mu": (FEATURES,), "tr": (FEATURES, FEATURES), "psi": (FEATURES,)},
    "xvec_transform.npz": {"mean1": (DIMENSION,), "mean2": (FEATURES,), "lda": (DIMENSION, FEATURES)},
}
PARAMETERS = "plda-parameters.json"


@dataclass(frozen=True)
class Form:
    """What a variant may choose.

    batch   embeddings per call: a number, or the least and the most where the caller chooses
    """

    batch: Size = (1, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch", checked_size("batch", self.batch))


def metadata(form: Form) -> dict[str, str]:
    """Return what an app has to know about the features."""
    return {"features": str(FEATURES), "scaled_by_sqrt_psi": "false", "parameters": PARAMETERS}


def inputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one input: embeddings as the embedding network puts them out; their length does matter."""
    return (Tensor("embeddings", ("batch", "dimension"), (axis(form.batch), DIMENSION), "float32", "embedding"),)


def outputs(form: Form) -> tuple[Tensor, ...]:
    """Return the one output: features of unit covariance within speakers and covariance diag(psi) between them.

    They are upstream's PLDA features. What Landini et al. call ρ is these times √psi; apps do that themselves, with the
    psi that stands in the sidecar.
    """
    return (Tensor("rho", ("batch", "feature"), (axis(form.batch), FEATURES), "float32", "PLDA feature"),)


def read(files: Mapping[str, Path]) -> Arrays:
    """Return the trained tensors of a checkpoint, float64.

    Raises QuernError, one sentence with the file's name, for files that are not a PLDA's.
    """
    found = {name: array for file, shapes in SHAPES.items() for name, array in read_npz(files[file], shapes).items()}
    path = files["plda.npz"]
    if found["psi"].min() <= 0:
        raise QuernError(f"{path}: psi: a covariance of {found['psi'].min():g}; expected all above zero")
    if np.linalg.matrix_rank(found["tr"]) < FEATURES:
        raise QuernError(f"{path}: tr: rows that depend on each other; expected a matrix that can be inverted")
    return {name: array.astype(np.float64) for name, array in found.items()}


def load(state: Arrays, form: Form) -> "PldaRho":
    """Return our network with these tensors."""
    from converters.networks.processors.plda import PldaRho

    return PldaRho(state).eval()


def reference(state: Arrays, form: Form) -> Runner:
    """Return pyannote.audio's own PLDA with these tensors, float64; raises ImportError where it is not installed."""
    from converters.upstream import pyannote_vbx_setup

    archives = {name: io.BytesIO() for name in SHAPES}
    for name, shapes in SHAPES.items():
        np.savez(archives[name], **{tensor: state[tensor] for tensor in shapes})  # type: ignore[arg-type]
        archives[name].seek(0)
    to_narrow, to_features, _ = pyannote_vbx_setup()(archives["xvec_transform.npz"], archives["plda.npz"])
    return lambda arrays: {"rho": to_features(to_narrow(arrays["embeddings"].astype(np.float64)))}


def examples(form: Form, recordings: Sequence[Recording], thorough: bool = False) -> Iterator[Example]:
    """Yield seeded embeddings, whatever the recordings, at the least batch, the most, and two between.

    said     of the length that the embedding network gives them
    unit     of length one
    long     a hundred times as long
    warm_up  zeros, as an app sends first
    """
    bounds = form.batch if isinstance(form.batch, tuple) else (form.batch, form.batch)
    for batch in sorted({bounds[0], *(size for size in (2, 7) if bounds[0] < size < bounds[1]), bounds[1]}):
        said = speech.embeddings(batch, seed=batch)
        unit = (said / np.linalg.norm(said, axis=1, keepdims=True)).astype(np.float32)
        cases = {"said": said, "unit": unit, "long": 100 * said, "warm_up": np.zeros_like(said)}
        for name, embeddings in cases.items():
            yield Example(f"{name}_{batch}", {"embeddings": embeddings})


def synthetic(seed: int) -> Arrays:
    """Return a seeded stand-in for the trained tensors, of their shapes, the same bytes on every machine.

    The transform is that of a random matrix near the identity, so it can be inverted; psi is in no order, so that
    sorting it does something.
    """
    generator = np.random.default_rng(seed)
    return {
        "mu": _uniform(generator, (FEATURES,), 0.125),
        "tr": 2 * np.eye(FEATURES) + _uniform(generator, (FEATURES, FEATURES), 0.125),
        "psi": (generator.permutation(FEATURES) + 1.0) * 2.0**-3,
        "mean1": _uniform(generator, (DIMENSION,), 0.125),
        "mean2": _uniform(generator, (FEATURES,), 0.125),
        "lda": _uniform(generator, (DIMENSION, FEATURES), 1.0),
    }


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Return float64 draws from [−gain, gain): integers of 24 bits times a power of two, so nothing is ever rounded."""
    return generator.integers(-(2**23), 2**23, size=shape) * (gain * 2.0**-23)


def sidecars(state: Arrays, form: Form) -> dict[str, bytes]:
    """Return `plda-parameters.json`: what clustering needs beside the features, and what they are made with.

    Every tensor is float32, little-endian, row by row, in base64, whatever the checkpoint has: apps decode no other.
    With x an embedding, n(·) scaling to length one, and the tensors' names:

        y = √256 · n(x − mean1) · lda − mean2;   rho = transform · (√128 · n(y) − mu)
    """
    from converters.networks.processors.plda import diagonal

    found = diagonal(state["tr"], state["psi"])
    tensors = {name: state[name] for name in ("mean1", "lda", "mean2", "mu")}
    tensors |= {"transform": found.transform, "psi": found.psi}
    content = {"tensors": {name: _described(tensor) for name, tensor in tensors.items()}}
    return {PARAMETERS: (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()}


def _described(tensor: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(tensor, "<f4").tobytes()
    return {
        "shape": list(tensor.shape),
        "dtype": "float32",
        "byte_order": "little",
        "sha256": hashlib.sha256(content).hexdigest(),
        "data_base64": base64.b64encode(content).decode(),
    }
