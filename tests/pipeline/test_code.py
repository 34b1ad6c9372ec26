"""The code digest is tested on a first-party package that each test writes for itself."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import code

CACHED = (code.code_digest, code.package_digest, code._uses, code._dump, code._module, code._path)
SOURCES = {
    "__init__.py": "from grain.shop import sell\n",
    "shop.py": "PRICE = 5\n\ndef sell():\n    return PRICE\n",
    "work.py": '''
"""Module."""
from grain.mill import grind
import grain.paint

SIZE = 3
OTHER = 4

def convert(x):
    """Docstring."""
    from grain.late import late
    return grind(x, SIZE) + late(x)

def run(x):
    return grain.paint.paint(x) + OTHER

def trade():
    import grain
    return grain.sell()
''',
    "mill.py": "def grind(x, n):\n    return x * n\n\ndef unused():\n    return 0\n",
    "late.py": "def late(x):\n    return x\n",
    "paint.py": "COLOUR = 1\n\ndef paint(x):\n    return x + COLOUR\n",
}


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Return a function: edit one file by replacing text, and take the digest of `grain.work.<name>`."""
    package = tmp_path / "grain"
    package.mkdir()
    for name, text in SOURCES.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def take(function: str, file: str = "work.py", old: str = "", new: str = "") -> str:
        text = SOURCES[file]
        assert old in text
        (package / file).write_text(text.replace(old, new) if old else text)
        for cached in CACHED:
            cached.cache_clear()
        module = importlib.import_module("grain.work")
        found = code.code_digest(getattr(module, function))
        (package / file).write_text(text)
        return found

    yield take
    for name in [name for name in sys.modules if name.split(".")[0] == "grain"]:
        del sys.modules[name]
    for cached in CACHED:
        cached.cache_clear()


def test_comments_and_docstrings_do_not_count(digest: Callable) -> None:
    """Text for readers changes no result, so it rebuilds nothing."""
    same = digest("convert")
    assert digest("convert", old='"""Docstring."""', new='"""Another."""\n    # why') == same
    assert digest("convert", old='"""Module."""', new='"""Another module."""') == same


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("work.py", "SIZE = 3", "SIZE = 5"),
        ("work.py", "grind(x, SIZE)", "grind(SIZE, x)"),
        ("mill.py", "x * n", "x / n"),
        ("late.py", "return x", "return -x"),
    ],
)
def test_what_the_function_reaches_counts(digest: Callable, file: str, old: str, new: str) -> None:
    """A constant, an imported function and an import inside the function are all part of the work."""
    assert digest("convert", file=file, old=old, new=new) != digest("convert")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("work.py", "OTHER = 4", "OTHER = 9"),
        ("paint.py", "COLOUR = 1", "COLOUR = 2"),
        ("mill.py", "return 0", "return 1"),
    ],
)
def test_what_the_function_does_not_reach_does_not_count(digest: Callable, file: str, old: str, new: str) -> None:
    """A runner beside the converter can change without converting again."""
    assert digest("convert", file=file, old=old, new=new) == digest("convert")
    assert digest("run", file=file, old=old, new=new) != digest("run") or file == "mill.py"


def test_what_a_package_hands_on_counts(digest: Callable) -> None:
    """`import grain` reaches what the package's `__init__` imports from its modules."""
    assert digest("trade", file="shop.py", old="PRICE = 5", new="PRICE = 6") != digest("trade")


def test_a_runner_reaches_the_interpreter() -> None:
    """What runs a program stands in the recipe of its outputs: binding and execution, by name."""
    from converters.formats import coreml

    reached = code._reached([coreml.runner])
    assert {"mil.program", "mil.bind", "mil.execute", "mil.arithmetic", "mil.values"} <= {
        module for module, _ in reached
    }
    assert not {"mil.info", "mil.diff"} & {module for module, _ in reached}


def test_a_table_beside_a_module_counts(digest: Callable, tmp_path: Path) -> None:
    """Data under a module's name is read by it, so changing it is changing the work."""
    without = digest("convert")
    (tmp_path / "grain" / "mill.toml").write_text("speed = 1")
    assert digest("convert") != without


def test_the_interpreter_is_no_part_of_a_conversion() -> None:
    """Editing a MIL operation must not rebuild a package: the runner's code is reached from `runner` only."""
    from converters.formats import coreml

    reached = code._reached([coreml.convert])
    assert not [module for module, _ in reached if module.startswith("mil.ops") or module == "mil.bind"]
    assert [module for module, _ in reached if module == "mil.package"]
