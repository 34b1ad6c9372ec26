"""Resizing and resampling agree with torch, onnxruntime, loops over samples and what devices are known to return."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mil.errors import MilError
from mil.ops import image_resizing
from tests.mil.ops.opinions import (
    Inputs,
    Opinion,
    Row,
    agree,
    ask_ours,
    assert_covered,
    declared_operations,
    numpy,
    onnxruntime_run,
)

OPERATIONS = declared_operations("image_resizing")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def grid(mode: str, old: int, new: int) -> list[float]:
    """Return where the samples of an axis lie, as coremltools documents `resize_bilinear`."""
    if mode == "ALIGN_CORNERS" and new == 1:
        return [(old - 1) / 2]
    places = []
    for n in range(new):
        if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
            place = n * (old - 1) / (new - 1) if new > 1 else 0.0
        elif mode == "DEFAULT":
            place = n * (old - old / new) / (new - 1) if new > 1 else 0.0
        elif mode == "OFFSET_CORNERS":
            delta = max(1, old - 1) / new
            place = 0.5 * delta + n * delta
        else:
            place = n * old / new + 0.5 * old / new - 0.5
        places.append(min(old - 1.0, max(0.0, place)))
    return places


def along(x: np.ndarray, axis: int, places: list[float], nearest: Any = None) -> np.ndarray:
    """Return x between elements of an axis, one sample after the other."""
    samples = []
    for place in places:
        first = math.floor(place) if nearest is None else nearest(place)
        second = min(first + 1, x.shape[axis] - 1)
        share = place - first if nearest is None else 0.0
        a, b = (np.take(x, n, axis).astype(np.float64) for n in (first, second))
        samples.append(a * (1 - share) + b * share if share else a)
    return np.stack(samples, axis)


def resized(x: np.ndarray, sizes: list[int], mode: str, nearest: Any = None) -> np.ndarray:
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        x = along(x, axis, grid(mode, x.shape[axis], size), nearest)
    return x


def resize_loop(
    x: Any, shape: Any, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> np.ndarray:
    wanted = shape[len(shape) - resized_dims :]
    sizes = [size or old for size, old in zip(wanted, x.shape[x.ndim - resized_dims :], strict=True)]
    down, halves_up = (lambda place: math.floor(place + 1e-9)), (lambda place: math.floor(place + 0.5 + 1e-9))
    nearest = None if interpolation_mode == "LINEAR" else down if sampling_mode == "DEFAULT" else halves_up
    found = resized(x, sizes, sampling_mode, nearest)
    return np.trunc(found).astype(x.dtype) if x.dtype.kind == "i" else found


ONNX_MODES = {
    "STRICT_ALIGN_CORNERS": "align_corners",
    "ALIGN_CORNERS": "align_corners",
    "DEFAULT": "asymmetric",
    "UNALIGN_CORNERS": "half_pixel",
}


def onnx_resize(x: Any, sizes: list[int], mode: str, linear: bool = True) -> Any:
    shape = np.array([*x.shape[: x.ndim - len(sizes)], *sizes], np.int64)
    return onnxruntime_run(
        "Resize",
        [x, None, None, shape],
        mode="linear" if linear else "nearest",
        nearest_mode=None if linear else "floor" if mode == "DEFAULT" else "round_prefer_ceil",
        coordinate_transformation_mode=ONNX_MODES[mode],
    )


def onnx_resize_mil(
    x: Any, shape: Any, resized_dims: int, interpolation_mode: str = "LINEAR", sampling_mode: str = "DEFAULT"
) -> Any:
    sizes = [size or old for size, old in zip(shape[-resized_dims:], x.shape[-resized_dims:], strict=True)]
    return onnx_resize(x, sizes, sampling_mode, interpolation_mode == "LINEAR")


def bilinear_loop(
    x: Any, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Any:
    return resized(x, [target_size_height, target_size_width], sampling_mode)


def bilinear_onnx(
    x: Any, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Any:
    return onnx_resize(x, [target_size_height, target_size_width], sampling_mode)


def nearest_loop(x: Any, target_size_height: int, target_size_width: int) -> np.ndarray:
    rows = [n * x.shape[-2] // target_size_height for n in range(target_size_height)]
    columns = [n * x.shape[-1] // target_size_width for n in range(target_size_width)]
    return x[..., rows, :][..., columns]


def nearest_torch(x: Any, target_size_height: int, target_size_width: int) -> Any:
    images = torch.from_numpy(x.reshape(-1, 1, *x.shape[-2:]))
    found = F.interpolate(images, (target_size_height, target_size_width), mode="nearest")
    return found.reshape(*x.shape[:-2], target_size_height, target_size_width)


def scaled(x: Any, height: float, width: float) -> list[int]:
    return [int(np.floor(np.float32(s) * np.float32(n))) for s, n in zip((height, width), x.shape[-2:], strict=True)]


def upsample_loop(
    x: Any,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: Any = None,
) -> np.ndarray:
    centred = not align_corners if half_pixel_centers is None else half_pixel_centers
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centred else "DEFAULT"
    return resized(x, scaled(x, scale_factor_height, scale_factor_width), mode)


def upsample_torch(
    x: Any, scale_factor_height: float = 1, scale_factor_width: float = 1, align_corners: bool = True, **_: Any
) -> Any:
    images, sizes = (
        torch.from_numpy(x.reshape(-1, 1, *x.shape[-2:])),
        scaled(x, scale_factor_height, scale_factor_width),
    )
    found = F.interpolate(images, sizes, mode="bilinear", align_corners=align_corners)
    return found.reshape(*x.shape[:-2], *sizes)


def upsample_nearest(ask: Any) -> Any:
    def answer(x: Any, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Any:
        return ask(x, *scaled(x, scale_factor_height, scale_factor_width))

    return answer


def crop_onnx(x: Any, crop_height: Any, crop_width: Any) -> Any:
    starts = np.array([crop_height[0], crop_width[0]], np.int64)
    ends = np.array([x.shape[-2] - crop_height[1], x.shape[-1] - crop_width[1]], np.int64)
    return onnxruntime_run("Slice", [x, starts, ends, np.array([-2, -1], np.int64)])


def crop_numpy(x: Any, crop_height: Any, crop_width: Any) -> np.ndarray:
    rows = range(crop_height[0], x.shape[-2] - crop_height[1])
    columns = range(crop_width[0], x.shape[-1] - crop_width[1])
    return np.take(np.take(x, rows, -2), columns, -1)


def element(image: np.ndarray, w: int, h: int, mode: str, value: float) -> np.ndarray:
    """Return what lies at a whole place of an image that goes on for ever, (C,)."""
    place = []
    for n, size in ((h, image.shape[1]), (w, image.shape[2])):
        if mode == "border":
            n = min(max(n, 0), size - 1)
        elif mode == "reflection":
            while not 0 <= n < size:
                n = 0 if size == 1 else -n if n < 0 else 2 * (size - 1) - n
        elif mode == "symmetric":
            while not 0 <= n < size:
                n = -1 - n if n < 0 else 2 * size - 1 - n
        elif not 0 <= n < size:
            return np.full(image.shape[0], value)
        place.append(n)
    return image[:, place[0], place[1]].astype(np.float64)


def resample_loop(
    x: Any,
    coordinates: Any,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> np.ndarray:
    result = np.empty((x.shape[0], x.shape[1], *coordinates.shape[1:3]))
    for b, i, j in np.ndindex(coordinates.shape[:3]):
        w, h = (
            unnormalized(float(value), size, coordinates_mode, align_corners)
            for value, size in zip(coordinates[b, i, j], (x.shape[3], x.shape[2]), strict=True)
        )
        if sampling_mode == "nearest":
            result[b, :, i, j] = element(x[b], round(w), round(h), padding_mode, padding_value)
            continue
        total, left, top = np.zeros(x.shape[1]), math.floor(w), math.floor(h)
        for c, r in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
            share = (1 - abs(w - c)) * (1 - abs(h - r))
            total += share * element(x[b], c, r, padding_mode, padding_value)
        result[b, :, i, j] = total
    return result


def unnormalized(value: float, size: int, mode: str, align_corners: bool) -> float:
    if mode == "unnormalized":
        return value
    value = (value + 1) / 2 if mode == "normalized_minus_one_to_one" else value
    return value * (size - 1) if align_corners else value * size - 0.5


def resample_torch(
    x: Any,
    coordinates: Any,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Any:
    """torch pads with zeros, so the image is lifted by the value; its reflection is MIL's with corners aligned."""
    mode = {"constant": "zeros", "border": "border", "reflection": "reflection"}[padding_mode]
    places = coordinates if coordinates_mode == "normalized_minus_one_to_one" else coordinates * 2 - 1
    image, places = torch.from_numpy(x - np.float32(padding_value)), torch.from_numpy(places)
    return F.grid_sample(image, places, sampling_mode, mode, align_corners) + padding_value


def affine_loop(x: Any, transform_matrix: Any, output_height: int, output_width: int, **how: Any) -> np.ndarray:
    places = np.empty((len(x), output_height, output_width, 2))
    for b, h, w in np.ndindex(places.shape[:3]):
        a = transform_matrix[b if len(transform_matrix) > 1 else 0].astype(float)
        across, down = (
            2 * n / (size - 1) - 1 if how["align_corners"] and size > 1 else (2 * n + 1) / size - 1
            for n, size in ((w, output_width), (h, output_height))
        )
        places[b, h, w] = a[0] * across + a[1] * down + a[2], a[3] * across + a[4] * down + a[5]
    return resample_loop(x, places, **how)


def affine_torch(x: Any, transform_matrix: Any, output_height: int, output_width: int, **how: Any) -> Any:
    matrix = torch.from_numpy(np.broadcast_to(transform_matrix, (len(x), 6)).reshape(-1, 2, 3).copy())
    shape = [len(x), 1, output_height, output_width]
    places = F.affine_grid(matrix, shape, how["align_corners"])
    return resample_torch(x, places.numpy(), **how)


def crop_resize_loop(
    x: Any,
    boxes: Any,
    box_indices: Any = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> np.ndarray:
    result = np.empty((len(boxes), x.shape[1], target_height, target_width))
    for n, box in enumerate(boxes.astype(float) * spatial_scale):
        image = x[n if box_indices is None else box_indices[n]]
        if box_coordinate_mode.endswith("WIDTH_FIRST"):
            box = box[[1, 0, 3, 2]]
        if box_coordinate_mode.startswith("CENTER"):
            box = np.array([box[0] - box[2] / 2, box[1] - box[3] / 2, box[0] + box[2] / 2, box[1] + box[3] / 2])
        rows, columns = (image.shape[1] - 1, image.shape[2] - 1) if normalized_coordinates else (1, 1)
        down = box_samples(box[0] * rows, box[2] * rows, target_height, sampling_mode)
        across = box_samples(box[1] * columns, box[3] * columns, target_width, sampling_mode)
        for i, j in np.ndindex(target_height, target_width):
            inside = 0 <= down[i] <= image.shape[1] - 1 and 0 <= across[j] <= image.shape[2] - 1
            result[n, :, i, j] = pad_value
            if inside:
                row = along(image, 1, [down[i]])
                result[n, :, i, j] = along(row, 2, [across[j]])[:, 0, 0]
    return result


def box_samples(start: float, end: float, number: int, mode: str) -> list[float]:
    """Return samples of a box: those of an axis as long as the box, moved there."""
    if mode == "ALIGN_CORNERS" and number == 1:
        return [(start + end) / 2]
    length, places = end - start, []
    for n in range(number):
        if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
            place = start + n * length / (number - 1) if number > 1 else start
        elif mode == "DEFAULT":
            place = start + n * (length + 1) / number
        elif mode == "OFFSET_CORNERS":
            place = start + (n + 0.5) * max(1, length) / number
        else:
            place = start + (n + 0.5) * (length + 1) / number - 0.5
        places.append(min(max(place, min(start, end)), max(start, end)))
    return places


def crop_resize_onnx(
    x: Any,
    boxes: Any,
    box_indices: Any = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    pad_value: float = 0.0,
    **_: Any,
) -> list[np.ndarray]:
    """ONNX takes one box at a time: corners aligned, in parts of height and width less one."""
    whole = [1, 1] if normalized_coordinates else [x.shape[2] - 1, x.shape[3] - 1]
    found: list[np.ndarray] = []
    for n, box in enumerate(boxes):
        image = x[[n if box_indices is None else box_indices[n]]]
        roi = np.float32([0, 0, box[0] / whole[0], box[1] / whole[1], 1, 1, box[2] / whole[0], box[3] / whole[1]])
        sizes = np.array([1, x.shape[1], target_height, target_width], np.int64)
        found += onnxruntime_run(
            "Resize",
            [image, roi, None, sizes],
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
            extrapolation_value=float(pad_value),
        )
    return [np.concatenate(found)]


OPINIONS = {
    "affine": [numpy(affine_loop), Opinion("torch", affine_torch)],
    "crop": [numpy(crop_numpy), Opinion("onnxruntime", crop_onnx)],
    "crop_resize": [numpy(crop_resize_loop), Opinion("onnxruntime", crop_resize_onnx)],
    "resample": [numpy(resample_loop), Opinion("torch", resample_torch)],
    "resize": [numpy(resize_loop), Opinion("onnxruntime", onnx_resize_mil)],
    "resize_bilinear": [numpy(bilinear_loop), Opinion("onnxruntime", bilinear_onnx)],
    "resize_nearest_neighbor": [numpy(nearest_loop), Opinion("torch", nearest_torch)],
    "upsample_bilinear": [numpy(upsample_loop), Opinion("torch", upsample_torch)],
    "upsample_nearest_neighbor": [
        numpy(upsample_nearest(nearest_loop)),
        Opinion("torch", upsample_nearest(nearest_torch)),
    ],
}
MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "UNALIGN_CORNERS", "OFFSET_CORNERS"]
NO_OFFSET = {"onnxruntime": "has no such samples"}
ALIGNED_ONLY = {"onnxruntime": "cuts boxes with aligned corners only"}
ONE_SAMPLE = {"onnxruntime": "takes the first of one sample"}
NOT_IN_TORCH = {"torch": "has no such padding or coordinates"}
NO_IMAGE = {"onnxruntime": "resizes images only"}
IMAGE, IMAGES, SMALL = normal(1, 2, 4, 5), normal(2, 3, 5, 4), np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
PLACES = RANDOM.uniform(-2.5, 2.5, (2, 4, 3, 2)).astype(np.float32)
HOW: Inputs = {
    "sampling_mode": "bilinear",
    "padding_mode": "constant",
    "padding_value": 0.0,
    "coordinates_mode": "normalized_minus_one_to_one",
    "align_corners": True,
}
BOXES = np.float32([[0.5, 1, 2.5, 3], [1, 0, 3, 4.5], [2, 3, 1, 0.5]])


def row(operation: str, about: str, not_asked: dict[str, str] | None = None, **inputs: Any) -> Row:
    return Row(operation, inputs, about, rtol=2e-4, atol=2e-5, not_asked=not_asked or {})


ROWS = [
    row("affine", "turned", x=IMAGES, transform_matrix=normal(2, 6), output_height=3, output_width=6, **HOW),
    row(
        "affine",
        "one matrix",
        {"torch": "warns that one place is not meant"},
        x=IMAGES,
        transform_matrix=normal(1, 6),
        output_height=1,
        output_width=1,
        **HOW,
    ),
    row(
        "affine",
        "edges not corners",
        x=IMAGES,
        transform_matrix=np.float32([[1, 0, 0, 0, 1, 0]]),
        output_height=7,
        output_width=3,
        **HOW | {"align_corners": False},
    ),
    row("crop", "each side", x=IMAGES, crop_height=[1, 2], crop_width=[0, 3]),
    row("crop", "nothing", x=normal(2, 3, 4), crop_height=[0, 0], crop_width=[0, 0]),
    row("crop", "everything", x=normal(2, 3, 4), crop_height=[1, 2], crop_width=[0, 0]),
    row("resize", "inherited sizes", x=IMAGES, shape=[1, 0, 9], resized_dims=2),
    row(
        "resize",
        "integers, nearest",
        x=np.arange(12, dtype=np.int32).reshape(1, 1, 3, 4),
        shape=[5, 7],
        resized_dims=2,
        interpolation_mode="NEAREST_NEIGHBOR",
    ),
    row(
        "resize",
        "integers, linear",
        {"onnxruntime": "has no such kernel"},
        x=np.arange(-6, 6, dtype=np.int32).reshape(1, 1, 3, 4),
        shape=[5, 7],
        resized_dims=2,
    ),
    row("resize", "one axis", NO_IMAGE, x=normal(3, 5), shape=[8], resized_dims=1, sampling_mode="UNALIGN_CORNERS"),
    row("resize", "three axes", NO_IMAGE, x=normal(2, 3, 4), shape=[3, 2, 5], resized_dims=3),
    row("resize", "no axis", NO_IMAGE, x=normal(2, 3), shape=[7], resized_dims=0),
    row("resize_bilinear", "to one place by default", x=IMAGES),
    row(
        "resize_bilinear",
        "rank 3",
        {"onnxruntime": "resizes images only"},
        x=normal(2, 3, 4),
        target_size_height=5,
        target_size_width=7,
        sampling_mode="UNALIGN_CORNERS",
    ),
    row("resize_bilinear", "from one place", x=normal(1, 1, 1, 1), target_size_height=2, target_size_width=3),
    row(
        "resize_bilinear",
        "infinity is mixed",
        {"onnxruntime": "takes no part of 0 of infinity"},
        x=np.float32([[[[0, 65504, 1, 5.96e-8]]]]),
        target_size_height=1,
        target_size_width=7,
    ),
    row("resize_nearest_neighbor", "larger and smaller", x=IMAGES, target_size_height=12, target_size_width=3),
    row(
        "resize_nearest_neighbor",
        "rank 3, nan",
        x=np.float32([[[1, np.nan], [np.inf, -np.inf]]]),
        target_size_height=3,
        target_size_width=2,
    ),
    row("upsample_bilinear", "by default", x=IMAGES),
    row("upsample_bilinear", "whole", x=IMAGES, scale_factor_height=3, scale_factor_width=2),
    row(
        "upsample_bilinear",
        "fractions, edges",
        x=IMAGES,
        scale_factor_height=2.5,
        scale_factor_width=0.6,
        align_corners=False,
    ),
    row(
        "upsample_bilinear",
        "fractions, centres stated",
        x=normal(3, 4, 5),
        scale_factor_height=1.3,
        scale_factor_width=2.0,
        align_corners=False,
        half_pixel_centers=True,
    ),
    row(
        "upsample_bilinear",
        "beginnings of parts",
        {"torch": "has no such samples"},
        x=IMAGES,
        scale_factor_height=2.0,
        scale_factor_width=1.5,
        align_corners=False,
        half_pixel_centers=False,
    ),
    row(
        "upsample_bilinear",
        "a size that float32 rounds up",
        x=normal(1, 1, 10, 10),
        scale_factor_height=float(np.float32(0.7)),
        scale_factor_width=float(np.float32(0.7)),
    ),
    row("upsample_nearest_neighbor", "whole", x=IMAGES, scale_factor_height=3, scale_factor_width=2),
    row("upsample_nearest_neighbor", "fractions", x=IMAGES, scale_factor_height=2.5, scale_factor_width=0.6),
    row("upsample_nearest_neighbor", "by default", x=normal(2, 3, 4)),
    row(
        "crop_resize",
        "normalized, beyond the image",
        x=SMALL,
        boxes=np.float32([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]]),
        box_indices=np.int32([0] * 3),
        target_height=2,
        target_width=2,
        normalized_coordinates=True,
        sampling_mode="ALIGN_CORNERS",
        pad_value=10.0,
    ),
    row(
        "crop_resize",
        "by its own number",
        x=normal(3, 2, 4, 5),
        boxes=BOXES,
        target_height=3,
        target_width=4,
        sampling_mode="STRICT_ALIGN_CORNERS",
    ),
    row(
        "crop_resize",
        "scaled",
        ALIGNED_ONLY,
        x=IMAGES,
        boxes=BOXES,
        box_indices=np.int32([1, 0, 1]),
        target_height=2,
        target_width=2,
        spatial_scale=0.75,
    ),
]
ROWS += [
    row(
        "crop_resize",
        f"{boxes}, {mode}",
        ALIGNED_ONLY,
        x=IMAGES,
        boxes=BOXES,
        box_indices=np.int32([1, 0, 1]),
        target_height=3,
        target_width=height,
        box_coordinate_mode=boxes,
        sampling_mode=mode,
        pad_value=-2.0,
    )
    for mode, height in zip(MODES, (1, 1, 2, 3, 4), strict=True)
    for boxes in ("CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST")
]
for mode in MODES:
    for sizes in ([7, 9], [2, 3], [1, 1]):
        absent = (
            NO_OFFSET if mode == "OFFSET_CORNERS" else ONE_SAMPLE if (mode, sizes) == ("ALIGN_CORNERS", [1, 1]) else {}
        )
        ROWS += [
            row(
                "resize_bilinear",
                f"{mode} to {sizes}",
                absent,
                x=IMAGE,
                target_size_height=sizes[0],
                target_size_width=sizes[1],
                sampling_mode=mode,
            ),
            row("resize", f"{mode} to {sizes}", absent, x=IMAGE, shape=sizes, resized_dims=2, sampling_mode=mode),
            row(
                "resize",
                f"nearest, {mode} to {sizes}",
                absent,
                x=IMAGE,
                shape=sizes,
                resized_dims=2,
                interpolation_mode="NEAREST_NEIGHBOR",
                sampling_mode=mode,
            ),
        ]
for sampling in ("bilinear", "nearest"):
    for padding in ("constant", "border", "reflection", "symmetric"):
        for coordinates in ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one"):
            for aligned in (True, False):
                unknown = (
                    padding == "symmetric"
                    or coordinates == "unnormalized"
                    or (padding, aligned) == ("reflection", False)
                )
                ROWS.append(
                    row(
                        "resample",
                        f"{sampling}, {padding}, {coordinates}, {aligned}",
                        NOT_IN_TORCH if unknown else {},
                        x=IMAGES,
                        coordinates=PLACES,
                        sampling_mode=sampling,
                        padding_mode=padding,
                        padding_value=1.5,
                        coordinates_mode=coordinates,
                        align_corners=aligned,
                    )
                )


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operation_agrees_with_other_opinions(row: Row) -> None:
    """Samples are what loops, torch and onnxruntime take."""
    agree(image_resizing, OPINIONS, row)


def test_every_operation_has_rows_with_two_opinions() -> None:
    """No operation of the family is missing, misdeclared or judged by one opinion only."""
    assert_covered(image_resizing, OPERATIONS, OPINIONS, ROWS)


CORNERS = np.float32([11, 22, 33, 44]).reshape(1, 1, 2, 2)
OFF = np.float32([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2]).reshape(1, 2, 2, 2)
MATRIX = np.float32([[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]])
PAIR = np.float32([[[0, 1]]])
DEVICE: list[tuple[str, Inputs, list[float]]] = [
    (
        "affine",
        {"x": CORNERS, "transform_matrix": MATRIX, "output_height": 3, "output_width": 3, **HOW},
        [10.752501, 2.5025, 0, 1.98, 0, 0, 0, 0, 0],
    ),
    ("resample", {"x": CORNERS, "coordinates": OFF, **HOW, "padding_value": 6.17}, [8.585, 6.17, 27.5, 6.17]),
    (
        "resample",
        {
            "x": CORNERS,
            "coordinates": OFF,
            "sampling_mode": "nearest",
            "padding_mode": "border",
            "padding_value": -1.0,
            "coordinates_mode": "unnormalized",
            "align_corners": False,
        },
        [11, 11, 11, 44],
    ),
    (
        "resample",
        {
            "x": CORNERS,
            "coordinates": OFF,
            "sampling_mode": "bilinear",
            "padding_mode": "reflection",
            "padding_value": -1.0,
            "coordinates_mode": "normalized_zero_to_one",
            "align_corners": True,
        },
        [22, 36.3, 11, 34.1],
    ),
    (
        "resample",
        {
            "x": CORNERS,
            "coordinates": OFF,
            "sampling_mode": "nearest",
            "padding_mode": "symmetric",
            "padding_value": -1.0,
            "coordinates_mode": "normalized_zero_to_one",
            "align_corners": False,
        },
        [22, 33, 11, 33],
    ),
    (
        "crop_resize",
        {
            "x": SMALL,
            "boxes": np.float32([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]]),
            "box_indices": np.int32([0] * 3),
            "target_width": 2,
            "target_height": 2,
            "pad_value": 10.0,
            "normalized_coordinates": True,
            "sampling_mode": "ALIGN_CORNERS",
        },
        [3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3],
    ),
    (
        "crop_resize",
        {
            "x": SMALL,
            "boxes": np.float32([[2, 2, 1, 1]]),
            "target_width": 2,
            "target_height": 2,
            "sampling_mode": "ALIGN_CORNERS",
        },
        [11, 10, 7, 6],
    ),
    ("crop_resize", {"x": SMALL, "boxes": np.float32([[1, 1, 2, 2]]), "sampling_mode": "ALIGN_CORNERS"}, [8.5]),
    (
        "upsample_nearest_neighbor",
        {"x": np.float32([[[[1.5, -2.5, 3.5]]]]), "scale_factor_height": 3.17, "scale_factor_width": 0.67},
        [1.5, -2.5] * 3,
    ),
    (
        "upsample_nearest_neighbor",
        {"x": np.float32([[[[1.5, -2.5, 3.5]]]]), "scale_factor_height": 2.0, "scale_factor_width": 1.12},
        [1.5, -2.5, 3.5] * 2,
    ),
    ("upsample_bilinear", {"x": PAIR, "scale_factor_width": 2.6, "align_corners": False}, [0, 0.1, 0.5, 0.9, 1]),
    ("resize_bilinear", {"x": PAIR, "target_size_width": 5}, [0, 0.4, 0.8, 1, 1]),
    (
        "resize_bilinear",
        {"x": PAIR, "target_size_width": 5, "sampling_mode": "OFFSET_CORNERS"},
        [0.1, 0.3, 0.5, 0.7, 0.9],
    ),
]


@pytest.mark.parametrize(("operation", "inputs", "expected"), DEVICE)
def test_samples_are_those_of_a_device(operation: str, inputs: Inputs, expected: list[float]) -> None:
    """Where MIL's text is silent, the numbers that coremltools' own tests expect of Core ML decide."""
    (ours,) = ask_ours(vars(image_resizing)[operation], inputs)
    np.testing.assert_allclose(ours.reshape(-1), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=4, max_size=4), st.sampled_from(MODES))
def test_resizing_stays_within_what_it_reads(sizes: list[int], mode: str) -> None:
    """Every sample lies between the smallest and the largest element, and equal sizes change nothing."""
    x = normal(1, 2, *sizes[:2])
    (ours,) = ask_ours(
        image_resizing.resize_bilinear,
        {"x": x, "target_size_height": sizes[2], "target_size_width": sizes[3], "sampling_mode": mode},
    )
    assert x.min() - 1e-6 <= ours.min() <= ours.max() <= x.max() + 1e-6
    if mode != "OFFSET_CORNERS":
        same = {"x": x, "target_size_height": sizes[0], "target_size_width": sizes[1], "sampling_mode": mode}
        kept = sizes[0] > 1 and sizes[1] > 1
        (back,) = ask_ours(image_resizing.resize_bilinear, same)
        assert not kept or np.allclose(back, x, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["constant", "border", "reflection", "symmetric"]))
def test_whole_places_are_the_elements_of_the_image_that_goes_on(height: int, width: int, mode: str) -> None:
    """At whole places, far outside too, bilinear and nearest samples are the elements that the padding says."""
    x = normal(1, 1, height, width)
    places = RANDOM.integers(-20, 20, (1, 3, 3, 2)).astype(np.float32)
    how = {"padding_mode": mode, "padding_value": 7.0, "coordinates_mode": "unnormalized", "align_corners": False}
    expected = [element(x[0], int(w), int(h), mode, 7.0)[0] for w, h in places.reshape(-1, 2)]
    for sampling in ("bilinear", "nearest"):
        inputs = {"x": x, "coordinates": places, "sampling_mode": sampling, **how}
        (ours,) = ask_ours(image_resizing.resample, inputs)
        np.testing.assert_allclose(ours.reshape(-1), expected, rtol=1e-5)


@pytest.mark.parametrize("padding", ["constant", "border", "reflection", "symmetric"])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_places_that_are_no_number_are_read_safely(sampling: str, padding: str) -> None:
    """NaN, infinite and enormous places read no memory outside the image, whatever they then mean."""
    far = torch.tensor([math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 0.0, 1.0]).view(1, 2, 2, 2)
    found = image_resizing.resample(torch.ones(1, 1, 3, 3), far, sampling, padding, 0.0, "unnormalized", False)
    assert found.shape == (1, 1, 2, 2)
    assert found[0, 0, 1, 1] == 1


X, OPS = torch.zeros(1, 2, 3, 4), image_resizing
PLACE = (torch.zeros(1, 1, 1, 2), "bilinear", "constant", 0.0, "unnormalized", True)
BOX = torch.zeros(1, 4)
REFUSED: list[tuple[str, Any]] = [
    ("rank 3", lambda: OPS.resize_bilinear(X[0, 0], 1, 1)),
    ("rank 3", lambda: OPS.upsample_nearest_neighbor(X[0, 0])),
    ("sampling_mode STRICT", lambda: OPS.resize_bilinear(X, 2, 2, "CENTER")),
    ("sizes of 1 or more", lambda: OPS.resize_bilinear(X, 0, 2)),
    ("sizes of 1 or more", lambda: OPS.resize_nearest_neighbor(X[:, :, :0], 2, 2)),
    ("sizes of 1 or more", lambda: OPS.upsample_bilinear(X, 0.1)),
    ("bytes", lambda: OPS.resize_nearest_neighbor(X, 10**6, 10**6)),
    ("bytes", lambda: OPS.upsample_bilinear(X, 1e6, 1e6)),
    ("found both", lambda: OPS.upsample_bilinear(X, 1, 1, True, True)),
    ("resized_dims of at most 1", lambda: OPS.resize(X, [2], 2)),
    ("interpolation_mode", lambda: OPS.resize(X, [2], 1, "CUBIC")),
    ("bytes", lambda: OPS.resize(X, [10**12], 1)),
    ("pairs", lambda: OPS.crop(X, [0], [0, 0])),
    ("pairs", lambda: OPS.crop(X, [0, -1], [0, 0])),
    ("rows and columns", lambda: OPS.crop(X, [2, 2], [0, 0])),
    ("boxes", lambda: OPS.crop_resize(X, BOX[0])),
    ("box_indices from 0 to 0", lambda: OPS.crop_resize(X, BOX, torch.tensor([1]))),
    ("box_indices from 0 to 0", lambda: OPS.crop_resize(X, torch.zeros(2, 4))),
    ("box_coordinate_mode", lambda: OPS.crop_resize(X, BOX, box_coordinate_mode="CORNERS")),
    ("sampling_mode STRICT", lambda: OPS.crop_resize(X, BOX, sampling_mode="CENTER")),
    ("bytes", lambda: OPS.crop_resize(X, BOX, None, 10**6, 10**6)),
    ("coordinates", lambda: OPS.resample(X, torch.zeros(2, 1, 1, 2), *PLACE[1:])),
    ("sampling_mode bilinear", lambda: OPS.resample(X, PLACE[0], "cubic", *PLACE[2:])),
    ("padding_mode", lambda: OPS.resample(X, *PLACE[:2], "wrap", *PLACE[3:])),
    ("coordinates_mode", lambda: OPS.resample(X, *PLACE[:4], "pixels", True)),
    ("transform_matrix", lambda: OPS.affine(X, torch.zeros(2, 6), 1, 1, *HOW.values())),
    ("coordinates_mode", lambda: OPS.affine(X, torch.zeros(1, 6), 1, 1, *PLACE[1:])),
    ("bytes", lambda: OPS.affine(X, torch.zeros(1, 6), 10**6, 10**6, *HOW.values())),
]


@pytest.mark.parametrize(("said", "call"), REFUSED, ids=[said for said, _ in REFUSED])
def test_inputs_that_do_not_fit_are_refused(said: str, call: Any) -> None:
    """Modes, sizes and boxes that cannot be are one sentence, before anything is allocated."""
    with pytest.raises(MilError, match=said):
        call()
