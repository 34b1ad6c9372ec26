"""The operations of MIL, one small function each, in files by family as in coremltools' `ops/defs`.

See `arguments.py` for what a function is handed and what it returns.
"""

import importlib
from collections.abc import Callable
from functools import cache
from types import FunctionType

from mil.errors import MilError

FAMILIES = (
    "activation",
    "classify",
    "compression",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "linear",
    "lists",
    "normalization",
    "pool",
    "quantization",
    "random",
    "recurrent",
    "reduction",
    "scatter_gather",
    "states",
    "tensor_operation",
    "tensor_transformation",
    "transformers",
)


@cache
def registered() -> dict[str, Callable]:
    """Return every operation that the interpreter knows, by name."""
    found: dict[str, Callable] = {}
    for family in FAMILIES:
        module = importlib.import_module(f"mil.ops.{family}")
        found |= {name.rstrip("_"): f for name, f in vars(module).items() if _is_operation(f, module.__name__)}
    return found


def _is_operation(member: object, module: str) -> bool:
    return isinstance(member, FunctionType) and member.__module__ == module and not member.__name__.startswith("_")


def find(operation: str, layer: str) -> Callable:
    """Return the function of an operation; raises MilError naming the operation, its layer and what to do."""
    try:
        return registered()[operation]
    except KeyError:
        raise MilError(f"op `{operation}` ({layer}): not in the interpreter; add it to mil/ops/") from None
