"""Core ML: a torch module becomes an `.mlpackage` whose bytes follow from its weights and options alone."""

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mil import compute_units
from mil.links import link_tree
from pipeline.types import Arrays, QuernError, Range, Runner, Tensor

SUFFIX = ".mlpackage"
RUNNER = "MIL interpreter"
TOOLS = ("coremltools", "protobuf")
COMPUTE_UNITS = tuple(compute_units.COMPUTE_UNITS)


@dataclass(frozen=True)
class Options:
    """How a module is converted.

    precision   type that the program computes in; "mixed" is fp16 in the parts of the network that declare that they
                bear it (`half_precision = True` on a torch module), and fp32 everywhere else
    target      the oldest system that must load it
    """

    precision: Literal["fp32", "fp16", "mixed"] = "fp16"
    target: Literal["iOS15", "iOS16", "iOS17", "iOS18"] = "iOS17"


def missing() -> str:
    """Return an empty string: what this format needs is always installed."""
    return ""


def exact(options: Options) -> Options:
    """Return the options that convert without loss of precision."""
    return replace(options, precision="fp32")


def convert(
    module: Any,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    options: Options,
    destination: Path,
) -> None:
    """Write a traceable torch module as an `.mlpackage`, canonical: equal modules give equal bytes anywhere.

    inputs, outputs   names, shapes and types of the module's arguments and results, in their order
    metadata          strings that the package carries beside coremltools' own

    Raises QuernError where the target cannot take a declared type, and for mixed precision where no part declares that
    it bears half, or none of its operations came to compute in it.
    """
    from converters.toolchain import coremltools
    from mil.package import read_package, without_build_traces, write_package

    ct = coremltools()
    _check_types([*inputs, *outputs], options.target)
    with tempfile.TemporaryDirectory(prefix="quern-") as scratch, warnings.catch_warnings():
        # A pass compares ranges of types in the narrower one, where the end of the wider is infinite, as it should be.
        warnings.filterwarnings("ignore", "overflow encountered in cast", RuntimeWarning)
        draft = Path(scratch) / "draft.mlpackage"
        with _seldom_validated(), _sliced_constants_kept(module):
            model = ct.convert(
                _traced(module, inputs),
                inputs=[_declared(ct, tensor, i) for i, tensor in enumerate(inputs)],
                outputs=[ct.TensorType(name=tensor.name, dtype=_dtype(tensor)) for tensor in outputs],
                convert_to="mlprogram",
                minimum_deployment_target=getattr(ct.target, options.target),
                compute_precision=_compute_precision(ct, module, options.precision),
                skip_model_load=True,
            )
        model.save(str(draft))
        package = read_package(draft)
        spec = without_build_traces(package.spec)
        if options.precision == "mixed" and not _computes_in_half(spec.mlProgram):
            kind = type(module).__name__
            raise QuernError(f"convert.precision: mixed: no operation of {kind} became half precision; use fp32")
        _describe(spec, [*inputs, *outputs], metadata)
        write_package(spec, package.weight_files(), destination)


@contextmanager
def _seldom_validated() -> Iterator[None]:
    """Let coremltools validate a program fully, and only then: after dead code is removed, and before it is written.

    It also does so, less fully, after each of some ninety passes. Where passes go right that changes nothing, and it
    is a quarter of the time that converting a thousand operations takes.
    """
    from coremltools.converters.mil.mil import Program

    validate = Program.validate

    def fully(program: Any, check_essential_scope: bool = False) -> None:
        if check_essential_scope:
            validate(program, check_essential_scope)

    Program.validate = fully
    try:
        yield
    finally:
        Program.validate = validate


@contextmanager
def _sliced_constants_kept(module: Any) -> Iterator[None]:
    """Leave slices of constants in the program, where a part of the module declares `slices_constants = True`.

    Folded, each would be a constant of its own; kept, programs that slice equal constants differently share them.
    """
    from coremltools.converters.mil.mil import Var

    is_foldable = Var.can_be_folded_to_const

    def is_foldable_and_no_slice(variable: Any) -> bool:
        return is_foldable(variable) and not _is_slice(variable)

    if any(getattr(part, "slices_constants", False) for part in module.modules()):
        Var.can_be_folded_to_const = is_foldable_and_no_slice
    try:
        yield
    finally:
        Var.can_be_folded_to_const = is_foldable


def _is_slice(variable: Any) -> bool:
    """Return whether a variable is part of another, in any precision; of vectors, which are shapes, none counts."""
    operation = variable.op
    while operation is not None and operation.op_type == "cast":
        operation = operation.x.op
    return operation is not None and operation.op_type == "slice_by_index" and variable.rank > 1


def _check_types(tensors: Sequence[Tensor], target: str) -> None:
    half = [tensor.name for tensor in tensors if tensor.dtype == "float16"]
    if half and target == "iOS15":
        raise QuernError(f"{half[0]}: declared float16, which an iOS15 program cannot take or return; target iOS16")


def _compute_precision(ct: Any, module: Any, precision: str) -> Any:
    """Return what coremltools takes for a precision; see Options."""
    if precision != "mixed":
        return {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}[precision]
    from coremltools.converters.mil.mil.scope import ScopeSource

    halves = [_path(name) for name, part in module.named_modules() if getattr(part, "half_precision", False)]
    if not halves:
        kind = type(module).__name__
        raise QuernError(f"convert.precision: mixed: no part of {kind} declares that it bears half; use fp16 or fp32")

    def bears_half(operation: Any) -> bool:
        """Return whether an operation was traced inside one of those parts."""
        path = operation.scopes[ScopeSource.TORCHSCRIPT_MODULE_NAME]
        return any(path[: len(part)] == part for part in halves)

    return ct.transform.FP16ComputePrecision(op_selector=bears_half)


def _computes_in_half(program: Any) -> bool:
    from mil.schema import MIL_pb2
    from mil.traverse import block_of, operations

    return any(
        output.type.tensorType.dataType == MIL_pb2.FLOAT16
        for function in program.functions.values()
        for operation in operations(block_of(function))
        if operation.type not in ("const", "cast")
        for output in operation.outputs
    )


def _path(name: str) -> list[str]:
    """Return the way from the whole module, whose own name is empty, to one of its parts."""
    return name.split(".") if name else []


def _traced(module: Any, inputs: Sequence[Tensor]) -> Any:
    """Return the module traced on zeros, in single precision; ranges are traced at their upper bound.

    At a length of one, torch may take an axis for one to broadcast over.
    """
    import torch

    dtypes = {"int32": torch.int32}
    shapes = [[size.high if isinstance(size, Range) else size for size in tensor.shape] for tensor in inputs]
    zeros = [
        torch.zeros(shape, dtype=dtypes.get(t.dtype, torch.float32)) for shape, t in zip(shapes, inputs, strict=True)
    ]
    with torch.no_grad():
        return torch.jit.trace(module, tuple(zeros), check_trace=False)


def _declared(ct: Any, tensor: Tensor, place: int) -> Any:
    """Return the input as coremltools declares it; symbols are named by place, for its own names count up."""
    shape = [
        ct.RangeDim(size.low, size.high, default=size.low, symbol=f"i{place}d{axis}")
        if isinstance(size, Range)
        else size
        for axis, size in enumerate(tensor.shape)
    ]
    return ct.TensorType(name=tensor.name, shape=shape, dtype=_dtype(tensor))


def _dtype(tensor: Tensor) -> Any:
    import numpy as np

    return np.dtype(tensor.dtype).type


def _describe(spec: Any, tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> None:
    """Write what the tensors mean, and the metadata, into the model's description."""
    meanings = {tensor.name: f"({', '.join(tensor.axes)}): {tensor.unit}" for tensor in tensors}
    for feature in [*spec.description.input, *spec.description.output]:
        feature.shortDescription = meanings[feature.name]
    spec.description.metadata.userDefined.update(metadata)


def label(artifact: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write a copy of a package that carries these strings too; it shares the weight files."""
    from mil.package import read_package, write_package

    package = read_package(artifact)
    package.spec.description.metadata.userDefined.update(strings)
    write_package(package.spec, package.weight_files(), destination)


def merge(artifacts: Mapping[str, Path], default: str, destination: Path) -> None:
    """Write one package whose functions are packages, by name, over one weight file; it needs iOS 18."""
    from mil.merge import merge as merge_packages

    merge_packages(artifacts, default, destination)


def compiler(choice: str) -> dict[str, str]:
    """Return which compiler makes the bundle here: Apple's where it is installed and allowed, ours elsewhere.

    Raises QuernError where Apple's is asked for and there is none.
    """
    if choice == "builtin" or (choice == "auto" and shutil.which("xcrun") is None):
        return {"name": "builtin"}
    if shutil.which("xcrun") is None:
        raise QuernError("--compiler apple: `xcrun coremlcompiler` needs macOS with Xcode; use --compiler builtin")
    found = subprocess.run(["xcrun", "coremlcompiler", "version"], capture_output=True, text=True, check=False)
    return {"name": "coremlcompiler", "version": found.stdout.strip()}


def compile(artifact: Path, name: str, choice: str, destination: Path) -> None:
    """Write `<name>.mlmodelc`, compiled from a package, into a folder; raises MilError or QuernError if it cannot."""
    with tempfile.TemporaryDirectory(prefix="quern-", dir=destination) as scratch:
        package = Path(scratch) / f"{name}{SUFFIX}"  # a bundle is called what its package is called
        link_tree(artifact, package)
        if compiler(choice)["name"] == "builtin":
            from mil.compile import compile_package

            compile_package(package, destination)
            return
        command = ["xcrun", "coremlcompiler", "compile", str(package), str(destination)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise QuernError(f"{name}: coremlcompiler: {' '.join(done.stderr.split())}")


def parting(exact: Path, artifact: Path, inputs: Arrays) -> str:
    """Return at which operation a package parts from the one that it was made of, run in single precision.

    That is the first whose results differ by a tenth of what the output differs by that differs most, each relative
    to its largest magnitude: rounding alone makes all of them differ a little.
    """
    import mil
    from mil.diff import Side, compare

    program = mil.load(artifact)
    found = compare(Side(mil.load(exact), inputs, "float32"), Side(program, inputs))
    apart = max((each.relative for each in found.differences if each.name in program.outputs()), default=0.0)
    first = found.parting(min(apart, 1.0) / 10)
    if not apart or first is None:
        return "on that window no operation parts from single precision"
    return f"parts from single precision at {first.operation} `{first.name}`, by {first.relative:.2g} of its magnitude"


def runner(artifact: Path, precision: str) -> Runner:
    """Return a package as a function, run by the interpreter; precision is "declared", "float32" or "float64"."""
    import mil

    program = mil.load(artifact)
    return lambda arrays: program.run(arrays, precision=precision)
