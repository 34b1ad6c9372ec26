"""What the functions of `mil/ops` want to be called with, read from their annotations."""

import inspect
import operator
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from mil.errors import MilError
from mil.ops.arguments import State, TensorList

# The one parameter that is no input: the executor fills it in.
ROUNDING = "rounding"


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operation's function: `kind` is the annotation, less its `| None`.

    It is optional if it has a default, or if it may be None (an optional input before a required one).
    """

    name: str
    kind: str
    default: Any
    may_be_none: bool

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty and not self.may_be_none


@cache
def parameters(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return the parameters of an operation that are its inputs, in order."""
    hints = typing.get_type_hints(function)
    return tuple(
        Parameter(name, _kind(hints[name]), parameter.default, type(None) in typing.get_args(hints[name]))
        for name, parameter in inspect.signature(function).parameters.items()
        if name != ROUNDING
    )


def _kind(hint: Any) -> str:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if len(options) > 1:
            return "any"
        hint = options[0]
    return _KINDS.get(hint, "any")


_KINDS: dict[Any, str] = {
    torch.Tensor: "tensor",
    list[torch.Tensor]: "tensors",
    list[int]: "ints",
    list[bool]: "bools",
    list[float]: "floats",
    list[str]: "strs",
    int: "int",
    bool: "bool",
    float: "float",
    str: "str",
    State: "any",
    TensorList: "any",
}
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": operator.index,
    "bool": bool,
    "float": float,
    "str": str,
    "ints": operator.index,
    "bools": bool,
    "floats": float,
    "strs": str,
}


def wants_rounding(function: Callable[..., Any]) -> bool:
    return ROUNDING in inspect.signature(function).parameters


def plain(value: Any) -> Any:
    """Return a tensor, an array or a list of them as Python values: a scalar, or a flat list."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.item() if value.ndim == 0 else value.reshape(-1).tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def as_kind(value: Any, kind: str) -> Any:
    if kind == "any":
        return value
    items = value if isinstance(value, list) else [value]
    flat = [item for part in items for item in (part if isinstance(part, list) else [part])]
    try:
        converted = [_SCALARS[kind](item) for item in flat]
    except (TypeError, ValueError):
        raise MilError(f"expected {kind}, found {short(value)}") from None
    if kind.endswith("s"):
        return converted
    if len(converted) != 1:
        raise MilError(f"expected one {kind}, found {len(converted)} values")
    return converted[0]


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
