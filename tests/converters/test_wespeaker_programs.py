"""WeSpeaker's programs: their operations, what computes in which precision, and what palettes leave alone."""

from collections import Counter
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from converters.formats import coreml
from converters.formats.coreml import Options
from converters.models import wespeaker
from converters.models.wespeaker import Form, Program
from diarization.audio import read_recording
from mil.package import read_package
from mil.schema import MIL_pb2
from mil.values import decode
from optimizations import palettize
from pipeline.types import QuernError, Recording, Tensor
from tests.fixtures import FIXTURES, needs_fixtures

HALF, SINGLE = MIL_pb2.FLOAT16, MIL_pb2.FLOAT32
STATE = wespeaker.synthetic(0)


def _converted(folder, form, precision="mixed"):
    destination = folder / f"{form.program}-{form.io}-{precision}.mlpackage"
    network, options = wespeaker.load(STATE, form), Options(precision=precision)
    inputs, outputs = wespeaker.inputs(form), wespeaker.outputs(form)
    coreml.convert(network, inputs, outputs, wespeaker.metadata(form), options, destination)
    return destination


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("mixed"), Form("audio"))


def _block(path):
    [function] = read_package(path).spec.mlProgram.functions.values()
    return function.block_specializations[function.opset]


def _operations(path):
    return [operation for operation in _block(path).operations if operation.type != "const"]


def _kind(operation):
    return operation.outputs[0].type.tensorType.dataType


def _behind(block, wanted):
    """Return the operations that the first one of a type depends on, itself included."""
    producers = {output.name: operation for operation in block.operations for output in operation.outputs}
    waiting = [next(operation for operation in block.operations if operation.type == wanted)]
    found = {}
    while waiting:
        operation = waiting.pop()
        found[operation.outputs[0].name] = operation
        names = [each.name for argument in operation.inputs.values() for each in argument.arguments]
        waiting += [producers[name] for name in names if name in producers and name not in found]
    return list(found.values())


def test_the_audio_is_cut_into_frames_without_a_slice(package):
    """At most 130 operations, none of them a slice, and each of the trunk's 36 convolutions once."""
    counts = Counter(operation.type for operation in _operations(package))
    assert sum(counts.values()) <= 130
    assert counts["slice_by_index"] == 0
    assert counts["conv"] == 36 + 2


def test_only_the_trunk_and_the_last_layer_are_in_half_precision(package):
    """All that the logarithm and the deviation are made of is fp32 outside the trunk; no audio passes through fp16."""
    block = _block(package)
    front_end = _behind(block, "log")
    assert {operation.type for operation in front_end} == {"const", "conv", "mul", "maximum", "log"}
    assert HALF not in {_kind(operation) for operation in front_end}
    by_type = Counter((operation.type, _kind(operation)) for operation in _operations(package))
    assert by_type["conv", HALF] == 36
    assert by_type["conv", SINGLE] == 2
    assert (by_type["linear", HALF], by_type["linear", SINGLE]) == (1, 1)  # the last layer, the choice of mask frames
    for kind in ("reduce_sum", "real_div", "sqrt", "matmul", "mul", "sub"):
        assert by_type[kind, HALF] == 0, kind
    assert by_type["cast", HALF] == by_type["cast", SINGLE] == 2


def test_a_program_of_mixed_precision_takes_and_returns_single(package):
    """The declared types hold, and a mixed package is half as large as one in fp32."""
    description = read_package(package).spec.description
    features = [*description.input, *description.output]
    assert [feature.name for feature in features] == ["audio", "masks", "embeddings"]
    assert {feature.type.multiArrayType.dataType for feature in features} == {features[0].type.multiArrayType.FLOAT32}
    assert 13e6 < sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) < 15e6


def test_embeddings_come_out_in_half_precision_where_that_is_declared(tmp_path):
    """io: fp16 declares it for the output, and nothing casts it back."""
    path = _converted(tmp_path, Form("pooling", io="fp16"))
    description = read_package(path).spec.description
    types = [feature.type.multiArrayType for feature in [*description.input, *description.output]]
    assert [each.dataType for each in types] == [types[0].FLOAT32, types[0].FLOAT32, types[0].FLOAT16]


def test_palettes_leave_alone_what_is_in_single_precision(package, tmp_path):
    """With `exclude: [fp32]` filters, bands and the choice of frames stay to the bit; the trunk's weights do not."""
    options, destination = palettize.Options(nbits=6, exclude=("fp32",)), tmp_path / "w6.mlpackage"
    findings = palettize.apply(package, options, lambda _, run: _made(run, tmp_path), destination)
    left = {tuple(each["shape"]): each["reason"] for each in findings["left"]}
    kept = {(510, 1, 400), (80, 510, 1), (125, 589)}
    assert left == dict.fromkeys(kept, "excluded: fp32")
    assert len(findings["weights"]) == 35  # all convolutions but the first and a shortcut, both small; the last layer
    before, after = _constants(package), _constants(destination)
    assert {value.shape for value in after.values()} & kept == kept
    assert all(np.array_equal(before[name], value) for name, value in after.items())


def _made(run, folder):
    count = sum(1 for _ in folder.glob("palette*"))
    place = folder / f"palette{count}"
    place.mkdir()
    run(place)
    return place


def _constants(path):
    package = read_package(path)
    named = {op.outputs[0].name: op for op in _block(path).operations if op.type == "const"}
    values = {name: decode(op.attributes["val"], package) for name, op in named.items()}
    return {name: value for name, value in values.items() if getattr(value, "size", 0) > 2048}


class Tripled(nn.Module):
    half_precision = True

    def forward(self, values):
        return values * 3


class Parts(nn.Module):
    """Two parts of one kind of work, of which one declares that it bears half."""

    def __init__(self, part):
        super().__init__()
        self.inner = nn.Sequential(nn.Tanh(), part)

    def forward(self, values):
        return torch.exp(self.inner(values))


def _kinds(tmp_path, module):
    value = (Tensor("values", ("batch",), (4,), "float32", "embedding"),)
    out = (Tensor("out", ("batch",), (4,), "float32", "embedding"),)
    coreml.convert(module.eval(), value, out, {}, Options(precision="mixed"), tmp_path / "parts.mlpackage")
    return {operation.type: _kind(operation) for operation in _operations(tmp_path / "parts.mlpackage")}


def test_mixed_precision_is_half_in_the_declared_parts_only(tmp_path):
    """A declared part inside another module is fp16, its neighbours are fp32."""
    kinds = _kinds(tmp_path, Parts(Tripled()))
    assert (kinds["tanh"], kinds["mul"], kinds["exp"]) == (SINGLE, HALF, SINGLE)


def test_a_declaration_holds_for_everything_inside(tmp_path):
    """The whole module declares it, so all of it is fp16."""
    module = Parts(nn.ReLU())
    module.half_precision = True
    kinds = _kinds(tmp_path, module)
    assert {kinds[kind] for kind in ("tanh", "relu", "exp")} == {HALF}


def test_mixed_precision_without_a_declaration_is_refused(tmp_path):
    """It would be single precision under another name."""
    with pytest.raises(QuernError, match="mixed: no part of Parts declares"):
        _kinds(tmp_path, Parts(nn.ReLU()))


@pytest.mark.slow
@pytest.mark.parametrize("program", get_args(Program))
def test_every_program_is_what_torch_computes(program, tmp_path):
    """Through the interpreter in single precision: 1e-5 of the largest norm; at most 130 operations and no slice."""
    form = Form(program)
    path = _converted(tmp_path, form, "fp32")
    kinds = [operation.type for operation in _operations(path)]
    assert len(kinds) <= 130
    assert "slice_by_index" not in kinds
    [output] = wespeaker.outputs(form)
    example = next(iter(wespeaker.examples(form, _recordings()[:1])))
    with torch.inference_mode():
        arguments = [torch.from_numpy(example.inputs[tensor.name]) for tensor in wespeaker.inputs(form)]
        wanted = wespeaker.load(STATE, form)(*arguments).numpy()
    found = coreml.runner(path, "declared")(example.inputs)[output.name]
    assert np.abs(found - wanted).max() < 1e-5 * np.linalg.norm(wanted, axis=-1).max()


def _recordings():
    if FIXTURES.is_dir():
        return [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 160_000).astype(np.float32)
    return [Recording("noise", noise, 16_000, "")]


@needs_fixtures
@pytest.mark.slow
def test_mixed_precision_keeps_directions(package):
    """On a window of real speech: cosine 0.9999 or more under each mask."""
    run, network = coreml.runner(package, "declared"), wespeaker.load(STATE, Form("audio"))
    for example in list(wespeaker.examples(Form("audio"), _recordings()[:1]))[:2]:
        with torch.inference_mode():
            wanted = network(*(torch.from_numpy(example.inputs[name]) for name in ("audio", "masks"))).numpy()
        found = run(example.inputs)["embeddings"]
        cosines = (found * wanted).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(wanted, axis=-1)
        assert cosines.min() > 0.9999
