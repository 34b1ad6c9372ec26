"""Packages: what is in them, and that two conversions give the same bytes."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from converters.formats import coreml
from converters.formats.coreml import Options
from converters.models import segmentation
from converters.models.segmentation import Form
from diarization.audio import read_recording
from mil.package import read_package, without_build_traces
from mil.schema import Model_pb2
from pipeline.types import QuernError, Range, Tensor
from tests.fixtures import FIXTURES, needs_fixtures

ROOT = Path(__file__).parents[2]


def _converted(folder, form=None, options=None, state=None):
    form, destination = form or Form(), folder / "model.mlpackage"
    network = segmentation.load(state or segmentation.synthetic(0), form)
    inputs, outputs = segmentation.inputs(form), segmentation.outputs(form)
    coreml.convert(network, inputs, outputs, {"origin": "a test"}, options or Options(), destination)
    return destination


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return _converted(tmp_path_factory.mktemp("fp16"))


def _function(path):
    spec = read_package(path).spec
    [function] = spec.mlProgram.functions.values()
    return spec, function.block_specializations[function.opset]


def test_the_interface_is_as_declared(package):
    """Names, shapes, fp32 types, what the axes mean, and the metadata that was given."""
    spec, _ = _function(package)
    [audio], [segments] = spec.description.input, spec.description.output
    assert (audio.name, list(audio.type.multiArrayType.shape)) == ("audio", [1, 1, 160000])
    assert (segments.name, list(segments.type.multiArrayType.shape)) == ("segments", [1, 589, 7])
    float32 = audio.type.multiArrayType.FLOAT32
    assert {audio.type.multiArrayType.dataType, segments.type.multiArrayType.dataType} == {float32}
    assert segments.shortDescription == "(batch, frame, class): log probability"
    assert spec.description.metadata.userDefined["origin"] == "a test"
    assert spec.specificationVersion == 8


def test_the_program_holds_the_networks_operations_and_no_others(package):
    """Thirty operations beside constants and casts of the interface; tensors of rank three at most."""
    _, block = _function(package)
    counts = Counter(operation.type for operation in block.operations)
    assert counts.pop("const") > 0
    assert counts == {
        "cast": 2,
        "instance_norm": 4,
        "conv": 3,
        "abs": 1,
        "max_pool": 3,
        "leaky_relu": 5,
        "transpose": 2,
        "lstm": 4,
        "linear": 3,
        "reduce_max": 1,
        "sub": 2,
        "reduce_log_sum_exp": 1,
    }
    made = [output.type.tensorType.rank for op in block.operations if op.type != "const" for output in op.outputs]
    assert max(made) == 3


def test_a_package_bears_no_trace_of_its_build(package):
    """No date of conversion, no local version tags, and an fp16 package of 3 MB."""
    content = (package / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes()
    assert b"conversion_date" not in content
    assert b"+cpu" not in content
    size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
    assert 2.9e6 < size < 3.1e6


def test_every_local_version_tag_is_stripped_however_many_there_are():
    """A protobuf map that is written to while it is iterated skips some of its entries, and not always the same."""
    for count in range(60):
        spec = Model_pb2.Model()
        tagged = {f"tool {count} {i}": f"{i}.0.1+cpu" for i in range(count % 8)}
        spec.description.metadata.userDefined.update(tagged)
        stripped = without_build_traces(spec).description.metadata.userDefined
        assert dict(stripped) == {name: version.removesuffix("+cpu") for name, version in tagged.items()}


def test_a_range_of_batches_is_declared(tmp_path):
    """Batch 1 to 32, with 1 as the default."""
    spec, _ = _function(_converted(tmp_path, Form(batch=(1, 32), window_s=1.0)))
    declared = spec.description.input[0].type.multiArrayType
    bounds = [(size.lowerBound, size.upperBound) for size in declared.shapeRange.sizeRanges]
    assert bounds == [(1, 32), (1, 1), (16000, 16000)]
    assert list(declared.shape) == [1, 1, 16000]


def test_half_precision_inputs_and_outputs_are_declared(tmp_path):
    """io: fp16 leaves no cast in the program; an iOS15 target cannot have it, and says so."""
    form = Form(window_s=1.0, io="fp16")
    spec, block = _function(_converted(tmp_path, form))
    kinds = {feature.type.multiArrayType.dataType for feature in [*spec.description.input, *spec.description.output]}
    assert kinds == {spec.description.input[0].type.multiArrayType.FLOAT16}
    assert not [operation for operation in block.operations if operation.type == "cast"]
    with pytest.raises(QuernError, match="target iOS16"):
        _converted(tmp_path / "old", form, Options(target="iOS15"))


@pytest.mark.parametrize(("target", "version"), [("iOS15", 6), ("iOS16", 7), ("iOS17", 8), ("iOS18", 9)])
def test_the_target_decides_the_specification(tmp_path, target, version):
    """Each target is the specification version that Apple gave it."""
    spec, _ = _function(_converted(tmp_path, Form(window_s=1.0), Options(target=target)))
    assert spec.specificationVersion == version


def test_exact_options_compute_in_single_precision():
    """Everything else stays as declared."""
    assert coreml.exact(Options(precision="fp16", target="iOS18")) == Options(precision="fp32", target="iOS18")


class Pair(nn.Module):
    """Two inputs, one of integers, and two outputs."""

    def forward(self, values, lengths):
        return values * 2, values.sum(dim=-1) + lengths


def test_modules_of_several_inputs_and_outputs_convert(tmp_path):
    """Names follow the declared order; integers stay integers; two flexible axes are two ranges."""
    inputs = (
        Tensor("values", ("batch", "feature"), (Range(1, 4), Range(2, 8)), "float32", "embedding"),
        Tensor("lengths", ("batch",), (Range(1, 4),), "int32", "frame"),
    )
    outputs = (
        Tensor("doubled", ("batch", "feature"), (Range(1, 4), Range(2, 8)), "float32", "embedding"),
        Tensor("sums", ("batch",), (Range(1, 4),), "float32", "embedding"),
    )
    coreml.convert(Pair().eval(), inputs, outputs, {}, Options(precision="fp32"), tmp_path / "pair.mlpackage")
    run = coreml.runner(tmp_path / "pair.mlpackage", "declared")
    values, lengths = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([10, 20], np.int32)
    found = run({"values": values, "lengths": lengths})
    np.testing.assert_array_equal(found["doubled"], values * 2)
    np.testing.assert_array_equal(found["sums"], [13, 32])


PROGRAM = """
import sys
from pathlib import Path
from tests.converters.test_coreml import Form, _converted
for name, form in {"one": Form(), "range": Form(batch=(1, 32), window_s=5.0)}.items():
    _converted(Path(sys.argv[1]) / name, form)
"""


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _elsewhere(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout + done.stderr == ""
    return _files(folder)


@pytest.mark.slow
def test_two_conversions_are_byte_identical_whatever_the_machine(tmp_path):
    """Another hash seed, another date, the CPU's vector instructions switched off: the same files.

    Nothing is said on the way either. A third conversion, in this process and after others, is the same again.
    """
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    present = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    first = _elsewhere(tmp_path / "first", PYTHONHASHSEED="1")
    second = _elsewhere(
        tmp_path / "second",
        PYTHONHASHSEED="2",
        ATEN_CPU_CAPABILITY="default",
        NPY_DISABLE_CPU_FEATURES=" ".join(present),
        TZ="Pacific/Kiritimati",
    )
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    here = _files(_converted(tmp_path / "third", Form(batch=(1, 32), window_s=5.0)))
    assert here == {name.removeprefix("range/model.mlpackage/"): c for name, c in first.items() if name[:5] == "range"}
    assert json.loads(here["Manifest.json"])["fileFormatVersion"] == "1.0.0"


@needs_fixtures
@pytest.mark.slow
def test_the_converted_program_says_what_the_network_says(tmp_path):
    """Trained weights on a fifth of the real windows: fp32 to 1e-5 in probability, every frame's class kept; fp16 to
    0.05 and 99.8 % of the classes (measured 0.02 and 99.88 %, over all windows 99.92 %).
    """
    state = segmentation.read({"model.safetensors": FIXTURES / "segmentation-3.0" / "model.safetensors"})
    recordings = [read_recording(path) for path in sorted((FIXTURES / "audio").glob("*.wav"))]
    examples = list(segmentation.examples(Form(), recordings))[::5]
    network = segmentation.load(state, Form())
    with torch.inference_mode():
        wanted = np.concatenate([network(torch.from_numpy(e.inputs["audio"])).numpy() for e in examples])
    for precision, most, least in (("fp32", 1e-5, 1.0), ("fp16", 0.05, 0.998)):
        run = coreml.runner(_converted(tmp_path / precision, options=Options(precision), state=state), "declared")
        found = np.concatenate([run(example.inputs)["segments"] for example in examples])
        assert np.abs(np.exp(found) - np.exp(wanted)).max() < most
        assert (found.argmax(-1) == wanted.argmax(-1)).mean() >= least
