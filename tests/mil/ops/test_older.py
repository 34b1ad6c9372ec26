"""Operations of older opsets agree with onnxruntime and with what devices are known to return."""

import inspect
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import find, image_resizing, older, registered
from tests.mil.ops.opinions import ask_ours, onnxruntime_run, parameters

NAMES = [name for name, member in vars(older).items() if inspect.isfunction(member) and not name.startswith("_")]
IMAGE = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
CORNERS = {"target_height": 2, "target_width": 2, "sampling_mode": "ALIGN_CORNERS"}


def declared_names(operation: Any) -> list[tuple[str, bool]]:
    return [(name, spec.optional) for name, spec in operation.input_spec.input_types.items()]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_those_of_the_last_opset_before(name: str) -> None:
    """The older form is declared as ios16 declares it."""
    assert parameters(vars(older)[name]) == declared_names(SSAOpRegistry.core_ops[name][ct.target.iOS16])


def test_every_operation_whose_inputs_were_renamed_has_its_older_form() -> None:
    """No input of any opset since ios15 is unknown to both forms of its operation."""
    missing = []
    for name, versions in SSAOpRegistry.core_ops.items():
        forms = [form for form in (registered().get(name), vars(older).get(name)) if form is not None]
        known = {parameter for form in forms for parameter, _ in parameters(form)}
        since = [version for target, version in versions.items() if target >= ct.target.iOS15]
        declared = {parameter for version in since for parameter, _ in declared_names(version)}
        missing += [(name, declared - known)] if forms and declared - known else []
    assert missing == []


def test_the_form_is_chosen_by_the_inputs_of_the_program() -> None:
    """A program that names `roi` gets the older form, any other the newest."""
    assert find("crop_resize", "layer", ["x", "roi"]) is older.crop_resize
    assert find("crop_resize", "layer", ["x", "boxes"]) is image_resizing.crop_resize
    assert find("conv", "layer", ["x", "nonsense"]) is registered()["conv"]


@pytest.mark.parametrize(
    ("roi", "how", "expected"),
    [
        ([1, 1, 2, 2], {}, [6, 7, 10, 11]),
        ([0, 0, 0, 1 / 3, 1 / 3], {"normalized_coordinates": True}, [1, 2, 5, 6]),
        ([2, 2, 1, 1], {}, [11, 10, 7, 6]),
    ],
)
def test_boxes_are_cut_as_a_device_cuts_them(roi: list[float], how: Any, expected: list[float]) -> None:
    """The numbers that coremltools' own tests expect of Core ML."""
    boxes = np.float32(roi).reshape(1, 1, -1, 1, 1)
    (ours,) = ask_ours(older.crop_resize, {"x": IMAGE, "roi": boxes, **CORNERS, **how})
    np.testing.assert_allclose(ours, np.float32(expected).reshape(1, 1, 1, 2, 2), rtol=1e-5)


def test_boxes_are_of_every_image_or_of_a_numbered_one() -> None:
    """Four numbers cut a box from each image, five from the image of the first number."""
    x = np.concatenate([IMAGE, -IMAGE, 2 * IMAGE])
    every = np.float32([[0, 0, 1, 1], [1, 1, 3, 2]]).reshape(2, 1, 4, 1, 1)
    numbered = np.concatenate([np.float32([2, 1]).reshape(2, 1, 1, 1, 1), every], 2)
    (all_images,) = ask_ours(older.crop_resize, {"x": x, "roi": every, **CORNERS})
    (chosen,) = ask_ours(older.crop_resize, {"x": x, "roi": numbered, **CORNERS})
    assert all_images.shape == (2, 3, 1, 2, 2)
    np.testing.assert_array_equal(chosen, np.stack([all_images[0, 2:], all_images[1, 1:2]]))


def test_roi_of_another_shape_is_refused() -> None:
    """Boxes of the newest form are not taken for regions of the older one."""
    with pytest.raises(MilError, match="expected roi"):
        older.crop_resize(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1.5, 1.5), st.floats(0, 0.9))
def test_suppression_agrees_with_onnxruntime(seed: int, score_threshold: float, iou_threshold: float) -> None:
    """Boxes taken across classes are onnxruntime's; where the threshold leaves none, the best one is kept."""
    random = np.random.default_rng(seed)
    boxes = np.float32(random.uniform([5, 5, 2, 2], [15, 15, 9, 9], (1, 9, 4)))
    scores = random.standard_normal((1, 9, 2), np.float32)
    best = scores.max(2)
    (found,) = onnxruntime_run(
        "NonMaxSuppression",
        [boxes, best[:, None], np.int64([9]), np.float32([iou_threshold]), np.float32([score_threshold])],
        center_point_box=1,
    )
    taken = [int(box) for _, _, box in found] or [int(best.argmax())]
    inputs = {
        "boxes": boxes,
        "scores": scores,
        "iou_threshold": float(np.float32(iou_threshold)),
        "score_threshold": float(np.float32(score_threshold)),
        "max_boxes": 10,
    }
    kept_boxes, kept_scores, indices, number = ask_ours(older.non_maximum_suppression, inputs)
    assert number.tolist() == [len(taken)]
    assert indices[0].tolist() == taken + [-1] * (10 - len(taken))
    np.testing.assert_array_equal(kept_boxes[0, : len(taken)], boxes[0, taken])
    np.testing.assert_array_equal(kept_scores[0, : len(taken)], scores[0, taken])
    assert not kept_boxes[0, len(taken) :].any()
    assert not kept_scores[0, len(taken) :].any()
