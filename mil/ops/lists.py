"""Operations on lists of tensors: the list part of coremltools' `iOS15/control_flow.py`.

A list is never changed: writing returns another, which shares the elements.
"""

import torch

from mil.errors import MilError
from mil.ops.arguments import Bool, Int, Ints, Str, Tensor, TensorList

# Far more than any loop writes; what asks for more is damaged.
_LONGEST = 2**24


def make_list(
    init_length: Int | None,
    dynamic_length: Bool | None,
    elem_shape: list[int] | list[str],
    dtype: Str = "fp32",
) -> TensorList:
    """A list of `init_length` (1) elements that are yet to be written, growing when written past its end (yes)."""
    length = 1 if init_length is None else init_length
    if not 0 <= length <= _LONGEST:
        raise MilError(f"expected a length of 0 to {_LONGEST}, found {length}")
    return TensorList((None,) * length, dynamic_length is not False)


def list_length(ls: TensorList) -> Tensor:
    """How many elements a list has, int32."""
    return torch.tensor(len(ls.elements), dtype=torch.int32)


def list_write(ls: TensorList, index: Int, value: Tensor) -> TensorList:
    """The list with element `index` replaced; one of dynamic length grows to hold it."""
    return _written(ls, [index], [value])


def list_read(ls: TensorList, index: Int) -> Tensor:
    """Element `index`; an error where it has not been written."""
    return _element(ls, index)


def list_gather(ls: TensorList, indices: Ints) -> Tensor:
    """The elements at `indices`, stacked along a new first axis."""
    return torch.stack([_element(ls, index) for index in indices])


def list_scatter(ls: TensorList, indices: Ints, value: Tensor) -> TensorList:
    """The list with element `indices[i]` replaced by `value[i]`; one of dynamic length grows to hold them."""
    if value.dim() == 0 or len(value) != len(indices):
        raise MilError(f"expected {len(indices)} values along the first axis, found a shape of {list(value.shape)}")
    return _written(ls, indices, list(value))


def _written(ls: TensorList, indices: list[int], values: list[Tensor]) -> TensorList:
    elements = list(ls.elements)
    for index, value in zip(indices, values, strict=True):
        if not 0 <= index < (_LONGEST if ls.dynamic_length else len(elements)):
            raise MilError(f"index {index} is outside a list of {len(elements)} elements")
        elements += [None] * (index + 1 - len(elements))
        elements[index] = value
    return TensorList(tuple(elements), ls.dynamic_length)


def _element(ls: TensorList, index: int) -> Tensor:
    if not 0 <= index < len(ls.elements):
        raise MilError(f"index {index} is outside a list of {len(ls.elements)} elements")
    element = ls.elements[index]
    if element is None:
        raise MilError(f"element {index} of the list is read before it is written")
    return element
