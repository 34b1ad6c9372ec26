"""The digest of the code that does a step's work, so that editing it rebuilds the step, and editing a comment does not.

A digest covers a function, the top-level names of its module that it uses, and, through its imports, the first-party
code that those use in turn, wherever the import stands. It is taken from the syntax tree without docstrings, so it
knows nothing of comments and layout. A data file beside a module, under its name, belongs to the module. Because the
digest follows names and not whole files, a step that converts is not rebuilt when the runner beside it changes.
"""

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[1]

_Node = TypeVar("_Node", bound=ast.AST)
_Name = tuple[str, str]  # (module, top-level name); the name "*" stands for the whole module


@cache
def code_digest(*functions: Callable) -> str:
    """Return the sha256 of the functions and of all first-party code that they use."""
    reached = _reached(functions)
    sources = sorted((module, name, _dump(module, name)) for module, name in reached)
    data = sorted(text for module in {module for module, _ in reached} for text in _data(module))
    return hashlib.sha256(repr((sources, data)).encode()).hexdigest()


def _reached(functions: Iterable[Callable]) -> set[_Name]:
    """Return the functions' names and every first-party name that they use, however far away."""
    reached: set[_Name] = set()
    waiting = [_name_of(function) for function in functions]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _uses(name)
    return reached


@cache
def package_digest(package: str) -> str:
    """Return the sha256 of every module below a first-party package, for code that is found by name at run time."""
    files = sorted((ROOT / package).rglob("*.py"))
    trees = [
        (str(file.relative_to(ROOT)), ast.dump(_without_docstrings(ast.parse(file.read_text())))) for file in files
    ]
    return hashlib.sha256(repr(trees).encode()).hexdigest()


def _name_of(function: Callable) -> _Name:
    assert isinstance(function, FunctionType | type), f"{function!r} has no source of its own"
    return function.__module__, function.__qualname__.split(".")[0]


@cache
def _uses(name: _Name) -> frozenset[_Name]:
    """Return the first-party names that the definition of `name` refers to, or the origin of a re-exported name."""
    return frozenset(_references(name))


def _references(name: _Name) -> Iterator[_Name]:
    module, own = name
    definitions, imports = _module(module)
    if own == "*":
        yield from imports.values()
    elif own not in definitions and own in imports:
        yield imports[own]
    for node in _nodes(*name):
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and inner.id in definitions:
                yield module, inner.id
            elif isinstance(inner, ast.Name) and inner.id in imports:
                yield imports[inner.id]
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                yield from _first_party(inner).values()


@cache
def _dump(module: str, name: str) -> str:
    return "\n".join(ast.dump(node) for node in _nodes(module, name))


def _data(module: str) -> list[str]:
    """Return the content of the data files that stand beside a module under its name, such as a table in TOML."""
    path = _path(module)
    return [file.read_text() for file in path.parent.glob(f"{path.stem}.*") if file.suffix != ".py"] if path else []


def _nodes(module: str, name: str) -> list[ast.stmt]:
    definitions, _ = _module(module)
    if name == "*":
        return [node for nodes in definitions.values() for node in nodes]
    return definitions.get(name, [])


@cache
def _module(name: str) -> tuple[dict[str, list[ast.stmt]], dict[str, _Name]]:
    """Return the top-level definitions of a first-party module by name, and the first-party names it imports."""
    path = _path(name)
    tree = ast.parse(path.read_text()) if path else ast.Module(body=[], type_ignores=[])
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, _Name] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _first_party(node)
        for defined in _defined_names(node):
            definitions.setdefault(defined, []).append(_without_docstrings(node))
    return definitions, imports


def _defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return []
    return [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)]


def _first_party(node: ast.Import | ast.ImportFrom) -> dict[str, _Name]:
    """Return the first-party names that an import statement binds: local name → (module, name in that module)."""
    if isinstance(node, ast.Import):
        return {(a.asname or a.name.split(".")[0]): (a.name, "*") for a in node.names if _path(a.name)}
    assert node.module, "imports are absolute"
    bound: dict[str, _Name] = {}
    for alias in node.names:
        submodule = f"{node.module}.{alias.name}"
        if _path(submodule):
            bound[alias.asname or alias.name] = (submodule, "*")
        elif _path(node.module):
            bound[alias.asname or alias.name] = (node.module, alias.name)
    return bound


@cache
def _path(module: str) -> Path | None:
    """Return the file of a first-party module, or None for anyone else's."""
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _without_docstrings(node: _Node) -> _Node:
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
    for inner in ast.walk(node):
        if isinstance(inner, documented) and ast.get_docstring(inner) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return node
