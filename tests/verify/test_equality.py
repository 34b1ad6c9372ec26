"""Processors are compared output by output, and the worst one counts."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.tensors import write_tensors
from pipeline.types import Arrays, Measurement, Subject, Tensor
from verify.equality import MEASURES, measure

OUTPUTS = (
    Tensor("masks", ("frame", "speaker"), (2, 3), "float32", "0 or 1"),
    Tensor("valid", ("speaker",), (3,), "float32", "0 or 1"),
)
TRUTH = {"e/masks": np.eye(2, 3, dtype=np.float32), "e/valid": np.ones(3, np.float32)}


def measured(folder: Path, **rungs: Arrays | str) -> dict[str, Measurement]:
    found: dict[str, Path | str] = {}
    for name in ("upstream", "network", "float32", "declared"):
        value = rungs.get(name, TRUTH)
        found[name] = value if isinstance(value, str) else folder / f"{name}.safetensors"
        if not isinstance(value, str):
            write_tensors(value, folder / f"{name}.safetensors")
    return {m.name: m for m in measure(Subject(inputs=(), outputs=OUTPUTS, rungs=found))}


def test_equal_outputs_differ_by_nothing(tmp_path: Path) -> None:
    """Every difference is zero, and every flag the same."""
    found = measured(tmp_path)
    assert {name: m.value for name, m in found.items()} == dict.fromkeys(MEASURES, 0) | {"agreement": 1}


def test_the_worst_output_is_named(tmp_path: Path) -> None:
    """One flag that is wrong is seen, and which."""
    found = measured(tmp_path, declared=TRUTH | {"e/valid": np.array([1, 0, 1], np.float32)})
    assert found["max_difference"].value == found["precision"].value == 1
    assert found["max_difference"].note == "valid, worst window e"
    assert found["convert"].value == 0
    assert found["agreement"].value == pytest.approx(2 / 3)


def test_what_is_no_number_is_no_equality(tmp_path: Path) -> None:
    """NaN where the definition has a number is a difference; NaN where it has NaN is none."""
    nan = TRUTH | {"e/valid": np.array([1, np.nan, 1], np.float32)}
    assert np.isnan(measured(tmp_path, declared=nan)["precision"].value)  # type: ignore[arg-type]
    assert (
        measured(tmp_path, **dict.fromkeys(("upstream", "network", "float32", "declared"), nan))["precision"].value == 0
    )


def test_another_shape_is_an_endless_difference(tmp_path: Path) -> None:
    """It must not broadcast itself equal."""
    value = measured(tmp_path, declared=TRUTH | {"e/valid": np.ones(1, np.float32)})["precision"].value
    assert value == float("inf")


def test_what_was_not_run_says_why(tmp_path: Path) -> None:
    """A rung that is missing is no zero."""
    found = measured(tmp_path, upstream="no reference outputs", network="no recordings")
    assert (found["rewrite"].value, found["rewrite"].note) == (None, "no reference outputs")
    assert found["max_difference"].value == pytest.approx(0)
