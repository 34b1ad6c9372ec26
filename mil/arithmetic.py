"""How numbers are held and rounded while a program runs.

    declared   floats are held as float32 and rounded to their declared type after each operation: what a device that
               stores fp16 and accumulates wider computes. Inside one operation (the sums of a matrix product, the
               statistics of a normalisation, the exponentials of a softmax) nothing is rounded; a device may round
               there too. Recurrent layers round their state at each step.
    float32    all floats are float32, never rounded below that
    float64    all floats are float64: what the program means

Integers are the same in all three: held as int32 (int64 where 32 bits are too few) and wrapped as declared.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mil.errors import MilError
from mil.ops.arguments import Rounding, exact
from mil.types import ElementType


@dataclass(frozen=True)
class Arithmetic:
    """One of the three modes. `floats` is what holds them; `rounds` says whether to the declared type."""

    name: str
    floats: torch.dtype
    rounds: bool


ARITHMETICS = {
    mode.name: mode
    for mode in (
        Arithmetic("declared", torch.float32, rounds=True),
        Arithmetic("float32", torch.float32, rounds=False),
        Arithmetic("float64", torch.float64, rounds=False),
    )
}

# Operations whose every result is one of their inputs' elements, or a whole number between them: where all floats are
# of one type, rounding would change nothing.
_EXACT = """abs band_part batch_to_space ceil clip concat depth_to_space expand_dims fill flatten2d floor gather
    gather_along_axis gather_nd identity list_gather list_read max_pool maximum minimum pad pixel_shuffle
    pixel_unshuffle read_state reduce_max reduce_min relu reshape reshape_like reverse reverse_sequence round select
    sign slice_by_index slice_by_size slice_update sliding_windows space_to_batch space_to_depth split squeeze stack
    threshold tile transpose upsample_nearest_neighbor"""
EXACT = frozenset(_EXACT.split())


def arithmetic(name: str) -> Arithmetic:
    """Return a mode by name; raises MilError for another name."""
    try:
        return ARITHMETICS[name]
    except KeyError:
        raise MilError(f"precision {name!r}: expected one of {', '.join(ARITHMETICS)}") from None


def held_dtype(mode: Arithmetic, element: ElementType) -> torch.dtype:
    """Return the dtype of the tensors that hold values of an element type; raises MilError for strings."""
    if element.kind == "float":
        return torch.float64 if mode.rounds and element.name == "fp64" else mode.floats
    if element.kind == "bool":
        return torch.bool
    if element.kind == "string":
        raise MilError("a string is no tensor")
    return torch.int64 if element.name in ("uint32", "int64", "uint64") else torch.int32


def held(array: np.ndarray, mode: Arithmetic, element: ElementType) -> torch.Tensor:
    """Return a constant or an input as the tensor that holds it, sharing its memory where the width allows."""
    dtype = held_dtype(mode, element)
    if element.kind in ("int", "uint"):
        array = array.astype(np.int64 if dtype == torch.int64 else np.int32, copy=False)
    return torch.from_numpy(_shareable(array)).to(dtype)


def rounding(mode: Arithmetic, element: ElementType) -> Rounding:
    """Return what brings held floats to the values that their declared type has."""
    return _ROUNDINGS.get(element.name, exact) if mode.rounds else exact


def bring(mode: Arithmetic, element: ElementType) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return what brings a held tensor to the values that its declared type has: floats round, integers wrap.

    None where it has them already.
    """
    if element.kind in ("int", "uint"):
        return _WRAPS.get(element.name)
    found = rounding(mode, element)
    return None if found.dtype is None else found


def released(tensor: torch.Tensor, mode: Arithmetic, element: ElementType) -> np.ndarray:
    """Return a result as numpy: of its declared dtype, or of the mode's where that does not round floats.

    It is a copy: a result may be an input, or a weight that is to be used again.
    """
    array = tensor.detach().numpy()
    own = element.numpy is None or (element.kind == "float" and not mode.rounds)
    return np.array(array, None if own else element.numpy, order="C")


def _shareable(array: np.ndarray) -> np.ndarray:
    """Return an array that torch agrees to share: it warns about read-only ones, though nothing here writes to values.

    A weight file is mapped copy-on-write, so views of it may be made writable; other read-only memory is copied.
    """
    if not array.flags.c_contiguous:  # torch shares no steps backwards, nor between elements
        return array.copy(order="C")
    if array.flags.writeable:
        return array
    view = array.view()
    try:
        view.flags.writeable = True
    except ValueError:
        return array.copy()
    return view


def _unsigned(bits: int) -> Callable[[torch.Tensor], torch.Tensor]:
    mask = (1 << bits) - 1
    return lambda value: value & mask


_ROUNDINGS = {
    "fp16": Rounding(torch.float16),
    "bf16": Rounding(torch.bfloat16),
    "fp8e4m3fn": Rounding(torch.float8_e4m3fn),
    "fp8e5m2": Rounding(torch.float8_e5m2),
}
_WRAPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    **{f"uint{bits}": _unsigned(bits) for bits in (1, 2, 3, 4, 6, 8, 16, 32)},
    "int4": lambda value: ((value & 15) ^ 8) - 8,
    "int8": Rounding(torch.int8),
    "int16": Rounding(torch.int16),
}
