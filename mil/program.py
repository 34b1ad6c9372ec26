"""Core ML programs, loaded and run."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.errors import MilError
from mil.interface import Feature, accept, features
from mil.liveness import names_defined
from mil.package import Package, read_package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import TensorType, specialization

if TYPE_CHECKING:
    from mil.bound import BoundFunction
    from mil.execute import Event, Walk
    from mil.ops.arguments import State

PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")


def load(path: Path | str, function_name: str | None = None) -> "Program":
    """Return the program of a `.mlpackage`, a `.mlmodelc` or a bare `.mlmodel`.

    function_name   which function `predict` and `run` mean by default, as in `coremltools.models.MLModel`

    Weights are read when the program first runs. Raises MilError where there is no program that can be read.
    """
    path = Path(path)
    if path.suffix == ".mlmodelc":
        from mil.bundle import read_bundle

        return Program(read_bundle(path), function_name)
    return Program(read_package(path), function_name)


@dataclass(frozen=True)
class Stage:
    """One ML Program of a model: the model itself, or one link of a pipeline."""

    name: str
    package: Package

    @property
    def program(self) -> MIL_pb2.Program:
        return self.package.spec.mlProgram

    def function(self, name: str | None) -> MIL_pb2.Function:
        """Return a function by name, or the default one; raises MilError where there is none."""
        name = name or self.default_function
        functions = self.program.functions
        if name not in functions:
            raise MilError(
                f"function `{name}`: the program has {', '.join(f'`{known}`' for known in sorted(functions))}"
            )
        return functions[name]

    @property
    def default_function(self) -> str:
        """The name of the function that runs when none is named."""
        named = self.package.spec.description.defaultFunctionName
        functions = list(self.program.functions)
        return named or (functions[0] if len(functions) == 1 else "main")

    def described(self, name: str | None) -> Model_pb2.ModelDescription | Model_pb2.FunctionDescription:
        """Return the part of the model's description that is about a function."""
        description = self.package.spec.description
        name = name or self.default_function
        return next((found for found in description.functions if found.name == name), description)

    def inputs(self, name: str | None) -> tuple[Feature, ...]:
        declared = [value for value in self.function(name).inputs if not _is_state(value)]
        return features(declared, self.described(name).input)

    def states(self, name: str | None) -> tuple[Feature, ...]:
        declared = [value for value in self.function(name).inputs if _is_state(value)]
        return features(declared, self.described(name).state)


class Program:
    """A Core ML model made of ML Programs: one, or several in a pipeline.

    Functions are bound when they first run, once per mode, and stay bound for as long as the program lives.
    """

    def __init__(self, package: Package, function_name: str | None = None) -> None:
        self.package = package
        self.stages = _stages(package)
        self.function_name = function_name
        self._inputs: dict[str | None, tuple[Feature, ...]] = {}
        self._bound: dict[tuple[int, str | None, str], BoundFunction] = {}
        for stage in self.stages:
            stage.function(function_name)

    @property
    def spec(self) -> Model_pb2.Model:
        """The model's protobuf."""
        return self.package.spec

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions, sorted."""
        return tuple(sorted(self.stages[0].program.functions))

    def inputs(self, function: str | None = None) -> tuple[Feature, ...]:
        """Return what a function is called with: for a pipeline, what its stages do not get from each other."""
        function = function or self.function_name
        if function not in self._inputs:
            self._inputs[function] = tuple(self._wanted(function).values())
        return self._inputs[function]

    def _wanted(self, function: str | None) -> dict[str, Feature]:
        made: set[str] = set()
        wanted: dict[str, Feature] = {}
        for stage in self.stages:
            for feature in stage.inputs(function):
                if feature.name not in made:
                    wanted.setdefault(feature.name, feature)
            made.update(self._outputs(stage, function))
        return wanted

    def states(self, function: str | None = None) -> tuple[Feature, ...]:
        """Return the states of a function."""
        function = function or self.function_name
        return tuple({state.name: state for stage in self.stages for state in stage.states(function)}.values())

    def outputs(self, function: str | None = None) -> tuple[str, ...]:
        """Return the names of a function's results, in order."""
        function = function or self.function_name
        if len(self.stages) == 1:
            return tuple(self._outputs(self.stages[0], function))
        return tuple(feature.name for feature in self.spec.description.output)

    def run(
        self,
        inputs: Mapping[str, Any],
        precision: str = "declared",
        function: str | None = None,
        state: "ProgramState | None" = None,
    ) -> dict[str, Any]:
        """Return the results by name: arrays of their declared dtype (of the mode's, where it does not round).

        inputs      arrays by name; floats are rounded to the declared type, integers must fit it
        precision   declared, float32 or float64: see `mil/arithmetic.py`
        function    the program's default where not named
        state       from `make_state`; fresh and zero where not given

        Raises MilError, naming the operation and layer, for whatever cannot run.
        """
        import torch

        with torch.inference_mode():
            walk = self.walk(inputs, precision, function, state)
            return self.released(walk.finish(), precision, function)

    def walk(
        self,
        inputs: Mapping[str, Any],
        precision: str = "declared",
        function: str | None = None,
        state: "ProgramState | None" = None,
    ) -> "Walk":
        """Run as `run` does, one operation at a time; its `outputs` are held tensors."""
        from mil.execute import Walk

        function = function or self.function_name
        accepted = accept(self.inputs(function), inputs)
        return Walk(self._walk(accepted, precision, function, state or self.make_state(function)))

    def _walk(
        self, accepted: Mapping[str, np.ndarray], precision: str, function: str | None, state: "ProgramState"
    ) -> "Generator[Event, None, dict[str, Any]]":
        from mil.arithmetic import arithmetic, bring, held, held_dtype
        from mil.execute import steps_of

        mode = arithmetic(precision)
        wanted = {feature.name: feature.type.element for feature in self.inputs(function)}
        made: dict[str, Any] = {name: held(array, mode, wanted[name]) for name, array in accepted.items()}
        for index, stage in enumerate(self.stages):
            bound = self.bound(index, precision, function)
            entered = {}
            for name, (_, declared) in bound.inputs.items():
                if name not in made:
                    raise MilError(f"stage `{stage.name}` needs `{name}`, which no stage before it makes")
                if not declared.admits(tuple(made[name].shape)):
                    raise MilError(
                        f"stage `{stage.name}`: input `{name}`: expected {declared}, found {made[name].shape}"
                    )
                value, brought = made[name].to(held_dtype(mode, declared.element)), bring(mode, declared.element)
                entered[name] = value if brought is None else brought(value)
            cells = {name: state.cell(name, mode, declared) for name, (_, declared) in bound.states.items()}
            made |= yield from steps_of(bound, entered, cells)
        missing = [name for name in self.outputs(function) if name not in made]
        if missing:
            raise MilError(f"no stage makes the output `{missing[0]}`")
        return {name: made[name] for name in self.outputs(function)}

    def released(self, outputs: Mapping[str, Any], precision: str, function: str | None = None) -> dict[str, Any]:
        """Return the outputs of a walk as `run` returns them."""
        from mil.arithmetic import arithmetic, released

        function = function or self.function_name
        mode = arithmetic(precision)
        types: dict[str, TensorType | None] = {}
        for index in range(len(self.stages)):
            types |= self.bound(index, precision, function).outputs
        return {
            name: released(value, mode, kind.element) if (kind := types[name]) and not isinstance(value, str) else value
            for name, value in outputs.items()
        }

    def bound(self, stage: int, precision: str, function: str | None = None) -> "BoundFunction":
        """Return a stage's function, bound: decoded and checked the first time."""
        from mil.arithmetic import arithmetic
        from mil.bind import bind

        key = (stage, function, precision)
        if key not in self._bound:
            package = self.stages[stage].package
            chosen = self.stages[stage].function(function)
            self._bound[key] = bind(package, chosen, arithmetic(precision), self._shared)
        return self._bound[key]

    @cached_property
    def _shared(self) -> Any:
        from mil.bind import SharedConstants

        return SharedConstants()

    def make_state(self, function: str | None = None) -> "ProgramState":
        """Return fresh states, all zero, to pass to `predict` or `run` again and again."""
        return ProgramState(self.states(function))

    def predict(self, data: Any, state: "ProgramState | None" = None) -> Any:
        """Return what `coremltools.models.MLModel.predict` would: see `mil/predict.py`."""
        from mil.predict import predict

        return predict(self, data, state)

    def value_names(self, function: str | None = None) -> set[str]:
        """Return the names of all values that a function computes, in all stages and nested blocks."""
        function = function or self.function_name
        blocks = [specialization(stage.function(function)) for stage in self.stages]
        return {name for block in blocks for name in names_defined(block)}

    def _outputs(self, stage: Stage, function: str | None) -> list[str]:
        return list(specialization(stage.function(function)).outputs)


class ProgramState:
    """The states of a program between runs: zero at first, then what the program last wrote."""

    def __init__(self, features: tuple[Feature, ...]) -> None:
        self._features = {feature.name: feature for feature in features}
        self._cells: dict[str, State] = {}

    def read_state(self, name: str) -> np.ndarray:
        """Return what a state holds, of its declared shape and dtype."""
        feature = self._feature(name)
        if name not in self._cells:
            return np.zeros(_shape(feature), feature.type.element.numpy)
        return self._cells[name].value.numpy().astype(feature.type.element.numpy)

    def write_state(self, name: str, value: Any) -> None:
        """Let a state hold an array; raises MilError where it does not fit."""
        import torch

        from mil.ops.arguments import State

        feature = self._feature(name)
        accepted = accept([feature], {name: value})[name]
        wide = np.float64 if feature.type.element.kind == "float" else accepted.dtype
        self._cells[name] = State(torch.from_numpy(accepted.astype(wide)))

    def cell(self, name: str, mode: Any, declared: Any) -> "State":
        """Return the cell of a state, holding what the mode computes with."""
        from mil.arithmetic import held, held_dtype

        if name not in self._cells:
            from mil.ops.arguments import State

            zeros = np.zeros(_shape(self._feature(name)), declared.element.numpy or np.float32)
            self._cells[name] = State(held(zeros, mode, declared.element))
        cell = self._cells[name]
        cell.value = cell.value.to(held_dtype(mode, declared.element))
        return cell

    def _feature(self, name: str) -> Feature:
        if name not in self._features:
            raise MilError(f"state `{name}`: the program has {', '.join(self._features) or 'none'}")
        return self._features[name]


def _shape(feature: Feature) -> tuple[int, ...]:
    try:
        return feature.type.known_shape()
    except MilError as error:
        raise MilError(f"state `{feature.name}`: {error}") from None


def _is_state(value: MIL_pb2.NamedValueType) -> bool:
    return value.type.WhichOneof("type") == "stateType"


def _stages(package: Package) -> tuple[Stage, ...]:
    kind = package.spec.WhichOneof("Type")
    if kind == "mlProgram":
        return (Stage("main", package),)
    if kind not in PIPELINES:
        raise MilError(f"a model of type `{kind}`: expected an ML Program or a pipeline of them; convert it to one")
    pipeline = package.spec.pipeline if kind == "pipeline" else getattr(package.spec, kind).pipeline
    stages = []
    for index, model in enumerate(pipeline.models):
        name = pipeline.names[index] if index < len(pipeline.names) else f"model{index}"
        if model.WhichOneof("Type") != "mlProgram":
            raise MilError(
                f"stage `{name}` is a `{model.WhichOneof('Type')}`: expected an ML Program; convert it to one"
            )
        stages.append(Stage(name, Package(model, package.root, package._blobs)))
    if not stages:
        raise MilError("a pipeline without models")
    return tuple(stages)
