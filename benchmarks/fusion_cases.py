"""The same work as separate programs, as one Core ML pipeline of them, and as one program.

What is fused is read from variants.yaml, so a fusion that is declared there is a case here. Two more are written out:
Sortformer, which is published as one program and is taken apart here, and the three ways to WeSpeaker's embeddings.
Weights are seeded stand-ins of true size: time does not depend on them.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import mil
from converters.formats import coreml
from converters.models import sortformer, wespeaker
from converters.networks.sortformer.layout import Sizes
from converters.networks.sortformer.stand_in import stand_in
from converters.networks.wespeaker_layout import MASK_FRAMES
from converters.toolchain import coremltools
from mil.package import read_package, write_package
from pipeline import fuse, plugins
from pipeline.chain import Chain, Link
from pipeline.types import Arrays, Recording, Tensor, Variant

RATE_HZ = 16_000
CHAINED, PIPELINE, FUSED = "chained", "pipeline", "fused"


@dataclass(frozen=True)
class Part:
    """A torch module that can be a program of its own; inputs and outputs bear the names by which parts connect."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """The same work in several forms, the first of which the others are held against.

    forms     name → packages that run one after the other and find what they take by name
    inputs    what all forms are given
    outputs   what all forms make
    """

    name: str
    forms: Mapping[str, tuple[Path, ...]]
    inputs: Arrays
    outputs: tuple[str, ...]


def case_makers(variants: Iterable[Variant], layers: tuple[int, int]) -> dict[str, partial[Case]]:
    """Return by name what makes each case, called with an empty folder.

    variants   declared ones; each way of fusing counts once, whatever its weights and palettes
    layers     of Sortformer's FastConformer and of its transformer
    """
    forms = {variant.name: variant.form for variant in variants if variant.network == plugins.FUSED}
    kept = {name: form for i, (name, form) in enumerate(forms.items()) if form not in list(forms.values())[:i]}
    makers: dict[str, partial[Case]] = {name: partial(_declared, name, form) for name, form in kept.items()}
    return makers | {"sortformer": partial(_sortformer, layers), "wespeaker": partial(_wespeaker)}


def noise(seconds: float) -> np.ndarray:
    """Return mono noise (sample,) whose loudness comes and goes, so that not all frames are alike."""
    generator = np.random.default_rng(0)
    loudness = np.repeat(generator.uniform(0, 0.3, round(seconds * 4) + 1), RATE_HZ // 4)
    samples = round(seconds * RATE_HZ)
    return (generator.normal(size=samples) * loudness[:samples]).astype(np.float32)


def _declared(name: str, form: fuse.Form, folder: Path) -> Case:
    """Return a fusion of variants.yaml beside its stages."""
    recording = Recording("noise", noise(10), RATE_HZ, "0" * 64)
    example = next(fuse.examples(form, [recording]))
    outputs = tuple(tensor.name for tensor in fuse.outputs(form))
    return _three_forms(name, [_part(stage) for stage in form.fuse], example.inputs, outputs, folder)


def _part(stage: fuse.Stage) -> Part:
    network = plugins.network(stage.network)
    inputs = tuple(replace(tensor, name=stage.source(tensor.name)) for tensor in network.inputs(stage.form))
    module = network.load(network.synthetic(0), stage.form)
    return Part(stage.network, module, inputs, network.outputs(stage.form))


class _PreEncoder(nn.Module):
    """Sortformer's pre-encode, taking mel as the preprocessor puts it out: (1, mel, mel frame)."""

    half_precision = True

    def __init__(self, pre_encode: nn.Module) -> None:
        super().__init__()
        self.pre_encode = pre_encode

    def forward(self, mel: torch.Tensor, mel_length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pre_encode(mel.transpose(1, 2), mel_length)


class _Head(nn.Module):
    """All of Sortformer behind the pre-encode."""

    half_precision = True

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, frames: torch.Tensor, frame_count: torch.Tensor) -> torch.Tensor:
        return self.head(frames, frame_count)


def _sortformer(layers: tuple[int, int], folder: Path) -> Case:
    """Return a window of Sortformer from audio: mel in fp32, pre-encode and head in fp16."""
    state = stand_in(Sizes(conformer_layers=layers[0], transformer_layers=layers[1]), seed=0)
    mel, window = sortformer.Form(kind="preprocessor"), sortformer.Form(kind="offline")
    network = sortformer.load(state, window)
    frames = Tensor("frames", ("batch", "frame", "feature"), (1, window.frames, window.width), "float32", "activation")
    count = Tensor("frame_count", ("batch",), (1,), "int32", "frames")
    parts = [
        Part("mel", sortformer.load(state, mel), sortformer.inputs(mel), sortformer.outputs(mel)),
        Part("pre_encode", _PreEncoder(network.pre_encode).eval(), sortformer.inputs(window), (frames, count)),
        Part("head", _Head(network.head).eval(), (frames, count), sortformer.outputs(window)),
    ]
    inputs = {"audio": noise(window.window_s)[np.newaxis], "audio_length": np.array([window.samples], np.int32)}
    return _three_forms("sortformer", parts, inputs, ("speaker_preds",), folder)


def _wespeaker(folder: Path) -> Case:
    """Return three masks' embeddings of one audio: of three copies of it, of itself, and of its features."""
    state = wespeaker.synthetic(0)
    programs: tuple[wespeaker.Program, ...] = ("waveforms", "audio", "encoder", "pooling")
    packages = {program: _converted(_wespeaker_part(state, program), folder) for program in programs}
    audio = noise(10)
    masks = (np.random.default_rng(1).uniform(size=(wespeaker.SPEAKERS, MASK_FRAMES)) > 0.5).astype(np.float32)
    given = {"audio": audio[np.newaxis, np.newaxis], "waveforms": np.stack([audio] * len(masks)), "masks": masks}
    features = mil.load(packages["encoder"]).run({"audio": given["audio"]})
    forms = {
        "three waveforms": (packages["waveforms"],),
        "one audio": (packages["audio"],),
        "encoder, then pooling": (packages["encoder"], packages["pooling"]),
        "pooling of kept features": (packages["pooling"],),
    }
    return Case("wespeaker", forms, given | features, ("embeddings",))


def _wespeaker_part(state: Arrays, program: wespeaker.Program) -> Part:
    """Return a program of WeSpeaker, its tensors named as in the others."""
    form = wespeaker.Form(program)
    names = {"waveform": "waveforms", "mask": "masks", "embedding": "embeddings"}
    inputs, outputs = (
        tuple(replace(tensor, name=names.get(tensor.name, tensor.name)) for tensor in tensors)
        for tensors in (wespeaker.inputs(form), wespeaker.outputs(form))
    )
    return Part(program, wespeaker.load(state, form), inputs, outputs)


def _three_forms(name: str, parts: Sequence[Part], inputs: Arrays, outputs: tuple[str, ...], folder: Path) -> Case:
    """Return a case with each part as a program, a pipeline of these, and all parts as one program."""
    separate = tuple(_converted(part, folder) for part in parts)
    forms = {
        CHAINED: separate,
        PIPELINE: (_pipeline(separate, outputs, folder / "pipeline.mlpackage"),),
        FUSED: (_converted(_fused(parts, outputs), folder),),
    }
    return Case(name, forms, inputs, outputs)


def _fused(parts: Sequence[Part], outputs: Sequence[str]) -> Part:
    made = {tensor.name: tensor for part in parts for tensor in part.outputs}
    given = {tensor.name: tensor for tensor in _given(parts)}
    wanted = tuple(made[name] for name in outputs)
    links = [Link(part.module, _names(part.inputs), _names(part.outputs)) for part in parts]
    return Part(FUSED, Chain(links, list(given), list(outputs)).eval(), tuple(given.values()), wanted)


def _given(parts: Sequence[Part]) -> Iterator[Tensor]:
    """Yield what parts take and none before them makes; a tensor that several take, several times."""
    made: set[str] = set()
    for part in parts:
        yield from (tensor for tensor in part.inputs if tensor.name not in made)
        made |= set(_names(part.outputs))


def _names(tensors: Sequence[Tensor]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)


def _converted(part: Part, folder: Path) -> Path:
    """Return the package of a part: in half precision where the part says that it bears it, else in single."""
    bears_half = any(getattr(module, "half_precision", False) for module in part.module.modules())
    options = coreml.Options(precision="mixed" if bears_half else "fp32")
    path = folder / f"{part.name}.mlpackage"
    coreml.convert(part.module, part.inputs, part.outputs, {}, options, path)
    return path


def _pipeline(packages: Sequence[Path], outputs: Sequence[str], destination: Path) -> Path:
    """Write coremltools' pipeline of packages, with these outputs: of its own it puts out what no later model takes."""
    ct = coremltools()
    models: list[Any] = [ct.models.MLModel(str(path), skip_model_load=True) for path in packages]
    with tempfile.TemporaryDirectory(prefix="quern-") as scratch:
        draft = Path(scratch) / "draft.mlpackage"
        ct.utils.make_pipeline(*models).save(str(draft))
        package = read_package(draft)
        described = {output.name: output for model in models for output in model.get_spec().description.output}
        del package.spec.description.output[:]
        package.spec.description.output.extend(described[name] for name in outputs)
        assert package.root is not None  # it was read from a folder
        weights = {f"weights/{path.name}": path for path in sorted((package.root / "weights").glob("*"))}
        write_package(package.spec, weights, destination)
    return destination
