"""Log probabilities become masks as the definition says, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters.models import segmentation_postprocessor as plugin
from converters.models.segmentation_postprocessor import Form
from converters.networks.processors.segmentation_postprocessor import SegmentationPostprocessor
from pipeline.types import Range
from tests.converters.processors import converted, examples, furthest, operations, ours

SETS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32)


def test_names_and_shapes_are_those_of_the_contract() -> None:
    """segments [1, 589, 7] in, masks [1, 589, 3] out, float32; a range of batches where the form asks for one."""
    [segments], [masks] = plugin.inputs(Form()), plugin.outputs(Form())
    assert (segments.name, segments.shape, segments.dtype) == ("segments", (1, 589, 7), "float32")
    assert (masks.name, masks.shape, masks.dtype) == ("masks", (1, 589, 3), "float32")
    assert plugin.outputs(Form([1, 32]))[0].shape == (Range(1, 32), 589, 3)


@pytest.mark.parametrize("batch", [0, True, 2.0, [4, 4], [0, 3], [1, 2, 3], "1"])
def test_a_batch_that_cannot_be_is_refused(batch: object) -> None:
    """One sentence that starts with the option."""
    with pytest.raises(ValueError, match=r"^batch: .*; expected"):
        Form(batch)  # type: ignore[arg-type]


@given(st.lists(st.tuples(*[st.integers(-3, 0)] * 7), min_size=1, max_size=40))
def test_where_classes_tie_the_first_counts(scores: list[tuple[int, ...]]) -> None:
    """Small whole numbers tie often; Python's max returns the first of the largest."""
    wanted = SETS[[max(range(7), key=row.__getitem__) for row in scores]]
    found = SegmentationPostprocessor()(torch.tensor([scores], dtype=torch.float32))
    np.testing.assert_array_equal(found.numpy(), wanted[np.newaxis])


@pytest.mark.parametrize("form", [Form(), Form((1, 32))])
def test_masks_equal_the_definition(tmp_path, form) -> None:
    """In torch and in the converted program, at every batch size shown; six operations, and no argmax."""
    cases, definition = examples(plugin, form), plugin.reference({}, form)
    assert furthest(ours(plugin, form, {}), definition, cases) == {"masks": 0}
    assert furthest(converted(plugin, form, {}, tmp_path), definition, cases) == {"masks": 0}
    assert operations(tmp_path) == {"reduce_max": 1, "equal": 1, "cast": 1, "linear": 2, "relu": 1}


def test_the_examples_hold_what_their_names_say() -> None:
    """Silence, every class certain, every pair of classes at a tie, all at a tie, and a win by the last digit."""
    windows = {example.name: example.inputs["segments"][0] for example in examples(plugin, Form())}
    assert not plugin.reference({}, Form())({"segments": windows["silence_1"][np.newaxis]})["masks"].any()
    assert set(windows["certain_1"].argmax(axis=-1)) == set(range(7))
    tied = windows["pairs_1"] == windows["pairs_1"].max(axis=-1, keepdims=True)
    assert {tuple(np.flatnonzero(row)) for row in tied} >= {(i, j) for i in range(7) for j in range(i + 1, 7)}
    assert len(set(windows["all_1"].ravel())) == 1
    assert len(set(windows["digit_1"][0])) == 2


def test_half_precision_would_decide_otherwise(tmp_path) -> None:
    """Which is why there is no variant of it: close calls become ties, and ties go to the first class."""
    run = converted(plugin, Form(), {}, tmp_path, "fp16")
    segments = np.full((1, 589, 7), -5, np.float32)
    segments[..., 1], segments[..., 2] = -0.69341, -0.69340
    assert run({"segments": segments})["masks"][0, 0].tolist() == [1, 0, 0]
    assert plugin.reference({}, Form())({"segments": segments})["masks"][0, 0].tolist() == [0, 1, 0]
