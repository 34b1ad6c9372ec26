"""Cosine distances at fixed and flexible capacities, with rows that are not in use."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from converters.models import cosine_distance as plugin
from converters.models.cosine_distance import Form
from converters.networks.processors.cosine import cosine_distances, length, unit
from pipeline.types import Range
from tests.converters.processors import converted, examples, furthest, operations, ours

RANGE = Form((1, 16), (1, 32))


def test_capacities_are_fixed_or_a_range() -> None:
    """3 × 64 unless the form says otherwise; each mask is as long as what it masks."""
    shapes = [tensor.shape for tensor in (*plugin.inputs(Form()), *plugin.outputs(Form()))]
    assert shapes == [(3, 256), (64, 256), (3,), (64,), (3, 64)]
    assert plugin.outputs(RANGE)[0].shape == (Range(1, 16), Range(1, 32))
    with pytest.raises(ValueError, match=r"^bank: \[8, 2\]; expected two numbers"):
        Form(3, [8, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [Form(), Form(1024, 1024), RANGE], ids=["3x64", "1024x1024", "range"])
def test_distances_are_within_a_millionth_of_the_definition(tmp_path, form) -> None:
    """In torch and converted, masks and zero rows included; 30 operations, none with weights."""
    cases, definition = examples(plugin, form), plugin.reference({}, form)
    assert furthest(ours(plugin, form, {}), definition, cases)["distances"] <= 1e-6
    assert furthest(converted(plugin, form, {}, tmp_path), definition, cases)["distances"] <= 1e-6
    assert sum(operations(tmp_path).values()) == 30


def test_in_half_precision_distances_keep_two_digits(tmp_path) -> None:
    """Also of rows a hundred times as long or as short: squares of 1e-4 and 1e4 do not exist in half precision."""
    run, definition = converted(plugin, Form(), {}, tmp_path, "fp16"), plugin.reference({}, Form())
    assert furthest(run, definition, examples(plugin, Form()))["distances"] <= 2e-3
    [case] = [case for case in examples(plugin, Form()) if case.name == "full_3x64"]
    for scale in (1e-4, 1e4):
        scaled = case.inputs | {"queries": case.inputs["queries"] * np.float32(scale)}
        np.testing.assert_allclose(run(scaled)["distances"], definition(scaled)["distances"], atol=4e-3)


def test_the_definition_is_that_of_the_textbook() -> None:
    """1 − Σqr / √(Σq² Σr²), number by number."""
    queries, bank = ([[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0], [-3.0, -4.0], [0.0, 0.0]])
    found = plugin.distances(np.array(queries), np.array(bank))
    cosine = math.fsum([3 * 4, 4 * 3]) / math.sqrt((9 + 16) * (16 + 9))
    np.testing.assert_allclose(found, [[1 - cosine, 2, 1], [1, 1, 1]], atol=1e-15)


def test_a_row_that_is_off_is_two_away_and_its_content_has_no_influence() -> None:
    """NaN and infinity in unused rows change nothing; two is farther than anything but an exact opposite."""
    run = ours(plugin, Form(), {})
    by_name = {case.name: case.inputs for case in examples(plugin, Form())}
    partly, full = run(by_name["partly_3x64"])["distances"], run(by_name["full_3x64"])["distances"]
    off = (by_name["partly_3x64"]["query_mask"][:, np.newaxis] * by_name["partly_3x64"]["bank_mask"]) == 0
    assert off.any()
    assert not off.all()
    assert (partly[off] == 2).all()
    np.testing.assert_array_equal(partly[~off], full[~off])
    assert (run(by_name["unused_3x64"])["distances"] == 2).all()


def test_an_empty_bank_is_at_distance_one() -> None:
    """One row of zeros, or all of them: exactly one, for queries of zeros too."""
    by_name = {case.name: case.inputs for case in examples(plugin, Form())}
    for name in ("empty_3x64", "zero_3x64"):
        assert (ours(plugin, Form(), {})(by_name[name])["distances"] == 1).all()


_NUMBERS = st.floats(-(2.0**60), 2.0**60, width=32)


@given(arrays(np.float32, (2, 5), elements=_NUMBERS), arrays(np.float32, (3, 5), elements=_NUMBERS))
def test_distances_are_between_zero_and_two_and_always_numbers(queries: np.ndarray, bank: np.ndarray) -> None:
    """For any two sets of numbers, zeros and the smallest among them."""
    found = cosine_distances(torch.from_numpy(queries), torch.from_numpy(bank)).numpy()
    assert ((found >= -1e-6) & (found <= 2 + 1e-6)).all()
    zero = ~queries.any(axis=1)[:, np.newaxis] | ~bank.any(axis=1)
    assert (found[zero] == 1).all()


def test_lengths_can_be_divided_by() -> None:
    """A row of zeros has length one and stays zero."""
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert length(rows).tolist() == [[5.0], [1.0]]
    torch.testing.assert_close(unit(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
