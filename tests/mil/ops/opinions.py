"""How an operation is held against others' answers: a table of rows, each asked of coremltools, onnxruntime or numpy.

A test file of a family names the opinions on each of its operations, and lists rows of inputs. `agree` runs a row
through our function in both widths and two memory layouts and compares each result, rounded to the float type of
the opinion, with each opinion; `assert_covered` says whether the table is whole.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import coremltools as ct
import numpy as np
import onnx
import onnxruntime
import torch
from coremltools.converters.mil.mil import Builder, Function
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

Inputs = dict[str, Any]

# Numbers at which float kernels differ: signed zeros, ties of rounding, fp16's largest, smallest normal and smallest
# subnormal, infinities and NaN. More than 16 of them, so that vectorised loops run as well as their remainders.
EDGES = np.concatenate(
    [
        np.outer([1, -1], [0.0, 0.5, 1.5, 2.5, 1.0, 65504.0, 6.104e-5, 5.96e-8, np.inf]).ravel(),
        [3.0, 6.0, 7.25, -9.5, 20.5, 11.0, np.nan],
    ]
).astype(np.float32)
FINITE = EDGES[np.isfinite(EDGES)]
EMPTY = np.zeros((2, 0, 3), np.float32)


@dataclass(frozen=True)
class Opinion:
    """Whose answer it is, and the function that gives it for an operation's inputs (keywords named as in MIL)."""

    name: str
    answer: Callable[..., Any]


@dataclass(frozen=True)
class Row:
    """One set of inputs of one operation.

    inputs      by MIL's parameter names: numpy arrays for tensors, else Python values
    rtol, atol  how far an opinion may be from ours, relative and absolute
    not_asked   opinions that cannot judge these inputs: name -> why
    about       what is special about the inputs
    """

    operation: str
    inputs: Inputs
    about: str = ""
    rtol: float = 1e-5
    atol: float = 1e-6
    not_asked: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.operation}: {self.about or ' '.join(_brief(self.inputs))}"


Opinions = Mapping[str, Sequence[Opinion]]


def _brief(inputs: Inputs) -> list[str]:
    return [f"{name}={list(v.shape) if isinstance(v, np.ndarray) else v}" for name, v in inputs.items()]


def numpy(answer: Callable[..., Any]) -> Opinion:
    """Return a plain numpy computation as an opinion."""
    return Opinion("numpy", answer)


def coremltools(operation: str) -> Opinion:
    """Return what coremltools computes when it builds the operation of its newest opset on constants."""

    def answer(**inputs: Any) -> Any:
        with Function({}, opset_version=ct.target.iOS18):
            built = getattr(Builder, operation)(**inputs)
        outputs = built if isinstance(built, tuple | list) else (built,)
        assert all(output.val is not None for output in outputs), f"coremltools infers no value of {operation}"
        return tuple(output.val for output in outputs)

    return Opinion("coremltools", answer)


def onnxruntime_node(op_type: str, *parameters: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Opinion:
    """Return what onnxruntime computes with one node of ONNX.

    parameters  MIL's inputs in the order in which the node takes them; the others are ignored
    attributes  of the node; a callable is called with MIL's inputs
    """

    def answer(**inputs: Any) -> Any:
        given = [inputs[name] for name in parameters]
        values = {k: v(**inputs) if callable(v) else v for k, v in attributes.items()}
        return onnxruntime_run(op_type, given, domain, outputs, **values)

    return Opinion("onnxruntime", answer)


def onnxruntime_run(op_type: str, given: Sequence[Any], domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
    """Return the outputs of one ONNX node on arrays; inputs and attributes that are None are left out."""
    fed = {f"i{n}": np.asarray(value) for n, value in enumerate(given) if value is not None}
    names = [name if (name := f"i{n}") in fed else "" for n in range(len(given))]
    results = [f"o{n}" for n in range(outputs)]
    stated = {k: v for k, v in attributes.items() if v is not None}
    node = onnx.helper.make_node(op_type, names, results, domain=domain, **stated)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in fed.items()
    ]
    graph = onnx.helper.make_graph([node], op_type, inputs, [onnx.ValueInfoProto(name=name) for name in results])
    opsets = [onnx.helper.make_opsetid(*pair) for pair in (("", 20), ("ai.onnx.ml", 3), ("com.microsoft", 1))]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return tuple(session.run(None, fed))


def find(module: ModuleType, operation: str) -> Callable[..., Any]:
    """Return the function of an operation in a family's module, whose name may end with an underscore."""
    return vars(module).get(operation) or vars(module)[f"{operation}_"]


def agree(module: ModuleType, opinions: Opinions, row: Row) -> None:
    """Fail unless our function and every opinion asked give the row the same result, and no input is written to."""
    asked = [opinion for opinion in opinions[row.operation] if opinion.name not in row.not_asked]
    assert asked, "a row that nobody is asked about proves nothing"
    with np.errstate(all="ignore"):
        theirs = {opinion.name: _outputs(opinion.answer(**_copies(row.inputs))) for opinion in asked}
    for width in (torch.float32, torch.float64):
        for layout in (torch.Tensor.contiguous, strided):
            ours = ask_ours(find(module, row.operation), row.inputs, width, layout)
            for name, outputs in theirs.items():
                where = f"{name} says otherwise ({width}, {layout.__name__})"
                _compare(ours, outputs, row, where)


def ask_ours(
    function: Callable[..., Any],
    inputs: Inputs,
    width: torch.dtype = torch.float32,
    layout: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.contiguous,
) -> tuple[Any, ...]:
    """Return the outputs of one of our functions as numpy arrays; fails if it wrote to an input."""
    arguments = {name: _argument(value, width, layout) for name, value in inputs.items()}
    before = _copies(arguments)
    with np.errstate(all="raise"):  # numpy's warnings would reach a user's terminal
        outputs = _outputs(function(**_left_out(function) | arguments))
    for name, value in arguments.items():
        assert _same(value, before[name]), f"input {name} was written to"
    return tuple(o.numpy() if isinstance(o, torch.Tensor) else o for o in outputs)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """Return the same values at every other place of a wider block of memory."""
    wide = torch.full((*tensor.shape, 2), 113, dtype=torch.float64).to(tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


def declared_operations(*families: str) -> dict[str, Any]:
    """Return the newest class of every operation that coremltools registers first in one of these files."""
    found = {}
    for name, versions in SSAOpRegistry.core_ops.items():
        oldest, newest = min(versions, key=lambda v: v.value), max(versions, key=lambda v: v.value)
        if versions[oldest].__module__.rpartition(".")[2] in families:
            found[name] = versions[newest]
    return found


def assert_covered(module: ModuleType, operations: Mapping[str, Any], opinions: Opinions, rows: Sequence[Row]) -> None:
    """Fail unless every operation is written, declared as coremltools declares it, and has a row with two opinions."""
    for name, declared in operations.items():
        assert parameters(find(module, name)) == [(n, i.optional) for n, i in _inputs(declared)], name
        kinds = [{o.name for o in opinions[name]} - set(row.not_asked) for row in rows if row.operation == name]
        assert any(len(asked) >= 2 and asked != {"torch"} for asked in kinds), f"{name}: no row with two opinions"
    assert {row.operation for row in rows} <= set(operations)


def parameters(function: Callable[..., Any]) -> list[tuple[str, bool]]:
    """Return name and optionality of each input of one of our functions; what the executor fills in is left out.

    An input is optional if it has a default, or if it may be None.
    """
    hints = typing.get_type_hints(function)
    found = inspect.signature(function).parameters.values()
    return [
        (p.name, p.default is not p.empty or type(None) in typing.get_args(hints[p.name]))
        for p in found
        if p.kind is not p.KEYWORD_ONLY
    ]


def _left_out(function: Callable[..., Any]) -> Inputs:
    """Return what the executor gives for optional inputs that a program leaves out and that have no default."""
    found = inspect.signature(function).parameters.values()
    optional = {name for name, optional in parameters(function) if optional}
    return {p.name: None for p in found if p.name in optional and p.default is p.empty}


@cache
def _inputs(declared: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(declared.input_spec.input_types.items())


def _argument(value: Any, width: torch.dtype, layout: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        tensor = torch.from_numpy(value.copy())
        return layout(tensor.to(width) if tensor.is_floating_point() else tensor)
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
        return [_argument(item, width, layout) for item in value]
    return value


def _copies(inputs: Inputs) -> Inputs:
    return {name: _copy(value) for name, value in inputs.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    if isinstance(value, torch.Tensor):
        return value.clone()
    return value.copy() if isinstance(value, np.ndarray) else value


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left.nan_to_num(nan=1.25), right.nan_to_num(nan=1.25))
    if isinstance(left, list):
        return all(_same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)


def _outputs(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def _compare(ours: tuple[Any, ...], theirs: tuple[Any, ...], row: Row, where: str) -> None:
    assert len(ours) == len(theirs), where
    for mine, other in zip(ours, theirs, strict=True):
        _compare_one(mine, other, row, where)


def _compare_one(mine: Any, other: Any, row: Row, where: str) -> None:
    if not isinstance(mine, np.ndarray):
        assert mine == other, where
        return
    other = np.asarray(other)
    kinds = [array.dtype.kind.replace("u", "i") for array in (mine, other)]
    assert kinds[0] == kinds[1], f"{where}: kind {kinds[0]} is not {kinds[1]}"
    assert mine.shape == other.shape, f"{where}: shape {mine.shape} is not {other.shape}"
    with np.errstate(all="ignore"):
        rounded = mine.astype(other.dtype) if kinds[0] == "f" else mine
    np.testing.assert_allclose(rounded, other, row.rtol, row.atol, equal_nan=True, err_msg=where)
