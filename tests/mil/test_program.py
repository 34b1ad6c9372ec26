"""Whole programs: control flow, states, functions, pipelines, flexible shapes, modes, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mil
from mil.errors import MilError
from mil.info import describe
from mil.package import read_package
from mil.schema import Model_pb2
from mil.trace import trace
from mil.values import specialization

Save = Callable[..., Path]


@pytest.fixture(scope="session")
def branching(ct: Any, save: Save) -> Path:
    """y = 2 x where its sum is positive, else x − 1."""
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        positive = mb.greater(x=mb.reduce_sum(x=x, axes=[0]), y=0.0)
        return mb.cond(
            pred=positive,
            _true_fn=lambda: mb.mul(x=x, y=2.0),
            _false_fn=lambda: mb.sub(x=x, y=1.0),
            name="y",
        )

    return save(program, "branching")


@pytest.fixture(scope="session")
def looping(ct: Any, save: Save) -> Path:
    """y = x doubled until its sum reaches 100; n = how often. A list keeps every second power on the way."""
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(3,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        def unfinished(n: Any, y: Any) -> Any:
            return mb.less(x=mb.reduce_sum(x=y, axes=[0]), y=100.0)

        def double(n: Any, y: Any) -> Any:
            return mb.add(x=n, y=1), mb.add(x=y, y=y)

        n, y = mb.while_loop(_cond=unfinished, _body=double, loop_vars=(0, x))
        return mb.identity(x=n, name="n"), mb.mul(x=y, y=x, name="y")

    return save(program, "looping")


@pytest.fixture(scope="session")
def listing(ct: Any, save: Save) -> Path:
    """A list written in a loop, read, scattered into and gathered."""
    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(2,))], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        empty = mb.make_list(init_length=3, dynamic_length=False, elem_shape=(2,), dtype="fp32")

        def body(i: Any, ls: Any) -> Any:
            value = mb.mul(x=x, y=mb.cast(x=mb.add(x=i, y=1), dtype="fp32"))
            return mb.add(x=i, y=1), mb.list_write(ls=ls, index=i, value=value)

        _, full = mb.while_loop(_cond=lambda i, ls: mb.less(x=i, y=3), _body=body, loop_vars=(0, empty))
        scattered = mb.list_scatter(ls=full, indices=[0], value=mb.expand_dims(x=x, axes=[0]))
        every = mb.list_gather(ls=scattered, indices=[2, 0, 1], name="every")
        return every, mb.list_read(ls=full, index=1, name="second"), mb.identity(x=mb.list_length(ls=full), name="n")

    return save(program, "listing")


@pytest.fixture(scope="session")
def stateful(ct: Any, save: Save) -> Path:
    """total ← total + x, returned doubled."""
    from coremltools.converters.mil.mil import types

    mb = ct.converters.mil.Builder

    @mb.program(
        input_specs=[mb.TensorSpec((2,), types.fp16), mb.StateTensorSpec((2,), types.fp16)],
        opset_version=ct.target.iOS18,
    )
    def program(x: Any, total: Any) -> Any:
        sum_ = mb.add(x=mb.read_state(input=total), y=x)
        kept = mb.coreml_update_state(state=total, value=sum_)
        return mb.add(x=kept, y=kept, name="y")

    return save(program, "stateful", "iOS18", compute_precision=ct.precision.FLOAT16)


@pytest.fixture(scope="session")
def affine(ct: Any, save: Save) -> Callable[[str, float, float, str, str], Path]:
    """Return a maker of programs that compute scale · in + shift."""
    from coremltools.converters.mil.mil import Function, Placeholder, Program

    mb = ct.converters.mil.Builder

    def make(name: str, scale: float, shift: float, source: str, target: str) -> Path:
        with Function({source: Placeholder((2,))}, opset_version=ct.target.iOS18) as built:
            built.set_outputs([mb.add(x=mb.mul(x=built.inputs[source], y=scale), y=shift, name=target)])
        program = Program()
        program.add_function("main", built)
        return save(program, name, "iOS18")

    return make


def test_a_condition_takes_the_branch_its_predicate_says(branching: Path) -> None:
    """Both branches, each from a value of the outer block."""
    program = mil.load(branching)
    up, down = np.float32([1, 2, 3, 4]), np.float32([-1, 0, 0, 0])
    np.testing.assert_array_equal(program.run({"x": up})["y"], 2 * up)
    np.testing.assert_array_equal(program.run({"x": down})["y"], down - 1)


@pytest.mark.parametrize("x", [[1, 1, 1], [60, 60, 60], [0.125, 0, 0]])
def test_a_loop_runs_as_often_as_its_condition_holds(looping: Path, x: list[float]) -> None:
    """Against the loop in Python, for none to many rounds; what is used inside and after the loop stays alive."""
    y, n = np.float32(x), 0
    while y.sum() < 100:
        y, n = y + y, n + 1
    found = mil.load(looping).run({"x": np.float32(x)})
    np.testing.assert_array_equal(found["y"], y * np.float32(x))
    assert found["n"] == n
    assert found["n"].dtype == np.int32


def test_lists_are_written_in_a_loop_and_read_after_it(listing: Path) -> None:
    """Writing makes another list: what `full` holds is not touched by scattering."""
    x = np.float32([1, 10])
    found = mil.load(listing).run({"x": x})
    np.testing.assert_array_equal(found["every"], np.stack([3 * x, x, 2 * x]))
    np.testing.assert_array_equal(found["second"], 2 * x)
    assert found["n"] == 3


def test_a_state_outlives_the_prediction(stateful: Path) -> None:
    """As in coremltools: the state is made by the model, passed to each call, read and written in between."""
    program = mil.load(stateful)
    state = program.make_state()
    x = np.float16([1, 2])
    for times in (1, 2, 3):
        np.testing.assert_array_equal(program.predict({"x": x}, state=state)["y"], 2 * times * x)
    np.testing.assert_array_equal(state.read_state("total"), 3 * x)
    assert state.read_state("total").dtype == np.float16
    state.write_state("total", np.float16([100, 200]))
    np.testing.assert_array_equal(program.run({"x": x}, "float64", state=state)["y"], [202, 404])
    other = program.make_state()
    np.testing.assert_array_equal(program.predict({"x": x}, state=other)["y"], 2 * x)


def test_a_program_with_states_says_so(stateful: Path) -> None:
    """predict without a state, and a state that is not there or does not fit."""
    program = mil.load(stateful)
    with pytest.raises(MilError, match=r"pass state=program\.make_state"):
        program.predict({"x": np.float16([1, 2])})
    with pytest.raises(MilError, match="state `sum`: the program has total"):
        program.make_state().read_state("sum")
    with pytest.raises(MilError, match="found a shape of"):
        program.make_state().write_state("total", np.zeros(3))


@pytest.fixture(scope="session")
def several(ct: Any, affine: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two functions in one package: `double` (the default) and `plus_one`."""
    folder = tmp_path_factory.mktemp("several")
    described = ct.utils.MultiFunctionDescriptor()
    described.add_function(str(affine("double", 2.0, 0.0, "x", "y")), "main", "double")
    described.add_function(str(affine("plus_one", 1.0, 1.0, "x", "y")), "main", "plus_one")
    described.default_function_name = "double"
    ct.utils.save_multifunction(described, str(folder / "several.mlpackage"))
    return folder / "several.mlpackage"


def test_each_function_of_a_package_runs_by_name(several: Path) -> None:
    """The default one without a name, any by argument, or one chosen on loading as coremltools does."""
    program = mil.load(several)
    x = np.float32([1, 2])
    assert program.functions == ("double", "plus_one")
    np.testing.assert_array_equal(program.run({"x": x})["y"], 2 * x)
    np.testing.assert_array_equal(program.run({"x": x}, function="plus_one")["y"], x + 1)
    np.testing.assert_array_equal(mil.load(several, function_name="plus_one").predict({"x": x})["y"], x + 1)
    with pytest.raises(MilError, match=r"function `triple`: the program has `double`, `plus_one`"):
        program.run({"x": x}, function="triple")


@pytest.fixture(scope="session")
def pipeline(ct: Any, save: Save, affine: Callable[..., Path]) -> Path:
    """z = 3 (2 x + 1) in two stages, made by coremltools."""
    stages = [ct.models.MLModel(str(affine(*stage)), skip_model_load=True) for stage in PIPELINE]
    return save(ct.utils.make_pipeline(*stages), "pipeline")


PIPELINE = (("first", 2.0, 1.0, "x", "y"), ("second", 3.0, 0.0, "y", "z"))


@pytest.mark.parametrize("precision", ["declared", "float32", "float64"])
def test_a_pipeline_hands_results_on_by_name(pipeline: Path, precision: str) -> None:
    """Only the first stage's input is asked for, only the last one's output returned."""
    program = mil.load(pipeline)
    assert [feature.name for feature in program.inputs()] == ["x"]
    found = program.run({"x": np.float32([1, 2])}, precision)
    np.testing.assert_array_equal(found.pop("z"), [9, 15])
    assert not found


def flexible(ct: Any, save: Save, name: str, shape: Any) -> Path:
    import torch

    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(1) * 2

    traced = torch.jit.trace(Sum().eval(), torch.zeros(1, 8))
    return save(traced, name, inputs=[ct.TensorType("x", shape)], outputs=[ct.TensorType("y")])


@pytest.fixture(scope="session")
def ranged(ct: Any, save: Save) -> Path:
    return flexible(ct, save, "ranged", (1, ct.RangeDim(2, 16, default=8)))


@pytest.fixture(scope="session")
def enumerated(ct: Any, save: Save) -> Path:
    return flexible(ct, save, "enumerated", ct.EnumeratedShapes([(1, 4), (1, 8)], default=(1, 8)))


@pytest.mark.parametrize("size", [2, 8, 16])
def test_a_range_admits_every_size_in_it(ranged: Path, size: int) -> None:
    """One bound program serves all sizes."""
    x = np.ones((1, size), np.float32)
    np.testing.assert_array_equal(mil.load(ranged).run({"x": x})["y"], 2 * x.cumsum(1))


@pytest.mark.parametrize(("size", "said"), [(1, r"expected sizes 1 × 2…16, found \[1, 1\]"), (17, "found")])
def test_a_range_refuses_what_is_outside(ranged: Path, size: int, said: str) -> None:
    """The description's limits hold, though the program's own type would admit any size."""
    with pytest.raises(MilError, match=said):
        mil.load(ranged).run({"x": np.ones((1, size), np.float32)})


def test_enumerated_shapes_admit_themselves_only(enumerated: Path) -> None:
    """Of 4, 6 and 8 the one in between is refused."""
    program = mil.load(enumerated)
    for size in (4, 8):
        assert program.run({"x": np.ones((1, size), np.float32)})["y"].shape == (1, size)
    with pytest.raises(MilError, match=r"expected a shape of \[1, 8\] or \[1, 4\]|expected a shape of \[1, 4\] or"):
        program.run({"x": np.ones((1, 6), np.float32)})


@pytest.fixture(scope="session")
def half(ct: Any, save: Save) -> Path:
    """y = x + 1/3 in fp16, in and out."""
    from coremltools.converters.mil.mil import types

    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec((3,), types.fp16)], opset_version=ct.target.iOS17)
    def program(x: Any) -> Any:
        return mb.mul(x=mb.add(x=x, y=np.float16(1 / 3)), y=np.float16(3), name="y")

    return save(program, "half", compute_precision=ct.precision.FLOAT16)


def test_declared_rounds_after_every_operation(half: Path) -> None:
    """As numpy does in fp16; the other modes keep what fp16 would lose, and say so with their dtype."""
    x = np.float16([1, 1000, 60000])
    program = mil.load(half)
    third = np.float16(1 / 3)
    with np.errstate(over="ignore"):
        declared = (x + third) * np.float16(3)
    found = {mode: program.run({"x": x}, mode)["y"] for mode in ("declared", "float32", "float64")}
    np.testing.assert_array_equal(found["declared"], declared)
    assert np.isinf(found["declared"][2])
    np.testing.assert_array_equal(found["float32"], (x.astype(np.float32) + np.float32(third)) * np.float32(3))
    np.testing.assert_array_equal(found["float64"], (x.astype(np.float64) + np.float64(third)) * 3)
    assert [found[mode].dtype for mode in found] == [np.float16, np.float32, np.float64]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, r"missing input: x: fp16\[3\]"),
        ({"X": np.zeros(3)}, r"input `X`: the program has `x`"),
        ({"x": np.zeros(3), "xx": np.zeros(3)}, r"did you mean `x`"),
        ({"x": np.zeros(4)}, r"expected fp16\[3\], found a shape of \[4\]"),
        ({"x": np.zeros((3, 1))}, r"found a shape of \[3, 1\]"),
        ({"x": ["a", "b", "c"]}, r"expected fp16\[3\], found <U1"),
        ({"x": np.zeros(3, complex)}, "found complex128"),
        ({"x": [None, 1, 2]}, "found object"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(half: Path, inputs: dict[str, Any], said: str) -> None:
    """Names, shapes and kinds, each in one sentence."""
    with pytest.raises(MilError, match=said):
        mil.load(half).run(inputs)


def test_an_unknown_precision_is_refused(half: Path) -> None:
    """The three modes are named."""
    with pytest.raises(MilError, match="expected one of declared, float32, float64"):
        mil.load(half).run({"x": np.zeros(3)}, "fp16")


@pytest.fixture
def edited(half: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Return a function that saves the small fp16 program with its block changed."""

    def save_edited(edit: Callable[[Any], None]) -> Path:
        spec = Model_pb2.Model()
        spec.CopyFrom(read_package(half).spec)
        edit(specialization(spec.mlProgram.functions["main"]))
        (tmp_path / "edited.mlmodel").write_bytes(spec.SerializeToString())
        return tmp_path / "edited.mlmodel"

    return save_edited


def operation(block: Any, kind: str) -> Any:
    return next(each for each in block.operations if each.type == kind)


def rename_type(block: Any) -> None:
    operation(block, "add").type = "conv_transposed"


def missing_from_mil(block: Any) -> None:
    operation(block, "add").inputs["x"].arguments[0].name = "nowhere"


def cyclic(block: Any) -> None:
    operation(block, "add").inputs["x"].arguments[0].name = operation(block, "mul").outputs[0].name


def defined_twice(block: Any) -> None:
    operation(block, "mul").outputs[0].name = operation(block, "add").outputs[0].name


def wrong_shape(block: Any) -> None:
    operation(block, "add").outputs[0].type.tensorType.dimensions[0].constant.size = 4


def wrong_kind(block: Any) -> None:
    operation(block, "add").outputs[0].type.tensorType.dataType = 23  # int32


def no_such_element_type(block: Any) -> None:
    operation(block, "add").outputs[0].type.tensorType.dataType = 999


def hostile_size(block: Any) -> None:
    operation(block, "add").outputs[0].type.tensorType.dimensions[0].constant.size = 1 << 60


def unknown_input(block: Any) -> None:
    arguments = operation(block, "add").inputs
    arguments["z"].CopyFrom(arguments["y"])


def absent_input(block: Any) -> None:
    del operation(block, "add").inputs["y"]


def two_for_one(block: Any) -> None:
    argument = operation(block, "add").inputs["x"]
    argument.arguments.add().CopyFrom(argument.arguments[0])


def extra_result(block: Any) -> None:
    outputs = operation(block, "add").outputs
    outputs.add().CopyFrom(outputs[0])
    outputs[1].name = "another"


def unknown_output(block: Any) -> None:
    block.outputs[0] = "nothing"


def empty_constant(block: Any) -> None:
    operation(block, "const").attributes["val"].immediateValue.tensor.Clear()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (rename_type, "op `conv_transposed` .*: not an operation of MIL"),
        (missing_from_mil, "op `add` .*: `x` reads `nowhere`, which nothing before it defines"),
        (cyclic, "which nothing before it defines"),
        (defined_twice, "a second time"),
        (wrong_shape, r"op `add` .*: result `.*`: expected fp16\[4\], computed a shape of \[3\]"),
        (wrong_kind, r"expected int32\[3\], computed float32"),
        (no_such_element_type, "element type 999: not a type of MIL"),
        (hostile_size, "expected a result of at most"),
        (unknown_input, "op `add` .*: has no input `z`; its inputs are x, y"),
        (absent_input, "op `add` .*: needs its input `y`"),
        (two_for_one, "`x`: expected one value, found 2"),
        (extra_result, "declares 2 results, has 1"),
        (unknown_output, "the block's outputs reads `nothing`"),
        (empty_constant, "holds 0 values instead of 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_program_is_one_sentence(edited: Callable[..., Path], edit: Any, said: str) -> None:
    """The operation, the layer and what is wrong with it."""
    with pytest.raises(MilError, match=said) as caught:
        mil.load(edited(edit)).run({"x": np.zeros(3)})
    assert "\n" not in str(caught.value)


def test_a_missing_operation_names_the_file_to_add_it_to() -> None:
    """An operation that coremltools registers and we would lack."""
    from mil.ops import catalogue, find

    assert catalogue.family_of("conv_transpose") == "conv"
    with pytest.raises(MilError, match=r"op `complex_stft` \(layer\): not an operation of MIL"):
        find("complex_stft", "layer")


def test_other_model_types_are_refused(tmp_path: Path) -> None:
    """A neural network of before ML Programs, alone and as a stage."""
    spec = Model_pb2.Model(specificationVersion=4)
    spec.neuralNetwork.SetInParent()
    (tmp_path / "a.mlmodel").write_bytes(spec.SerializeToString())
    with pytest.raises(MilError, match="a model of type `neuralNetwork`: expected an ML Program"):
        mil.load(tmp_path / "a.mlmodel")
    staged = Model_pb2.Model(specificationVersion=4)
    staged.pipeline.models.add().CopyFrom(spec)
    staged.pipeline.names.append("old")
    (tmp_path / "b.mlmodel").write_bytes(staged.SerializeToString())
    with pytest.raises(MilError, match="stage `old` is a `neuralNetwork`"):
        mil.load(tmp_path / "b.mlmodel")


@pytest.mark.parametrize(
    "name", ["branching", "looping", "listing", "stateful", "several", "pipeline", "ranged", "half"]
)
def test_every_kind_of_program_is_described_and_traced(name: str, request: pytest.FixtureRequest) -> None:
    """`info` and `trace` know control flow, lists, states, functions, stages and unknown sizes."""
    program = mil.load(request.getfixturevalue(name))
    described = describe(program)
    assert len(described) == len(program.stages) * len(program.functions)
    assert (sum(function.unknown_values for function in described) > 0) == (name in ("ranged", "listing"))
    inputs = {feature.name: np.ones(feature.default, np.float32) for feature in program.inputs()}
    traced = [found.operation for found, _ in trace(program, inputs)]
    wanted = {"branching": "cond", "looping": "while_loop", "listing": "list_read", "stateful": "read_state"}
    assert wanted.get(name, traced[0]) in traced
    if name == "looping":
        assert traced.count("less") == traced.count("reduce_sum") > 1


def test_sizes_known_only_at_run_time_are_measured(ranged: Path) -> None:
    """cumsum and mul of (1, 8) fp32: x lives with its sum, which lives with the product."""
    program = mil.load(ranged)
    assert describe(program)[0].unknown_values > 0
    (found,) = describe(program, measured=True)
    assert (found.unknown_values, found.peak_live_bytes) == (0, 2 * 8 * 4)
