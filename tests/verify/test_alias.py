"""The alias rule, on programs that keep it and on ones that were broken in each way it forbids."""

from pathlib import Path
from typing import Any

import pytest

from mil.compile import compile_package
from mil.package import write_package
from mil.schema import Model_pb2
from pipeline.types import Subject
from verify.alias import findings, measure

FLOAT32, SCALAR_RANK = 11, 1


def program(outputs: tuple[str, ...] = ("y",), produced: str = "y", described: tuple[str, ...] | None = None) -> Any:
    """Return a model with input `x`, one operation that makes `produced`, and the given outputs."""
    model = Model_pb2.Model(specificationVersion=8)
    for name, features in (
        ("x", model.description.input),
        *((n, model.description.output) for n in described or outputs),
    ):
        feature = features.add(name=name)
        feature.type.multiArrayType.shape.append(2)
        feature.type.multiArrayType.dataType = 65568
    function = model.mlProgram.functions["main"]
    model.mlProgram.version = 1
    function.opset = "CoreML7"
    _declare(function.inputs.add(), "x")
    block = function.block_specializations["CoreML7"]
    operation = block.operations.add(type="relu")
    operation.inputs["x"].arguments.add().name = "x"
    _declare(operation.outputs.add(), produced)
    block.outputs.extend(outputs)
    return model


def _declare(value: Any, name: str) -> None:
    value.name = name
    value.type.tensorType.dataType = FLOAT32
    value.type.tensorType.rank = 1
    value.type.tensorType.dimensions.add().constant.size = 2


def test_a_sound_program_has_no_findings() -> None:
    """The output is made by an operation, and the description agrees."""
    assert list(findings(program())) == []


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"outputs": ("y", "x")}, "main: `x` is both an input and an output"),
        ({"outputs": ("z",)}, "main: no operation makes output `z`"),
        ({"outputs": ("x",), "produced": "x"}, "main: `x` is an input and the result of an operation"),
        ({"outputs": ("y", "y")}, "main: output `y` is returned twice"),
        ({"described": ("renamed",)}, "main: the description names outputs ['renamed'], the function has ['y']"),
    ],
)
def test_each_breach_is_a_finding(broken: dict, sentence: str) -> None:
    """The sentence names the function and the tensor."""
    assert sentence in list(findings(program(**broken)))


def test_every_stage_of_a_pipeline_is_looked_at() -> None:
    """An alias in the second model is found, and the finding says where."""
    pipeline = Model_pb2.Model(specificationVersion=8)
    pipeline.pipeline.models.extend([program(), program(outputs=("y", "x"))])
    assert list(findings(pipeline)) == ["model1.main: `x` is both an input and an output"]


def test_every_function_is_looked_at() -> None:
    """An alias in a function that is not the default one is found."""
    model = program()
    model.mlProgram.functions["other"].CopyFrom(program(outputs=("y", "x")).mlProgram.functions["main"])
    assert "other: `x` is both an input and an output" in list(findings(model))


def test_package_and_bundle_are_both_measured(tmp_path: Path) -> None:
    """What was compiled from an aliased package is aliased too, and both say so."""
    package = tmp_path / "broken.mlpackage"
    write_package(program(outputs=("y", "x")), {}, package)
    compile_package(package, tmp_path)
    found = measure(Subject((), (), package, tmp_path / "broken.mlmodelc"))
    assert [(m.name, m.value) for m in found] == [("package", 1.0), ("bundle", 1.0)]
    assert "`x` is both an input and an output" in found[0].note


def test_another_format_is_not_run(tmp_path: Path) -> None:
    """A check that does not apply has no value, and says why."""
    assert [m.value for m in measure(Subject((), (), tmp_path / "model.onnx", None))] == [None, None]
