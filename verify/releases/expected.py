"""An old release as a contract: what an app that was written for it passes, and what it reads."""

from pathlib import Path
from typing import Any, cast

from mil.bundle import read_bundle
from mil.package import read_package
from verify.contracts.accounts import Length, Port, accounts
from verify.contracts.sizes import ANY
from verify.contracts.terms import Interface, ModelTerms, TensorTerms

CONSUMER = "an app of the old release"
_DTYPES = ("float32", "float16", "int32")
_TRACES = "com.github.apple."  # strings that converters write about themselves


def terms_of(path: Path) -> ModelTerms:
    """Return what an app may count on that was written for the model at `path`.

    Names, types and shapes of its inputs and outputs, that nothing else is required, its metadata keys, and the values
    of those that are whole numbers. Raises MilError for a model that cannot be read.
    """
    told = accounts(path, (read_bundle if path.suffix == ".mlmodelc" else read_package)(path))
    program, described = told[0], told[1] if len(told) > 1 else told[0]
    texts = described.metadata or {}
    interface = Interface(
        inputs={name: _terms(port, program.inputs.get(name, port)) for name, port in described.inputs.items()},
        outputs={name: _terms(port, program.outputs.get(name, port)) for name, port in described.outputs.items()},
        metadata={key: _number(text) for key, text in texts.items() if not key.startswith(_TRACES)},
        companions=(),
        tensors={},
    )
    return ModelTerms(CONSUMER, path.stem, (path.stem,), interface, {})


def _number(text: str) -> str:
    return text if text.isdigit() and str(int(text)) == text else ""


def _terms(described: Port, declared: Port) -> TensorTerms:
    """Return what both the description and the program say of an input or output."""
    dtype = described.dtype if described.dtype in _DTYPES and described.dtype == declared.dtype else ""
    return TensorTerms(dtype=cast(Any, dtype), shape=_shape(described, declared))


def _shape(described: Port, declared: Port) -> list[str] | None:
    if described.shapes:
        axes = zip(*described.shapes, strict=True)
        return [str(sizes[0]) if len(set(sizes)) == 1 else ANY for sizes in axes]
    lengths = described.lengths or declared.lengths
    if lengths is None or (declared.lengths is not None and len(declared.lengths) != len(lengths)):
        return None
    return [_axis(length) for length in lengths]


def _axis(length: Length) -> str:
    if length is None or length[1] is None:
        return ANY
    low, high = length
    return str(low) if low == high else f"{low}..{high}"
