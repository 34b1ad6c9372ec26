"""The large weights of a program: which there are, and which of them a pass leaves as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mil.package import Package
from mil.schema import MIL_pb2, Model_pb2
from mil.values import TensorType, tensor_type
from optimizations.weights.constants import (
    Constant,
    constants,
    constants_behind,
    front_end_constants,
    output_channel_axis,
    top_blocks,
)
from optimizations.weights.exclusion import FRONT_END, SINGLE_PRECISION
from pipeline.types import QuernError

# Operation sets by the first system that has them: CoreML5 is that of iOS 15, and so on.
_SYSTEMS = {5: "iOS 15", 6: "iOS 16", 7: "iOS 17", 8: "iOS 18", 9: "iOS 26"}


@dataclass(frozen=True)
class Large:
    """A weight above the threshold, the operation set of its function, and why it is left as it is, if it is.

    channel_axis   the axis that counts output channels; None where its uses disagree
    """

    label: str
    constant: Constant
    type: TensorType
    opset: int
    channel_axis: int | None
    left_because: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.known_shape()

    @property
    def size(self) -> int:
        return self.type.count or 0


def large_weights(
    spec: Model_pb2.Model, package: Package, threshold: int, exclude: Sequence[str], source: Path
) -> list[Large]:
    """Return the weights above the threshold, of all functions, in a fixed order.

    Raises QuernError for a model without ML programs, and for an exclusion that excludes nothing: misspelt, it would
    compress what it was to protect.
    """
    found: list[Large] = []
    matched: set[str] = set()
    blocks = list(top_blocks(spec))
    if not blocks:
        raise QuernError(f"{source}: holds no ML program, so it has no weights to compress")
    for function, opset_name, block in blocks:
        opset = _opset(opset_name, source)
        everything = {each.name: each for each in constants(block)}
        parts = _parts(block, exclude)
        matched |= {use.operation.type for each in constants(block) for use in each.uses}
        matched |= {part for part, names in parts.items() if names}
        for constant in constants(block):
            kind = tensor_type(constant.operation.outputs[0].type)
            if kind is not None and _is_large(kind, threshold):
                axis = output_channel_axis(constant, everything, package)
                single = kind.element.name == "fp32"
                matched |= {SINGLE_PRECISION} if single else set()
                reason = _excluded(constant, parts, single, exclude)
                found.append(Large(f"{function}/{constant.name}", constant, kind, opset, axis, reason))
    unmatched = sorted(set(exclude) - matched)
    if unmatched:
        raise QuernError(f"{source}: exclude: `{unmatched[0]}` is neither used here nor a part of this program")
    return found


def _parts(block: MIL_pb2.Block, exclude: Sequence[str]) -> dict[str, set[str]]:
    """Return the constants of each part of a program that an exclusion names: its front end, what an output is of."""
    outputs = {name: constants_behind(name, block) for name in exclude if name in block.outputs}
    return outputs | ({FRONT_END: front_end_constants(block)} if FRONT_END in exclude else {})


def _is_large(kind: TensorType, threshold: int) -> bool:
    """Whether it is a weight to consider: Core ML cannot decode palettes of rank 1, as coremltools' authors note."""
    return (
        kind.element.name in ("fp16", "fp32")
        and kind.shape is not None
        and len(kind.shape) > 1
        and kind.count is not None
        and kind.count > threshold
    )


def _excluded(constant: Constant, parts: Mapping[str, set[str]], single: bool, exclude: Sequence[str]) -> str:
    """Return why a large weight is left, or nothing."""
    consumers = {use.operation.type for use in constant.uses}
    if not consumers:
        return "no operation uses it"
    if constant.returned:
        return "a block returns it, and Core ML cannot return a decoded weight"
    if any(name.startswith("constexpr_") for name in consumers):
        return "it is part of a compressed weight"
    for part, names in parts.items():
        if constant.name in names:
            return f"excluded: {part}"
    if SINGLE_PRECISION in exclude and single:
        return f"excluded: {SINGLE_PRECISION}"
    excluded = sorted(consumers & set(exclude))
    return f"excluded: {excluded[0]}" if excluded else ""


def _opset(name: str, source: Path) -> int:
    number = name.removeprefix("CoreML")
    if number == name or not number.isdecimal():
        raise QuernError(f"{source}: expected an operation set like CoreML6, found `{name}`")
    return int(number)


def require(needed: int, what: str, large: Sequence[Large], source: Path) -> None:
    """Refuse a form of compression that an operation set before `needed` does not have."""
    for opset in {each.opset for each in large if each.opset < needed}:
        system = _SYSTEMS.get(opset, f"CoreML{opset}")
        raise QuernError(f"{source}: {what} need {_SYSTEMS[needed]}, and the program is for {system}; raise its target")
