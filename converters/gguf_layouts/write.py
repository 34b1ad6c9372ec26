"""Writing a GGUF file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter, LlamaFileType

from converters.gguf_layouts.contents import Contents

_ARCHITECTURE = "general.architecture"  # a key that the writer adds by itself
_HEADER = "GGUF."  # begins what the reader calls the numbers before the keys


def write(contents: Contents, metadata: Mapping[str, str], destination: Path) -> None:
    """Write keys and tensors in their order, and the metadata as strings called `quern.<name>`."""
    writer = GGUFWriter(destination, contents.architecture)
    halved = any(tensor.dtype == np.float16 for tensor in contents.tensors.values())
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if halved else LlamaFileType.ALL_F32)
    for key, value in contents.keys.items():
        writer.add_uint32(key, value)
    _add_strings(writer, metadata)
    for name, tensor in contents.tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    _finish(writer)


def labelled(source: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write the keys and tensors of a file anew, and these strings behind its keys."""
    reader = GGUFReader(source)
    writer = GGUFWriter(destination, reader.fields[_ARCHITECTURE].contents())
    for field in reader.fields.values():
        if not field.name.startswith(_HEADER) and field.name != _ARCHITECTURE:
            writer.add_key_value(field.name, field.contents(), field.types[0])
    _add_strings(writer, strings)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    _finish(writer)


def _add_strings(writer: GGUFWriter, strings: Mapping[str, str]) -> None:
    for name, text in strings.items():
        writer.add_string(f"quern.{name.removeprefix('quern.')}", text)


def _finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
