"""Inputs that only older opsets have, where they mean more than another name."""

import numpy as np
import pytest
import torch

from mil.errors import MilError
from mil.ops.image_resizing import crop_resize
from mil.ops.tensor_operation import non_maximum_suppression

BOXES = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [0, 1, 2, 3]])


def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32))


def test_a_roi_of_four_cuts_every_image() -> None:
    """(N, 1, 4, 1, 1) gives (N, B, C, height, width): each crop is what the newer form cuts from that image."""
    x = image()
    found = crop_resize(x, None, target_height=2, target_width=3, roi=BOXES.reshape(3, 1, 4, 1, 1))
    assert found.shape == (3, 2, 3, 2, 3)
    for n, b in np.ndindex(3, 2):
        torch.testing.assert_close(found[n, b], crop_resize(x, BOXES[n : n + 1], torch.tensor([b]), 2, 3)[0])


def test_a_roi_of_five_names_its_image() -> None:
    """(N, 1, 5, 1, 1) gives (N, 1, C, height, width)."""
    x, images = image(), torch.tensor([1, 0, 1])
    roi = torch.cat([images[:, None].float(), BOXES], dim=1).reshape(3, 1, 5, 1, 1)
    found = crop_resize(x, None, target_height=2, target_width=2, roi=roi)
    torch.testing.assert_close(found, crop_resize(x, BOXES, images, 2, 2).unsqueeze(1))


@pytest.mark.parametrize("shape", [(3, 4), (3, 1, 3, 1, 1), (3, 2, 4, 1, 1)])
def test_a_roi_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """One sentence."""
    with pytest.raises(MilError, match="expected a roi of"):
        crop_resize(image(), None, roi=torch.zeros(shape))


def test_a_score_threshold_ends_the_suppression() -> None:
    """Boxes below it are not taken; what is taken is what the newer form takes from the others, counted."""
    generator = np.random.default_rng(1)
    boxes = torch.from_numpy(generator.uniform(0, 10, (2, 12, 4)).astype(np.float32))
    scores = torch.from_numpy(generator.uniform(0, 1, (2, 12, 3)).astype(np.float32))
    found_boxes, found_scores, indices, counts = non_maximum_suppression(boxes, scores, 0.3, 12, score_threshold=0.8)
    for item in range(2):
        good = [box for box in range(12) if scores[item, box].max() >= 0.8]
        rest = non_maximum_suppression(
            boxes[item : item + 1, good].transpose(1, 2), scores[item : item + 1, good].transpose(1, 2), 0.3, 12
        )
        wanted = [good[index] for index in rest[2][0].tolist() if index >= 0]
        assert indices[item].tolist() == wanted + [-1] * (12 - len(wanted))
        assert counts[item] == len(wanted)
        torch.testing.assert_close(found_boxes[item, : len(wanted)], boxes[item, wanted])
        torch.testing.assert_close(found_scores[item, : len(wanted)], scores[item, wanted])
