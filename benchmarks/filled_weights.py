"""A compiled bundle without its weights, filled in: the fbank as it is, all else seeded.

The published WeSpeaker program names its weights by offset, type and shape. The cosines, sines, window and mel filters
of its fbank follow from formulas; every other weight is drawn at a scale that keeps activations near one.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mil.blob import BlobWriter
from mil.bundle import open_bundle
from mil.schema import MIL_pb2
from mil.traverse import block_of, operations
from mil.types import BY_NAME
from mil.values import tensor_type
from optimizations.analytic import spectral
from optimizations.palettes import palette
from optimizations.palettes.palette import Layout

# What the palettes of the fbank are: of least squared error, or 256 values evenly apart, coremltools' mode "uniform".
Palettes = Literal["optimal", "even"]
_FILE = Path("weights") / "weight.bin"
_ENTRIES = 256
_BIAS_SCALE = 0.05


def filled(bundle: Path, destination: Path, palettes: Palettes = "optimal", seed: int = 0) -> Path:
    """Write a copy of the published WeSpeaker bundle, with weights of the right shapes, to `destination`."""
    (destination / "weights").mkdir(parents=True)
    for name in ("model.mil", "metadata.json"):
        shutil.copyfile(bundle / name, destination / name)
    block = block_of(open_bundle(bundle).spec.mlProgram.functions["main"])
    generator = np.random.default_rng(seed)
    made = dict(pair for operation in operations(block) for pair in _entries(operation, palettes, generator))
    with BlobWriter(destination / _FILE) as writer:
        for offset, (values, kind) in sorted(made.items()):
            written = writer.append(values, BY_NAME[kind])
            if written != offset:
                raise ValueError(f"{bundle}: a constant is at {offset}, and its predecessors end at {written}")
    return destination


def _entries(
    operation: MIL_pb2.Operation, palettes: Palettes, generator: np.random.Generator
) -> Iterator[tuple[int, tuple[np.ndarray, str]]]:
    """Yield the entries of the weight file that an operation refers to: offset, values and element type."""
    held = {key: value for key, value in operation.attributes.items() if value.WhichOneof("value") == "blobFileValue"}
    if not held:
        return
    kind = tensor_type(operation.outputs[0].type)
    assert kind is not None
    shape = kind.known_shape()
    exact = _exact(operation.outputs[0].name, shape)
    if operation.type == "const":
        values = _drawn(shape, generator) if exact is None else exact
        yield held["val"].blobFileValue.offset, (values.astype(np.float32), "fp32")
        return
    if exact is None:
        entries = np.sort(generator.standard_normal(_ENTRIES)) / math.sqrt(math.prod(shape[1:]))
        indices = generator.integers(0, _ENTRIES, math.prod(shape)).astype(np.uint8)
    else:
        indices, entries = _palette(exact, palettes)
    parts: dict[str, tuple[np.ndarray, str]] = {
        "indices": (indices, "uint8"),
        "lut": (entries.astype(np.float32), "fp32"),
        "shape": (np.array(shape, np.uint32), "uint32"),
    }
    yield from ((value.blobFileValue.offset, parts[key]) for key, value in held.items())


def _exact(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a constant of the fbank, known by its shape; None for a weight of the network."""
    match shape:
        case (512, 512):
            return spectral.fourier("cos" if name.startswith("cos") else "sin", 512, 512)
        case (1, 400):
            return spectral.window("hamming", 400, periodic=False)[None]
        case (80, 257):
            return spectral.kaldi_mel_filters(80, 257, 16000, 20, 8000)
        case (80,):
            return np.zeros(80)  # the bias of the mel filters
    return None


def _drawn(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    scale = _BIAS_SCALE if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
    return scale * generator.standard_normal(shape)


def _palette(exact: np.ndarray, palettes: Palettes) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and entries."""
    if palettes == "optimal":
        made = palette.make(exact.astype(np.float32), Layout(8))
        return made.indices, made.entries[0]
    entries = np.linspace(exact.min(), exact.max(), _ENTRIES)
    step = entries[1] - entries[0]
    return np.round((exact - entries[0]) / step).astype(np.uint8).reshape(-1), entries
