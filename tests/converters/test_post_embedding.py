"""Distances, activity, validity and the duration filter, at and around their thresholds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from converters.models import post_embedding as plugin
from converters.models.post_embedding import Form
from converters.networks.processors.post_embedding import without_short_runs
from tests.converters.processors import converted, examples, furthest, operations, ours

FRAMES = 589
EXACT = {"activity": 0, "valid": 0, "filtered_masks": 0}


def _by_hand(mask: list[int]) -> list[int]:
    """The duration filter as one would write it: walk along, and clear what was too short once it ends."""
    kept, start = list(mask), None
    for i, value in enumerate([*mask, 0]):
        if value and start is None:
            start = i
        if not value and start is not None:
            if i - start < 59:
                kept[start:i] = [0] * (i - start)
            start = None
    return kept


def test_names_and_shapes_are_those_of_the_contract() -> None:
    """For three speakers and 64 known ones, or as many as the form says."""
    form = Form(speakers=2, capacity=5)
    shapes = {tensor.name: tensor.shape for tensor in (*plugin.inputs(form), *plugin.outputs(form))}
    assert shapes == {
        "embeddings": (2, 256),
        "database": (5, 256),
        "masks": (1, 589, 2),
        "distances": (2, 5),
        "activity": (2,),
        "valid": (2,),
        "filtered_masks": (1, 589, 2),
    }
    assert plugin.outputs(Form())[0].shape == (3, 64)
    with pytest.raises(ValueError, match=r"^speakers: .*expected one whole number"):
        Form(speakers=(1, 3))  # type: ignore[arg-type]


# Runs of all lengths, many of them around the threshold, up to the window's end.
_LENGTHS = st.lists(st.one_of(st.integers(1, 120), st.integers(57, 61)), min_size=1, max_size=60)


@given(st.integers(0, 1), st.lists(_LENGTHS, min_size=1, max_size=3))
def test_the_filter_is_the_loop_without_the_loop(first: int, speakers: list[list[int]]) -> None:
    """The opening by two maxima equals a walk along the frames, for any runs, at the edges too."""
    masks = np.zeros((1, FRAMES, len(speakers)), np.float32)
    for i, lengths in enumerate(speakers):
        run = np.repeat((np.arange(len(lengths)) + first) % 2, lengths)[:FRAMES]
        masks[0, : len(run), i] = run
    found = without_short_runs(torch.from_numpy(masks)).numpy()
    wanted = [_by_hand(mask.astype(int).tolist()) for mask in masks[0].T]
    np.testing.assert_array_equal(found[0].T, wanted)


@pytest.mark.parametrize("start", [0, 1, 58, 59, 265, FRAMES - 61, FRAMES - 60, "end"])
@pytest.mark.parametrize(("length", "stays"), [(1, False), (58, False), (59, True), (60, True)])
def test_a_run_stays_if_it_is_59_frames_long(start, length: int, stays: bool) -> None:
    """Wherever it lies; at the window's edge it counts as long as it is seen to be."""
    first = FRAMES - length if start == "end" else start
    masks = np.zeros((1, FRAMES, 1), np.float32)
    masks[0, first : first + length] = 1
    found = without_short_runs(torch.from_numpy(masks)).numpy()
    np.testing.assert_array_equal(found, masks if stays else 0 * masks)


def test_the_definition_is_the_walk_too() -> None:
    """The plugin's own definition, by groups, gives what walking gives on every example."""
    for case in examples(plugin, Form()):
        for mask in case.inputs["masks"][0].T:
            assert plugin.without_short_runs(mask).tolist() == _by_hand(mask.astype(int).tolist())


@pytest.mark.parametrize("form", [Form(), Form(capacity=(1, 64)), Form(speakers=4, capacity=1)], ids=str)
def test_all_outputs_are_those_of_the_definition(tmp_path, form) -> None:
    """Masks, counts and flags exactly, distances within 1e-6; in torch and converted, 39 operations, no loop."""
    cases, definition = examples(plugin, form), plugin.reference({}, form)
    for run in (ours(plugin, form, {}), converted(plugin, form, {}, tmp_path)):
        found = furthest(run, definition, cases)
        assert found.pop("distances") <= 1e-6
        assert found == EXACT
    kinds = operations(tmp_path)
    assert sum(kinds.values()) <= 39
    assert kinds["max_pool"] == 2
    assert not kinds.keys() & {"while_loop", "cond", "slice_by_index"}


def test_half_precision_changes_distances_only(tmp_path) -> None:
    """Masks, counts and flags are whole numbers below 2048, and stay what they are."""
    found = furthest(
        converted(plugin, Form(), {}, tmp_path, "fp16"), plugin.reference({}, Form()), examples(plugin, Form())
    )
    assert found.pop("distances") <= 2e-3
    assert found == EXACT


@pytest.mark.parametrize(("frames", "valid"), [(0, 0), (9, 0), (10, 0), (11, 1), (FRAMES, 1)])
def test_who_is_active_in_more_than_ten_frames_is_valid(frames: int, valid: int) -> None:
    """Ten do not suffice, as in the apps; activity counts frames before the duration filter."""
    masks = np.zeros((1, FRAMES, 3), np.float32)
    masks[0, :frames, 1] = 1
    given = {"embeddings": np.ones((3, 256), np.float32), "database": np.ones((64, 256), np.float32), "masks": masks}
    found = ours(plugin, Form(), {})(given)
    assert found["activity"].tolist() == [0, frames, 0]
    assert found["valid"].tolist() == [0, valid, 0]


def test_a_zero_embedding_is_at_distance_one_and_never_valid() -> None:
    """However long it speaks; an empty database, one row of zeros, is at distance one from everybody."""
    given = {case.name: case.inputs for case in examples(plugin, Form(capacity=1))}["zero_embedding_1"]
    embeddings = np.eye(3, 256, dtype=np.float32)
    embeddings[0] = 0
    run = ours(plugin, Form(capacity=1), {})
    found = run(given | {"embeddings": embeddings, "database": np.ones((1, 256), np.float32)})
    np.testing.assert_allclose(found["distances"], [[1], [1 - 1 / 16], [1 - 1 / 16]], atol=1e-6)
    assert found["valid"].tolist() == [0, 1, 1]
    empty = run(given | {"embeddings": embeddings, "database": np.zeros((1, 256), np.float32)})
    assert empty["distances"].tolist() == [[1], [1], [1]]
