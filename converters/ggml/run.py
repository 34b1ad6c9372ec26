"""A GGUF file as a function from named arrays to named arrays."""

from pathlib import Path
from types import ModuleType
from typing import Any

from converters.ggml.file import GgufFile
from pipeline.types import Arrays, QuernError, Runner


def network_runner(path: Path, widened: bool) -> Runner:
    """Return the network of a file; its graph is built for the first shapes of inputs, and again when they change."""
    file, network = _opened(path)
    sessions: dict[tuple[tuple[str, tuple[int, ...]], ...], Any] = {}

    def run(arrays: Arrays) -> Arrays:
        shapes = {name: array.shape for name, array in arrays.items()}
        key = tuple(sorted(shapes.items()))
        if key not in sessions:
            sessions.clear()  # one at a time: a session holds the memory of all that its graph computes
            sessions[key] = network.session(file, shapes, widened, every_layer=False)
        found = network.results(sessions[key], arrays)
        return {output: found[layer] for layer, output in network.OUTPUTS.items()}

    return run


def network_layers(path: Path, widened: bool, arrays: Arrays) -> Arrays:
    """Return the result of each layer of a file, by its name, in the order of the network."""
    file, network = _opened(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    return network.results(network.session(file, shapes, widened, every_layer=True), arrays)


def _opened(path: Path) -> tuple[GgufFile, ModuleType]:
    """Return a file, checked, and the module that runs networks of its architecture."""
    from converters.ggml import plda, pyannet, wespeaker

    file = GgufFile(path)
    networks = {network.layout.ARCHITECTURE: network for network in (pyannet, wespeaker, plda)}
    if file.architecture not in networks:
        raise QuernError(f"{path}: architecture {file.architecture!r}; expected {' or '.join(networks)}")
    networks[file.architecture].check(file)
    return file, networks[file.architecture]
