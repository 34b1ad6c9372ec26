"""Reading `.npz` archives of numpy as what they are: files from strangers, of which nothing but numbers is wanted."""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from converters.checkpoint import check_tensors
from pipeline.types import Arrays, QuernError

# What numpy raises for a header that is none.
_HEADER_ERRORS = (ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)


def read_npz(path: Path, expected: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Return the arrays of an archive that holds exactly the expected ones, all of finite floating-point numbers.

    expected   name → shape; the headers are held against it before any elements are read, so that nothing is allocated
               on the file's word

    Nothing is unpickled. Raises QuernError, one sentence with the file's name, for whatever is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = _read(archive, expected, str(path))
    except OSError as error:
        raise QuernError(f"{path}: cannot read the archive: {error.strerror or error}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OverflowError, RuntimeError) as error:
        raise QuernError(f"{path}: truncated, or not an .npz archive ({error}); fetch it again") from None
    check_tensors(found, expected, str(path))
    return found


def _read(archive: zipfile.ZipFile, expected: Mapping[str, tuple[int, ...]], source: str) -> Arrays:
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if sorted(names) != sorted(expected):
        raise QuernError(
            f"{source}: expected the arrays {', '.join(expected)}; found {', '.join(repr(n[:40]) for n in names[:8])}"
        )
    found = {}
    for name, shape in expected.items():
        with archive.open(f"{name}.npy") as file:
            found[name] = _array(file, shape, f"{source}: array {name!r}")
    return found


def _array(file: IO[bytes], expected: tuple[int, ...], where: str) -> np.ndarray:
    shape, in_fortran_order, dtype = _header(file, where)
    if dtype.kind == "O":
        raise QuernError(f"{where}: holds Python objects, which can only be read by executing them; expected numbers")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise QuernError(f"{where}: elements of type {dtype}; expected floating-point numbers")
    if shape != expected:
        raise QuernError(f"{where}: shape {list(shape)} instead of {list(expected)}")
    size = int(np.prod(shape)) * dtype.itemsize
    content = file.read(size + 1)
    if len(content) != size:
        raise QuernError(f"{where}: expected {size} bytes of elements, found {_amount(len(content), size)}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if in_fortran_order else "C")


def _amount(length: int, size: int) -> str:
    return "more" if length > size else str(length)


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except _HEADER_ERRORS as error:
        reason = str(error).partition("\n")[0][:80]
        raise QuernError(f"{where}: not in numpy's format ({reason}); fetch it again") from None
