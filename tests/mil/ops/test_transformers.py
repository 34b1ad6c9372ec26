"""Attention agrees with coremltools and a plain loop in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mil.ops import transformers
from tests.mil.ops.opinions import Row, agree, ask_ours, assert_covered, coremltools, declared_operations, numpy

OPERATIONS = declared_operations("transformers")
RANDOM = np.random.default_rng(6)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def attention_loop(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, attn_mask: np.ndarray | None = None
) -> np.ndarray:
    """The definition, one query at a time."""
    result = np.empty((*query.shape[:-1], value.shape[-1]))
    mask = np.zeros(()) if attn_mask is None else attn_mask
    added = np.where(mask, 0.0, -np.inf) if mask.dtype == bool else mask.astype(np.float64)
    added = np.broadcast_to(added, (*query.shape[:-1], key.shape[-2]))
    for place in np.ndindex(query.shape[:-1]):
        batch = place[:-1]
        scores = key[batch].astype(np.float64) @ query[place] / query.shape[-1] ** 0.5 + added[place]
        powers = np.exp(scores - scores.max(initial=-np.inf))
        result[place] = powers / powers.sum() @ value[batch]
    return result


def tensors(*batch: int, target: int = 4, source: int = 5, size: int = 6, out: int = 3) -> dict[str, np.ndarray]:
    return {
        "query": normal(*batch, target, size),
        "key": normal(*batch, source, size),
        "value": normal(*batch, source, out),
    }


OPINIONS = {"scaled_dot_product_attention": (coremltools("scaled_dot_product_attention"), numpy(attention_loop))}
CAUSAL = np.tril(np.ones((4, 5), bool))
ADDED = np.where(CAUSAL, normal(4, 5), np.float32(-np.inf))
HIDDEN = CAUSAL.copy()
HIDDEN[2] = False
MASKS = {
    "bool (L, S)": CAUSAL,
    "float (L, S)": ADDED,
    "bool (1, S)": np.array([[True, False, True, True, False]]),
    "bool (S,)": np.array([True, False, True, True, False]),
    "float (B, 1, S)": normal(2, 1, 5),
    "a row without any": HIDDEN,
    "a row of minus infinity": np.where(HIDDEN, np.float32(0), np.float32(-np.inf)),
}
RANK_3 = tensors(2)

ROWS = tuple(
    Row("scaled_dot_product_attention", inputs, about)
    for about, inputs in {
        "rank 3": RANK_3,
        "rank 4": tensors(2, 3),
        "rank 5": tensors(1, 2, 3),
        "one element": tensors(1, target=1, source=1, size=1, out=1),
        "no queries": tensors(2, target=0),
        "large scores": {**RANK_3, "query": RANK_3["query"] * np.float32(1000)},
        "rank 4, mask per batch": {**tensors(2, 3), "attn_mask": normal(2, 1, 1, 5) > 0},
        **{f"mask: {about}": {**RANK_3, "attn_mask": mask} for about, mask in MASKS.items()},
    }.items()
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """Attention is what coremltools infers and what its definition says, with and without masks."""
    agree(transformers, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """Attention is declared as coremltools declares it, and judged by two opinions."""
    assert_covered(transformers, OPERATIONS, OPINIONS, ROWS)


def test_a_row_in_which_nothing_takes_part_is_nan_and_leaves_the_others_alone() -> None:
    """The definition divides nothing by nothing there; the other rows are as they are without it."""
    (with_hidden,) = ask_ours(transformers.scaled_dot_product_attention, {**RANK_3, "attn_mask": HIDDEN})
    (without,) = ask_ours(transformers.scaled_dot_product_attention, {**RANK_3, "attn_mask": CAUSAL})
    assert np.isnan(with_hidden[:, 2]).all()
    np.testing.assert_array_equal(np.delete(with_hidden, 2, 1), np.delete(without, 2, 1))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
def test_equal_values_are_what_attention_gives(target: int, source: int, size: int) -> None:
    """The weights of a row sum to one: where all values are equal, that value comes out whatever is asked."""
    inputs = tensors(2, target=target, source=source, size=size)
    inputs["value"] = np.full_like(inputs["value"], 0.375)
    (ours,) = ask_ours(transformers.scaled_dot_product_attention, inputs, torch.float64)
    np.testing.assert_allclose(ours, 0.375, rtol=1e-12)
