"""GGUF files that are damaged, or that another network's are, made from whole ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

# How bytes are damaged, and what is said of it.
DAMAGE: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda content: content[:-1000], "damaged or truncated GGUF file"),
    (lambda content: content[:3000], "damaged or truncated GGUF file"),
    (lambda content: content[:6], "damaged or truncated GGUF file"),
    (lambda content: b"", "not a GGUF file"),
    (lambda content: b"PK\x03\x04" + content[4:], "not a GGUF file"),
    (lambda content: content[:4] + (2).to_bytes(4, "little") + content[8:], "GGUF version 2; expected 3"),
    (lambda content: content[:4] + (3).to_bytes(4, "big") + content[8:], "GGUF version 50331648; expected 3"),
]


def rewritten(
    path: Path,
    destination: Path,
    architecture: str | None = None,
    keys: Mapping[str, int] | None = None,
    tensors: Mapping[str, np.ndarray | None] | None = None,
) -> Path:
    """Write a file again with some things changed, and return the copy.

    keys, tensors   what takes the place of those with these names; a tensor that is None is left out
    """
    reader = GGUFReader(path)
    own = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(destination, architecture or own)
    for name, field in reader.fields.items():
        if name.startswith((f"{own}.", "wespeaker.")):
            writer.add_uint32(name, (keys or {}).get(name, field.contents()))
    changed = {found.name: found.data for found in reader.tensors} | dict(tensors or {})
    for name, array in changed.items():
        if array is not None:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return destination


def refusal(open_file: Callable[[Path, str], object], path: Path, error: type[Exception]) -> str:
    """Return the one sentence with which a file is refused; it has the file's name."""
    with pytest.raises(error) as caught:
        open_file(path, "declared")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)
