"""Outputs that are inputs, strictly and through operations that only rename; pipelines whose stages do not fit."""

from collections.abc import Iterator

from mil.program import Program
from mil.schema import MIL_pb2
from mil.values import specialization, tensor_type
from verify import alias
from verify.linting.rule import Hit, Rule
from verify.linting.scope import Operation, Scope

# What gives its input another name, or another shape without touching a value.
_RENAMING = frozenset({"identity", "reshape", "expand_dims", "squeeze", "flatten2d", "cast", "transpose", "concat"})


def aliased(program: Program) -> Iterator[Hit]:
    """Yield what the strict check finds, in every function of every model."""
    yield from (Hit(sentence) for sentence in alias.findings(program.spec))


def renamed(scope: Scope) -> Iterator[Hit]:
    """Yield outputs that are an input under another name, through operations that a compiler may fold away."""
    inputs = {feature.name: feature.type for feature in scope.inputs}
    for output in scope.outputs:
        operation = scope.maker(output)
        chain: list[Operation] = []
        at = output
        while operation is not None and _renames(operation, scope):
            chain.append(operation)
            at = next(operation.variables)
            operation = scope.maker(at)
        if chain and at.name in inputs and inputs[at.name] == output.type:
            through = ", ".join(operation.type for operation in reversed(chain))
            yield Hit(f"`{output.name}` is the input `{at.name}`, renamed by {through} only", chain[0])


def _renames(operation: Operation, scope: Scope) -> bool:
    read = list(operation.variables)
    if operation.type not in _RENAMING or len(read) != 1 or read[0].type is None or operation.result.type is None:
        return False
    if operation.type == "transpose":
        order = scope.array(operation.argument("perm"))
        return order is not None and [int(axis) % order.size for axis in order] == list(range(order.size))
    return read[0].type.element is operation.result.type.element


def unfit_stages(program: Program) -> Iterator[Hit]:
    """Yield stages that need what no stage before them makes, or get it in another type, and outputs nobody makes."""
    if len(program.stages) < 2:
        return
    made = {feature.name: str(feature.type.element.name) for feature in program.stages[0].inputs(None)}
    made |= {feature.name: "" for feature in program.spec.description.input}
    for stage in program.stages:
        for feature in stage.inputs(None):
            given = made.get(feature.name)
            if given is None:
                yield Hit(f"stage `{stage.name}` reads `{feature.name}`, which no stage before it makes")
            elif given and given != feature.type.element.name:
                expected = feature.type.element.name
                yield Hit(f"stage `{stage.name}` reads `{feature.name}` as {expected}, the stage before makes {given}")
        described = {feature.name: feature for feature in stage.described(None).output}
        made |= {name: _element(stage.function(None), name) for name in described}
    for feature in program.spec.description.output:
        if feature.name not in made:
            yield Hit(f"no stage makes the output `{feature.name}`")


def _element(function: MIL_pb2.Function, name: str) -> str:
    for operation in specialization(function).operations:
        for output in operation.outputs:
            if output.name == name and (kind := tensor_type(output.type)) is not None:
                return kind.element.name
    return ""


def unrecorded(program: Program) -> Iterator[Hit]:
    """Yield a model that does not say which tools made it."""
    models = (program.spec, *program.spec.pipeline.models)
    if not any("version" in key for model in models for key in model.description.metadata.userDefined):
        yield Hit("the metadata does not say with which versions it was converted")


RULES = (
    Rule(
        "A1",
        "a tensor is both input and output, or the description is not the function's",
        "E",
        "confirmed",
        "FluidAudio#265, #726; mobius#11; BNNS on macOS 26",
        "compute the output from the input in the program, or leave it out: the app has it already",
        model=aliased,
    ),
    Rule(
        "A2",
        "an output is an input that was only renamed; a compiler may fold that back into an alias",
        "W",
        "inferred",
        "mobius#11; coremltools 9.0 keeps such chains (measured)",
        "leave the output out, or let an operation with arithmetic make it",
        function=renamed,
    ),
    Rule(
        "A3",
        "the versions of the converter are not recorded, so that nobody can tell which folded an identity away",
        "I",
        "reported",
        "FluidAudio#728; coremltools#2615",
        "keep the strings that coremltools writes into the metadata, and lint again after every change of tools",
        model=unrecorded,
    ),
    Rule(
        "A4",
        "the stages of a pipeline do not fit each other",
        "N",
        "reported",
        "coremltools#2445",
        "name and type each stage's inputs as the stage before makes them; compare with the stages run one by one",
        model=unfit_stages,
    ),
)
