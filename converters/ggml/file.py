"""GGUF files as ggml reads them: architecture, keys, and tensors that graphs refer to."""

import ctypes
import math
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from ggml import ggml

from converters.ggml.graph import Tensor, extents
from pipeline.types import QuernError

VERSION = 3

# Element types by ggml's number and name, those that our files hold.
TYPES = {ggml.GGML_TYPE_F32: "F32", ggml.GGML_TYPE_F16: "F16", ggml.GGML_TYPE_F64: "F64"}


class GgufFile:
    """A GGUF file in memory. Tensors live as long as the object.

    Raises QuernError for what is no GGUF file, one of another version, or one that ends too early.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_header(path)
        context = ctypes.c_void_p()
        params = ggml.gguf_init_params(no_alloc=False, ctx=ctypes.pointer(context))
        complaints: list[str] = []
        listener = ggml.ggml_log_callback(lambda level, text, data: complaints.append(text.decode(errors="replace")))
        ggml.ggml_log_set(listener, None)
        try:
            self._file = ggml.gguf_init_from_file(str(path).encode(), params)
        finally:
            ggml.ggml_log_set(ggml.ggml_log_callback(), None)
        if not self._file:
            reason = complaints[0].split(":", 1)[-1].strip() if complaints else "no reason given"
            raise QuernError(f"{path}: a damaged or truncated GGUF file (ggml: {reason}); build or fetch it again")
        weakref.finalize(self, ggml.gguf_free, self._file)
        weakref.finalize(self, ggml.ggml_free, context)
        self._context = context

    @cached_property
    def architecture(self) -> str:
        """What `general.architecture` says the file is; empty where it says nothing."""
        key = self._key("general.architecture", ggml.GGUF_TYPE_STRING)
        return "" if key is None else ggml.gguf_get_val_str(self._file, key).decode(errors="replace")

    def number(self, name: str) -> int:
        """Return the value of an unsigned 32-bit key; raises QuernError if the file has no such key."""
        key = self._key(name, ggml.GGUF_TYPE_UINT32)
        if key is None:
            raise QuernError(f"{self.path}: no key {name} of 32-bit unsigned type; build the file again")
        return ggml.gguf_get_val_u32(self._file, key)

    def _key(self, name: str, kind: int) -> int | None:
        key = ggml.gguf_find_key(self._file, name.encode())
        return key if key >= 0 and ggml.gguf_get_kv_type(self._file, key) == kind else None

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, in the order of the file."""
        names = [ggml.gguf_get_tensor_name(self._file, i) for i in range(ggml.gguf_get_n_tensors(self._file))]
        return {name.decode(errors="replace"): ggml.ggml_get_tensor(self._context, name) for name in names}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor as numpy has it."""
        return {
            name: tuple(reversed(extents(tensor)[: ggml.ggml_n_dims(tensor)])) for name, tensor in self.tensors.items()
        }

    def doubles(self, name: str) -> np.ndarray:
        """Return a copy of an F64 tensor, as numpy has it."""
        tensor = self.tensors[name].contents
        content = ctypes.string_at(tensor.data, 8 * math.prod(self.shapes[name]))
        return np.frombuffer(content, np.float64).reshape(self.shapes[name])

    def check(
        self,
        keys: Mapping[str, int],
        tensors: Mapping[str, tuple[int, ...]],
        types: tuple[str, ...],
    ) -> None:
        """Raise QuernError unless the file has these keys and exactly these tensors.

        tensors   shapes by name, as numpy has them; outer axes of length one may be missing, as ggml drops them
        types     the element types that a tensor may have
        """
        self._check_tensors(tensors, types)
        for key, value in keys.items():
            if self.number(key) != value:
                raise QuernError(f"{self.path}: {key} is {self.number(key)}, and its tensors make it {value}")

    def _check_tensors(self, expected: Mapping[str, tuple[int, ...]], types: tuple[str, ...]) -> None:
        for name, shape in expected.items():
            if name not in self.tensors:
                raise QuernError(f"{self.path}: tensor {name} is missing; expected one of shape {list(shape)}")
            found = self.shapes[name]
            if found != _significant(shape):
                raise QuernError(f"{self.path}: tensor {name}: expected shape {list(shape)}, found {list(found)}")
            kind = TYPES.get(self.tensors[name].contents.type)
            if kind not in types:
                other = ggml.ggml_type_name(self.tensors[name].contents.type).decode()
                raise QuernError(f"{self.path}: tensor {name}: expected {' or '.join(types)}, found {kind or other}")
        for name in self.tensors.keys() - expected.keys():
            raise QuernError(f"{self.path}: unexpected tensor {name!r}; the network has no such tensor")


def _significant(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(8)
    except OSError as error:
        raise QuernError(f"{path}: cannot read the file: {error.strerror or error}") from None
    if header[:4] != b"GGUF":
        raise QuernError(f"{path}: not a GGUF file: it begins with {header[:4]!r} instead of b'GGUF'")
    version = int.from_bytes(header[4:], "little")
    if len(header) == 8 and version != VERSION:
        raise QuernError(f"{path}: GGUF version {version}; expected {VERSION}: convert the file again")
