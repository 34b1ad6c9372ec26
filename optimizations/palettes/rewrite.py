"""A package with palettes in place of its large weights: chosen, made or recalled, written, decoded and compared."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mil.package import Package, read_package, write_package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import TensorType, decode, tensor_type
from optimizations.palettes import palette
from optimizations.palettes.constants import (
    Constant,
    constants,
    front_end_constants,
    output_channel_axis,
    top_blocks,
)
from optimizations.palettes.operations import DEFAULT_FILE, Parts, WeightFiles, decoded, replace, store
from optimizations.palettes.palette import Layout, Weight
from optimizations.palettize import FRONT_END, Options
from pipeline.types import Memo, QuernError

# Operation sets by the first system that has them: CoreML5 is that of iOS 15, and so on.
_SYSTEMS = {5: "iOS 15", 6: "iOS 16", 7: "iOS 17", 8: "iOS 18", 9: "iOS 26"}
_SIGNIFICANT_DIGITS = 6


@dataclass(frozen=True)
class Large:
    """A weight above the threshold, the operation set of its function, and why it is left as it is, if it is."""

    label: str
    constant: Constant
    type: TensorType
    opset: int
    layout: Layout
    left_because: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for size in self.type.shape or () if size is not None)


@dataclass(frozen=True)
class Replaced:
    """A weight that has a palette now, and its original value."""

    large: Large
    original: np.ndarray
    weight: Weight


def rewrite(source: Path, options: Options, memo: Memo, destination: Path) -> dict[str, Any]:
    """Do what `optimizations.palettize.apply` promises."""
    package = read_package(source)
    spec = Model_pb2.Model()
    spec.CopyFrom(package.spec)
    large = _large_weights(spec, package, options, source)
    chosen = [each for each in large if not each.left_because]
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".palettes.", dir=destination.parent) as folder:
        files = WeightFiles(package, Path(folder))
        detached = [(each, _detach(each.constant)) for each in chosen]
        for value in _values(spec):
            files.move(value)
        replaced = _replace_all(detached, package, memo, files)
        written = files.close()
        write_package(spec, written, destination)
        sizes = [_size_bytes(package), sum(path.stat().st_size for path in written.values())]
    return {
        "weights": _compared(replaced, read_package(destination)),
        "left": [
            {"name": each.label, "shape": list(each.shape), "reason": each.left_because}
            for each in large
            if each.left_because
        ],
        "weight_bytes": {"before": sizes[0], "after": sizes[1]},
    }


def _large_weights(spec: Model_pb2.Model, package: Package, options: Options, source: Path) -> list[Large]:
    """Return the weights above the threshold, of all functions, in a fixed order."""
    found: list[Large] = []
    matched: set[str] = set()
    blocks = list(top_blocks(spec))
    if not blocks:
        raise QuernError(f"{source}: holds no ML program, so it has no weights that palettes could stand for")
    for function, opset_name, block in blocks:
        opset = _opset(opset_name, source)
        _check_target(options, opset, source)
        everything = constants(block)
        front_end = front_end_constants(block)
        matched |= {use.operation.type for each in everything for use in each.uses}
        matched |= {FRONT_END} if front_end else set()
        for constant in everything:
            kind = tensor_type(constant.operation.outputs[0].type)
            if kind is not None and _is_large(kind, options.weight_threshold):
                found.append(_judged(function, constant, kind, opset, everything, front_end, options, package))
    unmatched = sorted(set(options.exclude) - matched)
    if unmatched:
        raise QuernError(f"{source}: exclude: `{unmatched[0]}` is neither used here nor a part of this program")
    return found


def _is_large(kind: TensorType, threshold: int) -> bool:
    """Whether it is a weight to consider: Core ML cannot decode palettes of rank 1, as coremltools' authors note."""
    return (
        kind.element.name in ("fp16", "fp32")
        and kind.shape is not None
        and len(kind.shape) > 1
        and kind.count is not None
        and kind.count > threshold
    )


def _judged(
    function: str,
    constant: Constant,
    kind: TensorType,
    opset: int,
    everything: Sequence[Constant],
    front_end: set[str],
    options: Options,
    package: Package,
) -> Large:
    reason, layout = _excluded(constant, front_end, options), Layout(options.nbits)
    if not reason and (options.granularity != "per_tensor" or options.per_channel_scale):
        reason, layout = _by_channel(constant, kind, everything, options, package)
    return Large(f"{function}/{constant.name}", constant, kind, opset, layout, reason)


def _excluded(constant: Constant, front_end: set[str], options: Options) -> str:
    """Return why a large weight gets no palette, or nothing."""
    consumers = {use.operation.type for use in constant.uses}
    if not consumers:
        return "no operation uses it"
    if constant.returned:
        return "a block returns it, and Core ML cannot return a decoded palette"
    if any(name.startswith("constexpr_") for name in consumers):
        return "it is part of a compressed weight"
    if FRONT_END in options.exclude and constant.name in front_end:
        return f"excluded: {FRONT_END}"
    excluded = sorted(consumers & set(options.exclude))
    return f"excluded: {excluded[0]}" if excluded else ""


def _by_channel(
    constant: Constant, kind: TensorType, everything: Sequence[Constant], options: Options, package: Package
) -> tuple[str, Layout]:
    layout = Layout(options.nbits)
    axis = output_channel_axis(constant, {each.name: each for each in everything}, package)
    if axis is None:
        return "its uses disagree on which axis counts output channels", layout
    assert kind.shape is not None
    channels = kind.shape[axis] or 0
    group_size = options.group_size if options.granularity == "per_grouped_channel" else channels
    if channels % group_size:
        return f"its {channels} output channels are not a multiple of {group_size}", layout
    return "", Layout(options.nbits, axis, channels // group_size, options.per_channel_scale)


def _opset(name: str, source: Path) -> int:
    number = name.removeprefix("CoreML")
    if number == name or not number.isdecimal():
        raise QuernError(f"{source}: expected an operation set like CoreML6, found `{name}`")
    return int(number)


def _check_target(options: Options, opset: int, source: Path) -> None:
    """Refuse what the target lacks; an iOS 16 palette knows indices of 1, 2, 4, 6 and 8 bits and no groups."""
    asked = [(6, "palettes")]
    if options.nbits == 3:
        asked.append((8, "3-bit palettes"))
    if options.granularity == "per_grouped_channel":
        asked.append((8, "palettes per grouped channel"))
    if options.per_channel_scale:
        asked.append((9, "scales after a palette"))
    for needed, what in asked:
        if opset < needed:
            system = _SYSTEMS.get(opset, f"CoreML{opset}")
            raise QuernError(
                f"{source}: {what} need {_SYSTEMS[needed]}, and the program is for {system}; raise its target"
            )


def _detach(constant: Constant) -> MIL_pb2.Value:
    """Take the value out of a `const` operation and return it."""
    value = MIL_pb2.Value()
    value.CopyFrom(constant.operation.attributes["val"])
    constant.operation.attributes.pop("val")
    return value


def _values(spec: Model_pb2.Model) -> Iterator[MIL_pb2.Value]:
    """Yield every constant of the program that a weight file may hold, in a fixed order."""
    for _, _, block in top_blocks(spec):
        yield from _block_values(block)


def _block_values(block: MIL_pb2.Block) -> Iterator[MIL_pb2.Value]:
    for operation in block.operations:
        for _, value in sorted(operation.attributes.items()):
            yield value
        for _, argument in sorted(operation.inputs.items()):
            yield from (each.value for each in argument.arguments if each.WhichOneof("binding") == "value")
        for nested in operation.blocks:
            yield from _block_values(nested)


def _replace_all(
    detached: Sequence[tuple[Large, MIL_pb2.Value]], package: Package, memo: Memo, files: WeightFiles
) -> list[Replaced]:
    """Put palettes in place of the weights; equal weights are held once in each file."""
    held: dict[tuple, Parts] = {}
    weights: dict[str, Weight] = {}
    replaced = []
    for large, value in detached:
        original = np.asarray(decode(value, package))
        if original.shape != large.shape:
            raise QuernError(f"weight `{large.label}`: declared as {large.type}, its value is of {original.shape}")
        key, weight = _palettized(large, original, memo, weights)
        file_name = value.blobFileValue.fileName or DEFAULT_FILE
        place = (file_name, key, large.shape, large.opset >= 8)
        if place not in held:
            held[place] = store(weight, large.layout, large.shape, large.opset >= 8, files, file_name)
        replace(large.constant, held[place])
        replaced.append(Replaced(large, original, weight))
    return replaced


def _palettized(large: Large, original: np.ndarray, memo: Memo, weights: dict[str, Weight]) -> tuple[str, Weight]:
    """Return the key of a weight's palette and the palette, made now or recalled."""
    recipe = palette.recipe(original, large.layout)
    key = repr(sorted(recipe.items()))
    if key not in weights:
        try:
            folder = memo(recipe, lambda folder: palette.save(palette.make(original, large.layout), folder))
        except ValueError as error:
            raise QuernError(f"weight `{large.label}`: {error}") from None
        weights[key] = palette.load(folder)
    return key, weights[key]


def _size_bytes(package: Package) -> int:
    """Return the size of the weight files that a package's program refers to."""
    names = {value.blobFileValue.fileName for value in _values(package.spec)} - {""}
    return sum(package.blob(name).size_bytes for name in names)


def _compared(replaced: Sequence[Replaced], written: Package) -> list[dict[str, Any]]:
    """Return how far each weight, decoded from the files that were written, is from its original."""
    findings = []
    for each in replaced:
        constant, layout = each.large.constant, each.large.layout
        difference = palette.difference(each.original, decoded(constant.operation, constant.block, written))
        if not palette.is_faithful(each.weight, each.original, difference):
            raise QuernError(
                f"weight `{each.large.label}`: decoded values differ from the original by {difference.rms:g} rms, and "
                f"its palette was made with a squared error of {each.weight.squared_error:g}; the palette that the "
                "store keeps is damaged or belongs to another weight"
            )
        facts = {"name": each.large.label, "shape": list(each.large.shape), "nbits": layout.nbits}
        findings.append(facts | {"groups": layout.groups} | _shortened(asdict(difference)))
    return findings


def _shortened(numbers: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.{_SIGNIFICANT_DIGITS}g}") for name, number in numbers.items()}
