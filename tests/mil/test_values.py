"""Constants of the protobuf: every field that can hold one, and what does not fit its type."""

import numpy as np
import pytest
import torch

from mil.arithmetic import ARITHMETICS, bring, held, held_dtype, released
from mil.errors import MilError
from mil.package import Package
from mil.packing import pack
from mil.schema import MIL_pb2
from mil.types import BY_NAME, ELEMENT_TYPES
from mil.values import TensorType, decode, decode_string, tensor_type

EMPTY = Package(None, None)


def value_of(element: str, shape: tuple[int, ...], field: str, content: object) -> MIL_pb2.Value:
    """A constant in place, in one of the fields of a tensor value."""
    value = MIL_pb2.Value()
    tensor = value.type.tensorType
    tensor.dataType, tensor.rank = BY_NAME[element].proto, len(shape)
    for size in shape:
        tensor.dimensions.add().constant.size = size
    holder = getattr(value.immediateValue.tensor, field)
    if field == "bytes":
        holder.values = content
    else:
        holder.values.extend(content)
    return value


@pytest.mark.parametrize(
    ("element", "field", "content"),
    [
        ("fp32", "floats", [1.5, -np.inf]),
        ("fp64", "doubles", [1e300, 0.1]),
        ("int32", "ints", [-(2**31), 2**31 - 1]),
        ("int16", "ints", [-32768, 32767]),
        ("uint8", "ints", [0, 255]),
        ("int64", "longInts", [-(2**63), 2**63 - 1]),
        ("bool", "bools", [True, False]),
        ("string", "strings", ["a", "ü"]),
    ],
)
def test_every_list_of_values_is_read(element: str, field: str, content: list) -> None:
    """In the dtype of the table, with the shape of the type."""
    found = decode(value_of(element, (2, 1), field, content), EMPTY)
    assert found.shape == (2, 1)
    assert found.dtype == BY_NAME[element].numpy
    assert found.reshape(-1).tolist() == content


@pytest.mark.parametrize(
    "element", [row.name for row in ELEMENT_TYPES if row.blob is not None and row.numpy is not None]
)
def test_raw_bytes_are_read(element: str) -> None:
    """Whole and packed elements, three of each."""
    row = BY_NAME[element]
    values = np.array([0, 1, 1], row.numpy)
    found = decode(value_of(element, (3,), "bytes", pack(values, row).tobytes()), EMPTY)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("element", "shape", "field", "content", "said"),
    [
        ("fp32", (3,), "floats", [1.0], "holds 1 values instead of 3"),
        ("fp16", (3,), "bytes", b"\0\0", "given as 2 bytes, which do not fit it"),
        ("fp16", (1 << 40, 1 << 40), "bytes", b"\0\0", "do not fit it"),
        ("string", (1,), "bytes", b"a", "do not fit it"),
        ("fp32", (1,), "ints", [1], "is given as ints"),
        ("int32", (1,), "floats", [1.0], "is given as floats"),
        ("uint8", (1,), "ints", [256], "which do not fit"),
        ("int8", (1,), "ints", [-129], "which do not fit"),
    ],
)
def test_a_constant_that_is_not_what_it_says_is_refused(
    element: str, shape: tuple, field: str, content: object, said: str
) -> None:
    """Sizes are compared before anything is allocated."""
    with pytest.raises(MilError, match=said):
        decode(value_of(element, shape, field, content), EMPTY)


def test_lists_tuples_and_dictionaries_are_read() -> None:
    """Values within values."""
    one, two = value_of("int32", (), "ints", [1]), value_of("string", (), "strings", ["two"])
    several, pairs = MIL_pb2.Value(), MIL_pb2.Value()
    several.immediateValue.list.values.extend([one, two])
    pair = pairs.immediateValue.dictionary.values.add()
    pair.key.CopyFrom(two)
    pair.value.CopyFrom(one)
    assert [item.item() for item in decode(several, EMPTY)] == [1, "two"]
    assert {key: item.item() for key, item in decode(pairs, EMPTY).items()} == {"two": 1}
    assert decode_string(two) == "two"
    with pytest.raises(MilError, match="expected a string"):
        decode_string(one)
    with pytest.raises(MilError, match="without a value"):
        decode(MIL_pb2.Value(), EMPTY)


def test_a_type_of_unknown_sizes_admits_them() -> None:
    """`?` is any size, a variadic dimension any rank."""
    declared = MIL_pb2.ValueType()
    declared.tensorType.dataType = BY_NAME["fp16"].proto
    declared.tensorType.dimensions.add().constant.size = 2
    declared.tensorType.dimensions.add().unknown.variadic = False
    kind = tensor_type(declared)
    assert str(kind) == "fp16[2, ?]"
    assert kind.count is kind.size_bytes is None
    assert kind.admits((2, 7))
    assert not kind.admits((3, 7))
    assert not kind.admits((2,))
    declared.tensorType.dimensions[1].unknown.variadic = True
    assert tensor_type(declared).admits((1, 2, 3))
    assert TensorType(BY_NAME["uint3"], (3, 3)).size_bytes == 4
    assert tensor_type(MIL_pb2.ValueType()) is None


@pytest.mark.parametrize("name", [row.name for row in ELEMENT_TYPES if row.kind in ("int", "uint") and row.bits < 64])
def test_integers_wrap_as_declared(name: str) -> None:
    """Two's complement of the declared width, against Python's own arithmetic, in every mode."""
    row = BY_NAME[name]
    for mode in ARITHMETICS.values():
        values = torch.arange(-600, 600).to(held_dtype(mode, row))
        brought = bring(mode, row)
        found = (values if brought is None else brought(values)).tolist()
        wrapped = [value % (1 << row.bits) for value in range(-600, 600)]
        if row.kind == "int":
            wrapped = [value - (1 << row.bits) if value >= 1 << (row.bits - 1) else value for value in wrapped]
        assert found == wrapped


def test_floats_round_in_the_declared_mode_only() -> None:
    """1 + 2^-12 is 1 in fp16 and bf16."""
    value = torch.tensor([1 + 2**-12])
    for name in ("fp16", "bf16", "fp8e5m2"):
        assert bring(ARITHMETICS["declared"], BY_NAME[name])(value).item() == 1
        assert bring(ARITHMETICS["float32"], BY_NAME[name]) is None
    assert bring(ARITHMETICS["declared"], BY_NAME["fp32"]) is None


@pytest.mark.parametrize("name", [row.name for row in ELEMENT_TYPES if row.kind != "string" and row.numpy is not None])
def test_what_is_held_is_released_as_it_was(name: str) -> None:
    """In and out without loss, also from memory that may not be written to."""
    row = BY_NAME[name]
    array = np.array([0, 1, 1], row.numpy)
    array.flags.writeable = False
    found = released(held(array, ARITHMETICS["declared"], row), ARITHMETICS["declared"], row)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == row.numpy


def test_a_string_is_not_held() -> None:
    """An operation that wants a tensor gets none."""
    with pytest.raises(MilError, match="a string is no tensor"):
        held(np.array(["a"], object), ARITHMETICS["declared"], BY_NAME["string"])
