"""A function that is not its part is found, and so is a weight that is stored twice."""

import shutil
from pathlib import Path

import pytest

from mil.merge import merge
from pipeline.types import Measurement, Subject
from tests.mil.test_merge import parts
from verify.functions import measure

__all__ = ["parts"]


def measured(package: Path, functions: dict[str, Path]) -> dict[str, Measurement]:
    return {m.name: m for m in measure(Subject(inputs=(), outputs=(), package=package, functions=functions))}


@pytest.fixture
def merged(parts: dict[str, Path], tmp_path: Path) -> Path:
    merge({"four": parts["rows4"], "eight": parts["rows8"]}, "four", tmp_path / "both.mlpackage")
    return tmp_path / "both.mlpackage"


def test_functions_that_are_their_parts_differ_in_nothing(parts: dict[str, Path], merged: Path) -> None:
    """And together they are hardly larger than one of them."""
    found = measured(merged, {"four": parts["rows4"], "eight": parts["rows8"]})
    assert found["differing"].value == 0
    assert 1 < found["size_ratio"].value < 1.6  # type: ignore[operator]


def test_another_function_under_the_name_is_found(parts: dict[str, Path], merged: Path) -> None:
    """Palettes in one of the parts are enough of a difference."""
    found = measured(merged, {"four": parts["rows4-w6"], "eight": parts["rows8"]})
    assert (found["differing"].value, found["differing"].note) == (1, "four: y differ")


def test_a_missing_function_is_found(parts: dict[str, Path], merged: Path) -> None:
    """By its name."""
    found = measured(merged, {"four": parts["rows4"], "sixteen": parts["rows8"]})
    assert (found["differing"].value, found["differing"].note) == (1, "sixteen: missing")


def test_a_weight_stored_twice_is_seen_in_the_size(parts: dict[str, Path], tmp_path: Path) -> None:
    """The ratio counts what lies in the package, whoever put it there."""
    merge({"four": parts["rows4"]}, "four", tmp_path / "one.mlpackage")
    weights = next((tmp_path / "one.mlpackage").rglob("weight.bin"))
    shutil.copy(weights, weights.with_name("again.bin"))
    assert measured(tmp_path / "one.mlpackage", {"four": parts["rows4"]})["size_ratio"].value > 1.4  # type: ignore[operator]


def test_an_artifact_of_one_function_has_nothing_to_compare(parts: dict[str, Path]) -> None:
    """It is no pass either."""
    assert measured(parts["rows4"], {})["differing"].value is None
