"""A tiny Sortformer, its checkpoint as NeMo would write it, and inputs for its forms."""

import io
import itertools
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import mil
from converters.formats import coreml
from converters.models import sortformer
from converters.models.sortformer import Form
from converters.nemo import CONFIG, WEIGHTS
from converters.networks.sortformer.layout import SETTINGS, Sizes, unused_shapes
from converters.networks.sortformer.stand_in import stand_in
from optimizations import palettize
from pipeline.types import Arrays

TINY = Sizes(
    mels=16,
    channels=8,
    width=32,
    inner=128,
    conformer_layers=2,
    conformer_heads=4,
    narrow=24,
    narrow_inner=48,
    transformer_layers=3,
    transformer_heads=4,
)
STREAMING = Form(chunk=3, right=2, fifo=10, spkcache=24, update_period=7, width=32, mels=16)
OFFLINE = Form(kind="offline", window_s=2.0, width=32, mels=16)
PREPROCESSOR = Form(kind="preprocessor", window_s=2.0, width=32, mels=16)

# Filled lengths of chunk (mel frames), cache and fifo of STREAMING: all, a cold start, half full, an empty fifo, a last
# chunk of one mel frame, and nothing at all.
FILLED = [(48, 24, 10), (48, 0, 0), (35, 12, 3), (47, 24, 0), (9, 0, 10), (1, 24, 10), (0, 0, 0)]

# The longest published context, in the smallest network.
LONGEST = Form(chunk=340, right=40, update_period=300, width=8, mels=8)
SMALLEST = Sizes(
    mels=8,
    channels=2,
    width=8,
    inner=8,
    conformer_layers=1,
    conformer_heads=2,
    narrow=8,
    narrow_inner=8,
    transformer_layers=1,
    transformer_heads=2,
)


def tiny_state(seed: int = 1) -> Arrays:
    return stand_in(TINY, seed)


def configuration(sizes: Sizes = TINY) -> dict[str, Any]:
    """Return what NeMo's configuration says of these sizes, with references as NeMo writes them."""
    return {
        "sample_rate": 16000,
        "model_defaults": {"fc_d_model": sizes.width, "tf_d_model": sizes.narrow},
        "preprocessor": {
            "sample_rate": "${sample_rate}",
            "normalize": "NA",
            "window_size": 0.025,
            "window_stride": 0.01,
            "features": sizes.mels,
            "n_fft": 512,
        },
        "encoder": {
            "d_model": "${model.model_defaults.fc_d_model}",
            "n_heads": sizes.conformer_heads,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "att_context_size": [-1, -1],
            "xscaling": sizes.scaled,
        },
        "transformer_encoder": {"num_attention_heads": sizes.transformer_heads, "pre_ln": False},
    }


def saved(state: Arrays, sizes: Sizes = TINY) -> bytes:
    """Return the state dict as torch.save writes it, with the tensors that NeMo has and we do without."""
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items() if name not in SETTINGS}
    unused = {name: torch.zeros(shape) if shape else torch.tensor(3) for name, shape in unused_shapes(sizes).items()}
    file = io.BytesIO()
    torch.save(tensors | unused, file)
    return file.getvalue()


def write_nemo(path: Path, config: dict[str, Any] | bytes, weights: bytes, compressed: bool = False) -> Path:
    """Write an archive as NeMo does: two files under "./"."""
    content = config if isinstance(config, bytes) else yaml.safe_dump(config).encode()
    with tarfile.open(path, "w:gz" if compressed else "w") as archive:
        for name, data in ((f"./{CONFIG}", content), (f"./{WEIGHTS}", weights)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def step_inputs(form: Form, lengths: tuple[int, int, int], seed: int = 0) -> Arrays:
    """Return a step's inputs, noise everywhere, of which `lengths` of chunk (mel frames), cache and fifo are filled."""
    generator = np.random.default_rng(seed)
    shapes = {
        "chunk": (1, form.mel_frames, form.mels),
        "spkcache": (1, form.spkcache, form.width),
        "fifo": (1, form.fifo, form.width),
    }
    arrays: Arrays = {}
    for (name, shape), length in zip(shapes.items(), lengths, strict=True):
        arrays[name] = generator.normal(0, 1, shape).astype(np.float32)
        arrays[f"{name}_lengths"] = np.array([length], np.int32)
    return arrays


def run(network: Any, inputs: Arrays, names: list[str]) -> Arrays:
    """Return a network's outputs by name."""
    with torch.inference_mode():
        found = network(*(torch.from_numpy(array) for array in inputs.values()))
    found = found if isinstance(found, tuple) else (found,)
    return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}


def names(form: Form) -> list[str]:
    return [tensor.name for tensor in sortformer.outputs(form)]


def converted(path: Path, form: Form, options: coreml.Options, state: Arrays | None = None) -> Path:
    """Write the program of a form, with a tiny state unless another is given."""
    network = sortformer.load(state or tiny_state(), form)
    coreml.convert(network, sortformer.inputs(form), sortformer.outputs(form), sortformer.metadata(form), options, path)
    return path


def palettized(source: Path, options: palettize.Options, destination: Path) -> dict[str, Any]:
    """Write a package with palettes, each made anew in a folder beside it, and return what was found."""
    folders = (destination.with_name(f"{destination.name}-{n}") for n in itertools.count())

    def anew(recipe: Any, make: Any) -> Path:
        folder = next(folders)
        folder.mkdir()
        make(folder)
        return folder

    return palettize.apply(source, options, anew, destination)


def weight_bytes(path: Path) -> int:
    (file,) = path.rglob("weight.bin")
    return file.stat().st_size


def check_functions(parts: dict[str, Path], forms: dict[str, Form], kept: palettize.Options, folder: Path) -> None:
    """Assert that the contexts as functions, the first the default, cost one set of weights and say what each says.

    kept   the palettes with which all of that is asserted once more
    """
    packed = {name: folder / f"{name}-w6.mlpackage" for name in parts}
    for name, destination in packed.items():
        palettized(parts[name], kept, destination)
    for i, sources in enumerate((parts, packed)):
        whole = folder / f"whole{i}.mlpackage"
        coreml.merge(sources, next(iter(sources)), whole)
        assert weight_bytes(whole) < 1.01 * max(map(weight_bytes, sources.values()))
        for name, form in forms.items():
            inputs = step_inputs(form, FILLED[2])
            alone, found = mil.load(sources[name]).run(inputs), mil.load(whole).run(inputs, function=name)
            assert all(np.array_equal(found[output], alone[output]) for output in alone)
