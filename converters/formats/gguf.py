"""GGUF: the trained tensors of a network in one file, as runtimes on ggml load it; and a runner on ggml itself."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.types import Arrays, QuernError, Runner, Tensor

SUFFIX = ".gguf"
RUNNER = "ggml"
TOOLS = ("gguf", "ggml_python")


@dataclass(frozen=True)
class Options:
    """How the tensors are stored.

    precision   type of matrices and kernels, with vectors in fp32 always; or fp64 for all, in which runtimes read PLDA
    """

    precision: Literal["fp64", "fp32", "fp16"] = "fp16"


def exact(options: Options) -> Options:
    """Return the options that convert without loss of precision."""
    return options if options.precision == "fp64" else replace(options, precision="fp32")


def missing() -> str:
    """Return the command that installs what this format needs, empty where it is installed."""
    there = all(importlib.util.find_spec(package) for package in ("gguf", "ggml"))
    return "" if there else "pip install -e '.[gguf]'"


def convert(
    module: Any,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    metadata: Mapping[str, str],
    options: Options,
    destination: Path,
) -> None:
    """Write the tensors of a network as a GGUF file; equal networks give equal bytes.

    metadata   strings that the file carries as `quern.<name>`, beside the keys that runtimes read

    `module.trained` has to hold the tensors of the checkpoint. Raises QuernError for a network that has no layout, or
    none in this precision, and for a declared type that runtimes cannot take or return.
    """
    from converters.gguf_layouts.choose import layout_of
    from converters.gguf_layouts.write import write

    layout = layout_of(module)
    if options.precision not in layout.PRECISIONS:
        known = " or ".join(layout.PRECISIONS)
        raise QuernError(f"{layout.ARCHITECTURE}: precision {options.precision}; its runtimes read {known}")
    for tensor in (*inputs, *outputs):
        if tensor.dtype != "float32":
            raise QuernError(f"{tensor.name}: declared {tensor.dtype}; ggml runtimes take and return float32")
    write(layout.contents(module, options.precision), metadata, destination)


def label(artifact: Path, strings: Mapping[str, str], destination: Path) -> None:
    """Write a copy of a file that carries these strings too."""
    from converters.gguf_layouts.write import labelled

    labelled(artifact, strings, destination)


def compiler(choice: str) -> dict[str, str]:
    """Return nothing: a GGUF file is loaded as it is."""
    return {}


def compile(artifact: Path, name: str, choice: str, destination: Path) -> None:
    """Refuse: there is no compiled form."""
    raise QuernError(f"{name}: a GGUF file has no compiled form")


def runner(artifact: Path, precision: str) -> Runner:
    """Return a file as a function, computed by ggml; precision is "declared" or "float32".

    Raises QuernError for a file that is damaged, or that is not of an architecture we write.
    """
    from converters.ggml.run import network_runner

    return network_runner(artifact, widened=precision != "declared")


def layers(artifact: Path, precision: str, arrays: Arrays) -> Arrays:
    """Return what each layer of a file puts out for these inputs, by the layer's name, in the order of the network."""
    from converters.ggml.run import network_layers

    return network_layers(artifact, precision != "declared", arrays)
