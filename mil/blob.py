"""Weight files (MIL blob storage, version 2), read by memory map and written as coremltools writes them.

    0       u32 number of entries, u32 version, zeros to 64
    entry   u32 0xDEADBEEF, u32 type code, u64 size in bytes, u64 offset of the data, u64 bits of the last byte that
            are padding, zeros to 64; then the data

Every entry and its data start at a multiple of 64. Programs refer to entries by their offset.
"""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from mil.errors import MilError
from mil.lfs import refuse_pointer
from mil.packing import pack, packed_size, unpack
from mil.types import BY_BLOB, ElementType

ALIGNMENT = 64
VERSION = 2
SENTINEL = 0xDEADBEEF
_FILE_HEADER = struct.Struct("<II56x")
_ENTRY_HEADER = struct.Struct("<IIQQQ32x")
_HINT = "the weight file is damaged or belongs to another program"


@dataclass(frozen=True)
class Entry:
    """Where one constant lies in a weight file."""

    element_type: ElementType
    size_bytes: int
    data_offset: int
    padding_bits: int

    @property
    def count(self) -> int:
        """How many elements the entry holds."""
        return (self.size_bytes * 8 - self.padding_bits) // self.element_type.bits


class BlobFile:
    """A weight file, memory-mapped; arrays are views of it and keep it open for as long as they live."""

    def __init__(self, path: Path) -> None:
        """Map the file; raises MilError where it is missing, not fetched, too short or of another version."""
        self.path = path
        try:
            refuse_pointer(path)
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:
            raise MilError(f"{path}: cannot read the weight file: {error}") from None
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._bytes.flags.writeable = False
        if self._bytes.size < _FILE_HEADER.size:
            raise MilError(f"{path}: {self._bytes.size} bytes are too few for a weight file; it may be truncated")
        self.count, version = _FILE_HEADER.unpack_from(self._bytes.data)
        if version != VERSION:
            raise MilError(f"{path}: expected a weight file of version {VERSION}, found version {version}")

    @property
    def size_bytes(self) -> int:
        return self._bytes.size

    def entry(self, offset: int) -> Entry:
        """Return the entry at `offset`; raises MilError unless a whole, well-formed entry lies there."""
        where = f"{self.path}: offset {offset}"
        if offset % ALIGNMENT or not ALIGNMENT <= offset <= self.size_bytes - _ENTRY_HEADER.size:
            raise MilError(
                f"{where}: expected a multiple of {ALIGNMENT} inside the file of {self.size_bytes} bytes; {_HINT}"
            )
        sentinel, code, size, data_offset, padding = _ENTRY_HEADER.unpack_from(self._bytes.data, offset)
        if sentinel != SENTINEL:
            raise MilError(f"{where}: expected the sentinel {SENTINEL:#x}, found {sentinel:#x}; {_HINT}")
        if code not in BY_BLOB:
            raise MilError(f"{where}: type code {code} is not one of a weight file; {_HINT}")
        if data_offset % ALIGNMENT or data_offset + size > self.size_bytes:
            raise MilError(
                f"{where}: {size} bytes of data at {data_offset} do not lie in the file of {self.size_bytes} bytes; "
                f"{_HINT}"
            )
        element_type = BY_BLOB[code]
        if padding >= 8 or padding > size * 8 or (size * 8 - padding) % element_type.bits:
            raise MilError(
                f"{where}: {size} bytes less {padding} bits are no whole number of {element_type.name}; {_HINT}"
            )
        return Entry(element_type, size, data_offset, padding)

    def array(self, offset: int, element_type: ElementType, shape: Sequence[int]) -> np.ndarray:
        """Return the constant at `offset`, as `mil.packing.unpack` gives it; read-only, and a view where possible.

        Raises MilError unless the entry there has that type and as many elements.
        """
        found = self.entry(offset)
        count = math.prod(shape)
        if found.element_type is not element_type or found.count != count:
            raise MilError(
                f"{self.path}: offset {offset}: expected {count} elements of {element_type.name} for the shape "
                f"{list(shape)}, found {found.count} of {found.element_type.name}; {_HINT}"
            )
        return unpack(self.stored(found), element_type, count).reshape(tuple(shape))

    def stored(self, entry: Entry) -> np.ndarray:
        """Return the bytes of an entry as they lie in the file: (size_bytes,) uint8."""
        return self._bytes[entry.data_offset : entry.data_offset + entry.size_bytes]

    def release(self, entry: Entry) -> None:
        """Let the system drop the pages of an entry that has been decoded; a later read fetches them again."""
        first = -(-entry.data_offset // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (entry.data_offset + entry.size_bytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0 and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED, first, length)


class BlobWriter:
    """Writes a weight file, entry by entry; complete once closed (it is a context manager)."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._count = 0
        self._file.write(_FILE_HEADER.pack(0, VERSION))

    def append(self, values: np.ndarray, element_type: ElementType) -> int:
        """Write an array and return the offset to refer to it by.

        values   any shape, of a dtype that casts to `element_type.numpy` without loss; for types that numpy lacks,
                 the stored bytes as uint8

        Raises MilError for values that the type cannot hold, or a type that a weight file cannot.
        """
        if element_type.numpy is None:
            stored, count = values.reshape(-1), values.size * 8 // element_type.bits
        else:
            stored, count = pack(_checked(values, element_type), element_type), values.size
        return self.append_stored(stored, element_type, count)

    def append_stored(self, stored: np.ndarray, element_type: ElementType, count: int) -> int:
        """Write elements that are packed already and return the offset to refer to them by.

        stored   (packed_size,)  uint8
        """
        if element_type.blob is None:
            raise MilError(f"a weight file cannot hold {element_type.name}")
        if stored.dtype != np.uint8 or stored.size != packed_size(element_type, count):
            raise MilError(
                f"expected {packed_size(element_type, count)} bytes for {count} elements of {element_type.name}, "
                f"found {stored.size} of {stored.dtype}"
            )
        offset = self._align()
        padding = stored.size * 8 - count * element_type.bits
        data_offset = offset + _ENTRY_HEADER.size
        self._file.write(_ENTRY_HEADER.pack(SENTINEL, element_type.blob, stored.size, data_offset, padding))
        self._file.write(stored.data)
        self._count += 1
        return offset

    def _align(self) -> int:
        position = self._file.tell()
        self._file.write(b"\0" * (-position % ALIGNMENT))
        return self._file.tell()

    def close(self) -> None:
        """Write the number of entries and close the file."""
        self._file.seek(0)
        self._file.write(_FILE_HEADER.pack(self._count, VERSION))
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _checked(values: np.ndarray, element_type: ElementType) -> np.ndarray:
    if not np.can_cast(values.dtype, element_type.numpy, "same_kind") and values.dtype.kind not in "biu":
        raise MilError(f"expected values of {element_type.name}, found {values.dtype}")
    if values.dtype.kind in "biu" and element_type.kind in ("int", "uint") and values.size:
        signed = element_type.kind == "int"
        low = -(1 << (element_type.bits - 1)) if signed else 0
        high = (1 << (element_type.bits - signed)) - 1
        if int(values.min()) < low or int(values.max()) > high:
            raise MilError(
                f"values from {values.min()} to {values.max()} do not fit {element_type.name} ({low} to {high})"
            )
    return values
