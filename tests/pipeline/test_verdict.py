import dataclasses

import pytest

from pipeline.code import ROOT
from pipeline.config import read_matrix
from pipeline.types import CheckResult, Limit, Measurement, Variant
from pipeline.verdict import blocks, judge


@pytest.fixture(scope="module")
def variant() -> Variant:
    return read_matrix(ROOT / "variants.yaml").variants[0]


def verdict(variant: Variant, value: float | None, trained: bool = True, **limit: object) -> CheckResult:
    declared = Limit("size.package", None, 2.0, (None, 3.0), "MB", "why", None)
    held = dataclasses.replace(variant, limits=(dataclasses.replace(declared, **limit),))  # type: ignore[arg-type]
    [result] = judge(held, "size", [Measurement("package", value, "MB", "a note")], trained)
    return result


@pytest.mark.parametrize(("value", "outcome"), [(1.9, "pass"), (2.0, "pass"), (2.1, "fail")])
def test_a_measurement_is_held_against_its_limit(variant: Variant, value: float, outcome: str) -> None:
    """The limit itself is still within it."""
    assert verdict(variant, value).outcome == outcome
    assert verdict(variant, value).limit == "≤ 2"


def test_synthetic_weights_have_a_column_of_their_own(variant: Variant) -> None:
    """The same value fails with trained weights and passes with stand-ins."""
    assert verdict(variant, 2.5).outcome == "fail"
    assert verdict(variant, 2.5, trained=False).outcome == "pass"


def test_without_a_value_it_is_not_run_and_says_why(variant: Variant) -> None:
    """Not run is never a pass."""
    assert (verdict(variant, None).outcome, verdict(variant, None).note) == ("not run", "a note")


def test_without_a_bound_for_these_weights_it_is_not_run(variant: Variant) -> None:
    """A limit for trained weights only says nothing of a stand-in."""
    result = verdict(variant, 1.0, trained=False, synthetic=(None, None))
    assert (result.outcome, result.note) == ("not run", "no limit for synthetic weights")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_fails(variant: Variant, value: float) -> None:
    """nan compares false with every limit and must not slip through."""
    assert (verdict(variant, value).outcome, verdict(variant, value).measured) == ("fail", None)


def test_a_limit_whose_measurement_is_missing_is_not_run(variant: Variant) -> None:
    """A check that forgot to measure is not a check that passed."""
    limit = Limit("size.package", None, 2.0, (None, 2.0), "MB", "why", "build")
    [result] = judge(dataclasses.replace(variant, limits=(limit,)), "size", [], True)
    assert (result.outcome, result.note) == ("not run", "not measured")
    assert blocks(result, "build")
    assert not blocks(result, "publish")
