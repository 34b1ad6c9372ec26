"""Every module in a plugin folder satisfies its Protocol, and imports point one way."""

import ast
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import plugins, protocols
from pipeline.code import ROOT

PROTOCOLS = {
    "network": protocols.Network,
    "format": protocols.Format,
    "pass": protocols.OptimizationPass,
    "check": protocols.Check,
}
MODULES = [(kind, name) for kind in PROTOCOLS for name in plugins.names(kind)]

# What each package may import of ours; `mil` nothing, so that it could be lifted out.
ALLOWED = {
    "mil": {"mil"},
    "diarization": {"diarization", "pipeline.types"},
    "converters": {"converters", "diarization", "mil", "pipeline.types"},
    "optimizations": {"optimizations", "diarization", "mil", "pipeline.types", "pipeline.options"},
    "verify": {
        *("verify", "diarization", "mil", "pipeline.types", "pipeline.tensors", "pipeline.options"),
        *("pipeline.provenance", "pipeline.yaml_file"),
    },
    "pipeline": {"pipeline", "mil", "diarization"},
}


@pytest.mark.parametrize(("kind", "name"), MODULES)
def test_a_plugin_has_what_its_protocol_asks_for(kind: str, name: str) -> None:
    """Every attribute is there, and every function takes the parameters of the Protocol, in their order."""
    module, protocol = plugins.module(kind, name), PROTOCOLS[kind]
    for attribute in protocol.__annotations__:
        assert hasattr(module, attribute), f"{name} has no {attribute}"
    for function_name, wanted in inspect.getmembers(protocol, inspect.isfunction):
        if function_name.startswith("_"):
            continue
        found = getattr(module, function_name)
        expected = [p for p in inspect.signature(wanted).parameters if p != "self"]
        expected += ["calibration"] if function_name == "apply" and hasattr(module, "calibrated") else []
        assert list(inspect.signature(found).parameters) == expected, f"{name}.{function_name}"


@pytest.mark.parametrize(("kind", "name"), MODULES)
def test_options_are_frozen_dataclasses(kind: str, name: str) -> None:
    """So that they can stand in a recipe, and say what a user may set."""
    module = plugins.module(kind, name)
    for attribute in ("Options", "Form"):
        options = getattr(module, attribute, None)
        assert options is None or (dataclasses.is_dataclass(options) and options.__dataclass_params__.frozen)


def test_a_plugin_that_does_not_exist_is_a_key_error() -> None:
    """The name must be that of a file in the folder."""
    with pytest.raises(KeyError):
        plugins.module("check", "no_such_check")


def test_reading_the_plugins_imports_nothing_heavy() -> None:
    """The matrix is read at every start, so plugins import torch and its like inside their functions."""
    code = (
        "import sys; from pipeline import plugins;"
        "[plugins.module(kind, name) for kind in plugins.FOLDERS for name in plugins.names(kind)];"
        "print([m for m in ('torch', 'coremltools', 'numba', 'huggingface_hub', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    """A package imports itself and what lies below it; nothing points back up."""
    for file in (ROOT / package).rglob("*.py"):
        for module in _imports(file):
            if module.split(".")[0] in ALLOWED:
                allowed = any(module == name or module.startswith(f"{name}.") for name in ALLOWED[package])
                assert allowed, f"{file.relative_to(ROOT)} imports {module}"


def _imports(file: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module in ("pipeline", "mil")  # `from pipeline import types` is an import of pipeline.types
            found += [f"{node.module}.{alias.name}" for alias in node.names] if inside else [node.module]
    return found
