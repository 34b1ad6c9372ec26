"""Operations whose inputs were others in the opsets before ios17, as those declare them.

`mil.ops.find` takes these where a program names an input that the newest form does not have.
"""

import torch

from mil.errors import MilError
from mil.ops import image_resizing, tensor_operation
from mil.ops.arguments import Bool, Float, Int, Str, Tensor


def crop_resize(
    x: Tensor,
    roi: Tensor,
    target_height: Int = 1,
    target_width: Int = 1,
    normalized_coordinates: Bool = False,
    spatial_scale: Float = 1.0,
    box_coordinate_mode: Str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: Str = "DEFAULT",
    pad_value: Float = 0.0,
) -> Tensor:
    """Return each box of each image, or of one, resized; the rest is as `image_resizing.crop_resize` has it.

    x        (B, C, H, W)
    roi      (N, 1, 4, 1, 1) boxes of every image, or (N, 1, 5, 1, 1) with the number of an image before each
    returns  (N, B, C, target_height, target_width), or (N, 1, C, target_height, target_width)
    """
    if roi.ndim != 5 or tuple(roi.shape[1:]) not in ((1, 4, 1, 1), (1, 5, 1, 1)):
        raise MilError(f"expected roi (N, 1, 4 or 5, 1, 1), found {list(roi.shape)}")
    every = roi.shape[2] == 4
    images = len(x) if every else 1
    numbers = torch.arange(len(x)).repeat(len(roi)) if every else roi[:, 0, 0, 0, 0].long()
    boxes = roi.flatten(1)[:, -4:].repeat_interleave(images, 0)
    how = (target_height, target_width, normalized_coordinates, spatial_scale, box_coordinate_mode, sampling_mode)
    return image_resizing.crop_resize(x, boxes, numbers, *how, pad_value).unflatten(0, (len(roi), images))


def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: Float,
    score_threshold: Float,
    max_boxes: Int,
    per_class_suppression: Bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best boxes as `tensor_operation.non_maximum_suppression` does, boxes before coordinates.

    boxes            (n, B, 4)
    scores           (n, B, K)
    score_threshold  boxes whose best score is no higher are left out, but for the best one of all
    returns          boxes (n, max_boxes, 4), scores (n, max_boxes, K), indices (n, max_boxes) int32, and how many
                     were taken (n,) int32
    """
    best, kept_scores, indices = tensor_operation.non_maximum_suppression(
        boxes.mT, scores.mT, iou_threshold, max_boxes, per_class_suppression
    )
    taken = (indices >= 0) & (kept_scores.amax(1) > score_threshold)
    taken[:, :1] = indices[:, :1] >= 0
    gone = ~taken.unsqueeze(2)
    return (
        best.mT.masked_fill(gone, 0.0),
        kept_scores.mT.masked_fill(gone, 0.0),
        indices.masked_fill(~taken, -1),
        taken.sum(1).int(),
    )
