"""Weight files: the same bytes as coremltools writes, the same values as it reads, and no others."""

import math
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mil.blob import BlobFile, BlobWriter
from mil.errors import MilError
from mil.packing import pack, unpack
from mil.types import BY_NAME, ELEMENT_TYPES, ElementType

WRITERS = {
    "fp16": "write_fp16_data",
    "fp32": "write_float_data",
    **{f"{s}int{n}": f"write_{s}int{n}_data" for s, n in [("", 4), ("", 8), ("", 16), ("", 32)]},
    **{f"uint{n}": f"write_uint{n}_data" for n in (1, 2, 3, 4, 6, 8, 16, 32)},
}
PACKED = [row for row in ELEMENT_TYPES if 0 < row.bits < 8]


@pytest.fixture(scope="session")
def storage(ct: ModuleType) -> ModuleType:
    """coremltools' own reader and writer of weight files, a native module."""
    from coremltools import libmilstoragepython

    return libmilstoragepython


def values_of(row: ElementType, count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if row.kind == "float":
        return generator.standard_normal(count).astype(row.numpy)
    low, high = (-(1 << (row.bits - 1)), 1 << (row.bits - 1)) if row.kind == "int" else (0, 1 << row.bits)
    return generator.integers(low, high, count).astype(row.numpy)


def written_by_coremltools(storage: ModuleType, path: Path, arrays: list[tuple[str, np.ndarray]]) -> list[int]:
    writer = storage._BlobStorageWriter(str(path))
    return [
        getattr(writer, WRITERS[name])(array.view(np.uint16) if name == "fp16" else array) for name, array in arrays
    ]


def test_the_writer_gives_the_bytes_of_coremltools(tmp_path: Path, storage: ModuleType) -> None:
    """Every type and a count that leaves padding, in one file: byte for byte what coremltools writes."""
    arrays = [(name, values_of(BY_NAME[name], count)) for name in WRITERS for count in (0, 1, 3, 13, 64, 1000)]
    offsets = written_by_coremltools(storage, tmp_path / "theirs.bin", arrays)
    with BlobWriter(tmp_path / "ours.bin") as writer:
        assert [writer.append(array, BY_NAME[name]) for name, array in arrays] == offsets
    assert (tmp_path / "ours.bin").read_bytes() == (tmp_path / "theirs.bin").read_bytes()


@pytest.mark.parametrize("name", WRITERS)
def test_the_reader_gives_back_what_coremltools_wrote(tmp_path: Path, storage: ModuleType, name: str) -> None:
    """Whatever the width, an array of odd length comes back whole, with the dtype of the table."""
    array = values_of(BY_NAME[name], 3 * 7 * 5)
    (offset,) = written_by_coremltools(storage, tmp_path / "w.bin", [(name, array)])
    found = BlobFile(tmp_path / "w.bin").array(offset, BY_NAME[name], (3, 7, 5))
    np.testing.assert_array_equal(found, array.reshape(3, 7, 5))
    assert found.dtype == BY_NAME[name].numpy


def test_whole_bytes_are_not_copied(tmp_path: Path) -> None:
    """An fp16 constant is a read-only view of the mapped file and outlives the reader."""
    with BlobWriter(tmp_path / "w.bin") as writer:
        offset = writer.append(np.arange(8, dtype=np.float16), BY_NAME["fp16"])
    blob = BlobFile(tmp_path / "w.bin")
    found = blob.array(offset, BY_NAME["fp16"], (8,))
    assert np.shares_memory(found, blob._bytes)
    assert not found.flags.writeable
    del blob
    np.testing.assert_array_equal(found, np.arange(8))


@given(st.data())
def test_packing_is_undone_by_unpacking(data: st.DataObject) -> None:
    """For every sub-byte type and any values, unpack(pack(x)) is x."""
    row = data.draw(st.sampled_from(PACKED))
    low, high = (-(1 << (row.bits - 1)), (1 << (row.bits - 1)) - 1) if row.kind == "int" else (0, (1 << row.bits) - 1)
    values = np.array(data.draw(st.lists(st.integers(low, high), max_size=50)), row.numpy)
    np.testing.assert_array_equal(unpack(pack(values, row), row, values.size), values)


def test_bfloat16_and_8_bit_floats_decode_to_their_values() -> None:
    """Against torch, for all codes: the types that numpy lacks come out as float32 without loss."""
    import torch

    codes = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(codes.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(unpack(codes.view(np.uint8), BY_NAME["bf16"], codes.size), expected)
    small = np.arange(256, dtype=np.uint8)
    for name, dtype in (("fp8e4m3fn", torch.float8_e4m3fn), ("fp8e5m2", torch.float8_e5m2)):
        expected = torch.from_numpy(small.copy()).view(dtype).float().numpy()
        np.testing.assert_array_equal(unpack(small, BY_NAME[name], 256), expected)


@pytest.fixture
def weight_file(tmp_path: Path) -> Path:
    """A file with one entry: ten fp16 at offset 64."""
    path = tmp_path / "weight.bin"
    with BlobWriter(path) as writer:
        assert writer.append(np.arange(10, dtype=np.float16), BY_NAME["fp16"]) == 64
    return path


def damage(path: Path, at: int, content: bytes) -> BlobFile:
    data = bytearray(path.read_bytes())
    data[at : at + len(content)] = content
    path.write_bytes(data)
    return BlobFile(path)


@pytest.mark.parametrize(
    ("at", "content", "said"),
    [
        (64, b"\0", "sentinel"),
        (68, struct.pack("<I", 99), "type code 99"),
        (72, struct.pack("<Q", 1 << 62), "do not lie in the file"),
        (72, struct.pack("<Q", 19), "no whole number"),
        (80, struct.pack("<Q", 1 << 63), "do not lie in the file"),
        (80, struct.pack("<Q", 129), "do not lie in the file"),
        (88, struct.pack("<Q", 9), "no whole number"),
        (68, struct.pack("<I", 2), "expected 10 elements of fp16 for the shape [2, 5], found 5 of fp32"),
        (72, struct.pack("<Q", 18), "found 9 of fp16"),
    ],
)
def test_a_damaged_entry_is_one_sentence(weight_file: Path, at: int, content: bytes, said: str) -> None:
    """Each field of an entry that cannot be right is refused, with the file and offset in the sentence."""
    blob = damage(weight_file, at, content)
    with pytest.raises(MilError, match=r"weight\.bin: offset 64: ") as caught:
        blob.array(64, BY_NAME["fp16"], (2, 5))
    assert said in str(caught.value)


@pytest.mark.parametrize("offset", [0, 1, 63, 65, 128, 1 << 40, -64])
def test_an_offset_without_an_entry_is_refused(weight_file: Path, offset: int) -> None:
    """Headers, gaps and places outside the file are not entries."""
    with pytest.raises(MilError, match=f"offset {offset}: expected"):
        BlobFile(weight_file).entry(offset)


@pytest.mark.parametrize("shape", [(11,), (1 << 40, 1 << 40), (0,)])
def test_a_shape_of_another_size_is_refused_before_anything_is_allocated(weight_file: Path, shape: tuple) -> None:
    """A hostile shape is compared with the file, never allocated."""
    with pytest.raises(MilError, match=f"expected {math.prod(shape)} elements"):
        BlobFile(weight_file).array(64, BY_NAME["fp16"], shape)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot read"),
        (b"\1" * 63, "too few"),
        (struct.pack("<II56x", 0, 3), "version 3"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    ],
)
def test_a_file_that_is_no_weight_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Empty, truncated, of another version, and what Git leaves where a file was not fetched."""
    (tmp_path / "w.bin").write_bytes(content)
    with pytest.raises(MilError, match=said):
        BlobFile(tmp_path / "w.bin")


def test_values_outside_the_type_are_refused(tmp_path: Path) -> None:
    """16 is no uint4, and floats are no integers: writing them would change them silently."""
    with BlobWriter(tmp_path / "w.bin") as writer:
        with pytest.raises(MilError, match="do not fit uint4"):
            writer.append(np.array([16]), BY_NAME["uint4"])
        with pytest.raises(MilError, match="expected values of int8"):
            writer.append(np.array([0.5]), BY_NAME["int8"])
        with pytest.raises(MilError, match="cannot hold int64"):
            writer.append(np.array([1]), BY_NAME["int64"])
