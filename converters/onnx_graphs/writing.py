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
    _write_with_metadata(found, metadata, path)


def labelled(source: Path, strings: Mapping[str, str], path: Path) -> None:
    """Write a valid model anew with these strings among its metadata."""
    model = onnx.load(source)
    _write_with_metadata(model, {entry.key: entry.value for entry in model.metadata_props} | dict(strings), path)


def _write_with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> None:
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
