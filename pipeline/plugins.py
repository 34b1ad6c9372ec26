"""Networks, formats, passes and checks by name: the file name is the name in variants.yaml.

Only modules directly in a folder are plugins; code that serves them lives in packages below it.
"""

import importlib
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, cast

from pipeline.code import ROOT
from pipeline.protocols import Check, Format, Network, OptimizationPass

FOLDERS = {
    "network": "converters/models",
    "format": "converters/formats",
    "pass": "optimizations",
    "check": "verify",
}
FUSED = "fused"  # the network that is made of others; the only one that is no file


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of all plugins of a kind."""
    files = (ROOT / FOLDERS[kind]).glob("*.py")
    return tuple(sorted(file.stem for file in files if not file.name.startswith("_")))


def module(kind: str, name: str) -> ModuleType:
    """Return a plugin's module; raises KeyError if no file of that name is in the folder."""
    if (kind, name) == ("network", FUSED):
        return importlib.import_module("pipeline.fuse")
    if name not in names(kind):
        raise KeyError(name)
    return importlib.import_module(f"{FOLDERS[kind].replace('/', '.')}.{name}")


def network(name: str) -> Network:
    return cast(Network, module("network", name))


def functions(name: str, form: Any, *wanted: str) -> list[Callable]:
    """Return functions of a network by their names, with those of its stages for a fused one: what a digest covers."""
    stages = [stage.network for stage in form.fuse] if name == FUSED else []
    return [getattr(network(each), function) for each in (name, *stages) for function in wanted]


def format_(name: str) -> Format:
    return cast(Format, module("format", name))


def pass_(name: str) -> OptimizationPass:
    return cast(OptimizationPass, module("pass", name))


def check(name: str) -> Check:
    return cast(Check, module("check", name))
