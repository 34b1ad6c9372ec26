"""Which features a weight multiplies: found by the operation that uses it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mil.package import Package
from mil.schema import MIL_pb2
from optimizations.mixed.windows import Windows
from optimizations.weights.constants import Constant, argument, named_inputs
from optimizations.weights.selection import Large

Side = Literal["input", "before", "after", "windows"]


@dataclass(frozen=True)
class Features:
    """The features that a weight (output, feature) multiplies, as a value of the program tells them.

    value   name of a value whose last axis they lie along
    side    "input": they are that value. "before", "after": the value is what a recurrent layer puts out, step by
            step, and they are its state one step earlier, or one later where the layer runs backwards. "windows": they
            are the windows of the value that a convolution looks at
    first   where on the last axis they start
    count   how many there are
    """

    value: str
    side: Side
    first: int
    count: int
    windows: Windows | None = None


@dataclass(frozen=True)
class Layer:
    """A weight (output, …), its features where they are known, and the bias that is added to its products."""

    large: Large
    features: Features | None
    bias: Constant | None


def layer_of(large: Large, by_name: Mapping[str, Constant], package: Package) -> Layer:
    """Return what a weight multiplies: known for `linear`, `lstm` and `conv` of one group, and a single use."""
    if len(large.constant.uses) != 1 or large.left_because:
        return Layer(large, None, None)
    (use,) = large.constant.uses
    names = dict(named_inputs(use.operation))
    if use.operation.type == "linear" and use.parameter == "weight":
        return Layer(large, Features(names["x"], "input", 0, large.shape[1]), _own(names.get("bias"), by_name))
    if use.operation.type == "lstm" and use.parameter.startswith("weight_"):
        backwards = use.parameter.endswith("_back")
        bias = _own(names.get("bias_back" if backwards else "bias"), by_name)
        return Layer(large, _recurrent(use.operation, use.parameter, names["x"], large.shape[1], backwards), bias)
    if use.operation.type == "conv" and use.parameter == "weight":
        windows = _windows(use.operation, large.shape[2:], by_name, package)
        count = large.size // large.shape[0]
        features = Features(names["x"], "windows", 0, count, windows) if windows else None
        return Layer(large, features, _own(names.get("bias"), by_name))
    return Layer(large, None, None)


def _windows(
    operation: MIL_pb2.Operation, kernel: tuple[int, ...], by_name: Mapping[str, Constant], package: Package
) -> Windows | None:
    """Return how a convolution cuts its input; None for one of several groups, each of which sees its own channels."""

    def numbers(parameter: str) -> tuple[int, ...] | None:
        found = argument(operation, parameter, by_name, package)
        return None if found is None else tuple(int(number) for number in found.reshape(-1))

    if numbers("groups") not in (None, (1,)):
        return None
    ones = (1,) * len(kernel)
    pad_type = argument(operation, "pad_type", by_name, package)
    return Windows(
        kernel,
        numbers("strides") or ones,
        numbers("dilations") or ones,
        "valid" if pad_type is None else str(pad_type.item()),
        numbers("pad"),
    )


def _recurrent(operation: MIL_pb2.Operation, parameter: str, x: str, count: int, backwards: bool) -> Features:
    if parameter.startswith("weight_ih"):
        return Features(x, "input", 0, count)
    # The second direction of a layer lies behind the first, in the order of time.
    return Features(operation.outputs[0].name, "after" if backwards else "before", count if backwards else 0, count)


def _own(name: str | None, by_name: Mapping[str, Constant]) -> Constant | None:
    """Return a bias that nothing else uses."""
    constant = by_name.get(name or "")
    return constant if constant and len(constant.uses) == 1 and not constant.returned else None
