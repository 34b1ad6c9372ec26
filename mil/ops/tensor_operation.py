"""Operations that make, join, split, sort, select or fill whole tensors."""

import math
from itertools import accumulate

import torch
import torch.nn.functional as F

from mil.errors import MilError
from mil.ops.arguments import Bool, Float, Int, Ints, Rounding, Str, Tensor, Tensors, exact
from mil.ops.axes import axis_of
from mil.ops.limits import check_size


def argsort(x: Tensor, axis: Int = -1, ascending: Bool = False) -> Tensor:
    """Return the order that sorts x along `axis`, int32; equals keep their order, NaN counts as the largest."""
    axis = axis_of(axis, x)
    return x.sort(dim=axis, descending=not ascending, stable=True).indices.int()


def band_part(x: Tensor, lower: Int = -1, upper: Int = -1) -> Tensor:
    """Return x with zeros below the `lower` and above the `upper` diagonals of its last two axes; below 0 keeps all."""
    if x.ndim < 2:
        raise MilError(f"expected x of rank 2 or more, found {list(x.shape)}")
    x = x if lower < 0 else x.triu(-lower)
    return x if upper < 0 else x.tril(upper)


def concat(values: Tensors, axis: Int, interleave: Bool = False) -> Tensor:
    """Return the tensors one after the other along `axis`, or with `interleave` their slices in turn.

    Scalars are joined to a vector. Raises MilError where ranks, or sizes but that of `axis`, differ.
    """
    if len({value.ndim for value in values}) != 1:
        raise _not_joined(values, axis)
    if len(values) == 1 and values[0].ndim:
        return values[0]
    try:
        if not values[0].ndim:
            return torch.stack(values, axis)
        if not interleave:
            return torch.cat(values, axis)
        axis = axis_of(axis, values[0])
        return torch.stack(values, axis + 1).flatten(axis, axis + 1)
    except (RuntimeError, IndexError):
        raise _not_joined(values, axis) from None


def _not_joined(values: Tensors, axis: int) -> MilError:
    shapes = [list(value.shape) for value in values]
    return MilError(f"expected tensors of shapes that join along axis {axis}, found {shapes}")


def cumsum(
    x: Tensor, axis: Int = 0, exclusive: Bool = False, reverse: Bool = False, *, rounding: Rounding = exact
) -> Tensor:
    """Return the sums of the elements up to each along `axis`.

    exclusive  without the element itself, so that the first sum is 0
    reverse    from the end instead of from the beginning
    rounding   what the running sum of floats is rounded to at each step
    """
    axis = axis_of(axis, x)
    x = x.flip(axis) if reverse else x
    stepwise = rounding is not exact and x.is_floating_point()
    sums = _rounded_sums(x, axis, rounding) if stepwise else x.cumsum(axis, dtype=x.dtype)
    if exclusive and x.shape[axis]:
        first = torch.zeros_like(sums.narrow(axis, 0, 1))
        sums = torch.cat([first, sums.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return sums.flip(axis) if reverse else sums


def _rounded_sums(x: Tensor, axis: int, rounding: Rounding) -> Tensor:
    if not x.shape[axis]:
        return x
    elements = x.unbind(axis)
    sums = accumulate(elements[1:], lambda total, element: rounding(total + element), initial=rounding(elements[0]))
    return torch.stack(list(sums), axis)


def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """Return a tensor of this shape filled with one value of any type, 0.0 by default."""
    value = torch.tensor(0.0) if value is None else value
    check_size(shape, value.dtype)
    return value.reshape(()).repeat(shape)


def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """Return a tensor of the shape of another filled with one value of any type, 0.0 by default."""
    return fill(list(ref_tensor.shape), value)


def flatten2d(x: Tensor, axis: Int = 1) -> Tensor:
    """Return x as a matrix: the axes before `axis`, and those from it on."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def identity(x: Tensor) -> Tensor:
    """Return x."""
    return x


def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, iou_threshold: Float, max_boxes: Int, per_class_suppression: Bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best boxes that overlap no better one too much.

    Boxes are taken by falling score, the largest over classes; a box whose intersection over union with one taken
    exceeds iou_threshold is left out; with per_class_suppression only boxes of the same best class compete.

    boxes    (n, 4, B)  centre x, centre y, width, height
    scores   (n, K, B)  per class
    returns  boxes (n, 4, max_boxes), scores (n, K, max_boxes) and indices (n, max_boxes) int32 of the boxes taken,
             filled up with 0, 0 and -1
    """
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[1] != 4 or boxes.shape[::2] != scores.shape[::2]:
        raise MilError(
            f"expected boxes (n, 4, B) and scores (n, K, B), found {list(boxes.shape)} and {list(scores.shape)}"
        )
    n, classes, _ = scores.shape
    check_size([n, classes + 4, max_boxes], boxes.dtype)
    taken_boxes, taken_scores = boxes.new_zeros(n, 4, max_boxes), scores.new_zeros(n, classes, max_boxes)
    indices = torch.full((n, max_boxes), -1, dtype=torch.int32)
    for item in range(n if classes else 0):
        taken = _best_boxes(boxes[item], scores[item], iou_threshold, max_boxes, per_class_suppression)
        taken_boxes[item, :, : len(taken)] = boxes[item][:, taken]
        taken_scores[item, :, : len(taken)] = scores[item][:, taken]
        indices[item, : len(taken)] = torch.tensor(taken, dtype=torch.int32)
    return taken_boxes, taken_scores, indices


def _best_boxes(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int, per_class: bool) -> list[int]:
    best = scores.max(dim=0)  # (B,)
    allowed = torch.ones(boxes.shape[1], dtype=torch.bool)
    taken: list[int] = []
    for box in best.values.argsort(descending=True, stable=True).tolist():
        if len(taken) == max_boxes:
            break
        if not allowed[box]:
            continue
        taken.append(box)
        beaten = _overlaps(boxes, box) > iou_threshold
        allowed &= ~(beaten & (best.indices == best.indices[box]) if per_class else beaten)
    return taken


def _overlaps(boxes: Tensor, box: int) -> Tensor:
    """Return intersection over union of one box with each, (B,); 0 where either has no area, as TensorFlow has it."""
    centre, size = boxes[:2], boxes[2:]
    low, high = centre - size / 2, centre + size / 2
    sides = torch.minimum(high, high[:, box, None]) - torch.maximum(low, low[:, box, None])
    areas, shared = (high - low).prod(0), sides.clamp(min=0).prod(0)
    joint = areas + areas[box] - shared
    return torch.where((areas > 0) & (areas[box] > 0), shared / joint, torch.zeros_like(joint))


def non_zero(x: Tensor) -> Tensor:
    """Return the coordinates of the elements other than 0, (number of them, rank of x), int32."""
    return x.nonzero().int()


def one_hot(
    indices: Tensor,
    one_hot_vector_size: Int,
    axis: Int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """Return `off_value` with `on_value` where a coordinate on the new `axis` equals the index; 0 and 1 by default.

    An index out of range has no such place.
    """
    if not -indices.ndim - 1 <= axis <= indices.ndim:
        raise MilError(f"expected a new axis for indices {list(indices.shape)}, found {axis}")
    axis %= indices.ndim + 1
    on = torch.tensor(1, dtype=torch.int32) if on_value is None else on_value.reshape(())
    off = torch.tensor(0, dtype=torch.int32) if off_value is None else off_value.reshape(())
    check_size([*indices.shape, one_hot_vector_size], on.dtype)
    places = torch.arange(one_hot_vector_size).view(-1, *[1] * (indices.ndim - axis))
    return torch.where(indices.unsqueeze(axis) == places, on, off)


def pad(x: Tensor, pad: Ints, mode: Str = "constant", constant_val: Float = 0.0) -> Tensor:
    """Return x with its last axes lengthened.

    pad   how many elements to add before and after each of the last len(pad) / 2 axes
    mode  "constant" adds constant_val, "replicate" the nearest element, "reflect" mirrors without the edge

    Raises MilError for more than x has to mirror, or nothing to replicate.
    """
    if mode not in ("constant", "reflect", "replicate"):
        raise MilError(f'expected mode constant, reflect or replicate, found "{mode}"')
    axes = len(pad) // 2
    if len(pad) % 2 or axes > x.ndim or min(pad, default=0) < 0:
        raise MilError(f"expected pairs of numbers of 0 or more for at most {x.ndim} axes, found {pad}")
    pads = list(zip(range(x.ndim - axes, x.ndim), pad[::2], pad[1::2], strict=True))
    check_size([*x.shape[: x.ndim - axes], *(x.shape[axis] + b + a for axis, b, a in pads)], x.dtype)
    if mode == "constant":
        return F.pad(x, [side for _, *sides in reversed(pads) for side in sides], value=constant_val)
    for axis, before, after in pads:
        if before or after:
            x = x.index_select(axis, _extended(mode, x.shape[axis], before, after))
    return x


def _extended(mode: str, size: int, before: int, after: int) -> Tensor:
    """Return which element of an axis stands at each place of it lengthened."""
    if not size or (mode == "reflect" and max(before, after) >= size):
        raise MilError(f"expected a longer axis to {mode} {before} and {after} elements from, found {size}")
    places = torch.arange(-before, size + after)
    return places.clamp(0, size - 1) if mode == "replicate" else size - 1 - (size - 1 - places.abs()).abs()


def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """Return start, start + step, … up to but not including end, in the type of the inputs.

    The number of elements is reckoned in float32 as coremltools does when it declares it; 0 where step leads away.
    Raises MilError for a step of 0 or anything not finite.
    """
    if not step:
        raise MilError("expected a step other than 0")
    steps = float((end.float() - start.float()) / step.float())
    if not math.isfinite(steps):
        raise MilError(f"expected a finite range, found {start:g} to {end:g} by {step:g}")
    exactly = -((int(start) - int(end)) // int(step)) if not start.is_floating_point() else math.ceil(steps)
    count = max(exactly, 0)
    check_size([count], start.dtype)
    return start.reshape(()) + torch.arange(count, dtype=start.dtype) * step.reshape(())


def shape(x: Tensor) -> Tensor:
    """Return the sizes of x, (rank,) int32."""
    return torch.tensor(x.shape, dtype=torch.int32)


def split(x: Tensor, num_splits: Int | None, split_sizes: Ints | None, axis: Int) -> Tensor | tuple[Tensor, ...]:
    """Return consecutive parts of x along `axis`, of `split_sizes` or else `num_splits` equal ones.

    Raises MilError where the sizes do not add up to the axis, or it cannot be cut into equal parts.
    """
    size = x.shape[axis_of(axis, x)]
    if split_sizes is None:
        if not num_splits or num_splits < 1 or size % num_splits:
            raise MilError(f"expected num_splits to divide {size} elements, found {num_splits}")
        split_sizes = [size // num_splits] * num_splits
    if sum(split_sizes) != size or min(split_sizes) < 0 or num_splits not in (None, len(split_sizes)):
        raise MilError(f"expected {num_splits} sizes that add up to {size}, found {split_sizes}")
    parts = x.split(split_sizes, axis)
    return parts if len(parts) > 1 else parts[0]


def stack(values: Tensors, axis: Int) -> Tensor:
    """Return the tensors, all of one shape, side by side along a new `axis`."""
    try:
        return torch.stack(values, axis)
    except (RuntimeError, IndexError):
        raise _not_joined(values, axis) from None


def tile(x: Tensor, reps: Ints) -> Tensor:
    """Return x repeated reps[i] times along axis i; a view where only axes of size 1 are repeated."""
    if len(reps) != x.ndim or min(reps, default=1) < 1:
        raise MilError(f"expected {x.ndim} numbers of 1 or more in reps, found {reps}")
    sizes = [size * rep for size, rep in zip(x.shape, reps, strict=True)]
    check_size(sizes, x.dtype)
    if all(size == 1 or rep == 1 for size, rep in zip(x.shape, reps, strict=True)):
        return x.expand(sizes)
    return x.repeat(reps)


def topk(
    x: Tensor,
    k: Int = 1,
    axis: Int = -1,
    ascending: Bool = False,
    sort: Bool = True,
    return_indices: Bool = True,
    output_indices_dtype: Str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """Return the k largest elements along `axis`, or the smallest if `ascending`, and their places (int32).

    k                     -1 means all
    sort                  always done: the order is free otherwise
    return_indices        if false, the elements alone
    output_indices_dtype  the declared type, to which the executor converts

    The earlier of equals is taken first; NaN counts as the largest. Raises MilError where k exceeds the axis.
    """
    size = x.shape[axis_of(axis, x)]
    if not -1 <= k <= size:
        raise MilError(f"expected k of at most {size}, or -1 for all, found {k}")
    found = x.sort(dim=axis, descending=not ascending, stable=True)
    values, places = found if k in (-1, size) else (part.narrow(axis, 0, k) for part in found)
    return (values, places.int()) if return_indices else values
