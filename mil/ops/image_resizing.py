"""Resizing, cropping and resampling of the last axes of a tensor.

What MIL leaves open is taken from what coremltools' own tests expect of a device: nearest neighbours of fractional
scales use the ratio of the sizes, boxes beyond the image give `pad_value` and nothing mixed with it.
"""

import math

import numpy as np
import torch

from mil.errors import MilError
from mil.ops.arguments import Bool, Float, Int, Ints, Str, Tensor
from mil.ops.limits import check_size


def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: Int,
    output_width: Int,
    sampling_mode: Str,
    padding_mode: Str,
    padding_value: Float,
    coordinates_mode: Str,
    align_corners: Bool,
) -> Tensor:
    """Return x (B, C, H, W) resampled where an affine map takes each place of the output.

    transform_matrix  (B or 1, 6)  a0, a1, a2, b0, b1, b2: place (w, h) is read at (a0 w + a1 h + a2, b0 w + b1 h + b2)
    returns           (B, C, output_height, output_width); the other parameters are those of `resample`

    Raises MilError for coordinates that are not normalized, which have no meaning for the output.
    """
    if coordinates_mode.lower() != "normalized_minus_one_to_one":
        raise MilError(f'expected coordinates_mode normalized_minus_one_to_one, found "{coordinates_mode}"')
    if transform_matrix.ndim != 2 or transform_matrix.shape[1] != 6 or transform_matrix.shape[0] not in (1, len(x)):
        raise MilError(f"expected transform_matrix (1 or {len(x)}, 6), found {list(transform_matrix.shape)}")
    check_size([len(x), 2, output_height, output_width], x.dtype)
    across, down = (_normalized(size, align_corners, x.dtype) for size in (output_width, output_height))
    rows = transform_matrix.to(x.dtype).view(-1, 2, 3, 1, 1)
    places = rows[:, :, 0] * across + rows[:, :, 1] * down.unsqueeze(1) + rows[:, :, 2]  # (B or 1, 2, H, W)
    places = places.movedim(1, -1).expand(len(x), -1, -1, -1)
    return resample(x, places, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners)


def _normalized(size: int, align_corners: bool, dtype: torch.dtype) -> Tensor:
    """Return the places of an axis from -1 to 1: the outermost are its first and last element, or their edges."""
    reach = 1 - (1 / size if size == 1 or not align_corners else 0)
    return torch.linspace(-reach, reach, size, dtype=dtype)


def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Return x (…, H, W) without the first and last rows and columns that the pairs of numbers count, a view."""
    cuts = [*crop_height, *crop_width]
    if x.ndim < 2 or len(crop_height) != 2 or len(crop_width) != 2 or min(cuts) < 0:
        raise MilError(f"expected x (…, H, W) and two pairs of 0 or more, found {list(x.shape)} and {cuts}")
    height, width = x.shape[-2] - sum(crop_height), x.shape[-1] - sum(crop_width)
    if height < 0 or width < 0:
        raise MilError(f"expected at most {list(x.shape[-2:])} rows and columns to cut, found {cuts}")
    return x.narrow(-2, crop_height[0], height).narrow(-1, crop_width[0], width)


def crop_resize(
    x: Tensor,
    boxes: Tensor,
    box_indices: Tensor | None = None,
    target_height: Int = 1,
    target_width: Int = 1,
    normalized_coordinates: Bool = False,
    spatial_scale: Float = 1.0,
    box_coordinate_mode: Str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: Str = "DEFAULT",
    pad_value: Float = 0.0,
) -> Tensor:
    """Return each box of an image, resized with bilinear interpolation.

    x               (B, C, H, W)
    boxes           (N, 4)  two corners, or centre and size, as box_coordinate_mode says; in elements, or in H - 1 and
                    W - 1 of them if normalized; multiplied by spatial_scale
    box_indices     (N,)  which image a box is cut from, by default the one of its own number
    sampling_mode   where the samples of a box lie, as in `resize_bilinear`
    pad_value       what a sample outside the image is
    returns         (N, C, target_height, target_width)
    """
    if x.ndim != 4 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise MilError(f"expected x (B, C, H, W) and boxes (N, 4), found {list(x.shape)} and {list(boxes.shape)}")
    images = _images_of_boxes(x, boxes, box_indices)
    check_size([len(boxes), x.shape[1], target_height, target_width], x.dtype)
    top, left, bottom, right = _corners(boxes.to(x.dtype) * spatial_scale, box_coordinate_mode)
    rows, columns = (x.shape[2] - 1, x.shape[3] - 1) if normalized_coordinates else (1, 1)
    down = _samples(top * rows, bottom * rows, target_height, sampling_mode)  # (N, target_height)
    across = _samples(left * columns, right * columns, target_width, sampling_mode)
    outside = _outside(down, x.shape[2]).unsqueeze(2) | _outside(across, x.shape[3]).unsqueeze(1)
    found = _bilinear(x[images], across.unsqueeze(1), down.unsqueeze(2), None)
    return found.masked_fill(outside.unsqueeze(1), pad_value)


def _images_of_boxes(x: Tensor, boxes: Tensor, box_indices: Tensor | None) -> Tensor:
    images = torch.arange(len(boxes)) if box_indices is None else box_indices.long()
    if list(images.shape) != [len(boxes)] or ((images < 0) | (images >= len(x))).any():
        raise MilError(f"expected {len(boxes)} box_indices from 0 to {len(x) - 1}, found {images.tolist()}")
    return images


def _corners(boxes: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return top, left, bottom and right of boxes (N, 4), each (N, 1)."""
    first, second, third, fourth = boxes.split(1, dim=1)
    match mode:
        case "CORNERS_HEIGHT_FIRST":
            return first, second, third, fourth
        case "CORNERS_WIDTH_FIRST":
            return second, first, fourth, third
        case "CENTER_SIZE_HEIGHT_FIRST":
            return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2
        case "CENTER_SIZE_WIDTH_FIRST":
            return second - fourth / 2, first - third / 2, second + fourth / 2, first + third / 2
    raise MilError(
        "expected box_coordinate_mode CORNERS_HEIGHT_FIRST, CORNERS_WIDTH_FIRST, "
        f'CENTER_SIZE_HEIGHT_FIRST or CENTER_SIZE_WIDTH_FIRST, found "{mode}"'
    )


def _outside(places: Tensor, size: int) -> Tensor:
    return ~((places >= 0) & (places <= size - 1))


def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: Str,
    padding_mode: Str,
    padding_value: Float,
    coordinates_mode: Str,
    align_corners: Bool,
) -> Tensor:
    """Return x at computed places.

    x                 (B, C, H, W)
    coordinates       (B, H2, W2, 2)  w, then h
    sampling_mode     "bilinear" or "nearest" (halves to even)
    padding_mode      what lies outside: "constant" padding_value, "border" the nearest element, "reflection" x
                      mirrored without, "symmetric" with its edge
    coordinates_mode  "unnormalized" in elements, "normalized_minus_one_to_one" or "normalized_zero_to_one" in the
                      width and height: from the first to the last element with align_corners, else edge to edge
    returns           (B, C, H2, W2)
    """
    if x.ndim != 4 or coordinates.ndim != 4 or coordinates.shape[3] != 2 or len(x) != len(coordinates):
        raise MilError(
            f"expected x (B, C, H, W) and coordinates (B, H2, W2, 2), found {list(x.shape)} and "
            f"{list(coordinates.shape)}"
        )
    check_size([len(x), x.shape[1], *coordinates.shape[1:3]], x.dtype)
    places = coordinates.to(x.dtype).unbind(-1)
    sizes = (x.shape[3], x.shape[2])
    across, down = (
        _folded(_unnormalized(place, size, coordinates_mode.lower(), align_corners), size, padding_mode.lower())
        for place, size in zip(places, sizes, strict=True)
    )
    fallback = padding_value if padding_mode.lower() == "constant" else None
    match sampling_mode.lower():
        case "bilinear":
            return _bilinear(x, across, down, fallback)
        case "nearest":
            return _element(x, across.round(), down.round(), fallback)
    raise MilError(f'expected sampling_mode bilinear or nearest, found "{sampling_mode}"')


def _unnormalized(places: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Return normalized places in elements of an axis."""
    match mode:
        case "unnormalized":
            return places
        case "normalized_minus_one_to_one":
            places = (places + 1) / 2
        case "normalized_zero_to_one":
            pass
        case _:
            raise MilError(
                "expected coordinates_mode unnormalized, normalized_minus_one_to_one or "
                f'normalized_zero_to_one, found "{mode}"'
            )
    return places * (size - 1) if align_corners else places * size - 0.5


def _folded(places: Tensor, size: int, mode: str) -> Tensor:
    """Return the places inside an axis whose elements stand for those outside."""
    match mode:
        case "constant":
            return places
        case "border":
            return places.clamp(0, size - 1)
        case "reflection":
            period = max(2 * (size - 1), 1)
            return (size - 1 - (places.remainder(period) - (size - 1)).abs()).clamp(0, size - 1)
        case "symmetric":
            return (size - (((places + 0.5).remainder(2 * size)) - size).abs() - 0.5).clamp(0, size - 1)
    raise MilError(f'expected padding_mode constant, border, reflection or symmetric, found "{mode}"')


def _bilinear(x: Tensor, across: Tensor, down: Tensor, outside: float | None) -> Tensor:
    """Return x (B, C, H, W) between elements, at places that broadcast to (B, H2, W2)."""
    left, top = across.floor(), down.floor()
    right_share, bottom_share = (across - left).unsqueeze(1), (down - top).unsqueeze(1)
    upper = _between(_element(x, left, top, outside), _element(x, left + 1, top, outside), right_share)
    lower = _between(_element(x, left, top + 1, outside), _element(x, left + 1, top + 1, outside), right_share)
    return _between(upper, lower, bottom_share)


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first * (1 - share) + second * share


def _element(x: Tensor, across: Tensor, down: Tensor, outside: float | None) -> Tensor:
    """Return x (B, C, H, W) at whole places that broadcast to (B, H2, W2): `outside`, or else the nearest, beyond."""
    across, down = torch.broadcast_tensors(across, down)
    height, width = x.shape[2:]
    columns, rows = _whole(across, width), _whole(down, height)
    flat = (rows * width + columns).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    found = x.flatten(2).gather(2, flat).unflatten(2, across.shape[1:])
    if outside is None:
        return found
    return found.masked_fill((_outside(across, width) | _outside(down, height)).unsqueeze(1), outside)


def _whole(places: Tensor, size: int) -> Tensor:
    """Return places as indices that are safe to read: NaN as 0, beyond the axis the nearest."""
    return places.nan_to_num(0.0).clamp(0, size - 1).long()


def resize(
    x: Tensor, shape: Ints, resized_dims: Int, interpolation_mode: Str = "LINEAR", sampling_mode: Str = "DEFAULT"
) -> Tensor:
    """Return x with its last `resized_dims` axes resized to the last sizes of `shape`; 0 keeps the size of x.

    interpolation_mode  "LINEAR" in each axis, integers towards zero; "NEAREST_NEIGHBOR" the element at the sample
                        rounded down in sampling_mode DEFAULT, to the nearest, halves up, in the others
    sampling_mode       where the samples lie, as in `resize_bilinear`
    """
    if not 0 <= resized_dims <= min(len(shape), x.ndim):
        raise MilError(f"expected resized_dims of at most {min(len(shape), x.ndim)}, found {resized_dims}")
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise MilError(f'expected interpolation_mode LINEAR or NEAREST_NEIGHBOR, found "{interpolation_mode}"')
    first = x.ndim - resized_dims
    sizes = [size or old for size, old in zip(shape[len(shape) - resized_dims :], x.shape[first:], strict=True)]
    if interpolation_mode == "NEAREST_NEIGHBOR":
        return _nearest(x, sizes, sampling_mode)
    if x.is_floating_point():
        return _linear(x, sizes, sampling_mode)
    return _linear(x.double(), sizes, sampling_mode).to(x.dtype)


def resize_bilinear(
    x: Tensor, target_size_height: Int = 1, target_size_width: Int = 1, sampling_mode: Str = "DEFAULT"
) -> Tensor:
    """Return x (…, H, W) resized with bilinear interpolation; see `_samples` for where sampling_mode reads."""
    _check_image(x)
    return _linear(x, [target_size_height, target_size_width], sampling_mode)


def resize_nearest_neighbor(x: Tensor, target_size_height: Int, target_size_width: Int) -> Tensor:
    """Return x (…, H, W) resized: row i is row floor(i * H / target_size_height) of x, and so the columns."""
    _check_image(x)
    return _nearest(x, [target_size_height, target_size_width], "DEFAULT")


def upsample_bilinear(
    x: Tensor,
    scale_factor_height: Float = 1,
    scale_factor_width: Float = 1,
    align_corners: Bool = True,
    half_pixel_centers: Bool | None = None,
) -> Tensor:
    """Return x (…, H, W) scaled with bilinear interpolation, its sizes rounded down.

    align_corners       the first and last samples are the first and last elements; else the samples lie
    half_pixel_centers  as centres of equal parts, by default, or else as the beginnings of these

    Raises MilError for both at once, which contradict each other.
    """
    _check_image(x)
    if align_corners and half_pixel_centers:
        raise MilError("expected align_corners or half_pixel_centers, found both")
    mode = "UNALIGN_CORNERS" if half_pixel_centers in (None, True) else "DEFAULT"
    mode = "STRICT_ALIGN_CORNERS" if align_corners else mode
    return _linear(x, _scaled(x, scale_factor_height, scale_factor_width), mode)


def upsample_nearest_neighbor(x: Tensor, scale_factor_height: Float = 1, scale_factor_width: Float = 1) -> Tensor:
    """Return x (…, H, W) scaled, its sizes rounded down, as `resize_nearest_neighbor` does."""
    _check_image(x)
    sizes = _scaled(x, scale_factor_height, scale_factor_width)
    return _nearest(x, sizes, "DEFAULT")


def _check_image(x: Tensor) -> None:
    if x.ndim < 3:
        raise MilError(f"expected x of rank 3 or more, found {list(x.shape)}")


def _scaled(x: Tensor, *scales: float) -> Ints:
    """Return the last sizes of x times the scales, rounded down: in float32, as coremltools declares the result."""
    old = x.shape[x.ndim - len(scales) :]
    return [math.floor(np.float32(size) * np.float32(scale)) for size, scale in zip(old, scales, strict=True)]


def _linear(x: Tensor, sizes: Ints, sampling_mode: str) -> Tensor:
    """Return x with its last axes resized, one after the other, with linear interpolation."""
    for axis, size in _resized_axes(x, sizes):
        places = _axis_samples(x.shape[axis], size, sampling_mode)
        first = places.floor()
        shares = (places - first).to(x.dtype).view(-1, *[1] * (x.ndim - 1 - axis))
        second = (first + 1).clamp(max=x.shape[axis] - 1)
        x = _between(x.index_select(axis, first.long()), x.index_select(axis, second.long()), shares)
    return x


def _nearest(x: Tensor, sizes: Ints, sampling_mode: str) -> Tensor:
    """Return x with its last axes resized, each sample the element it falls on."""
    for axis, size in _resized_axes(x, sizes):
        if sampling_mode == "DEFAULT":
            places = torch.arange(size) * x.shape[axis] // size
        else:
            places = (_axis_samples(x.shape[axis], size, sampling_mode) + 0.5).floor().long()
        x = x.index_select(axis, places)
    return x


def _resized_axes(x: Tensor, sizes: Ints) -> list[tuple[int, int]]:
    """Return the last axes of x and the sizes they are to get; raises MilError for none to read or too many to make."""
    first = x.ndim - len(sizes)
    check_size([*x.shape[:first], *map(max, x.shape[first:], sizes)], x.dtype)
    if min(sizes, default=1) < 1 or 0 in x.shape[first:]:
        raise MilError(f"expected sizes of 1 or more, found {list(x.shape)} to {sizes}")
    return list(enumerate(sizes, first))


def _axis_samples(old: int, new: int, mode: str) -> Tensor:
    ends = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[old - 1.0]], dtype=torch.float64)
    return _samples(*ends, new, mode).squeeze(0)


def _samples(start: Tensor, end: Tensor, number: int, mode: str) -> Tensor:
    """Return where samples of intervals lie, (N, number) in elements, never outside their interval.

    start, end  (N, 1)  the first and last element of each; all of an axis, or what a box covers of it
    mode        STRICT_ALIGN_CORNERS  from the first to the last element, at equal distances
                ALIGN_CORNERS         the same, but a single sample lies in the middle
                DEFAULT               at the beginning of equal parts
                UNALIGN_CORNERS       in the centre of equal parts
                OFFSET_CORNERS        in the centre of equal parts of end - start, at least 1, not counting an element
    Source: the notes on `resize_bilinear` in coremltools, with Xin - 1 = end - start.
    """
    steps, length = torch.arange(number, dtype=start.dtype), end - start
    match mode:
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            alone = number == 1 and mode == "ALIGN_CORNERS"
            places = start + length / 2 if alone else start + steps * length / max(number - 1, 1)
        case "DEFAULT":
            places = start + steps * (length + 1) / number
        case "UNALIGN_CORNERS":
            places = start + (steps + 0.5) * (length + 1) / number - 0.5
        case "OFFSET_CORNERS":
            places = start + (steps + 0.5) * length.clamp(min=1) / number
        case _:
            raise MilError(
                f"expected sampling_mode STRICT_ALIGN_CORNERS, ALIGN_CORNERS, DEFAULT, "
                f'UNALIGN_CORNERS or OFFSET_CORNERS, found "{mode}"'
            )
    return places.clamp(torch.minimum(start, end), torch.maximum(start, end))
