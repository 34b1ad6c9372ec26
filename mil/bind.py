"""Programs bound for running: each block once, into a flat list of calls over numbered slots.

What can be settled before the first input arrives is settled here: names become slots, constants become what the
parameters of `mil/ops` are annotated with, declared types become the check that each result passes, and compressed
weights (`constexpr_*`) are decoded.
"""

import inspect
import operator
import typing
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeAlias

import torch

from mil.arithmetic import EXACT, Arithmetic, bring, held, held_dtype, rounding
from mil.bound import BoundBlock, BoundFunction, Call, Cond, Finish, Result, Step, Take, While
from mil.errors import MilError
from mil.liveness import last_uses
from mil.ops import find
from mil.ops.arguments import Rounding, exact
from mil.ops.limits import check_size
from mil.package import Package
from mil.parameters import ROUNDING, as_kind, parameters, plain, short, wants_rounding
from mil.schema import MIL_pb2
from mil.values import TensorType, decode, layer_of, specialization, tensor_type


@dataclass
class _Constant:
    """A constant that is decoded when something first asks for it, and at most once per form."""

    read: Callable[[], Any]
    type: TensorType | None
    share: Callable[[], torch.Tensor] | None = None
    _forms: dict[str, Any] = field(default_factory=dict)

    def form(self, kind: str, convert: Callable[[Any], Any]) -> Any:
        if kind not in self._forms:
            self._forms[kind] = convert(self.read())
        return self._forms[kind]


@dataclass(frozen=True)
class Slot:
    """A computed value: where it is kept while it lives, and its declared type."""

    index: int
    type: TensorType | None


Binding: TypeAlias = "Slot | _Constant"


def bind(package: Package, function: MIL_pb2.Function, mode: Arithmetic, shared: "SharedConstants") -> BoundFunction:
    """Bind one function; raises MilError, naming the layer, for whatever cannot run."""
    block = specialization(function)
    binder = _Binder(package, mode, shared)
    scope: dict[str, Binding] = {}
    inputs: dict[str, tuple[int, TensorType]] = {}
    states: dict[str, tuple[int, TensorType]] = {}
    for value in function.inputs:
        declared = tensor_type(value.type)
        if declared is None:
            raise MilError(f"input `{value.name}`: expected a tensor or a state")
        slot = binder.define(scope, value.name, declared)
        (states if value.type.WhichOneof("type") == "stateType" else inputs)[value.name] = (slot.index, declared)
    bound = binder.block(block, scope, [value.name for value in function.inputs])
    outputs = {name: _type_of(scope[name]) for name in block.outputs}
    return BoundFunction(bound, inputs, states, outputs, binder.slot_count)


class SharedConstants:
    """Decoded weights by where they lie: functions, stages and modes share them for as long as one uses them."""

    def __init__(self) -> None:
        self._tensors: weakref.WeakValueDictionary[tuple, torch.Tensor] = weakref.WeakValueDictionary()

    def get(self, key: tuple, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        tensor = self._tensors.get(key)
        if tensor is None:
            tensor = self._tensors[key] = make()
        return tensor


class _Binder:
    """What the blocks of one function have in common while they are bound."""

    def __init__(self, package: Package, mode: Arithmetic, shared: SharedConstants) -> None:
        self.package = package
        self.mode = mode
        self.shared = shared
        self.slot_count = 0

    def define(self, scope: dict[str, Binding], name: str, declared: TensorType | None) -> Slot:
        scope[name] = Slot(self.slot_count, declared)
        self.slot_count += 1
        return typing.cast(Slot, scope[name])

    def block(self, block: MIL_pb2.Block, scope: dict[str, Binding], inputs: list[str]) -> BoundBlock:
        """Bind a block whose inputs are in scope already; what it defines is added to the scope."""
        defined = set(inputs)
        steps = []
        for operation, dead in zip(block.operations, last_uses(block, inputs), strict=True):
            layer = layer_of(operation)
            for output in operation.outputs:
                if output.name in defined:
                    raise MilError(f"op `{operation.type}` ({layer}): defines `{output.name}` a second time")
                defined.add(output.name)
            try:
                step = self.operation(operation, layer, scope, dead)
            except MilError as error:
                raise _within(f"op `{operation.type}` ({layer})", error) from error
            if step is not None:
                steps.append(step)
        entered = tuple(typing.cast(Slot, scope[name]).index for name in inputs)
        outputs = tuple(self.take_value(_look_up(scope, name, "the block's outputs")) for name in block.outputs)
        return BoundBlock(entered, tuple(steps), outputs)

    def operation(
        self, operation: MIL_pb2.Operation, layer: str, scope: dict[str, Binding], dead: set[str]
    ) -> Step | None:
        """Bind one operation; None where it is a constant, which only adds to the scope."""
        if operation.type == "const":
            self.const(operation, scope)
            return None
        if operation.type in ("cond", "while_loop"):
            return self.control(operation, layer, scope, dead)
        function = find(operation.type, layer, {*operation.inputs, *operation.attributes} - {"name"})
        arguments = self.arguments(operation, function, scope)
        declared = [tensor_type(output.type) for output in operation.outputs]
        moves = operation.type in EXACT and self._of_one_type(arguments, declared)
        finishes = [self.finish(kind, moves) for kind in declared]
        extra = {ROUNDING: self.rounding(declared)} if wants_rounding(function) else {}
        if operation.type.startswith("constexpr_"):
            self.constexpr(operation, layer, function, arguments, extra, finishes, scope)
            return None
        constants, computed = self.split(function, arguments)
        results = self.results(operation, declared, finishes, scope)
        frees = self.frees(scope, dead)
        return Call(layer, operation.type, function, constants | extra, computed, results, frees)

    def rounding(self, declared: list[TensorType | None]) -> Rounding:
        return exact if not declared or declared[0] is None else rounding(self.mode, declared[0].element)

    def results(
        self,
        operation: MIL_pb2.Operation,
        declared: list[TensorType | None],
        finishes: list[Finish],
        scope: dict[str, Binding],
    ) -> tuple[Result, ...]:
        return tuple(
            Result(output.name, self.define(scope, output.name, kind).index, kind, finish)
            for output, kind, finish in zip(operation.outputs, declared, finishes, strict=True)
        )

    def frees(self, scope: dict[str, Binding], dead: Iterable[str]) -> tuple[int, ...]:
        found = (scope.get(name) for name in dead)
        return tuple(binding.index for binding in found if isinstance(binding, Slot))

    def const(self, operation: MIL_pb2.Operation, scope: dict[str, Binding]) -> None:
        if len(operation.outputs) != 1:
            raise MilError(f"expected one output, found {len(operation.outputs)}")
        declared = tensor_type(operation.outputs[0].type)
        if "val" in operation.attributes:
            value = operation.attributes["val"]
        elif "val" in operation.inputs and operation.inputs["val"].arguments:
            value = operation.inputs["val"].arguments[0].value
        else:
            raise MilError("a constant without `val`")
        found = tensor_type(value.type)
        if declared is not None and found is not None and declared != found:
            raise MilError(f"declared as {declared}, holds {found}")
        scope[operation.outputs[0].name] = self.immediate(value)

    def immediate(self, value: MIL_pb2.Value) -> _Constant:
        """Return a constant given in place; blobs are shared by where they lie."""
        declared = tensor_type(value.type)
        read = partial(decode, value, self.package)
        if value.WhichOneof("value") != "blobFileValue" or declared is None:
            return _Constant(cache(read), declared)
        return _Constant(read, declared, partial(self._shared_blob, value.blobFileValue, declared))

    def _shared_blob(self, place: MIL_pb2.Value.BlobFileValue, declared: TensorType) -> torch.Tensor:
        blob = self.package.blob(place.fileName)
        dtype = held_dtype(self.mode, declared.element)

        def make() -> torch.Tensor:
            array = blob.array(place.offset, declared.element, declared.known_shape())
            tensor = held(array, self.mode, declared.element)
            if declared.element.name != "fp32" or dtype != torch.float32:
                blob.release(blob.entry(place.offset))
            return tensor

        return self.shared.get((blob.path, place.offset, declared, dtype), make)

    def constexpr(
        self,
        operation: MIL_pb2.Operation,
        layer: str,
        function: Callable[..., Any],
        arguments: dict[str, list[Binding]],
        extra: dict[str, Any],
        finishes: list[Finish],
        scope: dict[str, Binding],
    ) -> None:
        """Bind the decoding of a compressed weight: it happens when the first operation asks for the weight."""
        for name, bindings in arguments.items():
            if any(isinstance(binding, Slot) for binding in bindings):
                raise MilError(f"`{name}` is computed, but the weights of a constexpr operation must be constants")

        def evaluate() -> tuple[Any, ...]:
            constants, _ = self.split(function, arguments)
            results = tuple(
                Result(output.name, index, None, finish)
                for index, (output, finish) in enumerate(zip(operation.outputs, finishes, strict=True))
            )
            return Call(layer, operation.type, function, constants | extra, (), results, ()).compute(
                [None] * len(results)
            )

        once = cache(evaluate)
        for index, output in enumerate(operation.outputs):
            read = partial(lambda position: once()[position], index)
            scope[output.name] = _Constant(read, tensor_type(output.type), read)

    def control(self, operation: MIL_pb2.Operation, layer: str, scope: dict[str, Binding], dead: set[str]) -> Step:
        if len(operation.blocks) != 2:
            raise MilError(f"expected two blocks, found {len(operation.blocks)}")
        declared = [tensor_type(output.type) for output in operation.outputs]
        finishes = [self.finish(kind, moves=True) for kind in declared]
        nested = [self.nested(block, scope) for block in operation.blocks]
        wanted = len(operation.outputs)
        if operation.type == "cond":
            predicate = self.take_value(self.only(operation, "pred", scope))
            if any(block.inputs or len(block.outputs) != wanted for block in nested):
                raise MilError(f"expected two blocks without inputs and with {wanted} outputs")
            results = self.results(operation, declared, finishes, scope)
            return Cond(layer, "cond", predicate, (nested[0], nested[1]), results, self.frees(scope, dead))
        condition, body = nested
        initial = tuple(self.take_value(binding) for binding in self.bindings(operation, "loop_vars", scope))
        counts = {len(initial), len(condition.inputs), len(body.inputs), len(body.outputs), wanted}
        if len(counts) != 1 or len(condition.outputs) != 1:
            raise MilError("loop variables, block inputs and outputs differ in number")
        results = self.results(operation, declared, finishes, scope)
        return While(layer, "while_loop", initial, condition, body, results, self.frees(scope, dead))

    def nested(self, block: MIL_pb2.Block, outer: dict[str, Binding]) -> BoundBlock:
        scope = dict(outer)
        for value in block.inputs:
            self.define(scope, value.name, tensor_type(value.type))
        return self.block(block, scope, [value.name for value in block.inputs])

    def bindings(self, operation: MIL_pb2.Operation, name: str, scope: dict[str, Binding]) -> list[Binding]:
        found: list[Binding] = []
        for binding in operation.inputs[name].arguments if name in operation.inputs else ():
            if binding.WhichOneof("binding") == "value":
                found.append(self.immediate(binding.value))
            else:
                found.append(_look_up(scope, binding.name, f"`{name}`"))
        return found

    def only(self, operation: MIL_pb2.Operation, name: str, scope: dict[str, Binding]) -> Binding:
        found = self.bindings(operation, name, scope)
        if len(found) != 1:
            raise MilError(f"expected one `{name}`, found {len(found)}")
        return found[0]

    def arguments(
        self, operation: MIL_pb2.Operation, function: Callable[..., Any], scope: dict[str, Binding]
    ) -> dict[str, list[Binding]]:
        """Return what each parameter of the function is bound to; older constexpr operations use attributes."""
        known = {parameter.name for parameter in parameters(function)}
        found = {name: self.bindings(operation, name, scope) for name in operation.inputs}
        found |= {name: [self.immediate(value)] for name, value in operation.attributes.items() if name in known}
        if unknown := sorted(found.keys() - known):
            raise MilError(f"has no input `{unknown[0]}`; its inputs are {', '.join(sorted(known))}")
        for parameter in parameters(function):
            if parameter.required and parameter.name not in found:
                raise MilError(f"needs its input `{parameter.name}`")
        return found

    def split(
        self, function: Callable[..., Any], arguments: Mapping[str, list[Binding]]
    ) -> tuple[dict[str, Any], tuple[tuple[str, Take], ...]]:
        """Return the constant arguments, converted, and what takes the computed ones from their slots."""
        constants: dict[str, Any] = {}
        computed: list[tuple[str, Take]] = []
        for parameter in parameters(function):
            bindings = arguments.get(parameter.name)
            if bindings is None:
                if parameter.default is inspect.Parameter.empty:
                    constants[parameter.name] = None
                continue
            try:
                if any(isinstance(binding, Slot) for binding in bindings):
                    computed.append((parameter.name, self.take(bindings, parameter.kind)))
                else:
                    constants[parameter.name] = self.constant(bindings, parameter.kind)
            except MilError as error:
                raise _within(f"`{parameter.name}`", error) from error
        return constants, tuple(computed)

    def constant(self, bindings: list[Binding], kind: str) -> Any:
        if kind == "tensors":
            return [self.tensor(binding) for binding in bindings]
        if kind == "tensor":
            return self.tensor(_single(bindings))
        items = [binding.form("plain", plain) for binding in bindings if isinstance(binding, _Constant)]
        return as_kind(items if len(items) != 1 else items[0], kind)

    def tensor(self, binding: Binding) -> torch.Tensor:
        assert isinstance(binding, _Constant)
        if binding.type is None:
            raise MilError("expected a tensor")
        if binding.share is not None:
            return binding.share()
        element = binding.type.element
        return binding.form("tensor", lambda array: held(array, self.mode, element))

    def take(self, bindings: list[Binding], kind: str) -> Take:
        if kind == "tensors":
            takes = [self.take_value(binding) for binding in bindings]
            return lambda values: [take(values) for take in takes]
        if kind == "tensor" or (kind == "any" and len(bindings) == 1):
            return self.take_value(_single(bindings))
        takes = [self.take_value(binding) for binding in bindings]
        if len(takes) == 1:
            take = takes[0]
            return lambda values: as_kind(plain(take(values)), kind)
        return lambda values: as_kind([plain(take(values)) for take in takes], kind)

    def take_value(self, binding: Binding) -> Take:
        if isinstance(binding, Slot):
            return operator.itemgetter(binding.index)
        constant = self.tensor(binding)
        return lambda values: constant

    def finish(self, declared: TensorType | None, moves: bool) -> Finish:
        """Return what checks a result against its declared type and rounds it to that."""
        if declared is None:
            return lambda value: value
        if declared.element.kind == "string":
            return _finish_string
        dtype = held_dtype(self.mode, declared.element)
        if declared.count is not None:
            check_size(declared.known_shape(), dtype)
        wanted = None if declared.count is None else torch.Size(declared.known_shape())
        brought = None if moves and declared.element.kind == "float" else bring(self.mode, declared.element)

        def finish(value: Any) -> torch.Tensor:
            if type(value) is not torch.Tensor or value.dtype is not dtype:
                value = _as_dtype(value, dtype, declared)
            if value.shape != wanted and not declared.admits(tuple(value.shape)):
                raise MilError(f"expected {declared}, computed a shape of {list(value.shape)}")
            return value if brought is None else brought(value)

        return finish

    def _of_one_type(self, arguments: Mapping[str, list[Binding]], declared: list[TensorType | None]) -> bool:
        kinds = {_type_of(binding) for bindings in arguments.values() for binding in bindings} | set(declared)
        floats = {kind.element.name for kind in kinds if kind is not None and kind.element.kind == "float"}
        return len(floats) <= 1 and None not in kinds


def _within(where: str, error: MilError) -> MilError:
    """Return the error with its place in front, unless it names an operation already: the innermost one counts."""
    return error if str(error).startswith("op `") else MilError(f"{where}: {error}")


def _look_up(scope: Mapping[str, Binding], name: str, where: str) -> Binding:
    try:
        return scope[name]
    except KeyError:
        raise MilError(f"{where} reads `{name}`, which nothing before it defines") from None


def _type_of(binding: Binding) -> TensorType | None:
    return binding.type


def _single(bindings: list[Binding]) -> Binding:
    if len(bindings) != 1:
        raise MilError(f"expected one value, found {len(bindings)}")
    return bindings[0]


def _as_dtype(value: Any, dtype: torch.dtype, declared: TensorType) -> torch.Tensor:
    tensor = torch.as_tensor(value)
    same_kind = (
        tensor.dtype.is_floating_point == dtype.is_floating_point
        and (tensor.dtype == torch.bool) == (dtype == torch.bool)
        and not tensor.dtype.is_complex
    )
    if not same_kind:
        raise MilError(f"expected {declared}, computed {str(tensor.dtype).removeprefix('torch.')}")
    return tensor.to(dtype)


def _finish_string(value: Any) -> str:
    if not isinstance(value, str):
        raise MilError(f"expected a string, computed {short(value)}")
    return value
