"""The operations of MIL, one small function each, in files by family as in coremltools' `ops/defs`.

See `arguments.py` for what a function is handed and what it returns, `catalogue.py` for what belongs where.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import FunctionType, MappingProxyType

from mil.errors import MilError
from mil.ops.catalogue import CATALOGUE, family_of


@cache
def registered() -> Mapping[str, Callable]:
    """Return every operation that the interpreter knows, by name."""
    found: dict[str, Callable] = {}
    for family in CATALOGUE:
        module = importlib.import_module(f"mil.ops.{family}")
        found |= {name.rstrip("_"): f for name, f in vars(module).items() if _is_operation(f, module.__name__)}
    return MappingProxyType(found)


def _is_operation(member: object, module: str) -> bool:
    return isinstance(member, FunctionType) and member.__module__ == module and not member.__name__.startswith("_")


def find(operation: str, layer: str, inputs: Iterable[str] = ()) -> Callable:
    """Return the function of an operation that a program gives these inputs, by name.

    It is that of the newest opset, or of an older one where only that has all of the inputs. Raises MilError naming
    the operation, its layer and what to do.
    """
    known = registered()
    if operation in known:
        older = vars(importlib.import_module("mil.ops.older")).get(operation)
        newest_has_all = set(inputs) <= inspect.signature(known[operation]).parameters.keys()
        return known[operation] if older is None or newest_has_all else older
    family = family_of(operation)
    if family is None:
        raise MilError(f"op `{operation}` ({layer}): not an operation of MIL that coremltools 9.0 knows")
    raise MilError(f"op `{operation}` ({layer}): not in the interpreter; add it to mil/ops/{family}.py")
