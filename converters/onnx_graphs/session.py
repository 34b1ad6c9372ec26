"""ONNX files as functions, run by onnxruntime on the processor."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnxruntime.capi import onnxruntime_pybind11_state as refusals

from pipeline.types import Arrays, QuernError, Runner

_AGAIN = "build or fetch it again"
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_REFUSED = (
    refusals.Fail,
    refusals.InvalidArgument,
    refusals.InvalidGraph,
    refusals.InvalidProtobuf,
    refusals.NotImplemented,
    refusals.RuntimeException,
)


def load(path: Path, threads: int = 1) -> Runner:
    """Return the model of a file as a function; on one thread, equal inputs give equal outputs.

    Raises QuernError for a file that is no whole ONNX model, or that onnxruntime cannot run. The function raises it for
    inputs of other names, types or shapes than the model's.
    """
    read_model(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except _REFUSED as error:
        raise QuernError(f"{path}: onnxruntime cannot run it: {_sentence(error)}") from None
    wanted = {value.name: value for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]

    def run(arrays: Arrays) -> Arrays:
        _check_inputs(arrays, wanted, path)
        try:
            return dict(zip(names, session.run(names, arrays), strict=True))
        except _REFUSED as error:
            raise QuernError(f"{path}: onnxruntime cannot run it: {_sentence(error)}") from None

    return run


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model of a file, checked for what can be wrong with it before it is run; raises QuernError."""
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except OSError as error:
        raise QuernError(f"{path}: cannot read the file: {error.strerror or error}") from None
    except DecodeError:
        raise QuernError(f"{path}: {len(content)} bytes that are no ONNX model, or not all of one; {_AGAIN}") from None
    if not model.graph.node:
        raise QuernError(f"{path}: {len(content)} bytes that are no ONNX model: there is no graph in them; {_AGAIN}")
    for domain in (found.domain for found in model.opset_import):
        if domain not in _DOMAINS:
            raise QuernError(
                f"{path}: needs operations of the set '{domain}'; expected those of ONNX or of com.microsoft only"
            )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise QuernError(f"{path}: not a valid ONNX model: {_sentence(error)}") from None
    return model


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_inputs(arrays: Arrays, wanted: dict[str, Any], path: Path) -> None:
    if set(arrays) != set(wanted):
        raise QuernError(f"{path}: inputs {', '.join(sorted(arrays)) or 'none'}; expected {', '.join(sorted(wanted))}")
    for name, value in wanted.items():
        array, element = arrays[name], _ELEMENTS.get(value.type, value.type)
        if array.dtype != element:
            raise QuernError(f"{path}: {name}: elements of type {array.dtype}; expected {element}")
        if not _fits(array, value.shape):
            expected = ", ".join("any" if isinstance(size, str) else str(size) for size in value.shape)
            raise QuernError(f"{path}: {name}: shape {list(array.shape)}; expected [{expected}]")


_ELEMENTS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32"}


def _fits(array: np.ndarray, shape: list[int | str]) -> bool:
    sizes = zip(array.shape, shape, strict=False)
    return len(array.shape) == len(shape) and all(n > 0 if isinstance(size, str) else n == size for n, size in sizes)
