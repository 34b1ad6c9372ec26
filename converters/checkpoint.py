"""Reading checkpoints as what they are: files from strangers, of which nothing but numbers is wanted.

read_tensors reads `.safetensors` and the zip archives that torch.save writes, and check_tensors holds what was read
against what a network needs. Nothing of a file is executed, and nothing is allocated on a file's word alone: every
size that it claims is held against the bytes that are there.
"""

import io
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pipeline.types import Arrays, QuernError

# safetensors' names of element types; bfloat16, which numpy lacks, is widened.
_SAFETENSORS_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}

# torch's storage classes, by which a pickle names the element type of a tensor.
_STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}

# What the pickle module raises for input that is no pickle, or that asks of inert objects what they cannot do.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read_tensors(path: Path) -> Arrays:
    """Return the tensors of a checkpoint by name, read-only; float16 and bfloat16 are widened to float32.

    A name that ends in .safetensors says what the file is; any other is taken for an archive of torch.save whose
    content is a state dict, or a dict that holds one as `state_dict` (Lightning's, and pyannote's pytorch_model.bin).
    Raises QuernError, with the file's name, for whatever is no such file.
    """
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path.read_bytes(), str(path))
        with path.open("rb") as file:
            return read_torch_archive(file, str(path))
    except OSError as error:
        raise QuernError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from None


def _read_safetensors(content: bytes, source: str) -> Arrays:
    from safetensors import SafetensorError, deserialize

    header_size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or header_size > len(content) - 8:
        raise QuernError(
            f"{source}: truncated, or not a safetensors file: its header should be {header_size} bytes long, "
            f"and the file is {len(content)}"
        )
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise QuernError(f"{source}: not a sound safetensors file ({error}); fetch it again") from None
    return {name: _safetensor(entry, f"{source}: tensor {name!r}") for name, entry in entries}


def _safetensor(entry: Mapping[str, Any], where: str) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise QuernError(
            f"{where}: elements of type {entry['dtype']}; expected one of {', '.join(_SAFETENSORS_DTYPES)}"
        )
    return _elements(entry["data"], dtype).reshape(entry["shape"])


def _elements(content: bytes | bytearray, dtype: str) -> np.ndarray:
    """Return the numbers that the bytes hold, read-only, half precision widened to single, which is exact."""
    if dtype == "bfloat16":
        widened = np.frombuffer(content, "<u2").astype("<u4") << np.uint32(16)
        array = widened.view("<f4")
    else:
        array = np.frombuffer(content, dtype)
        array = array.astype("<f4") if dtype == "<f2" else array
    array.flags.writeable = False
    return array


class _Storage(NamedTuple):
    """A run of elements in an archive; a tuple, because a pickle can rewrite whatever has attributes."""

    key: Any
    dtype: Any
    count: Any


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it: claims, none of them checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Mapping(dict):
    """A dict that a pickle may give attributes (`_metadata` of a state dict): they are ignored."""

    def __setstate__(self, state: Any) -> None: ...


class _Inert:
    """What stands for an object of any class that we do not know: it takes whatever is done to it, and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None: ...

    def extend(self, items: Any) -> None: ...

    def add(self, item: Any) -> None: ...


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *unused: Any) -> Any:
    return tensor


_REBUILD: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


# The unpickler written in Python: unlike its twin in C, it allocates nothing on the word of an opcode's argument.
class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Unpickles dicts, lists, numbers, strings and descriptions of tensors; nothing is imported or executed."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        # A pickle can set attributes of what it is given: it gets functions and classes made for this mention alone.
        if rebuild := _REBUILD.get((module, name)):
            return lambda *arguments: rebuild(*arguments)
        known = _Mapping if (module, name) == ("collections", "OrderedDict") else _Inert
        return type(known.__name__, (known,), {})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"a reference to {kind!r}, expected a storage")
        return _Storage(key, dtype, count)

    def get_extension(self, code: int) -> Any:
        raise pickle.UnpicklingError("an extension code, which torch.save never writes")


def read_torch_archive(file: BinaryIO, source: str) -> Arrays:
    """Return the tensors of the state dict in an archive of torch.save, read-only; see `read_tensors`.

    source   what error messages call the file
    """
    if not zipfile.is_zipfile(file):
        raise QuernError(
            f"{source}: not a zip archive, which torch.save writes since torch 1.6: truncated, or in the old format, "
            "which can only be read by executing it; save it again with a newer torch, or as safetensors"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive, file.seek(0, io.SEEK_END), source)
            described = _state_dict(_unpickled(archive, entries, source), source)
            return _materialized(described, archive, entries, source)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OverflowError, ValueError) as error:
        raise QuernError(f"{source}: damaged zip archive ({error}); fetch it again") from None


def _entries(archive: zipfile.ZipFile, archive_size: int, source: str) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries without the folder they share; refuses what could unpack to more than is there."""
    infos = archive.infolist()
    entries = {info.filename.partition("/")[2]: info for info in infos}
    if len(entries) < len(infos):
        raise QuernError(f"{source}: two entries of the zip archive share a name")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos):
        raise QuernError(f"{source}: compressed or encrypted zip entries; torch.save stores them as they are")
    if sum(info.file_size for info in infos) > archive_size:
        raise QuernError(f"{source}: its zip entries claim more bytes than the file's {archive_size}")
    return entries


def _unpickled(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], source: str) -> Any:
    if "data.pkl" not in entries:
        raise QuernError(f"{source}: a zip archive without data.pkl, so not one of torch.save")
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise QuernError(f"{source}: written on a big-endian machine, which is not supported; save it again on another")
    content = archive.read(entries["data.pkl"])
    try:
        return _Unpickler(io.BytesIO(content), encoding="utf-8").load()
    except _PICKLE_ERRORS as error:
        raise QuernError(f"{source}: data.pkl is not a pickle as torch.save writes it ({error})") from None


def _state_dict(content: Any, source: str) -> dict[str, _Tensor]:
    """Return the described tensors by name."""
    found = dict.get(content, "state_dict", content) if isinstance(content, dict) else content
    if not isinstance(found, dict) or not found:
        raise QuernError(
            f"{source}: no state dict in it; expected a dict of tensors, or a dict with one as `state_dict`"
        )
    for name, tensor in dict.items(found):
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise QuernError(f"{source}: its state dict holds {str(name)[:60]!r}, which is not a tensor with a name")
    return dict(dict.items(found))


def _materialized(
    described: Mapping[str, _Tensor],
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    source: str,
) -> Arrays:
    """Return the tensors as views of their storages, each of which is read once."""
    storages: dict[_Storage, np.ndarray] = {}
    tensors = {}
    for name, tensor in described.items():
        where = f"{source}: tensor {name!r}"
        storage = _checked_storage(tensor.storage, entries, where)
        if storage not in storages:
            storages[storage] = _elements(archive.read(entries[f"data/{storage.key}"]), storage.dtype)
        tensors[name] = _view(storages[storage], tensor, where)
    return tensors


def _checked_storage(storage: Any, entries: Mapping[str, zipfile.ZipInfo], where: str) -> _Storage:
    """Return the storage if the archive holds exactly what it claims."""
    if not isinstance(storage, _Storage) or storage.dtype not in _STORAGE_DTYPES.values():
        raise QuernError(f"{where}: its elements are of a type that no network here uses")
    entry = entries.get(f"data/{storage.key}") if isinstance(storage.key, str) else None
    if entry is None or not _is_count(storage.count):
        raise QuernError(f"{where}: its elements are not in the archive")
    width = 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize
    if entry.file_size != storage.count * width:
        raise QuernError(
            f"{where}: its storage should be {storage.count} elements of {width} bytes and is {entry.file_size} bytes"
        )
    return storage


def _view(elements: np.ndarray, tensor: _Tensor, where: str) -> np.ndarray:
    """Return the tensor that shape, strides and offset (in elements) cut out of a storage."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    if not (_are_counts(shape) and _are_counts(strides) and _is_count(offset) and len(shape) == len(strides) <= 8):
        raise QuernError(f"{where}: shape, strides and offset are not lists of whole numbers from 0 on")
    size = math.prod(shape)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    # More elements than the storage has can only be the same ones over and over, of which there is no end.
    if size and (last >= elements.size or size > elements.size):
        raise QuernError(
            f"{where}: shape {list(shape)} with strides {list(strides)} from element {offset} on does not fit into "
            f"its storage of {elements.size} elements"
        )
    if not size:
        return np.zeros(shape, elements.dtype)
    byte_strides = [stride * elements.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(elements[offset:], shape, byte_strides, writeable=False)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _are_counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(_is_count(value) for value in values)


def check_tensors(found: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse tensors that are not exactly the expected ones, all of finite floating-point numbers.

    Raises QuernError, one sentence with the first few names of each kind of trouble.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [repr(name[:80]) for name in found if name not in expected]
    misshapen = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != shape
    ]
    troubles = [_listed("missing", missing), _listed("unexpected", unexpected), _listed("wrong shape", misshapen)]
    if any(troubles):
        found_out = "; ".join(filter(None, troubles))
        raise QuernError(f"{source}: foreign checkpoint, of another network or cut short: {found_out}")
    broken = [name for name, tensor in found.items() if tensor.dtype.kind != "f" or not np.isfinite(tensor).all()]
    if broken:
        raise QuernError(f"{source}: {_listed('not finite floating-point numbers', broken)}; the training went wrong")


def _listed(kind: str, names: list[str]) -> str:
    """Return "<kind>: the first three names", or nothing where there are none."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{kind}: {', '.join(names[:3])}{more}" if names else ""
