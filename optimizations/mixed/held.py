"""What a program holds in place of its large weights: palettes, and biases that make up for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from mil.package import Package
from mil.schema import Model_pb2
from optimizations.mixed.layers import Layer
from optimizations.mixed.palettes import Palettes
from optimizations.mixed_palette import WHOLE
from optimizations.palettes import palette
from optimizations.palettes.palette import Weight, values_of
from optimizations.weights.rewriting import value_of
from optimizations.weights.selection import Large

_BIASES, _LABEL = "biases.npz", "label.txt"


@dataclass(frozen=True)
class Subject:
    """The package, a copy of its spec that is rewritten, and its large weights with what they multiply."""

    package: Package
    spec: Model_pb2.Model
    function: str
    layers: Mapping[str, Layer]
    left: Sequence[Large]
    originals: Mapping[str, np.ndarray]

    @property
    def large(self) -> list[Large]:
        return [layer.large for layer in self.layers.values()]


@dataclass(frozen=True)
class Held:
    """Palettes of one table each by the label of their weight, and biases by name."""

    weights: Mapping[str, Weight]
    biases: Mapping[str, np.ndarray]

    def digest(self) -> str:
        """Return the digest of all that is held."""
        found = sha256()
        for label, weight in sorted(self.weights.items()):
            found.update(label.encode() + weight.indices.tobytes() + weight.entries.tobytes())
        for name, bias in sorted(self.biases.items()):
            found.update(name.encode() + bias.tobytes())
        return found.hexdigest()


def held(subject: Subject, widths: Mapping[str, int], palettes: Palettes) -> Held:
    """Return the palettes of an assignment, with biases that take up the mean error of their products."""
    weights = {label: palettes.weight(label, width) for label, width in widths.items() if width != WHOLE}
    errors: dict[str, np.ndarray] = {}
    for label in weights:
        bias, error = subject.layers[label].bias, palettes.mean_error(label, widths[label])
        if bias is not None and error is not None:
            errors[bias.name] = errors.get(bias.name, 0) + error
    known = own_biases(subject, weights)
    return Held(weights, {name: (known[name] + error).astype(known[name].dtype) for name, error in errors.items()})


def own_biases(subject: Subject, labels: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Return the biases that are added to the products of these weights and of nothing else, by name."""
    biases = (layer.bias for label, layer in subject.layers.items() if label in labels)
    return {bias.name: value_of(bias, subject.package) for bias in biases if bias}


def changed(subject: Subject, held: Held) -> dict[str, np.ndarray]:
    """Return all constants that are held otherwise than in the package, by "function/name"."""
    weights = {label: values_of(weight, subject.originals[label].shape) for label, weight in held.weights.items()}
    return weights | {f"{subject.function}/{name}": bias for name, bias in held.biases.items()}


def save(held: Held, folder: Path) -> None:
    """Write what is held into a folder."""
    np.savez(folder / _BIASES, **held.biases)  # type: ignore[arg-type]
    for number, (label, weight) in enumerate(held.weights.items()):
        part = folder / f"{number}"
        part.mkdir(exist_ok=True)
        (part / _LABEL).write_text(label)
        palette.save(weight, part)


def load(folder: Path) -> Held:
    """Return what `save` wrote into the folder."""
    with np.load(folder / _BIASES) as arrays:
        biases = {name: arrays[name] for name in arrays}
    parts = sorted((path.parent for path in folder.glob(f"*/{_LABEL}")), key=lambda part: int(part.name))
    return Held({(part / _LABEL).read_text(): palette.load(part) for part in parts}, biases)
