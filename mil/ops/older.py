"""Operations whose inputs were others in older opsets, as those declare them.

`mil.ops.find` takes these where a program names an input that the newest form does not have.
"""

import math

import torch

from mil.errors import MilError
from mil.ops import compression, image_resizing, tensor_operation
from mil.ops.arguments import Bool, Float, Int, Ints, Str, Tensor


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


def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, shape: Ints) -> Tensor:
    """Each index replaced by its entry of the palette.

    indices   bytes that hold indices of log2(len(lut)) bits, least significant bits first
    """
    return lut[_unpacked(indices, _bits(lut.numel()), shape)]


def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints) -> Tensor:
    """The kept values at the places where the mask is 1, and zeros elsewhere.

    mask   bytes that hold one bit per element, least significant first
    """
    return compression.constexpr_sparse_to_dense(nonzero_data, _unpacked(mask, 1, shape))


def _unpacked(packed: Tensor, bits: int, shape: list[int]) -> Tensor:
    """Return elements of `bits` bits, packed into bytes least significant first, as int64 of that shape."""
    count = math.prod(shape)
    if packed.dim() != 1 or packed.numel() != -(-count * bits // 8) or min(shape, default=0) < 0:
        raise MilError(f"{packed.numel()} bytes do not hold {bits} bits for each of a shape of {shape}")
    padded = torch.nn.functional.pad(packed.long(), (0, -(-count // 8) * bits - packed.numel()))
    columns = padded.reshape(-1, bits)
    elements = torch.empty(len(columns), 8, dtype=torch.int64)
    for position in range(8):
        byte, shift = divmod(position * bits, 8)
        elements[:, position] = columns[:, byte] >> shift
        if shift + bits > 8:
            elements[:, position] |= columns[:, byte + 1] << (8 - shift)
    return (elements.reshape(-1)[:count] & ((1 << bits) - 1)).reshape(shape)


def _bits(entries: int) -> int:
    bits = entries.bit_length() - 1
    if entries != 1 << bits or not 1 <= bits <= 8:
        raise MilError(f"a palette of {entries} entries: expected a power of two from 2 to 256")
    return bits
