"""ONNX: a torch module becomes one `.onnx` file, whose bytes follow from its weights and options alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pipeline.types import QuernError, Runner, Tensor

SUFFIX = ".onnx"
RUNNER = "onnxruntime"
TOOLS = ("onnx", "onnxruntime")


@dataclass(frozen=True)
class Options:
    """How a module is converted.

    precision   of weights and arithmetic. mixed: fp16 in the parts of the network that declare that they bear it
                (`half_precision = True` on a torch module), fp32 everywhere else. int8: weights of linear and
                recurrent layers in eight bits, their inputs quantized while the model runs, which onnxruntime alone
                can. Inputs and outputs are float32 in each.
    """

    precision: Literal["fp32", "fp16", "mixed", "int8"] = "fp32"


def missing() -> str:
    """Return what to type where the packages that this format needs are not installed; else an empty string."""
    absent = any(find_spec(package) is None for package in ("onnx", "onnxruntime"))
    return "pip install -e '.[onnx]'" if absent else ""


def exact(options: Options) -> Options:
    """Return the options that convert without loss of precision."""
    return replace(options, precision="fp32")


def convert(
    module: Any,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    options: Options,
    destination: Path,
) -> None:
    """Write a traceable torch module as an ONNX file; equal modules give equal bytes in any process.

    inputs, outputs   names, shapes and types of the module's arguments and results, in their order; what an axis with
                      a Range counts is its symbol in the file, and its bounds are in no file: ONNX has no word for them
    metadata          strings that the file carries beside those that runtimes look for

    Raises QuernError for float16 inputs and outputs, for operations that ONNX has none for, and for mixed precision
    where no part declares that it bears half.
    """
    from converters.onnx_graphs.export import exported
    from converters.onnx_graphs.published import runtime_keys
    from converters.onnx_graphs.writing import write_model

    _check_types([*inputs, *outputs])
    model = _in_precision(exported(module, inputs, outputs), module, options.precision)
    write_model(model, dict(metadata) | runtime_keys(module, inputs, outputs), destination)


def label(artifact: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write a copy of a file that carries these strings too."""
    from converters.onnx_graphs.writing import labelled

    labelled(artifact, strings, destination)


def _check_types(tensors: Sequence[Tensor]) -> None:
    for tensor in tensors:
        if tensor.dtype == "float16":
            raise QuernError(f"{tensor.name}: declared float16; ONNX files take and return float32, in fp16 too")


def _in_precision(model: Any, module: Any, precision: str) -> Any:
    from converters.onnx_graphs.precision import half, int8

    match precision:
        case "fp16":
            return half(model)
        case "mixed":
            parts = [name for name, part in module.named_modules() if getattr(part, "half_precision", False)]
            if not parts:
                kind = type(module).__name__
                raise QuernError(f"convert.precision: mixed: no part of {kind} declares that it bears half; use fp16")
            return half(model, parts)
        case "int8":
            return int8(model)
        case _:
            return model


def compiler(choice: str) -> dict[str, str]:
    """Return an empty mapping: runtimes load the file as it is."""
    return {}


def compile(artifact: Path, name: str, choice: str, destination: Path) -> None:
    """Do nothing: there is no compiler."""


def runner(artifact: Path, precision: str) -> Runner:
    """Return a file as a function, run by onnxruntime on one thread in the precision that it was written in."""
    from converters.onnx_graphs.session import load

    return load(artifact)
