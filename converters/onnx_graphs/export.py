"""A torch module as an ONNX graph: exported by torch, and cleared of what the exporter leaves behind."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from converters.onnx_graphs.cleaning import cleaned
from pipeline.types import QuernError, Range, Tensor

# The lowest set in which the graph needs nothing else, and that of the pyannote networks that are published for ONNX
# runtimes: onnxruntime 1.10 (2021) and all that follow it, sherpa-onnx, Windows 11's own, OpenVINO, TensorRT, tract.
OPSET = 15


def exported(module: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> onnx.ModelProto:
    """Return the module as a graph in single precision, the same bytes for equal modules.

    inputs, outputs   names, shapes and types of the module's arguments and results, in their order; an axis with a
                      Range is left to the caller, and named as the tensor names it

    Raises QuernError for operations that ONNX has none for.
    """
    symbols = _symbols([*inputs, *outputs])
    with (
        tempfile.TemporaryDirectory(prefix="quern-") as scratch,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        draft = Path(scratch) / "draft.onnx"
        # Said of every network: that there is a newer exporter, which needs a package more; that the statistics of
        # instance normalisation follow the input, as they should; that states of an LSTM may have a fixed batch, which
        # `cleaned` sees to; and that shapes which no range touches are constants.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                tuple(_zeros(tensor) for tensor in inputs),
                draft,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in inputs],
                output_names=[tensor.name for tensor in outputs],
                dynamic_axes=symbols,
                dynamo=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise QuernError(f"{type(module).__name__}: ONNX: {str(error).splitlines()[0]}") from None
        model = cleaned(onnx.load(draft))
    _describe(model.graph, [*inputs, *outputs])
    return model


def _zeros(tensor: Tensor) -> torch.Tensor:
    """Return zeros to trace with; of a range, the second length: at a length of one, axes look like broadcast ones."""
    shape = [min(size.low + 1, size.high) if isinstance(size, Range) else size for size in tensor.shape]
    return torch.zeros(shape, dtype=torch.int32 if tensor.dtype == "int32" else torch.float32)


def _symbols(tensors: Sequence[Tensor]) -> dict[str, dict[int, str]]:
    """Return what each axis with a range is called, by tensor and place; axes of one name have one length."""
    ranges: dict[str, Range] = {}
    found: dict[str, dict[int, str]] = {}
    for tensor in tensors:
        for place, (axis, size) in enumerate(zip(tensor.axes, tensor.shape, strict=True)):
            if isinstance(size, Range):
                if ranges.setdefault(axis, size) != size:
                    raise QuernError(
                        f"{tensor.name}: axis {axis} from {size.low} to {size.high}, where another tensor's is from "
                        f"{ranges[axis].low} to {ranges[axis].high}; name axes apart that differ in length"
                    )
                found.setdefault(tensor.name, {})[place] = axis
    return found


def _describe(graph: onnx.GraphProto, tensors: Sequence[Tensor]) -> None:
    """Write what the tensors mean, and the shapes that were declared: the exporter does not follow all of them."""
    by_name = {tensor.name: tensor for tensor in tensors}
    for value in [*graph.input, *graph.output]:
        tensor = by_name[value.name]
        value.doc_string = f"({', '.join(tensor.axes)}): {tensor.unit}"
        shape: Mapping[int, int | str] = {
            place: tensor.axes[place] if isinstance(size, Range) else size for place, size in enumerate(tensor.shape)
        }
        element = onnx.TensorProto.INT32 if tensor.dtype == "int32" else onnx.TensorProto.FLOAT
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(element, list(shape.values())))
