"""The operations as a whole: every signature is coremltools', and the published table is current."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from mil.commands.ops import page
from mil.ops import registered
from mil.ops.catalogue import CATALOGUE, EXECUTOR
from mil.parameters import parameters

# Names that a saved program has and coremltools' registry has not, or only as a dialect.
OF_SAVED_PROGRAMS = {"write_state", "coreml_update_state"}
# What coremltools registers for the use of its converter only.
OF_THE_CONVERTER = {"_const_symbolic"}
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="session")
def registry(ct: Any) -> dict[str, dict[Any, Any]]:
    """Every version of every operation of coremltools, by name and then by the opset that brought it."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return SSAOpRegistry.core_ops


def test_the_catalogue_is_the_registry(registry: dict) -> None:
    """Every operation of coremltools, once, and nothing else."""
    listed = [name for names in CATALOGUE.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) - OF_SAVED_PROGRAMS == set(registry) - OF_THE_CONVERTER


def test_every_function_is_where_the_catalogue_says() -> None:
    """The file in the error about a missing operation is the file where the others of its family are."""
    for family, names in CATALOGUE.items():
        for name in set(names) - EXECUTOR:
            assert registered()[name].__module__ == f"mil.ops.{family}"
    assert set(registered()) <= {name for names in CATALOGUE.values() for name in names}


def test_at_least_140_operations_are_covered(registry: dict) -> None:
    """Of those that coremltools registers."""
    assert len((set(registered()) | EXECUTOR) & set(registry)) >= 140


def spec(registry: dict, name: str) -> list[tuple[str, bool]]:
    """Name and optionality of each input of the newest version of an operation, in order."""
    newest = registry[name][max(registry[name], key=lambda target: target.value)]
    return [(key, kind.optional) for key, kind in newest.input_spec.input_types.items()]


def test_every_signature_is_the_newest_input_spec(registry: dict) -> None:
    """Names, order and optionality; what the executor fills in is not among them."""
    for name, function in registered().items():
        if name in OF_SAVED_PROGRAMS:
            continue
        ours = [(each.name, not each.required) for each in parameters(function)]
        assert ours == spec(registry, name), name


def test_every_parameter_says_what_it_is_handed() -> None:
    """No parameter without an annotation that the binder knows."""
    for name, function in registered().items():
        for each in parameters(function):
            hint = inspect.signature(function).parameters[each.name].annotation
            assert hint is not inspect.Parameter.empty, (name, each.name)


def test_every_operation_has_a_docstring() -> None:
    """They are the reference of the library."""
    assert not [name for name, function in registered().items() if not function.__doc__]


def test_the_published_table_is_current() -> None:
    """`python -m mil ops --markdown > docs/operations.md`"""
    assert DOCS.read_text() == page(set(registered()) | EXECUTOR)
