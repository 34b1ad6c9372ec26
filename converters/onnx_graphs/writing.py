"""Write a model so that the same model is the same bytes."""

from collections.abc import Mapping
from pathlib import Path

import onnx


def write_model(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> None:
    """Write a valid model with these strings as its metadata, and without a trace of the tools that made it."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    found.producer_name, found.producer_version, found.doc_string = "quern", "", ""
    del found.graph.value_info[:]  # every reader infers it
    del found.metadata_props[:]
    for key, value in sorted(metadata.items()):
        found.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(found, full_check=True)
    path.write_bytes(found.SerializeToString(deterministic=True))
