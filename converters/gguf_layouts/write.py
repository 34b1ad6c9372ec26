"""Writing a GGUF file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType

from converters.gguf_layouts.contents import Contents


def write(contents: Contents, metadata: Mapping[str, str], destination: Path) -> None:
    """Write keys and tensors in their order, and the metadata as strings called `quern.<name>`."""
    writer = GGUFWriter(destination, contents.architecture)
    halved = any(tensor.dtype == np.float16 for tensor in contents.tensors.values())
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if halved else LlamaFileType.ALL_F32)
    for key, value in contents.keys.items():
        writer.add_uint32(key, value)
    for name, text in metadata.items():
        writer.add_string(f"quern.{name.removeprefix('quern.')}", text)
    for name, tensor in contents.tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
