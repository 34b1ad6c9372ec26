"""The networks behind segmentation, broken on purpose, and the check that says no, by the limits of variants.yaml.

Weights are trained where there are any (PLDA), and seeded and small elsewhere: each sound package passes, and what is
done to it is all that differs.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from converters.formats import coreml
from converters.models import plda, sortformer, wespeaker
from diarization.streaming.examples import FEATURES
from mil.compile import compile_package
from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.tensors import write_tensors
from pipeline.types import Arrays, CheckResult, Runner, Subject, Tensor
from pipeline.verdict import judge
from tests.converters.sortformers import STREAMING, tiny_state
from tests.fixtures import FIXTURES, needs_fixtures
from tests.verify import broken
from verify import alias, embedding, equality, streaming

pytestmark = pytest.mark.slow


def converted(network: ModuleType, form: Any, state: Arrays, path: Path, precision: str = "fp32") -> Path:
    ports = network.inputs(form), network.outputs(form)
    options = coreml.Options(precision)  # type: ignore[arg-type]
    coreml.convert(network.load(state, form), *ports, network.metadata(form), options, path)
    return path


def held(
    check: ModuleType, variant: str, outputs: Iterable[Tensor], exact: Arrays, declared: Arrays, folder: Path
) -> dict[str, CheckResult]:
    """Return an artifact's outputs held against those of single precision and the limits of a variant."""
    rungs: dict[str, Path | str] = dict.fromkeys(("upstream", "network"), "not part of this test")
    for rung, arrays in (("float32", exact), ("declared", declared)):
        rungs[rung] = folder / f"{rung}.safetensors"
        write_tensors(arrays, folder / f"{rung}.safetensors")
    found = check.measure(Subject((), tuple(outputs), rungs=rungs))
    declaring = next(each for each in read_matrix(ROOT / "variants.yaml").variants if each.id == variant)
    return {each.name: each for each in judge(declaring, check.__name__.rpartition(".")[2], found, trained=True)}


def ran(run: Runner, examples: Mapping[str, Arrays]) -> Arrays:
    return {f"{case}/{name}": values for case, inputs in examples.items() for name, values in run(inputs).items()}


def shuffled(package: Path, destination: Path, kind: str = "linear", names: tuple[str, ...] = ("weight",)) -> Path:
    """Write a package in which the first operation of a type has its weights in another order."""
    weights = broken.inputs_of(package, kind, names)
    return broken.reweighted(package, destination, dict.fromkeys(weights, broken.shuffled))


class PassingThrough(torch.nn.Module):
    """A step of Sortformer that hands its cache back, as if that saved the app a variable."""

    def __init__(self, step: torch.nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*self.step(*inputs), inputs[2])


def test_a_head_that_passes_its_cache_through_is_found(tmp_path: Path) -> None:
    """The converter writes it without a word; loading it crashes BNNS. The step as it is has no such output."""
    inputs, outputs = sortformer.inputs(STREAMING), sortformer.outputs(STREAMING)
    head, path = PassingThrough(sortformer.load(tiny_state(), STREAMING)), tmp_path / "Sortformer_v2.1.mlpackage"
    assert inputs[2].name == "spkcache"
    metadata, options = sortformer.metadata(STREAMING), coreml.Options("fp32")
    coreml.convert(head.eval(), inputs, (*outputs, inputs[2]), metadata, options, path)
    found = alias.measure(Subject((), (), path, compile_package(path, tmp_path).path))
    assert [m.value for m in found] == [1, 1]
    assert {m.note for m in found} == {"main: `spkcache` is both an input and an output"}
    sound = converted(sortformer, STREAMING, tiny_state(), tmp_path / "sound.mlpackage")
    assert [m.value for m in alias.measure(Subject((), (), sound, compile_package(sound, tmp_path).path))] == [0, 0]


@needs_fixtures
def test_a_shuffled_projection_is_found_by_equality(tmp_path: Path) -> None:
    """Of the trained PLDA, whose features have one right answer."""
    files = {name: FIXTURES / "plda-community-1" / name for name in ("plda.npz", "xvec_transform.npz")}
    form = plda.Form(batch=(1, 32))
    sound = converted(plda, form, plda.read(files), tmp_path / "sound.mlpackage")
    wrong = shuffled(sound, tmp_path / "wrong.mlpackage")
    examples = {case.name: case.inputs for case in plda.examples(form, [])}
    exact = ran(coreml.runner(sound, "float32"), examples)

    def outcome(package: Path) -> str:
        declared = ran(coreml.runner(package, "declared"), examples)
        results = held(equality, "plda-community-1/fp32", plda.outputs(form), exact, declared, tmp_path)
        return results["equality.max_difference"].outcome

    assert (outcome(sound), outcome(wrong)) == ("pass", "fail")


def test_shuffled_weights_behind_the_pooling_are_found_by_cosine(tmp_path: Path) -> None:
    """Of the embedding network, from features to embeddings: lengths stay, directions do not."""
    form = wespeaker.Form(program="pooling")
    sound = converted(wespeaker, form, wespeaker.synthetic(0), tmp_path / "sound.mlpackage")
    wrong = shuffled(sound, tmp_path / "wrong.mlpackage")
    generator = np.random.default_rng(0)
    features, masks = wespeaker.inputs(form)
    drawn = np.abs(generator.normal(size=features.shape)).astype(np.float32)  # what a ReLU leaves
    examples = {"noise": {"features": drawn, "masks": generator.random(masks.shape).astype(np.float32)}}
    exact = ran(coreml.runner(sound, "float32"), examples)

    def outcome(package: Path) -> str:
        declared = ran(coreml.runner(package, "declared"), examples)
        variant = "wespeaker-voxceleb-resnet34-LM/w6-pooling"  # whose limit is the widest
        results = held(embedding, variant, wespeaker.outputs(form), exact, declared, tmp_path)
        return results["embedding.cosine_worst"].outcome

    assert (outcome(sound), outcome(wrong)) == ("pass", "fail")


def test_a_shuffled_pre_encode_is_found_by_streaming(tmp_path: Path) -> None:
    """Over a whole recording with the past fed back, which is what the pre-encode makes."""
    sound = converted(sortformer, STREAMING, tiny_state(), tmp_path / "sound.mlpackage")
    wrong = shuffled(sound, tmp_path / "wrong.mlpackage", "conv")
    features = np.random.default_rng(0).normal(size=(640, STREAMING.mels)).astype(np.float32)

    def stream(package: Path, precision: str) -> Arrays:
        run = coreml.runner(package, precision)
        return ran(lambda inputs: sortformer.drive(run, inputs, STREAMING), {"talk": {FEATURES: features}})

    exact, outputs = stream(sound, "float32"), sortformer.outputs(STREAMING)

    def outcome(package: Path) -> str:
        results = held(streaming, "sortformer-v2.1/w6", outputs, exact, stream(package, "declared"), tmp_path)
        return results["streaming.agreement"].outcome

    assert (outcome(sound), outcome(wrong)) == ("pass", "fail")
