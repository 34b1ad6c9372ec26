from dataclasses import dataclass

import pytest

from pipeline.recipe import canonical, differences, key


@dataclass(frozen=True)
class Options:
    nbits: int = 8


def test_key_ignores_the_order_of_names() -> None:
    """The same recipe has the same key, however it was put together."""
    assert key({"a": 1, "b": {"c": 2, "d": 3}}) == key({"b": {"d": 3, "c": 2}, "a": 1})


def test_key_changes_with_any_value() -> None:
    """One value changed is another recipe."""
    assert key({"options": {"nbits": 8}}) != key({"options": {"nbits": 6}})


def test_dataclasses_stand_as_mappings() -> None:
    """A dataclass of options is written as its fields."""
    assert canonical({"options": Options()}) == '{"options":{"nbits":8}}'


def test_what_is_no_data_cannot_stand_in_a_recipe() -> None:
    """A function, say, has no canonical text, so it is refused and not written as its address."""
    with pytest.raises(TypeError, match="cannot stand in a recipe"):
        canonical({"run": print})


def test_differences_name_the_path_and_both_values() -> None:
    """A rebuild is explained by what changed in its recipe."""
    old = {"step": "palettize", "options": {"nbits": 8}, "code": "x"}
    new = {"step": "palettize", "options": {"nbits": 6, "group": 16}, "code": "x"}
    assert list(differences(old, new)) == ["options.group: absent -> 16", "options.nbits: 8 -> 6"]


def test_long_values_are_shortened() -> None:
    """A digest in an explanation is cut, so that the line can be read."""
    [line] = differences({"weights": "a" * 100}, {"weights": "b" * 100})
    assert line == f"weights: {'a' * 12}… -> {'b' * 12}…"
