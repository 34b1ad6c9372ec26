"""`contracts/*.yaml` as records: one contract per consumer, one model per published path."""

import fnmatch
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pipeline.options import Complaints, build
from pipeline.types import QuernError
from pipeline.yaml_file import read_yaml
from verify.contracts.sizes import REST, axis_text, names_in

FOLDER = Path(__file__).resolve().parents[2] / "contracts"
SUFFIXES = (".mlmodelc", ".mlpackage")


@dataclass(frozen=True)
class TensorTerms:
    """What is required of an input or output; what is left out may be anything.

    shape   entries as verify/contracts/sizes.py reads them
    also    names that the consumer takes as well as ours
    """

    dtype: Literal["float32", "float16", "int32", ""] = ""
    shape: list | None = None
    also: tuple[str, ...] = ()
    contiguous: bool = False

    def __post_init__(self) -> None:
        axes = [axis_text(axis) for axis in self.shape or ()]
        if REST in axes[1:]:
            raise ValueError(f'shape: "{REST}" stands first, for the axes before those that follow')

    @property
    def axes(self) -> tuple[str, ...] | None:
        return None if self.shape is None else tuple(str(axis) for axis in self.shape)


@dataclass(frozen=True)
class EncodedTerms:
    """What a base64 string in a JSON file must hold."""

    dtype: Literal["float32"]
    count: int


@dataclass(frozen=True)
class _Interface:
    inputs: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    companions: tuple[str, ...] = ()
    tensors: dict = field(default_factory=dict)


@dataclass(frozen=True)
class _Model:
    interface: str
    sizes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    consumer: str
    source: str
    interfaces: dict
    models: dict


@dataclass(frozen=True)
class Interface:
    """What one kind of model must offer; the parts are explained in contracts/fluidaudio.yaml."""

    inputs: Mapping[str, TensorTerms]
    outputs: Mapping[str, TensorTerms]
    metadata: Mapping[str, str]
    companions: tuple[str, ...]
    tensors: Mapping[str, EncodedTerms]


@dataclass(frozen=True)
class ModelTerms:
    """What one consumer requires of the model at one published path.

    paths   every path that the pattern stands for, without the suffix; `*` is any part of a name
    sizes   the numbers that shapes and metadata are made of, where the path decides them
    """

    consumer: str
    pattern: str
    paths: tuple[str, ...]
    interface: Interface
    sizes: Mapping[str, int]

    def names(self, name: str) -> bool:
        """Return whether a file of that name, without its suffix, would be this model."""
        return any(fnmatch.fnmatchcase(name, PurePosixPath(path).name) for path in self.paths)

    def holds(self, path: PurePosixPath) -> bool:
        """Return whether a file at that path, without its suffix, lies in the folders that this model must lie in."""
        tails = [("/".join(path.parts[-one.count("/") - 1 :]), one) for one in self.paths]
        return any(fnmatch.fnmatchcase(tail, one) for tail, one in tails)


def artifact_name(path: Path) -> str:
    """Return the name that decides which contract applies: that of the file, of models without the suffix."""
    return path.stem if path.suffix in SUFFIXES else path.name


def terms_for(name: str, contracts: Iterable[ModelTerms]) -> tuple[ModelTerms, ...]:
    """Return the model of each consumer that has one of that name: the first, where several patterns fit."""
    found: dict[str, ModelTerms] = {}
    for terms in contracts:
        if terms.names(name):
            found.setdefault(terms.consumer, terms)
    return tuple(found.values())


@cache
def contracts() -> tuple[ModelTerms, ...]:
    """Return what the contracts of this project require; raises QuernError where they are not well formed."""
    return tuple(terms for file in sorted(FOLDER.glob("*.yaml")) for terms in read_contract(file))


def read_contract(path: Path) -> tuple[ModelTerms, ...]:
    """Return what one file requires; raises QuernError with everything that is wrong with it, one line each."""
    complaints = Complaints()
    written = read_yaml(path, complaints)
    file = build(_File, written, "contract", complaints)
    models = tuple(_models(file, complaints)) if file else ()
    if complaints:
        raise QuernError("\n".join(f"{path.name}: {complaint}" for complaint in complaints))
    return models


def _models(file: _File, complaints: Complaints) -> Iterator[ModelTerms]:
    interfaces = {
        name: _interface(written, f"interfaces.{name}", complaints) for name, written in file.interfaces.items()
    }
    for pattern, written in file.models.items():
        path = f"models.{pattern}"
        model = build(_Model, written, path, complaints)
        if model is None:
            continue
        if model.interface not in interfaces:
            complaints.unknown(f"{path}.interface.{model.interface}", "interface", interfaces)
        elif (interface := interfaces[model.interface]) is not None:
            _check_sizes(model, interface, path, complaints)
            yield ModelTerms(file.consumer, pattern, tuple(expanded(pattern)), interface, model.sizes)


def _interface(written: Any, path: str, complaints: Complaints) -> Interface | None:
    found = build(_Interface, written, path, complaints)
    if found is None:
        return None
    return Interface(
        inputs=_each(TensorTerms, found.inputs, f"{path}.inputs", complaints),
        outputs=_each(TensorTerms, found.outputs, f"{path}.outputs", complaints),
        metadata={key: str(value) for key, value in found.metadata.items()},
        companions=found.companions,
        tensors=_each(EncodedTerms, found.tensors, f"{path}.tensors", complaints),
    )


def _each(cls: type, written: Mapping, path: str, complaints: Complaints) -> dict[str, Any]:
    built = {name: build(cls, terms, f"{path}.{name}", complaints) for name, terms in written.items()}
    return {name: terms for name, terms in built.items() if terms is not None}


def _check_sizes(model: _Model, interface: Interface, path: str, complaints: Complaints) -> None:
    """Complain of sizes that are no numbers, and of names that nothing gives a number."""
    for name, size in model.sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            complaints.add(f"{path}.sizes.{name}", f"expected a whole number, found {size!r}")
    known = {name for value in interface.metadata.values() for name in names_in(value)} | set(model.sizes)
    for side in (interface.inputs, interface.outputs):
        for tensor, terms in side.items():
            for name in {name for axis in terms.axes or () for name in names_in(axis)} - known:
                complaints.unknown(f"{path}: {tensor}.shape.{name}", "size", known)


def expanded(pattern: str) -> Iterator[str]:
    """Yield every path that a pattern with {a,b} alternatives stands for."""
    parts = [part.split(",") for part in re.split(r"\{([^{}]*)\}", pattern)[1::2]]
    template = re.sub(r"\{[^{}]*\}", "\0", pattern)
    for choice in itertools.product(*parts):
        pieces = template.split("\0")
        yield "".join(piece + (choice[i] if i < len(choice) else "") for i, piece in enumerate(pieces))
